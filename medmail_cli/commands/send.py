"""``medmail send``: a letter, or a manifest of letters, signed, encrypted and handed to the server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.commands.examples import examples
from medmail_cli.commands.judging import Offline
from medmail_cli.ui.words import _

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from medmail_cli.session import Session
    from medmail_cli.ui.render import Raw
    from medmail_cli.workflows.drafts import Draft
    from medmail_cli.workflows.office import Office
    from medmail_cli.workflows.send import Event
    from medmail_cli.workflows.submit import Postage

TransportOnly = Annotated[
    list[str] | None,
    typer.Option(
        "--transport-only",
        metavar="ADDR",
        help=_("Send although this recipient cannot be encrypted to; repeatable."),
    ),
]

app = typer.Typer()


def events() -> dict[str, tuple[type, ...]]:
    """What the command may print, for its schema."""
    from medmail_cli.workflows.drafts import Fault
    from medmail_cli.workflows.submit import Recipient, Retried

    return {"send": (Recipient, Retried, Fault)}


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
    from medmail_cli.commands.writing import sending
    from medmail_cli.store.files import check_no_input
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import send as workflow

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
        check_no_input(output, (one for one in read if one is not None))
    if str(output) == "-":
        if session.options.json:
            raise typer.BadParameter(_("with --json, the message goes to a file"), param_hint="--output")
        session.console.stdout_taken = True
    if transport_only and (post_quantum or sign_only):
        raise typer.BadParameter(
            _("--transport-only excludes --sign-only and --post-quantum"), param_hint="--transport-only"
        )
    wish = workflow.Wish(partial, sign_only, queue, dry_run, output, force, named(transport_only))
    sender = office(session, post_quantum=post_quantum, offline=offline)
    if batch is not None:
        data, folder = _manifest(session, batch)
        return show(ctx, "send", _shown(workflow.send_manifest(data, folder, sender, wish)))
    draft = _draft(session, to or (), cc or (), bcc or (), subject, attach or (), from_, message, id_, body)
    template = "" if subject is not None else "Subject: \n\n"
    return show(ctx, "send", _shown(sending(session, draft, sender, wish, template)))


def named(addresses: "Sequence[str] | None") -> frozenset[str]:
    """The addresses of ``--transport-only``. Raises ``bad-address``."""
    from medmail_cli.pki.address import exact
    from medmail_cli.workflows import drafts

    return frozenset(exact(drafts.mailbox(one).address) for one in addresses or ())


def _shown(found: "Generator[Event, None, None]") -> "Iterator[Event | Raw]":
    """A message for stdout as the console writes it."""
    from contextlib import closing

    from medmail_cli.ui.render import Raw
    from medmail_cli.workflows.send import Content

    with closing(found):
        for event in found:
            yield Raw(event.data, text=True) if isinstance(event, Content) else event


def _manifest(session: "Session", path: Path) -> tuple[bytes, Path]:
    from medmail_cli.workflows import drafts

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

    from medmail_cli.commands.writing import given
    from medmail_cli.workflows import drafts

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


def office(session: "Session", *, post_quantum: bool = False, offline: bool = False) -> "Office":
    """What sending needs of this run."""
    from functools import partial

    from medmail_cli.commands.judging import validator
    from medmail_cli.commands.logins import above
    from medmail_cli.model import Note
    from medmail_cli.workflows.addressing import Directory, read_whitelist
    from medmail_cli.workflows.office import Office

    profile = session.profile
    added = {name.lower() for name in profile.headers}
    for name in profile.wanted_headers:
        if name.lower() not in added:
            session.note(Note("header-wanted", {"header": name, "profile": profile.name}))
    own = [
        (address, one.certificate)
        for one in session.keystore.identities()
        if one.state == "active" and one.certificate is not None and one.purpose in ("encrypt", "both")
        for address in one.addresses
    ]
    return Office(
        keystore=session.keystore,
        unlock=lambda: session.unlocked,
        directory=Directory(
            session.contacts,
            validator(session, offline=offline),
            profile,
            session.now(),
            own,
            post_quantum or profile.post_quantum,
        ),
        profile=profile,
        account=lambda address: session.account(address=address),
        above=partial(above, session),
        postage=postage(session),
        whitelist=read_whitelist(profile.whitelist),
    )


def postage(session: "Session") -> "Postage":
    """What handing over needs of this run; secrets are asked for before a connection is made."""
    from functools import partial

    from medmail_cli.commands.logins import credentials, tls_context
    from medmail_cli.workflows.submit import Postage

    return Postage(
        outbox=session.outbox,
        log=session.log,
        mailbox=session.mailbox,
        accounts=session.config.accounts,
        credentials=partial(credentials, session),
        context=partial(tls_context, session),
        now=session.now,
        ask_dsn=session.profile.request_dsn,
    )
