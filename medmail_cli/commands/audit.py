"""``medmail audit``: read the log, verify it, prove an entry, sign a checkpoint, export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import OutputFormat, examples, instant, write_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medmail_cli.session import Session
    from medmail_cli.ui.render import Raw
    from medmail_cli.workflows.audit import AuditEntry, AuditFile, Salt, SignedCheckpoint, SignedProof

app = typer.Typer(help=_("See and prove what medmail did here."))

Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help=_("Write to FILE; - is stdout."))
]
Force = Annotated[bool, typer.Option("--force", help=_("Replace a file that is there."))]


def events() -> dict[str, tuple[type, ...]]:
    """What each command may print, for its schema."""
    from medmail_cli.workflows.audit import (
        AuditEntry,
        AuditFile,
        DamagedFile,
        Fault,
        LogState,
        Salt,
        SignedCheckpoint,
        SignedProof,
    )

    return {
        "audit log": (AuditEntry,),
        "audit verify": (Fault, DamagedFile, LogState),
        "audit prove": (SignedProof, Salt, AuditFile),
        "audit checkpoint": (SignedCheckpoint, AuditFile),
        "audit export": (AuditEntry, AuditFile),
    }


@app.command(
    "log",
    help=_("List the entries: who did what, when, and how it ended."),
    epilog=examples("medmail audit log --since 2026-01-01 --action send --last 20"),
)
def log(
    ctx: typer.Context,
    since: Annotated[str | None, typer.Option(metavar="TIME", help=_("Entries from this time on."))] = None,
    action: Annotated[str | None, typer.Option(help=_("Entries of this action: send, decrypt, …"))] = None,
    last: Annotated[int | None, typer.Option(min=0, metavar="N", help=_("The last N of them."))] = None,
    form: OutputFormat = None,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.audit import read_entries

    session: Session = ctx.obj
    write_as(session, form)
    entries = read_entries(session.paths.audit, since=instant(since, "--since"), action=action, last=last)
    return show(ctx, "audit log", entries)


@app.command(
    "verify",
    help=_("Check that no entry was changed, moved or removed."),
    epilog=examples("medmail audit verify --checkpoint archive/2026-01.checkpoint"),
)
def verify(
    ctx: typer.Context,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help=_("A checkpoint kept elsewhere; - is stdin."))
    ] = None,
) -> int:
    from medmail_cli.errors import MedmailError, not_readable
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import audit

    session: Session = ctx.obj
    kept = None
    if checkpoint is not None:
        try:
            kept = session.stdin("--checkpoint") if str(checkpoint) == "-" else checkpoint.read_bytes()
        except FileNotFoundError:
            raise MedmailError("not-found", what="checkpoint", name=str(checkpoint)) from None
        except OSError as error:
            raise not_readable(checkpoint, error) from None
    home = audit.Home(session.believed, session.trust, session.contacts, session.keystore)
    return show(ctx, "audit verify", audit.verify(session.paths.audit, kept, home))


@app.command(
    "prove",
    help=_("Prove to others that an entry is in the log (a C2SP tlog-proof)."),
    epilog=examples("medmail audit prove 41 -o entry-41.tlog-proof"),
)
def prove(
    ctx: typer.Context,
    entry: Annotated[int, typer.Argument(metavar="ENTRY", min=0, help=_("The entry's number."))],
    salt: Annotated[
        bool,
        typer.Option(
            "--salt", help=_("Also give out what shows, with a sent letter, that the entry is about it.")
        ),
    ] = False,
    output: Output = None,
    force: Force = False,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import audit

    session: Session = ctx.obj

    def events() -> "Iterator[SignedProof | Salt | AuditFile]":
        proof = audit.prove(session.log, entry)
        file = _file(output)
        yield proof if file is None else audit.write_file(file, proof.proof.encode(), force=force)
        if salt:
            from medmail_cli.workflows.mail.sealing import SALTS

            yield audit.salt(proof, session.unlocked.subkey(SALTS))

    return show(ctx, "audit prove", events())


@app.command(
    "checkpoint",
    help=_("Print a signed checkpoint, to be kept where nobody here can change it."),
    epilog=examples("medmail audit checkpoint -o archive/2026-01.checkpoint"),
)
def checkpoint(ctx: typer.Context, output: Output = None, force: Force = False) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import audit

    session: Session = ctx.obj

    def events() -> "Iterator[SignedCheckpoint | AuditFile]":
        signed = audit.sign_checkpoint(session.log)
        file = _file(output)
        yield signed if file is None else audit.write_file(file, signed.note.encode(), force=force)

    return show(ctx, "audit checkpoint", events())


@app.command(
    "export",
    help=_("Write every entry as it stands in the log, one JSON object a line."),
    epilog=examples("medmail audit export -o audit.jsonl"),
)
def export(ctx: typer.Context, output: Output = None, force: Force = False) -> int:
    from medmail_cli.ui.render import Raw, show
    from medmail_cli.workflows import audit

    session: Session = ctx.obj

    def events() -> "Iterator[AuditEntry | AuditFile | Raw]":
        if (file := _file(output)) is not None:
            yield audit.write_file(file, b"".join(audit.export(session.paths.audit)), force=force)
        elif session.options.format == "json":
            yield from audit.read_entries(session.paths.audit)
        else:
            for block in audit.export(session.paths.audit):
                yield Raw(block, text=True)

    return show(ctx, "audit export", events())


def _file(output: Path | None) -> Path | None:
    """Where to write; None for stdout."""
    return None if str(output) == "-" else output
