"""The sandbox's submission server: aiosmtpd with STARTTLS and a login required, delivering on the spot."""

import asyncio
import email.utils
import logging
import ssl
from collections.abc import Callable

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from medmail_cli.sandbox.imap import Mailboxes

SIZE = 35 << 20
"""The largest letter accepted, in octets, announced as SIZE."""


async def listen(
    port: int, tls: ssl.SSLContext, mailboxes: Mailboxes, login: Callable[[str, bytes], bool]
) -> asyncio.Server:
    """Serve SMTP submission (RFC 6409) on loopback."""
    loop = asyncio.get_running_loop()
    handler = _Submission(mailboxes)

    def authenticate(
        _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object
    ) -> AuthResult:
        if not isinstance(given, LoginPassword):
            return AuthResult(success=False, handled=False)
        known = login(given.login.decode("utf-8", "replace"), given.password)
        # not handled: the base class answers, 235 or 535
        return AuthResult(success=known, handled=False, auth_data=given.login)

    # it warns of a field of its own that it is about to drop
    logging.getLogger("mail.log").setLevel(logging.ERROR)

    def protocol() -> SMTP:
        return _Server(
            handler,
            data_size_limit=SIZE,
            enable_SMTPUTF8=True,
            hostname="localhost",
            ident="medmail sandbox",
            tls_context=tls,
            require_starttls=True,
            auth_required=True,
            authenticator=authenticate,
            timeout=300,
            loop=loop,
        )

    return await loop.create_server(protocol, "127.0.0.1", port)


class _Server(SMTP):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.event_handler.mailboxes.connections.add(transport)
        super().connection_made(transport)


class _Submission:
    """What the operator says to MAIL, RCPT and DATA."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self.mailboxes = mailboxes

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's naming
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        login = session.auth_data if isinstance(session.auth_data, bytes) else b""
        holder = self.mailboxes.name(login.decode("utf-8", "replace"))
        if self.mailboxes.name(address) != holder:
            return f"553 5.7.1 {holder} may not send as {address}"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Sender OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's naming
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.mailboxes.name(address) is None:
            return f"550 5.1.2 {self.mailboxes.domain} is the only domain here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Recipient OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's naming
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        letter = envelope.content
        if not isinstance(letter, bytes):
            return "554 5.6.0 No letter"
        trace = (
            f"Return-Path: <{envelope.mail_from}>\r\n"
            f"Received: from {_word(session.host_name)} by localhost with ESMTPSA; "
            f"{email.utils.formatdate(localtime=False)}\r\n"
        )
        for name in dict.fromkeys(self.mailboxes.name(address) for address in envelope.rcpt_tos):
            if name is not None:
                await self.mailboxes.deliver(name, trace.encode() + letter)
        return "250 2.0.0 Delivered"


def _word(text: str | None) -> str:
    return "".join(c for c in text or "unknown" if c.isalnum() or c in ".-:[]")
