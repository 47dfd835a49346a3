"""``server check``: connect to an account's servers, log in, say what they offer; nothing is sent or read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.codes import OK
from medmail_cli.config import ServerProtocol
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.transport.mailserver import INBOX
from medmail_cli.workflows.audited import logged

if TYPE_CHECKING:
    import ssl

    from medmail_cli.config import Account, Server
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.transport.mailserver import MailServer
    from medmail_cli.transport.sasl import Credentials


@dataclass(frozen=True)
class ServerCheck:
    """How one server did; ``offers`` are its capabilities as it names them, ``size`` its limit in octets."""

    type: ClassVar[str] = "server"
    protocol: ServerProtocol
    host: str
    port: int
    security: Literal["starttls", "tls"]
    status: Literal["ok", "failed"]
    mechanisms: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    size: int | None = None
    error: str | None = None
    reason: dict[str, str] = field(default_factory=dict)
    exit: int = OK


def check(
    account: "Account",
    mailbox_server: "Callable[[], MailServer]",
    context: "Callable[[], ssl.SSLContext]",
    credentials: "Callable[[], Credentials]",
    run: "RunContext",
) -> Iterator[ServerCheck]:
    """Try both servers of an account, one whatever the other does. Raises ``no-imap-server`` without any.

    ``mailbox_server`` connects to the one that letters are fetched from, without logging in.
    """
    if not account.servers:
        raise MedmailError("no-imap-server", account=account.name)
    for protocol, server in account.servers.items():
        host = f"{server.host}:{server.port}"
        try:
            with logged(run, "server-check", account=account.name, protocol=protocol, server=host):
                if server is account.mailbox_server:
                    offered = _mailbox(mailbox_server, credentials)
                else:
                    offered = _submission(server, account, context(), credentials())
            yield ServerCheck(
                protocol,
                server.host,
                server.port,
                server.security,
                "ok",
                offered.mechanisms,
                offered.capabilities,
                offered.size,
            )
        except MedmailError as error:
            yield ServerCheck(
                protocol,
                server.host,
                server.port,
                server.security,
                "failed",
                error=error.code,
                reason={name: str(value) for name, value in error.facts.items()},
                exit=exit_of(error.code),
            )


@dataclass(frozen=True)
class _Offered:
    """What a server says before and after a login."""

    mechanisms: tuple[str, ...]
    capabilities: tuple[str, ...]
    size: int | None = None


def _mailbox(reach: "Callable[[], MailServer]", credentials: "Callable[[], Credentials]") -> _Offered:
    given = credentials()  # asked for before a server waits for it
    with reach() as server:
        mechanisms = server.mechanisms()
        server.login(given)
        server.open(INBOX)
        return _Offered(mechanisms, tuple(sorted(server.capabilities)))


def _submission(
    server: "Server", account: "Account", context: "ssl.SSLContext", credentials: "Credentials"
) -> _Offered:
    from medmail_cli.transport.smtp import Submitter

    # nothing is handed over, so nothing is ever marked
    with Submitter(
        server, context=context, credentials=credentials, mark=lambda _marks: None, via=account.proxy
    ) as submitter:
        offer = submitter.offer()
        if offer is None:
            raise submitter.failure or MedmailError(
                "server-unreachable", host=f"{server.host}:{server.port}", reason="cut-off"
            )
    named = {
        "8BITMIME": offer.eight_bit,
        "CHUNKING": offer.chunking,
        "DSN": offer.dsn,
        "PIPELINING": offer.pipelining,
        "SMTPUTF8": offer.utf8,
    }
    return _Offered(
        tuple(sorted(offer.mechanisms)), tuple(name for name, there in named.items() if there), offer.size
    )
