"""From a workflow's events to stdout: text for people or JSON Lines for scripts, and one exit.

A view, ``ui/views/<verb>.py``, holds a function for each type of event it shows, named after it, which
yields lines; ``TABLES`` names the columns of those that are shown as a table, ``closing`` says at the end
how many there were of what. What has no view stays
silent in text.
"""

import dataclasses
import datetime
import errno
import functools
import importlib
import json
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from medmail_cli.codes import CODES
from medmail_cli.errors import MedmailError, NothingAttemptedError, combine, exit_of
from medmail_cli.model import Note, Progress
from medmail_cli.ui import i18n
from medmail_cli.ui.console import OutputGoneError

if TYPE_CHECKING:
    import typer

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


@functools.cache
def _shape(kind: Hashable) -> tuple[str | None, tuple[tuple[str, str], ...]] | None:
    """How a dataclass is shown: its ``type``, and each key with its field; None for what is no dataclass."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return None
    fields = [field for field in dataclasses.fields(kind) if field.metadata.get("json", True)]
    name = getattr(kind, "type", None)
    said = name if isinstance(name, str) and "type" not in (field.name for field in fields) else None
    return said, tuple((field.name.rstrip("_"), field.name) for field in fields)


def _jsonable(value: object) -> Any:
    """What JSON has no word for: dataclasses as objects, instants as RFC 3339 in UTC, paths as text."""
    kind: Any = type(value)
    if shape := _shape(kind):
        said, fields = shape
        shown: dict[str, Any] = {} if said is None else {"type": said}
        return shown | {key: getattr(value, name) for key, name in fields}
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset | set):
        return list(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(", ", ": "), default=_jsonable)


def dumps(value: object) -> str:
    """One line of JSON: an event, or a mapping of such values."""
    return _encoder.encode(value)


def show(ctx: "typer.Context", command: str, events: Iterable[object]) -> int:
    """Run a workflow to its end, show every event, and give the exit of the whole.

    An error before the first item is the caller's to report; after it, the result tells of both.
    """
    console: Console = ctx.obj.console
    view = importlib.import_module(f"medmail_cli.ui.views.{command.split()[0]}")
    counts: Counter[str] = Counter()
    exits: list[int] = []
    tables: dict[str, list[object]] = {}
    try:
        for event in events:
            if isinstance(event, Progress):
                _progress(console, event)
                continue
            if isinstance(event, Note):
                note(console, event)
                continue
            if not isinstance(event, Raw):
                kind = str(event.type)  # type: ignore[attr-defined]
                counts[kind] += 1
                if isinstance(status := getattr(event, "status", None), str):
                    counts[status] += 1
                if isinstance(item_exit := getattr(event, "exit", None), int):
                    exits.append(item_exit)
            _show_one(console, view, event, tables)
    except OutputGoneError:
        raise
    except (Exception, KeyboardInterrupt) as raised:
        if not exits or isinstance(raised, NothingAttemptedError):
            _tables(console, view, tables)
            raise
        if ctx.obj.options.debug:
            traceback.print_exc()
        error = understood(raised)
        report(console, error)
        _end(console, view, command, tables, counts, exit_of(error.code), error)
        return exit_of(error.code)
    finally:
        # what a generator still has to write down comes before the stores are closed
        if isinstance(events, Generator):
            events.close()
    for repaired in ctx.obj.take_notes():
        note(console, repaired)
    code = combine(exits)
    _end(console, view, command, tables, counts, code, None)
    return code


def _show_one(console: "Console", view: ModuleType, event: object, tables: dict[str, list[object]]) -> None:
    if isinstance(event, Raw):
        if event.text and console.interactive_out:
            console.out(bytes(event.data).decode("utf-8", "backslashreplace").removesuffix("\n"))
        else:
            console.out_bytes(event.data)
        return
    if console.json:
        console.out_json(dumps(event))
        return
    kind = str(event.type)  # type: ignore[attr-defined]
    if kind in getattr(view, "TABLES", {}):
        tables.setdefault(kind, []).append(event)
    elif renderer := getattr(view, kind.replace("-", "_"), None):
        for line in renderer(event, console):
            console.out(line)


def _end(
    console: "Console",
    view: ModuleType,
    command: str,
    tables: dict[str, list[object]],
    counts: Counter[str],
    code: int,
    error: MedmailError | None,
) -> None:
    console.clear_progress()
    if console.json:
        result: dict[str, object] = {
            "type": "result",
            "command": command,
            "ok": code == 0,
            "exit": code,
            "counts": dict(counts),
        }
        if error is not None:
            result["error"] = {"code": error.code, "message": i18n.message(error), "hint": i18n.hint(error)}
        console.out_json(dumps(result))
        return
    _tables(console, view, tables)
    if closing := getattr(view, "closing", None):
        for line in closing(command, counts):
            console.say(line)
    if not tables and code == 0 and not counts and (empty := getattr(view, "empty", None)):
        console.say(empty(command))


def _tables(console: "Console", view: ModuleType, tables: dict[str, list[object]]) -> None:
    for kind, rows in tables.items():
        columns: tuple[Column, ...] = view.TABLES[kind]
        console.table(
            [i18n._(column.title) for column in columns],
            [[_cell(column.cell(row)) for column in columns] for row in rows],
        )


def plain(value: object) -> str:
    """A value in text as JSON and TOML write it: ``true``, not ``True``; nothing for null."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return plain(value)


def _progress(console: "Console", event: Progress) -> None:
    if console.json:
        console.out_json(dumps(event))
    else:
        console.progress(event.done, event.total, event.unit)


def note(console: "Console", event: Note) -> None:
    """Tell of something that changes no outcome; mere advice is for people at a terminal."""
    said = i18n.note(event)
    if console.json:
        console.out_json(dumps({"type": "note", "code": event.code, "message": said, **event.facts}))
    elif CODES[event.code].of_run == "advice":
        console.say([("yellow", "medmail: "), said])
    elif not console.quiet:
        console.err([("yellow", "medmail: "), said])


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


def report_fatal(console: "Console", error: MedmailError) -> int:
    """Report an error before which nothing was attempted, as JSON too if asked for; its exit."""
    code = exit_of(error.code)
    if console.json:
        shown = {
            "type": "error",
            "code": error.code,
            "message": i18n.message(error),
            "hint": i18n.hint(error),
            "exit": code,
        }
        console.out_json(dumps(shown))
    report(console, error)
    return code
