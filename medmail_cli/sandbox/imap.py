"""The sandbox's mailboxes: pymap's in-memory backend, read over IMAP with TLS from the first octet."""

import asyncio
import contextlib
import datetime as dt
import ssl
import weakref
from argparse import Namespace

from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import Config, Identity, Login
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxSet
from pymap.concurrent import Subsystem
from pymap.exceptions import InvalidAuth
from pymap.imap import IMAPServer
from pymap.interfaces.login import IdentityInterface
from pymap.parsing.message import AppendMessage
from pymap.user import UserMetadata
from pysasl.creds.server import ServerCredentials
from pysasl.hashing import Cleartext

FOLDERS = ("Sent", "Drafts", "Trash")


class Mailboxes:
    """Every mailbox of the operator's domain; one comes into being with its first letter or login."""

    def __init__(self, domain: str, password: str) -> None:
        self.domain, self.password = domain, password
        nobody = Namespace(passlib_cfg=None, proxy_protocol=None)
        self._config = Config(
            nobody,
            demo_data=False,
            demo_user="",
            demo_password="",
            host=None,
            port=0,
            tls_enabled=False,  # no STARTTLS: the port speaks TLS from the start
            reject_dnsbl=False,
            hash_context=Cleartext(),
            cpu_subsystem=Subsystem.for_asyncio(),
        )
        self._login = _Login(self._config, self)
        self.connections = Connections()

    def name(self, address: str) -> str | None:
        """The mailbox of an address, None where it is not one of this operator's."""
        local, _at, domain = address.lower().rpartition("@")
        return f"{local}@{domain}" if local and domain == self.domain else None

    async def folders(self, name: str) -> MailboxSet:
        """The folders of a mailbox, made if need be."""
        kept = self._config.set_cache.get(name)
        if kept is None:
            folders = MailboxSet()
            for folder in FOLDERS:
                await folders.add_mailbox(folder)
            self._config.set_cache[name] = (folders, FilterSet())
            return folders
        return kept[0]

    async def deliver(self, name: str, letter: bytes) -> None:
        """Put a letter, octet for octet, into the mailbox's INBOX."""
        inbox = await (await self.folders(name)).get_mailbox("INBOX")
        await inbox.append(AppendMessage(letter, dt.datetime.now(dt.UTC), frozenset()), recent=True)

    async def listen(self, port: int, tls: ssl.SSLContext) -> asyncio.Server:
        """Serve IMAP on loopback."""
        self._config.apply_context()
        server = IMAPServer(self._login, self._config)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections.add(writer.transport)
            await server(reader, writer, SocketInfo.get(writer, None))

        return await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)


class Connections:
    """What clients have open, to be cut when the operator stops."""

    def __init__(self) -> None:
        self._open: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    def add(self, transport: asyncio.BaseTransport) -> None:
        """Remember a connection as long as it lasts."""
        self._open.add(transport)

    def abort(self) -> None:
        """Cut them all."""
        for transport in list(self._open):
            if isinstance(transport, asyncio.WriteTransport):
                # Debian 12's Python, 3.11.2, fails on what was closed twice: nothing is left to cut there
                with contextlib.suppress(AttributeError):
                    transport.abort()


class _Login(Login):
    """Lets in any address of the domain that knows the sandbox's password."""

    def __init__(self, config: Config, mailboxes: Mailboxes) -> None:
        super().__init__(config)
        self._mailboxes = mailboxes

    async def authenticate(self, credentials: ServerCredentials) -> Identity:
        name = self._mailboxes.name(credentials.authcid)
        if name is None:
            raise InvalidAuth
        user = UserMetadata(self.config, credentials.authcid, password=self._mailboxes.password)
        if not credentials.verify(user):
            raise InvalidAuth
        self.users_dict[name] = user
        await self._mailboxes.folders(name)
        return Identity(name, self, None, frozenset())

    async def authorize(self, authenticated: IdentityInterface, authzid: str) -> Identity:
        name = self._mailboxes.name(authzid)
        if name is None or name != authenticated.name:
            raise InvalidAuth
        return Identity(name, self, None, frozenset())
