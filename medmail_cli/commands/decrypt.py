"""``medmail decrypt``: open messages and say whether to believe them."""

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.commands.examples import examples
from medmail_cli.commands.judging import At, Offline, instant, validator
from medmail_cli.ui.words import _

if TYPE_CHECKING:
    import datetime
    from collections.abc import Generator, Iterator

    from medmail_cli.session import Session
    from medmail_cli.smime.layers import Keys
    from medmail_cli.workflows.decrypt import Source
    from medmail_cli.workflows.reading import Reader

app = typer.Typer()


class Format(StrEnum):
    """What ``-o`` and ``--out-dir`` write."""

    text = "text"
    eml = "eml"


def events() -> dict[str, tuple[type, ...]]:
    """What the command may print, for its schema."""
    from medmail_cli.smime.verdict import Verdict
    from medmail_cli.workflows.decrypt import Explanation

    return {"decrypt": (Verdict, Explanation)}


@app.command(
    "decrypt",
    help=_("Open messages: who signed, by whose authority, whether to believe it, and what they say."),
    epilog=examples(
        "medmail decrypt 3fa9c1",
        "medmail decrypt letter.eml --out-dir results",
        "medmail decrypt --unopened --json",
    ),
)
def decrypt(
    ctx: typer.Context,
    messages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MESSAGE|FILE|-]...",
            help=_("The first digits of a message's name, a file (with a dot or slash), or - for stdin."),
        ),
    ] = None,
    unopened: Annotated[
        bool, typer.Option("--unopened", help=_("Every message of the mailbox not opened yet."))
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help=_("Write the content to FILE; - is stdout.")),
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help=_("Write content and attachments into DIR, a folder a message.")),
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help=_("Write the text alone, or the whole letter as .eml."))
    ] = None,
    identity: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help=_("Open with this identity's keys only."))
    ] = None,
    at: At = None,
    offline: Offline = False,
    accept_untrusted: Annotated[
        bool, typer.Option("--accept-untrusted", help=_("Write untrusted content too; the exit stays 5."))
    ] = False,
    show_unverified: Annotated[
        bool,
        typer.Option("--show-unverified", help=_("Show content that failed verification or has none.")),
    ] = False,
    allow_weak: Annotated[
        bool,
        typer.Option("--allow-weak", help=_("Open what is encrypted with 3DES or RC2 too; never trusted.")),
    ] = False,
    explained: Annotated[
        bool, typer.Option("--explain", help=_("Number every check, with its evidence."))
    ] = False,
    force: Annotated[bool, typer.Option("--force", help=_("Replace files that are there."))] = False,
) -> int:
    from medmail_cli.errors import MedmailError
    from medmail_cli.store.files import check_no_input, check_output
    from medmail_cli.ui.render import show
    from medmail_cli.workflows import decrypt as workflow

    session: Session = ctx.obj
    to_stdout = str(output) == "-" or (form is not None and output is None and out_dir is None)
    if output is not None and out_dir is not None:
        raise typer.BadParameter(_("--output and --out-dir exclude each other"))
    if to_stdout and session.options.json:
        raise typer.BadParameter(_("with --json, content goes to a file (-o FILE, --out-dir DIR)"))
    if to_stdout and form is Format.eml and session.console.interactive_out:
        raise MedmailError("binary-to-terminal")
    judged_at = instant(at)
    sources = list(sources_of(session, messages or [], unopened=unopened))
    if not sources and not unopened:
        raise typer.BadParameter(_("name a message, a file, or - for stdin; or use --unopened"))
    if len(sources) > 1 and (output is not None or to_stdout):
        raise typer.BadParameter(_("--output takes one message; use --out-dir for several"))
    if output is not None and not to_stdout:
        check_no_input(output, map(Path, messages or ()))
        check_output(output, force=force)
    target = workflow.Output(
        stdout=to_stdout,
        file=None if to_stdout else output,
        folder=out_dir,
        format="eml" if form == Format.eml else "text",
        accept_untrusted=accept_untrusted,
        force=force,
    )
    reader = reader_for(
        session,
        identity,
        judged_at,
        offline=offline,
        show_unverified=show_unverified,
        allow_weak=allow_weak,
    )
    stored = any(source.stored for source in sources)
    found = workflow.decrypt(
        sources,
        reader=reader,
        log=session.log,
        actor=identity or next(iter(reader.own_addresses), "medmail"),
        output=target,
        explained=explained,
        flush=session.console.sync,
        mailbox=session.mailbox if stored else None,
        subkey=lambda: session.unlocked.subkey("learned"),
    )
    named = 0 if session.options.json or len(sources) == 1 else len(sources)
    return show(ctx, "decrypt", _shown(found, named))


def _shown(found: "Generator[object, None, None]", named: int) -> "Iterator[object]":
    """Content for stdout as the console writes it; of ``named`` messages each under its number and name.

    So that no letter passes for the next one's verdict, whatever it says.
    """
    from contextlib import closing

    from medmail_cli.smime.verdict import Verdict
    from medmail_cli.ui import sanitize
    from medmail_cli.ui.render import Raw
    from medmail_cli.workflows.decrypt import Content

    number = 0
    with closing(found):
        for event in found:
            if named and isinstance(event, Verdict):
                number += 1
                yield Raw(f"[{number}/{named}] {sanitize.line(event.source)}\n".encode(), text=True)
            yield Raw(event.data, text=event.text) if isinstance(event, Content) else event


def sources_of(session: "Session", messages: list[str], *, unopened: bool) -> "Iterator[Source]":
    """What the arguments name, each once, in order; every file is looked at before any work.

    Raises ``stdin-twice``, ``usage`` for what can be no message, and what finding each one raises.
    """
    from medmail_cli.errors import MedmailError
    from medmail_cli.workflows import decrypt as workflow

    if messages.count("-") > 1:
        raise MedmailError("stdin-twice", first="MESSAGE", second="MESSAGE")
    for name in dict.fromkeys(messages):
        if name == "-":
            yield from workflow.from_bytes(session.stdin("MESSAGE"))
        elif "/" in name or "." in name:
            yield from workflow.from_file(Path(name))
        elif not re.fullmatch("[0-9A-Fa-f]{6,64}", name):
            said = _("{name!r} is neither a message (six hex digits or more) nor a file (with . or /)")
            raise typer.BadParameter(said.format(name=name))
        else:
            yield _stored(session, name)
    if unopened:
        for stored in session.mailbox.list(unopened=True):
            yield workflow.from_mailbox(session.mailbox, stored)


def _stored(session: "Session", prefix: str) -> "Source":
    """The message of the mailbox or the outbox whose name begins so: they share one space."""
    from medmail_cli.errors import MedmailError
    from medmail_cli.workflows import decrypt as workflow

    queued = []
    if session.paths.outbox.exists():
        queued = [one for one in session.outbox.open() if one.id.startswith(prefix.lower())]
    try:
        return workflow.from_mailbox(
            session.mailbox, session.mailbox.find(prefix, [one.id for one in queued])
        )
    except MedmailError as error:
        if error.code != "not-found" or not queued:
            raise
    found = session.outbox.find(prefix)
    return workflow.Source(found.id, found.size, lambda: session.outbox.read(found))


def reader_for(
    session: "Session",
    identity: str | None,
    at: "datetime.datetime | None",
    *,
    offline: bool,
    show_unverified: bool = False,
    allow_weak: bool = False,
) -> "Reader":
    """What opens and judges letters in this run. Raises ``no-identity``."""
    from medmail_cli.errors import MedmailError
    from medmail_cli.pki.address import same_address
    from medmail_cli.store.incomplete import Incomplete
    from medmail_cli.workflows.reading import LazyKeys, Reader

    identities = session.keystore.identities()
    if identity is not None:
        identities = tuple(one for one in identities if any(same_address(a, identity) for a in one.addresses))
        if not identities:
            raise MedmailError("no-identity", address=identity)
    chosen = {one.certificate for one in identities if one.certificate is not None}

    def keys() -> "Keys":
        if not chosen:
            return []
        return [(c, key) for c, key in session.unlocked.decryption_keys() if c in chosen]

    return Reader(
        keys=LazyKeys(keys),
        own_addresses=tuple(dict.fromkeys(a for one in identities for a in one.addresses)),
        validator=validator(session, offline=offline),
        contacts=session.contacts,
        profile=session.profile,
        now=session.now(),
        at=at,
        delegates=session.config.delegates,
        show_unverified=show_unverified,
        allow_weak=allow_weak,
        incomplete=Incomplete(session.paths.cache / "incomplete"),
    )
