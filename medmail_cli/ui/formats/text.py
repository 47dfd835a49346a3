"""Text for people: lines and tables as the verb's view has them; what has no view stays silent."""

import datetime
import importlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from medmail_cli.codes import CODES
from medmail_cli.ui import i18n

if TYPE_CHECKING:
    from medmail_cli.errors import MedmailError
    from medmail_cli.model import Note, Progress
    from medmail_cli.ui.console import Console
    from medmail_cli.ui.render import Column


class Text:
    """Lines at once; tables once all their rows are there."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._command = ""
        self._view: Any = None
        self._rows: dict[str, list[object]] = {}

    def begin(self, command: str) -> None:
        """Load the verb's view."""
        self._command = command
        self._view = importlib.import_module(f"medmail_cli.ui.views.{command.split()[0]}")

    def event(self, event: object) -> None:
        """A row of a table, or the lines that the view makes of it."""
        kind = str(event.type)  # type: ignore[attr-defined]
        if kind in getattr(self._view, "TABLES", {}):
            self._rows.setdefault(kind, []).append(event)
        elif renderer := getattr(self._view, kind.replace("-", "_"), None):
            for line in renderer(event, self._console):
                self._console.out(line)

    def progress(self, event: "Progress") -> None:
        """One line, drawn anew."""
        self._console.progress(event.done, event.total, event.unit)

    def note(self, event: "Note") -> None:
        """A line on stderr; mere advice is for people at a terminal."""
        said = i18n.note(event)
        if CODES[event.code].of_run == "advice":
            self._console.say([("yellow", "medmail: "), said])
        elif not self._console.quiet:
            self._console.err([("yellow", "medmail: "), said])

    def error(self, error: "MedmailError", code: int) -> None:
        """Nothing: the words on stderr are all."""

    def flush(self) -> None:
        """The tables so far."""
        for kind, rows in self._rows.items():
            columns: tuple[Column, ...] = self._view.TABLES[kind]
            self._console.table(
                [i18n._(column.title) for column in columns],
                [[_cell(column.cell(row)) for column in columns] for row in rows],
            )

    def end(self, counts: Counter[str], code: int, _error: "MedmailError | None", /) -> None:
        """The tables, and how many there were of what."""
        self._console.clear_progress()
        self.flush()
        if closing := getattr(self._view, "closing", None):
            for line in closing(self._command, counts):
                self._console.say(line)
        if not self._rows and code == 0 and not counts and (empty := getattr(self._view, "empty", None)):
            self._console.say(empty(self._command))


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
