"""``medmail outbox``: list what waits to be sent, send it, or give it up."""

from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import OutputFormat, examples, write_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medmail_cli.session import Session
    from medmail_cli.store.queue.outbox import Submission
    from medmail_cli.workflows.mail.outbox import Dropped

app = typer.Typer(help=_("What waits to be sent."))


def events() -> dict[str, tuple[type, ...]]:
    """What each command may print, for its schema."""
    from medmail_cli.workflows.mail.outbox import Dropped, Waiting
    from medmail_cli.workflows.mail.outcomes import RecipientOutcome

    return {"outbox list": (Waiting,), "outbox flush": (RecipientOutcome,), "outbox drop": (Dropped,)}


@app.command("list", help=_("Show what waits to be sent, and why."), epilog=examples("medmail outbox list"))
def list_(ctx: typer.Context, form: OutputFormat = None) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.mail.outbox import listing

    session: Session = ctx.obj
    write_as(session, form)
    return show(ctx, "outbox list", listing(session.outbox, session.now()))


@app.command(
    "flush",
    help=_("Send what waits: all of it, the letters named, or with --due what has waited long enough."),
    epilog=examples(
        "medmail outbox flush",
        "medmail outbox flush --due -q",
    ),
)
def flush(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help=_("The first digits of a letter's name."))
    ] = None,
    due: Annotated[
        bool, typer.Option("--due", help=_("Only what has waited as long as the last refusal asks for."))
    ] = False,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.wiring.sending import delivery_context
    from medmail_cli.workflows.mail.outbox import flush

    session: Session = ctx.obj
    return show(ctx, "outbox flush", flush(delivery_context(session), ids or (), only_due=due))


@app.command(
    "drop",
    help=_("Give up letters that have not been sent; asks first."),
    epilog=examples("medmail outbox drop 3fa9c1"),
)
def drop(
    ctx: typer.Context,
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help=_("The first digits of a letter's name."))
    ],
    force: Annotated[bool, typer.Option("--force", help=_("Do not ask."))] = False,
) -> int:
    from medmail_cli.ui.render import show

    session: Session = ctx.obj
    submissions = {submission.id: submission for submission in map(session.outbox.find, ids)}
    return show(ctx, "outbox drop", _dropped(session, list(submissions.values()), force=force))


def _dropped(session: "Session", submissions: "list[Submission]", *, force: bool) -> "Iterator[Dropped]":
    from medmail_cli.workflows.mail.outbox import drop

    for submission in submissions:
        if force or session.ask("drop", "--force", id=submission.id[:12], addresses=submission.pending):
            yield from drop(session.outbox, session.run, submission)
