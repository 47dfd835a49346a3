"""From a workflow's events to stdout, in the format that was asked for, and to one exit.

A view, ``ui/views/<verb>.py``, holds a function for each type of event it shows, named after it, which
yields lines; ``TABLES`` names the columns of those that are shown as a table, ``closing`` says at the end
how many there were of what. What has no view stays
silent in text.
"""

import errno
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmail_cli.errors import MedmailError, NothingAttemptedError, combine, exit_of
from medmail_cli.model import Note, Progress
from medmail_cli.ui import i18n
from medmail_cli.ui.console import OutputGoneError

if TYPE_CHECKING:
    import typer

    from medmail_cli.session import Session
    from medmail_cli.ui.console import Console


@dataclass(frozen=True)
class Column:
    """A column of a table: its title and how a cell is read from an event."""

    title: str
    cell: Callable[[Any], object]


@dataclass(frozen=True)
class Raw:
    """Bytes for stdout as they are (``-o -``, a certificate, a message); ``text`` a terminal may show."""

    data: bytes | memoryview
    text: bool = False


def show(ctx: "typer.Context", command: str, events: Iterable[object]) -> int:
    """Run a workflow to its end, show every event, and give the exit of the whole.

    An error before the first item is the caller's to report; after it, the result tells of both.
    """
    session: Session = ctx.obj
    console, shown = session.console, session.format()
    shown.begin(command)
    counts: Counter[str] = Counter()
    exits: list[int] = []
    try:
        for event in events:
            if isinstance(event, Progress):
                shown.progress(event)
            elif isinstance(event, Note):
                shown.note(event)
            elif isinstance(event, Raw):
                _raw(console, event)
            else:
                counts[str(event.type)] += 1  # type: ignore[attr-defined]
                if isinstance(status := getattr(event, "status", None), str):
                    counts[status] += 1
                if isinstance(item_exit := getattr(event, "exit", None), int):
                    exits.append(item_exit)
                shown.event(event)
    except OutputGoneError:
        raise
    except (Exception, KeyboardInterrupt) as raised:
        if not exits or isinstance(raised, NothingAttemptedError):
            shown.flush()
            raise
        if session.options.debug:
            traceback.print_exc()
        error = understood(raised)
        report(console, error)
        shown.end(counts, exit_of(error.code), error)
        return exit_of(error.code)
    finally:
        # what a generator still has to write down comes before the stores are closed
        if isinstance(events, Generator):
            events.close()
    for repaired in session.take_notes():
        shown.note(repaired)
    code = combine(exits)
    shown.end(counts, code, None)
    return code


def _raw(console: "Console", event: Raw) -> None:
    if event.text and console.interactive_out:
        console.out(bytes(event.data).decode("utf-8", "backslashreplace").removesuffix("\n"))
    else:
        console.out_bytes(event.data)


def understood(error: BaseException) -> MedmailError:
    """What a user hears of any exception: a full disk as such, what nobody translated by its kind."""
    if isinstance(error, MedmailError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return MedmailError("interrupted")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return MedmailError("disk-full", path=error.filename or "?")
    if isinstance(error, OSError) and error.filename:
        return MedmailError("not-usable", path=str(error.filename), reason=error.strerror or "")
    return MedmailError("internal-error", kind=type(error).__name__)


def report(console: "Console", error: MedmailError) -> None:
    """An error as people read it: what happened, then what to do."""
    console.err(["medmail: ", ("bold red", i18n._("error:")), " ", i18n.message(error)])
    if hint := i18n.hint(error):
        console.err([("cyan", i18n._("hint:")), " ", hint])


def report_fatal(session: "Session", error: MedmailError) -> int:
    """Report an error before which nothing was attempted, in the format of the run too; its exit."""
    code = exit_of(error.code)
    session.format().error(error, code)
    report(session.console, error)
    return code
