"""``medmail inbox``: list and search what was fetched."""

from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import OutputFormat, examples, instant, write_as

if TYPE_CHECKING:
    from medmail_cli.session import Session
    from medmail_cli.workflows.mail.inbox import Sealed

app = typer.Typer()


def events() -> dict[str, tuple[type, ...]]:
    """What the command may print, for its schema."""
    from medmail_cli.workflows.mail.inbox import Entry, Rebuilt

    return {"inbox": (Entry, Rebuilt)}


@app.command(
    "inbox",
    help=_(
        "List messages, newest first, and search them. While the keystore is unlocked, what opened letters"
        " say inside is searched and shown too."
    ),
    epilog=examples("medmail inbox dupont --since 2026-11-01 --unopened"),
)
def inbox(
    ctx: typer.Context,
    query: Annotated[
        list[str] | None, typer.Argument(metavar="[QUERY]", help=_("Words that must all occur."))
    ] = None,
    folder: Annotated[str | None, typer.Option(metavar="NAME", help=_("Only this folder."))] = None,
    sender: Annotated[str, typer.Option("--from", metavar="TEXT", help=_("Only from such a sender."))] = "",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help=_("Only dated since then (ISO 8601)."))
    ] = None,
    unopened: Annotated[bool, typer.Option("--unopened", help=_("Only what was never opened."))] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help=_("Make the index anew from the stored messages."))
    ] = False,
    form: OutputFormat = None,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.mail import inbox as workflow

    session: Session = ctx.obj
    write_as(session, form)
    if rebuild:
        return show(ctx, "inbox", workflow.rebuild(session.mailbox))
    account = session.options.account
    wanted = workflow.Wanted(
        " ".join(query or []),
        None if account is None else session.account(account).name,
        folder,
        sender,
        instant(since, "--since"),
        unopened,
    )
    return show(ctx, "inbox", workflow.inbox(session.mailbox, wanted, _sealed(session)))


def _sealed(session: "Session") -> "Sealed | None":
    """The sealed index, if nobody need be asked for its key and it opens something."""
    if not session.mailbox.opened():
        return None
    from medmail_cli.devices import keyring

    kept = keyring.kept_master_key(session.paths.keystore)
    if kept is None and session.secrets.given("passphrase") is None:
        return None
    from medmail_cli.workflows.mail.inbox import Sealed

    return Sealed(session.unlocked.subkey("learned"), session.run)
