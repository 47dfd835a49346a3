"""CSV for spreadsheets (RFC 4180): a header, then a row for each thing that is listed.

Columns are the keys of the JSON, ``inside.subject`` for one within another; instants are RFC 3339 in UTC,
lists stand in one cell. A text that a spreadsheet would take for a formula gets an apostrophe before it.
Everything else is told as in text, on stderr.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from medmail_cli.ui import sanitize
from medmail_cli.ui.formats.json import dumps
from medmail_cli.ui.formats.text import Text
from medmail_cli.ui.schema import of_class

if TYPE_CHECKING:
    from medmail_cli.errors import MedmailError

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Csv(Text):
    """A row at once; of the kinds that are tables in text, the first one alone."""

    def begin(self, command: str) -> None:
        """Load the view, which says what is listed."""
        super().begin(command)
        self._columns: list[str] = []
        self._kind: type | None = None

    def event(self, event: object) -> None:
        """A row; after the header, if it is the first."""
        if str(event.type) not in getattr(self._view, "TABLES", {}):  # type: ignore[attr-defined]
            return
        if self._kind is None:
            self._kind = type(event)
            self._columns = list(columns(of_class(self._kind)))
            self._write(self._columns)
        if isinstance(event, self._kind):
            values = json.loads(dumps(event))
            self._write([_cell(_found(values, column)) for column in self._columns])

    def end(self, _counts: Counter[str], _code: int, _error: "MedmailError | None", /) -> None:
        """Nothing comes after the rows."""
        self._console.clear_progress()

    def _write(self, cells: list[str]) -> None:
        line = io.StringIO()
        csv.writer(line).writerow(cells)
        self._console.out_line(line.getvalue())


def columns(schema: Mapping[str, Any]) -> Iterator[str]:
    """The keys of what a schema describes, those of objects within it by their path."""
    for name, value in schema["properties"].items():
        within = next((variant for variant in value.get("anyOf", [value]) if "properties" in variant), None)
        if within is not None:
            yield from (f"{name}.{column}" for column in columns(within))
        elif name != "type":
            yield name


def _found(values: Any, column: str) -> Any:
    for name in column.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        value = "; ".join(map(str, value))
    elif not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False)
    text = sanitize.line(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
