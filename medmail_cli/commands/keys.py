"""``medmail keys``: see one's identities, take them elsewhere, and guard them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.backups import check, kept
from medmail_cli.wiring.options import Backup, NoBackup, OutputFormat, examples, write_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from medmail_cli.session import Session
    from medmail_cli.ui.render import Raw
    from medmail_cli.workflows.keys import KeyExport, KeystoreChange

app = typer.Typer(help=_("See your identities, take them elsewhere, and guard them."))

Identity = Annotated[
    str, typer.Argument(metavar="ID", help=_("The first digits of its ID or fingerprint, or its address."))
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help=_("Write to FILE; - is stdout."))
]
Force = Annotated[bool, typer.Option("--force", help=_("Replace a file that is there."))]


class Work(StrEnum):
    """What an identity is for."""

    sign = "sign"
    encrypt = "encrypt"


Purpose = Annotated[
    Work | None,
    typer.Option("--purpose", help=_("Of two that are in use for an address, the one that does this.")),
]


class Format(StrEnum):
    """What an identity is exported as."""

    pem = "pem"
    der = "der"
    p12 = "p12"


def events() -> dict[str, tuple[type, ...]]:
    """What each command may print, for its schema."""
    from medmail_cli.model import Note, Progress
    from medmail_cli.workflows.keys import Key, KeyDetails, KeyExport, KeystoreChange
    from medmail_cli.workflows.rewrap import Rewrap, RewrapSummary

    changes = ("backup", "restore", "passwd", "delete", "unlock", "lock")
    return {
        "keys list": (Key,),
        "keys show": (KeyDetails,),
        "keys export": (KeyExport,),
        "keys rewrap": (Rewrap, RewrapSummary, Progress, Note, KeystoreChange),
        **{f"keys {name}": (KeystoreChange,) for name in changes},
    }


@app.command(
    "list",
    help=_("List your identities; no passphrase is needed."),
    epilog=examples("medmail keys list"),
)
def list_(ctx: typer.Context, form: OutputFormat = None) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.keys import keys

    session: Session = ctx.obj
    write_as(session, form)
    return show(ctx, "keys list", keys(session.keystore, session.now()))


@app.command(
    "show",
    help=_("Show all there is to say about one identity, or about those in use for an address."),
    epilog=examples("medmail keys show dr.martin@medecin.test"),
)
def show_(ctx: typer.Context, identity: Identity, purpose: Purpose = None) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.keys import show_key

    session: Session = ctx.obj
    return show(
        ctx,
        "keys show",
        show_key(session.keystore, identity, session.now(), purpose.value if purpose else None),
    )


@app.command(
    "export",
    help=_("Take out a certificate, or with --private the key too, encrypted under the p12-password."),
    epilog=examples(
        "medmail keys export dr.martin@medecin.test -o martin.pem",
        "medmail keys export dr.martin@medecin.test --private --format p12 -o martin.p12",
    ),
)
def export(
    ctx: typer.Context,
    identity: Identity,
    form: Annotated[Format, typer.Option("--format", help=_("What to write."))] = Format.pem,
    private: Annotated[bool, typer.Option("--private", help=_("The private key too."))] = False,
    purpose: Purpose = None,
    pbmac1: Annotated[
        bool, typer.Option("--pbmac1", help=_("With p12: a MAC by PBKDF2, for readers that know RFC 9579."))
    ] = False,
    output: Output = None,
    force: Force = False,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import keys

    session: Session = ctx.obj
    if form is Format.p12 and not private:
        raise typer.BadParameter(_("p12 holds the private key; add --private"), param_hint="--format")
    if pbmac1 and form is not Format.p12:
        raise typer.BadParameter(_("only p12 has such a MAC"), param_hint="--pbmac1")
    path = _place(session, output, binary=form is not Format.pem)
    chosen = keys.the_one_in_use(
        session.keystore, identity, session.now(), purpose.value if purpose else None
    )
    if not private:
        events = keys.export_certificate(chosen, form.value, path, force=force)
    else:
        store = session.unlock_by_passphrase()
        password = session.secrets.new("p12-password", owner=chosen.address)
        events = keys.export_private(
            store, session.run, chosen, form.value, password, path, force=force, pbmac1=pbmac1
        )
    return show(ctx, "keys export", _with_data(events))


@app.command(
    "backup",
    help=_("Save the whole keystore in one file, encrypted under a backup-passphrase."),
    epilog=examples("medmail keys backup -o keystore.medmail"),
)
def backup(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help=_("Write to FILE; - is stdout."))
    ],
    force: Force = False,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import keys

    session: Session = ctx.obj
    path = _place(session, output, binary=True)
    store = session.unlock_by_passphrase()
    secret = session.secrets.new("backup-passphrase")
    events = keys.backup(store, session.run, secret, path, force=force)
    return show(ctx, "keys backup", _with_data(events))


@app.command(
    "restore",
    help=_("Put a saved keystore back where there is none, under a new passphrase."),
    epilog=examples("medmail keys restore keystore.medmail"),
)
def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help=_("The file; - is stdin."))],
) -> int:
    from medmail_cli.errors import MedmailError
    from medmail_cli.store.keys.backup import read_backup
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import keys

    session: Session = ctx.obj
    if session.keystore.exists:
        raise MedmailError("keystore-exists", path=str(session.paths.keystore))
    data = session.read(file, "FILE")
    with session.refusals_logged():
        saved = read_backup(data, file, lambda: session.secrets.get("backup-passphrase"))
    passphrase = session.secrets.new("passphrase")
    events = keys.restore(
        session.keystore,
        session.run,
        saved,
        passphrase,
        keys.digest(data),
        session.believed,
    )
    return show(ctx, "keys restore", events)


@app.command(
    "passwd",
    help=_("Change the passphrase."),
    epilog=examples("medmail keys passwd --new-passphrase-file new.txt"),
)
def passwd(
    ctx: typer.Context,
    new_file: Annotated[
        Path | None,
        typer.Option("--new-passphrase-file", metavar="FILE", help=_("Read the new passphrase from FILE.")),
    ] = None,
    new_fd: Annotated[
        int | None,
        typer.Option(
            "--new-passphrase-fd", metavar="N", help=_("Read the new passphrase from descriptor N.")
        ),
    ] = None,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import keys

    session: Session = ctx.obj
    if new_file is not None:
        session.options.secret_files["new-passphrase"] = new_file
    if new_fd is not None:
        session.options.secret_fds["new-passphrase"] = new_fd
    store = session.unlock_by_passphrase()
    passphrase = session.secrets.new("new-passphrase")
    return show(ctx, "keys passwd", keys.change_passphrase(store, session.run, passphrase))


@app.command(
    "unlock",
    help=_("Do without the passphrase for a while: the kernel keeps the key, never a file."),
    epilog=examples("medmail keys unlock --for 1h"),
)
def unlock(
    ctx: typer.Context,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help=_("How long; 15m by default."))
    ] = None,
) -> int:
    from medmail_cli.config import seconds
    from medmail_cli.devices.keyring import require_keyring
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import keys

    session: Session = ctx.obj
    try:
        lasting = seconds(duration or session.config.unlock_for or "15m")
    except ValueError:
        lasting = 0
    if lasting <= 0:
        raise typer.BadParameter(_("not a duration such as 15m"), param_hint="--for")
    require_keyring()
    store = session.unlock_by_passphrase()
    return show(ctx, "keys unlock", keys.unlock(store, session.run, lasting))


@app.command(
    "lock",
    help=_("Make the kernel forget the key now."),
    epilog=examples("medmail keys lock"),
)
def lock(ctx: typer.Context) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import keys

    session: Session = ctx.obj
    return show(ctx, "keys lock", keys.lock(session.keystore, session.run))


@app.command(
    "delete",
    help=_("Delete an identity and its key for good; letters for it alone can never be opened again."),
    epilog=examples("medmail keys delete 3f9ac1d2"),
)
def delete(
    ctx: typer.Context,
    identity: Identity,
    force: Annotated[bool, typer.Option("--force", help=_("Do not ask."))] = False,
) -> int:
    from medmail_cli.errors import MedmailError
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import keys

    session: Session = ctx.obj
    chosen = session.keystore.find(identity)
    if not force and not session.ask("delete-identity", address=chosen.address, id=chosen.id[:12]):
        raise MedmailError("declined")
    return show(ctx, "keys delete", keys.delete(session.keystore, session.run, chosen))


@app.command(
    "rewrap",
    help=_(
        "Make stored letters that only a replaced key opens open to the new one; "
        "ids, signatures and the server's copies stay as they are."
    ),
    epilog=examples("medmail keys rewrap", "medmail keys rewrap --to 3f9ac1d2 --dry-run"),
)
def rewrap_(
    ctx: typer.Context,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="ID", help=_("Make every letter open to this identity, and to no other.")
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help=_("Say which letters it would be, and change nothing."))
    ] = False,
    new_backup: Backup = None,
    no_backup: NoBackup = False,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.rewrap import check_target, rewrap

    session: Session = ctx.obj
    check(session, new_backup, no_backup=no_backup)
    target = None
    if to is not None:
        store = session.keystore
        target = store.decryption_identity(to, at=session.now()) if "@" in to else store.find(to)
        check_target(target)
    events = rewrap(
        session.mailbox,
        session.unlocked,
        session.run,
        to=target,
        dry_run=dry_run,
    )
    return show(ctx, "keys rewrap", kept(session, events, new_backup, no_backup=no_backup))


def _place(session: "Session", output: Path | None, *, binary: bool) -> Path | None:
    """Where to write, None for stdout. Raises ``usage`` where binary data would stand between JSON Lines."""
    path = None if output is None or str(output) == "-" else output
    if path is None and binary and session.options.format == "json":
        raise typer.BadParameter(_("--json needs a FILE for binary data"), param_hint="--output")
    if path is None and binary and session.console.interactive_out:
        from medmail_cli.errors import MedmailError

        raise MedmailError("binary-to-terminal")
    return path


def _with_data(
    events: "Iterable[KeyExport | KeystoreChange]",
) -> "Iterator[KeyExport | KeystoreChange | Raw]":
    from medmail_cli.ui.render import Raw

    for event in events:
        yield Raw(event.data) if event.data else event
