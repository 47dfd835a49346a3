"""``medmail sandbox``: an embedded operator on loopback."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import examples

if TYPE_CHECKING:
    from medmail_cli.session import Session

app = typer.Typer()


def events() -> dict[str, tuple[type, ...]]:
    """What the command may print, for its schema."""
    from medmail_cli.sandbox.run import SandboxReady

    return {"sandbox": (SandboxReady,)}


def _port(words: str) -> Any:
    return typer.Option(metavar="N", min=0, max=65535, help=words)


@app.command(
    "sandbox",
    help=_(
        "Run a mail operator and a certificate authority on this machine, for training and for tests. "
        "They know the domain medecin.test only, keep letters in memory, and end with Ctrl-C."
    ),
    epilog=examples("medmail sandbox --mailbox dr.martin@medecin.test --mailbox dr.bernard@medecin.test"),
)
def sandbox(
    ctx: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help=_("Keep clients' files here; it must be empty.")),
    ] = None,
    mailbox: Annotated[
        list[str] | None,
        typer.Option("--mailbox", metavar="ADDR", help=_("Prepare a MEDMAIL_HOME for this address.")),
    ] = None,
    smtp_port: Annotated[int, _port(_("Port for SMTP; 0 takes a free one."))] = 0,
    imap_port: Annotated[int, _port(_("Port for IMAP; 0 takes a free one."))] = 0,
    est_port: Annotated[int, _port(_("Port for EST; 0 takes a free one."))] = 0,
    http_port: Annotated[int, _port(_("Port for CRLs; 0 takes a free one."))] = 0,
) -> int:
    from medmail_cli.sandbox import require_extra
    from medmail_cli.ui.render import show

    require_extra()
    from medmail_cli.sandbox.operator import Ports
    from medmail_cli.sandbox.run import serve

    session: Session = ctx.obj
    given = session.secrets.given("password")
    ports = Ports(smtp=smtp_port, imap=imap_port, est=est_port, http=http_port)
    addresses = mailbox or ["dr.martin@medecin.test", "dr.bernard@medecin.test"]
    password = None if given is None else given.decode("utf-8", "replace")
    return show(ctx, "sandbox", serve(directory, addresses, ports, password))
