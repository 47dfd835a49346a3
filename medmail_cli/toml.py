"""TOML tables as they are read here: values out by key, and complaints that name file, line and key."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from medmail_cli.errors import MedmailError, path_of


@dataclass(frozen=True)
class SecretSource:
    """Where one secret comes from by configuration: a file, or a command whose first line it is."""

    file: Path | None = None
    command: str | None = None


NOWHERE = SecretSource()
"""No source at all."""


class Table:
    """One TOML table being read: takes values out by key and complains with the line."""

    def __init__(self, path: Path, text: str, name: str, values: object) -> None:
        self.path, self.text, self.name = path, text, name
        if not isinstance(values, dict):
            self.fail(name, "not-a-table")
        self.values: dict[str, Any] = dict(values)
        self.known: list[str] = []

    def line_of(self, key: str) -> int:
        """The line (from 1) where ``key`` of this table stands; that of the table where it is not found."""
        bare = key.rpartition(".")[2]
        header = [part for part in self.name.split(".") if part]
        start = 0
        for depth in range(len(header), 0, -1):
            pattern = (
                r"^[ \t]*\[\s*" + r"\s*\.\s*".join(rf'"?{re.escape(p)}"?' for p in header[:depth]) + r"\s*\]"
            )
            if match := re.search(pattern, self.text, re.MULTILINE):
                start = match.start()
                break
        match = re.compile(rf'(?:^|[\s{{,.])"?{re.escape(bare)}"?\s*[=.]', re.MULTILINE).search(
            self.text, start
        )
        at = start
        if match:
            at = match.start() + (len(match.group()) - len(match.group().lstrip()))
        return self.text.count("\n", 0, at) + 1

    def fail(self, key: str, reason: str, **facts: object) -> NoReturn:
        where = f"{self.name}.{key}" if self.name and key != self.name else key
        raise MedmailError(
            "bad-config", path=str(self.path), line=self.line_of(key), key=where, reason=reason, **facts
        )

    def take(self, key: str, kind: type, default: Any = None, choices: tuple[str, ...] = ()) -> Any:
        self.known.append(key)
        if key not in self.values:
            return default
        value = self.values.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fail(key, "wrong-type", expected=kind.__name__)
        if choices and value not in choices:
            self.fail(key, "not-one-of", expected=", ".join(choices))
        return value

    def take_path(self, key: str) -> Path | None:
        value = self.take(key, str)
        return None if value is None else self.path.parent / self.expanded(key, value)

    def expanded(self, key: str, value: str) -> Path:
        try:
            return path_of(value)
        except MedmailError as error:
            self.fail(key, "unreadable", detail=f"{value}: {error.facts['reason']}")

    def require(self, key: str, kind: type) -> Any:
        value = self.take(key, kind)
        if value is None or value == "":
            import difflib

            for similar in difflib.get_close_matches(key, self.values, 1):
                self.fail(similar, "unknown-key", nearest=key)
            self.fail(key, "missing")
        return value

    def table(self, key: str) -> "Table | None":
        value = self.take(key, dict)
        return None if value is None else self.child(key, value)

    def child(self, key: str, value: object) -> "Table":
        return Table(self.path, self.text, f"{self.name}.{key}" if self.name else key, value)

    def source(self, name: str) -> SecretSource:
        """``NAME-file`` and ``NAME-command``."""
        command = self.take(f"{name}-command", str)
        if command is not None and not command.strip():
            self.fail(f"{name}-command", "missing")
        return SecretSource(self.take_path(f"{name}-file"), command)

    def end(self) -> None:
        """Complain of the first key nobody took."""
        for key in self.values:
            import difflib

            nearest = difflib.get_close_matches(key, self.known, 1, 0)
            self.fail(key, "unknown-key", nearest=nearest[0] if nearest else "")


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of a TOML file and its values. Raises ``bad-config``."""
    try:
        text = path.read_bytes().decode()
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise MedmailError("bad-config", path=str(path), line=line, key="", reason="not-utf-8") from None
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"at line (\d+)", str(error))
        at_end = text.count("\n") + 1
        line = int(match.group(1)) if match else at_end
        detail = re.sub(r" \(at .*\)$", "", str(error))
        raise MedmailError(
            "bad-config", path=str(path), line=line, key="", reason="not-toml", detail=detail
        ) from None
    except OSError as error:
        raise MedmailError(
            "bad-config", path=str(path), line=1, key="", reason="unreadable", detail=error.strerror or ""
        ) from None
