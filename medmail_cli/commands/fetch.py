"""``medmail fetch``: bring what is new from the server."""

from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import examples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medmail_cli.model import Note
    from medmail_cli.session import Session
    from medmail_cli.workflows.mail.refusals import Refusals

app = typer.Typer()


def events() -> dict[str, tuple[type, ...]]:
    """What the command may print, for its schema."""
    from medmail_cli.model import Note, Progress
    from medmail_cli.workflows.mail.fetched import FetchedAccount, FetchedFolder, FetchedMessage
    from medmail_cli.workflows.mail.outcomes import Retried

    return {"fetch": (FetchedMessage, FetchedFolder, FetchedAccount, Retried, Progress, Note)}


@app.command(
    "fetch",
    help=_("Fetch new messages; on the server nothing is marked or deleted."),
    epilog=examples("medmail fetch --all-folders && medmail inbox --unopened"),
)
def fetch(
    ctx: typer.Context,
    folder: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=_("This folder instead of INBOX; repeatable."))
    ] = None,
    all_folders: Annotated[
        bool, typer.Option("--all-folders", help=_("Every folder of the account."))
    ] = False,
    all_accounts: Annotated[
        bool, typer.Option("--all-accounts", help=_("Every account of the configuration."))
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help=_("Stay, and fetch whenever something comes; send what is due."))
    ] = False,
    command: Annotated[
        str | None,
        typer.Option(
            "--exec",
            metavar="COMMAND",
            help=_("With --watch: run COMMAND for new messages, ids on its stdin."),
        ),
    ] = None,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.wiring.accounts import source_of
    from medmail_cli.workflows.mail import fetch as workflow
    from medmail_cli.workflows.mail.fetched import Stores

    session: Session = ctx.obj
    if folder and all_folders:
        raise typer.BadParameter(_("--folder and --all-folders exclude each other"))
    if watch and all_accounts:
        raise typer.BadParameter(_("--watch stays with one account; start one for each"))
    if command is not None and not watch:
        raise typer.BadParameter(_("--exec goes with --watch"))
    folders = None if all_folders else tuple(folder or ["INBOX"])
    stores = Stores(session.mailbox, session.log, session.now)
    if all_accounts:
        session.account()
        sources = [source_of(session, each, folders) for each in session.config.accounts.values()]
        return show(ctx, "fetch", workflow.fetch_all(sources, stores))
    source = source_of(session, session.account(), folders)
    if not watch:
        return show(ctx, "fetch", workflow.fetch(source, stores))
    from medmail_cli.workflows.mail.refusals import Refusals
    from medmail_cli.workflows.mail.watch import watch as watching

    refusals = Refusals(
        forget=lambda name: session.secrets.forget("password", owner=session.config.accounts[name].address)
    )
    watched = watching(
        source,
        stores,
        flush=lambda: _flush(session, refusals),
        react=lambda ids: _react(command, ids),
        refusals=refusals,
    )
    return show(ctx, "fetch", watched)


def _react(command: str | None, ids: "Sequence[str]") -> "Note | None":
    from medmail_cli.devices.programs import run_for
    from medmail_cli.model import Note

    failure = run_for(command, ids) if command is not None else None
    return None if failure is None else Note("exec-failed", {"command": str(command), "reason": failure})


def _flush(session: "Session", refusals: "Refusals") -> "Iterator[object]":
    from medmail_cli.wiring.sending import delivery_context
    from medmail_cli.workflows.mail.retrying import retry_meanwhile

    return retry_meanwhile(delivery_context(session), refusals)
