"""JSON Lines: each event an object, the last one the result or the error."""

import dataclasses
import datetime
import functools
import json
from collections import Counter
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmail_cli.ui import i18n

if TYPE_CHECKING:
    from medmail_cli.errors import MedmailError
    from medmail_cli.model import Note, Progress
    from medmail_cli.ui.console import Console


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


class Json:
    """One object a line, at once, so that a reader can follow."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._command = ""

    def begin(self, command: str) -> None:
        """The result names the command."""
        self._command = command

    def event(self, event: object) -> None:
        """An object with the dataclass's fields."""
        self._console.out_json(dumps(event))

    def progress(self, event: "Progress") -> None:
        """An object like any other."""
        self._console.out_json(dumps(event))

    def note(self, event: "Note") -> None:
        """An object with the code and the words."""
        said = {"type": "note", "code": event.code, "message": i18n.note(event)}
        self._console.out_json(dumps(said | dict(event.facts)))

    def error(self, error: "MedmailError", code: int) -> None:
        """The only object."""
        self._console.out_json(dumps({"type": "error", **_said(error), "exit": code}))

    def flush(self) -> None:
        """Nothing is held back."""

    def end(self, counts: Counter[str], code: int, error: "MedmailError | None", /) -> None:
        """The result."""
        self._console.clear_progress()
        result: dict[str, object] = {
            "type": "result",
            "command": self._command,
            "ok": code == 0,
            "exit": code,
            "counts": dict(counts),
        }
        if error is not None:
            result["error"] = _said(error)
        self._console.out_json(dumps(result))


def _said(error: "MedmailError") -> dict[str, str]:
    return {"code": error.code, "message": i18n.message(error), "hint": i18n.hint(error)}
