"""``medmail contacts``: to whom one may write, and with which certificate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import OutputFormat, examples, write_as

if TYPE_CHECKING:
    from medmail_cli.session import Session

app = typer.Typer(help=_("Correspondents: their certificates and what their software reads."))

Address = Annotated[str, typer.Argument(metavar="ADDR", help=_("The contact's address."))]


def events() -> dict[str, tuple[type, ...]]:
    """What each command may print, for its schema."""
    from medmail_cli.workflows.mail.outcomes import RecipientOutcome, Retried
    from medmail_cli.workflows.trust.contacts import ContactItem

    commands = ("find", "add", "list", "remove", "set", "accept")
    shown: dict[str, tuple[type, ...]] = {f"contacts {command}": (ContactItem,) for command in commands}
    return shown | {"contacts invite": (RecipientOutcome, Retried)}


@app.command(
    "find",
    help=_("Find contacts by a part of their address or name."),
    epilog=examples("medmail contacts find martin"),
)
def find(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(metavar="QUERY", help=_("A part of the address or name."))],
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.trust import contacts

    session: Session = ctx.obj
    listed = contacts.listed(session.contacts, session.trust.authorities, query, now=session.now())
    return show(ctx, "contacts find", listed)


@app.command(
    "list",
    help=_("List every contact."),
    epilog=examples("medmail contacts list --json", "medmail contacts list --format csv"),
)
def list_(ctx: typer.Context, form: OutputFormat = None) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.trust import contacts

    session: Session = ctx.obj
    write_as(session, form)
    listed = contacts.listed(session.contacts, session.trust.authorities, "", now=session.now())
    return show(ctx, "contacts list", listed)


@app.command(
    "add",
    help=_("Take recipients' certificates from a PEM, DER or PKCS#7 file."),
    epilog=examples("medmail contacts add dr-martin.pem --address dr.martin@medecin.test"),
)
def add(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help=_("The file; - is stdin."))],
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDR", help=_("Pin the certificates to this address, whatever they bear.")),
    ] = None,
) -> int:
    from medmail_cli.pki.x509.address import is_address
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.trust import contacts

    if address is not None and not is_address(address):
        raise typer.BadParameter(_("not a mail address"), param_hint="--address")
    session: Session = ctx.obj
    data = session.read(file, "FILE")
    added = contacts.add(
        session.contacts,
        session.trust.authorities,
        session.run,
        data,
        str(file),
        address,
    )
    return show(ctx, "contacts add", added)


@app.command(
    "remove",
    help=_("Forget a contact and its certificates."),
    epilog=examples("medmail contacts remove dr.martin@medecin.test"),
)
def remove(ctx: typer.Context, address: Address) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.trust import contacts

    session: Session = ctx.obj
    removed = contacts.remove(session.contacts, session.trust.authorities, session.run, address)
    return show(ctx, "contacts remove", removed)


@app.command(
    "set",
    help=_("Say what a contact's software reads: modern (AES-GCM) or legacy (AES-CBC only)."),
    epilog=examples("medmail contacts set dr.martin@medecin.test --reads legacy"),
)
def set_(
    ctx: typer.Context,
    address: Address,
    reads: Annotated[Literal["legacy", "modern"], typer.Option(help=_("What the contact's software reads."))],
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.trust import contacts

    session: Session = ctx.obj
    changed = contacts.set_reads(
        session.contacts,
        session.trust.authorities,
        session.run,
        address,
        reads,
    )
    return show(ctx, "contacts set", changed)


@app.command(
    "accept",
    help=_(
        "Take a contact's waiting certificate, of another issuer than those before, or one that "
        "the audit log knows nothing of, into use."
    ),
    epilog=examples("medmail contacts accept dr.martin@medecin.test"),
)
def accept(
    ctx: typer.Context,
    address: Address,
    sha256: Annotated[
        str, typer.Option(metavar="SHA256", help=_("Only the certificate whose SHA-256 begins so."))
    ] = "",
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.trust import contacts

    session: Session = ctx.obj
    accepted = contacts.accept(
        session.contacts,
        session.trust.authorities,
        session.run,
        address,
        sha256,
    )
    return show(ctx, "contacts accept", accepted)


@app.command(
    "invite",
    help=_("Open a first contact: send a fixed text, signed only, that carries your certificates."),
    epilog=examples("medmail contacts invite dr.bernard@medecin.test"),
)
def invite(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDR", help=_("Whom to invite."))],
    from_: Annotated[
        str | None, typer.Option("--from", metavar="ADDR", help=_("Who sends: one of your identities."))
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help=_("Into the outbox only; `outbox flush` sends."))
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help=_("Write the message instead of sending it.")),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=_("Replace a file that is there."))] = False,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.wiring.sending import sending_context
    from medmail_cli.workflows.mail.send import SendOptions
    from medmail_cli.workflows.trust import contacts

    if output is not None and queue:
        raise typer.BadParameter(_("--output excludes --queue and --dry-run"))
    subject = _("My certificate for encrypted letters")
    text = _(
        "This letter is signed and carries my certificate. Answer it from software that encrypts (S/MIME),\n"
        "and we can write to each other without anybody on the way reading it.\n"
    )
    options = SendOptions(queue=queue, output=output, force=force)
    sent = contacts.invite(sending_context(ctx.obj), address, from_, options, subject=subject, text=text)
    return show(ctx, "contacts invite", sent)
