"""``medmail send``: a letter, or a manifest of letters, signed, encrypted and handed to the server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import Offline, TransportOnly, examples, named

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from medmail_cli.session import Session
    from medmail_cli.ui.render import Raw
    from medmail_cli.workflows.mail.drafts import Draft
    from medmail_cli.workflows.mail.send import Event

app = typer.Typer()


def events() -> dict[str, tuple[type, ...]]:
    """What the command may print, for its schema."""
    from medmail_cli.workflows.mail.drafts import Fault
    from medmail_cli.workflows.mail.outcomes import RecipientOutcome, Retried

    return {"send": (RecipientOutcome, Retried, Fault)}


@app.command(
    "send",
    help=_("Send a letter, signed and encrypted; each recipient's fate is told."),
    epilog=examples(
        "medmail send --to dr.bernard@medecin.test --attach report.pdf letter.txt",
        "medmail send --batch results.jsonl --json",
        "medmail send --to dr.bernard@medecin.test",
    ),
)
def send(
    ctx: typer.Context,
    body: Annotated[
        str | None,
        typer.Argument(metavar="[BODY-FILE|-]", help=_("The text, a file in UTF-8; - for stdin.")),
    ] = None,
    to: Annotated[list[str] | None, typer.Option(metavar="ADDR", help=_("A recipient; repeatable."))] = None,
    cc: Annotated[
        list[str] | None, typer.Option(metavar="ADDR", help=_("A recipient of a copy; repeatable."))
    ] = None,
    bcc: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDR", help=_("A recipient whom the others do not see; repeatable.")),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help=_("The subject; else a first line `Subject: …` of the text.")),
    ] = None,
    attach: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help=_("A file to send along; repeatable."))
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="ADDR", help=_("Who sends: one of your identities."))
    ] = None,
    message: Annotated[
        Path | None, typer.Option(metavar="FILE.eml", help=_("Send this message, its headers included."))
    ] = None,
    batch: Annotated[
        Path | None, typer.Option(metavar="MANIFEST.jsonl", help=_("Send every letter of a manifest."))
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="KEY", help=_("A name of your own; one name is never sent twice.")),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help=_("Leave out recipients without certificate; exit 3."))
    ] = False,
    transport_only: TransportOnly = None,
    sign_only: Annotated[bool, typer.Option("--sign-only", help=_("Sign, do not encrypt."))] = False,
    post_quantum: Annotated[
        bool,
        typer.Option("--post-quantum", help=_("Only by ML-KEM, for every recipient and for yourself.")),
    ] = False,
    offline: Offline = False,
    queue: Annotated[
        bool, typer.Option("--queue", help=_("Into the outbox only; `outbox flush` sends."))
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=_("Check everything, do nothing."))] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help=_("Write the message instead of sending it.")),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=_("Replace a file that is there."))] = False,
) -> int:
    from medmail_cli.store.files import check_no_input
    from medmail_cli.ui.render import show
    from medmail_cli.wiring.sending import letter, sending_context
    from medmail_cli.workflows.mail import send as workflow

    session: Session = ctx.obj
    composed = any((to, cc, bcc, subject is not None, attach, body is not None, id_))
    if batch is not None and (composed or message is not None or from_):
        raise typer.BadParameter(_("--batch takes everything from its manifest"))
    if message is not None and (subject is not None or attach or body is not None):
        raise typer.BadParameter(_("--message brings its own subject, text and attachments"))
    if post_quantum and sign_only:
        raise typer.BadParameter(_("--sign-only encrypts nothing that --post-quantum could protect"))
    if output is not None and (queue or dry_run):
        raise typer.BadParameter(_("--output excludes --queue and --dry-run"))
    if output is not None:
        read = (message, batch, None if body is None else Path(body), *(attach or ()))
        check_no_input(output, (path for path in read if path is not None))
    if str(output) == "-":
        if session.options.format == "json":
            raise typer.BadParameter(_("with --json, the message goes to a file"), param_hint="--output")
        session.console.stdout_taken = True
    if transport_only and (post_quantum or sign_only):
        raise typer.BadParameter(
            _("--transport-only excludes --sign-only and --post-quantum"), param_hint="--transport-only"
        )
    options = workflow.SendOptions(partial, sign_only, queue, dry_run, output, force, named(transport_only))
    sender = sending_context(session, post_quantum=post_quantum, offline=offline)
    if batch is not None:
        data, folder = _manifest(session, batch)
        return show(ctx, "send", _shown(workflow.send_manifest(data, folder, sender, options)))
    draft = _draft(session, to or (), cc or (), bcc or (), subject, attach or (), from_, message, id_, body)
    template = "" if subject is not None else "Subject: \n\n"
    return show(ctx, "send", _shown(letter(session, draft, sender, options, template)))


def _shown(outcomes: "Generator[Event, None, None]") -> "Iterator[Event | Raw]":
    """A message for stdout as the console writes it."""
    from contextlib import closing

    from medmail_cli.ui.render import Raw
    from medmail_cli.workflows.mail.send import Content

    with closing(outcomes):
        for event in outcomes:
            yield Raw(event.data, text=True) if isinstance(event, Content) else event


def _manifest(session: "Session", path: Path) -> tuple[bytes, Path]:
    from medmail_cli.workflows.mail import drafts

    if str(path) == "-":
        return session.stdin("--batch"), Path()
    return drafts.read(path), path.parent


def _draft(
    session: "Session",
    to: "Sequence[str]",
    cc: "Sequence[str]",
    bcc: "Sequence[str]",
    subject: str | None,
    attach: "Sequence[Path]",
    from_: str | None,
    message: Path | None,
    key: str | None,
    body: str | None,
) -> "Draft":
    from dataclasses import replace

    from medmail_cli.wiring.sending import given
    from medmail_cli.workflows.mail import drafts

    draft = drafts.Draft()
    if message is not None:
        data = session.stdin("--message") if str(message) == "-" else drafts.read(message)
        draft = drafts.from_message(data)
    boxes = {
        name: tuple(map(drafts.mailbox, given)) for name, given in (("to", to), ("cc", cc), ("bcc", bcc))
    }
    if any(boxes.values()):
        draft = replace(draft, to=boxes["to"], cc=boxes["cc"], bcc=boxes["bcc"])
    if not draft.everybody:
        raise typer.BadParameter(_("name at least one recipient with --to"))
    for path in attach:
        drafts.check_readable(path)
    draft = replace(
        draft,
        key=key,
        sender=drafts.mailbox(from_) if from_ else draft.sender,
        subject=draft.subject if message is not None else subject,
        attach=tuple(attach),
    )
    if message is None:
        draft = replace(draft, body=given(session, body))
    return draft
