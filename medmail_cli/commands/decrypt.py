"""``medmail decrypt``: open messages and say whether to believe them."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.opening import decryption_context, message_opener, sources_of
from medmail_cli.wiring.options import At, Offline, examples, instant

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from medmail_cli.session import Session

app = typer.Typer()


class Format(StrEnum):
    """What ``-o`` and ``--out-dir`` write."""

    text = "text"
    eml = "eml"


def events() -> dict[str, tuple[type, ...]]:
    """What the command may print, for its schema."""
    from medmail_cli.smime.verdict import Verdict
    from medmail_cli.workflows.mail.decrypt import Explanation

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
    from medmail_cli.workflows.mail import decrypt as workflow
    from medmail_cli.workflows.mail.output import Output

    session: Session = ctx.obj
    to_stdout = str(output) == "-" or (form is not None and output is None and out_dir is None)
    if output is not None and out_dir is not None:
        raise typer.BadParameter(_("--output and --out-dir exclude each other"))
    if to_stdout and session.options.format == "json":
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
    target = Output(
        stdout=to_stdout,
        file=None if to_stdout else output,
        folder=out_dir,
        format="eml" if form == Format.eml else "text",
        accept_untrusted=accept_untrusted,
        force=force,
    )
    opener = message_opener(
        session,
        identity,
        judged_at,
        offline=offline,
        show_unverified=show_unverified,
        allow_weak=allow_weak,
    )
    context = replace(
        decryption_context(session, opener, sources, identity),
        output=target,
        explained=explained,
        flush=session.console.sync,
    )
    named = 0 if session.options.format == "json" or len(sources) == 1 else len(sources)
    return show(ctx, "decrypt", _shown(workflow.decrypt(sources, context), named))


def _shown(letters: "Generator[object, None, None]", named: int) -> "Iterator[object]":
    """Content for stdout as the console writes it; of ``named`` messages each under its number and name.

    So that no letter passes for the next one's verdict, whatever it says.
    """
    from contextlib import closing

    from medmail_cli.smime.verdict import Verdict
    from medmail_cli.ui import sanitize
    from medmail_cli.ui.render import Raw
    from medmail_cli.workflows.mail.decrypt import Content

    number = 0
    with closing(letters):
        for event in letters:
            if named and isinstance(event, Verdict):
                number += 1
                yield Raw(f"[{number}/{named}] {sanitize.line(event.source)}\n".encode(), text=True)
            yield Raw(event.data, text=event.text) if isinstance(event, Content) else event
