"""``medmail server``: look at the operator's servers."""

from typing import TYPE_CHECKING

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import examples

if TYPE_CHECKING:
    from medmail_cli.session import Session

app = typer.Typer(help=_("Try the operator's servers."))


def events() -> dict[str, tuple[type, ...]]:
    """What each command may print, for its schema."""
    from medmail_cli.workflows.server import ServerCheck

    return {"server check": (ServerCheck,)}


@app.callback()
def server() -> None:
    """Keep ``check`` a command of its own while it is the only one."""


@app.command(
    "check",
    help=_("Connect to the account's servers, log in, and say what they offer; nothing is sent or read."),
    epilog=examples("medmail server check --account work"),
)
def check(ctx: typer.Context) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.wiring.accounts import credentials, mail_server, tls_context
    from medmail_cli.workflows import server as workflow

    session: Session = ctx.obj
    account = session.account()
    checked = workflow.check(
        account,
        lambda: mail_server(session, account, log_in=False),
        lambda: tls_context(session, account),
        lambda: credentials(session, account),
        session.run,
    )
    return show(ctx, "server check", checked)
