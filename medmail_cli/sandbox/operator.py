"""The operator as a whole: its servers, and the files a client needs, in one folder that is thrown away."""

import asyncio
import datetime as dt
import secrets
import ssl
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from medmail_cli.errors import MedmailError
from medmail_cli.sandbox import smtp
from medmail_cli.sandbox.ca import IdentityAuthority, ServerAuthority
from medmail_cli.sandbox.cmp import CMP, Responder
from medmail_cli.sandbox.imap import Mailboxes
from medmail_cli.sandbox.web import EST, WebServer, same_password
from medmail_cli.store.files import make_private, write_atomic

DOMAIN = "medecin.test"


@dataclass(frozen=True)
class Ports:
    """Where to listen; 0 lets the system choose."""

    smtp: int = 0
    imap: int = 0
    est: int = 0
    http: int = 0


class Operator:
    """Runs the servers in threads of their own from ``start`` (or ``with``) to ``stop``.

    ``folder`` gets ``operator-ca.pem`` (vouches for SMTP and IMAP), ``order-ca.pem`` (root of the physicians'
    certificates, vouches for EST), ``password`` and, under ``homes/``, a ready MEDMAIL_HOME for each mailbox
    asked for. Mail is kept in memory only.
    """

    def __init__(self, folder: Path, *, password: str | None = None, ports: Ports = Ports()) -> None:
        self.folder = folder
        self.password = password or secrets.token_urlsafe(12)
        self.mailboxes = Mailboxes(DOMAIN, self.password)
        self._asked = ports
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._webs: list[WebServer] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- life

    def start(self) -> None:
        """Make the authorities, listen, write the client's files. Raises ``port-taken``, ``not-writable``."""
        now = dt.datetime.now(dt.UTC)
        make_private(self.folder)
        self._thread.start()
        try:
            self._listen(now)
        except BaseException:
            self.stop()
            raise
        write_atomic(self.operator_anchors, self._operator_ca.pem, 0o644)
        write_atomic(self.order_anchors, self.authority.pem, 0o644)
        write_atomic(self.password_file, self.password.encode() + b"\n")

    def _listen(self, now: dt.datetime) -> None:
        self._operator_ca = ServerAuthority.create(now)
        http = self._web("http", self._asked.http, None)
        self.authority = IdentityAuthority.create(now, f"http://127.0.0.1:{http.port}")
        secure = self._tls("est", self.authority.server(now))
        # who renews may log in with the certificate that ends (RFC 7030 §3.3.2)
        secure.load_verify_locations(cadata=self.authority.pem.decode())
        secure.verify_mode = ssl.CERT_OPTIONAL
        est = self._web("est", self._asked.est, secure)
        self.responder = Responder.create(self.authority, self.secret, now)
        for web in (http, est):
            web.authority, web.login, web.cmp = self.authority, self.login, self.responder
            web.start()
        tls = self._tls("mail", self._operator_ca.server(now))
        imap = self._bound("imap", self._asked.imap, self.mailboxes.listen(self._asked.imap, tls))
        submission = self._bound(
            "smtp", self._asked.smtp, smtp.listen(self._asked.smtp, tls, self.mailboxes, self.login)
        )
        self.ports = Ports(submission, imap, est.port, http.port)

    def stop(self) -> None:
        """Close every port. Letters are gone."""
        for web in self._webs:
            web.stop()
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        self.mailboxes.connections.abort()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # -- what clients need

    @property
    def est_url(self) -> str:
        """The base of EST's operations."""
        return f"https://localhost:{self.ports.est}{EST}"

    @property
    def cmp_url(self) -> str:
        """Where CMP messages go; in the clear they may go to the port of the CRLs."""
        return f"https://localhost:{self.ports.est}{CMP}"

    @property
    def crl_url(self) -> str:
        """Where the issuing authority's CRL is."""
        return f"http://127.0.0.1:{self.ports.http}/crl"

    @property
    def operator_anchors(self) -> Path:
        """What vouches for SMTP and IMAP (PEM)."""
        return self.folder / "operator-ca.pem"

    @property
    def order_anchors(self) -> Path:
        """The root of the physicians' certificates, which vouches for EST too (PEM)."""
        return self.folder / "order-ca.pem"

    @property
    def password_file(self) -> Path:
        """The one password of all mailboxes."""
        return self.folder / "password"

    def secret(self, address: str) -> bytes | None:
        """The password of an address of the domain, which is also what it shares with the authority."""
        return self.password.encode() if self.mailboxes.name(address) is not None else None

    def login(self, address: str, password: bytes) -> bool:
        """Is this an address of the domain, and the password right?"""
        return self.mailboxes.name(address) is not None and same_password(password, self.password.encode())

    def home(self, address: str, folder: Path | None = None) -> Path:
        """A MEDMAIL_HOME for one mailbox with its ``config.toml``, in ``folder`` or under ``homes/``.

        Raises ``usage`` for addresses of other domains.
        """
        import tomli_w

        name = self.mailboxes.name(address)
        if name is None or "/" in name:
            detail = f"{address!r} is not an address in {DOMAIN}"
            raise MedmailError("usage", detail=detail, command="medmail sandbox")
        account = {
            "address": name,
            "smtp": {"host": "localhost", "port": self.ports.smtp, "security": "starttls"},
            "imap": {"host": "localhost", "port": self.ports.imap, "security": "tls"},
            "password-file": str(self.password_file.absolute()),
            "tls-anchors": str(self.operator_anchors.absolute()),
        }
        authority = {
            "url": self.est_url,
            "method": "est",
            "tls-anchors": str(self.order_anchors.absolute()),
            "login": name,
            "password-file": str(self.password_file.absolute()),
        }
        folder = make_private(folder or self.folder / "homes" / name)
        content = tomli_w.dumps(
            # its CRLs are on this machine
            {"fetch-private": True, "accounts": {"work": account}, "authorities": {"order": authority}}
        )
        write_atomic(folder / "config.toml", content.encode())
        return folder

    # -- listening

    def _web(self, what: str, port: int, tls: ssl.SSLContext | None) -> WebServer:
        try:
            server = WebServer(port, tls)
        except OSError as error:
            raise MedmailError("port-taken", port=port, what=what, reason=error.strerror or "") from None
        self._webs.append(server)
        return server

    def _bound(self, what: str, port: int, listening: Coroutine[Any, Any, asyncio.Server]) -> int:
        try:
            server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        except OSError as error:
            raise MedmailError("port-taken", port=port, what=what, reason=error.strerror or "") from None
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def _tls(self, name: str, pem: bytes) -> ssl.SSLContext:
        # the ssl module reads keys from files only; this one is gone as soon as it is read
        path = self.folder / f"{name}-server.pem"
        write_atomic(path, pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(path)
        path.unlink()
        return context
