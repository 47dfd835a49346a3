"""``server check``: connect to an account's servers, log in, say what they offer; nothing is sent or read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.workflows.audited import logged

if TYPE_CHECKING:
    import ssl

    from medmail_cli.config import Account, Server
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.transport.sasl import Credentials


@dataclass(frozen=True)
class ServerCheck:
    """How one server did; ``offers`` are its capabilities as it names them, ``size`` its limit in octets."""

    type: ClassVar[str] = "server"
    protocol: Literal["imap", "smtp"]
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
    context: "Callable[[], ssl.SSLContext]",
    credentials: "Callable[[], Credentials]",
    run: "RunContext",
) -> Iterator[ServerCheck]:
    """Try both servers of an account, one whatever the other does. Raises ``no-imap-server`` without any."""
    if account.imap is None and account.smtp is None:
        raise MedmailError("no-imap-server", account=account.name)
    for server, protocol, attempt in ((account.imap, "imap", _imap), (account.smtp, "smtp", _smtp)):
        if server is None:
            continue
        host = f"{server.host}:{server.port}"
        try:
            with logged(run, "server-check", account=account.name, protocol=protocol, server=host):
                checked = attempt(server, account, context(), credentials())
            yield checked
        except MedmailError as error:
            yield ServerCheck(
                "imap" if protocol == "imap" else "smtp",
                server.host,
                server.port,
                server.security,
                "failed",
                error=error.code,
                reason={name: str(value) for name, value in error.facts.items()},
                exit=exit_of(error.code),
            )


def _imap(
    server: "Server", account: "Account", context: "ssl.SSLContext", credentials: "Credentials"
) -> ServerCheck:
    from medmail_cli.transport.imap import Imap

    with Imap(server, context, via=account.proxy) as imap:
        mechanisms = imap.mechanisms()
        imap.login(credentials)
        imap.examine("INBOX")
        offers = tuple(sorted(imap.capabilities))
    return ServerCheck("imap", server.host, server.port, server.security, "ok", mechanisms, offers)


def _smtp(
    server: "Server", account: "Account", context: "ssl.SSLContext", credentials: "Credentials"
) -> ServerCheck:
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
    return ServerCheck(
        "smtp",
        server.host,
        server.port,
        server.security,
        "ok",
        tuple(sorted(offer.mechanisms)),
        tuple(name for name, there in named.items() if there),
        offer.size,
    )
