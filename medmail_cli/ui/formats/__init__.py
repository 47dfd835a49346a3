"""How what a command tells is written: one module a format, each with a class of that name's title.

``text`` is for people, ``json`` for scripts, ``csv`` for spreadsheets. A format knows the console and, in
text, the verb's view; it decides nothing. Which there are stands in ``registers.FORMATS``.
"""

import importlib
from collections import Counter
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from medmail_cli.errors import MedmailError
    from medmail_cli.model import Note, Progress
    from medmail_cli.ui.console import Console


class Format(Protocol):
    """One command's output in one form."""

    def begin(self, command: str) -> None:
        """The command whose events come, such as ``keys list``."""

    def event(self, event: object) -> None:
        """What a workflow yields, a dataclass."""

    def progress(self, event: "Progress") -> None:
        """How far long work is."""

    def note(self, event: "Note") -> None:
        """Something to be told that changes no outcome."""

    def error(self, error: "MedmailError", code: int) -> None:
        """What stands against all of it, before anything was attempted, and the exit."""

    def flush(self) -> None:
        """What was held back is written before an error is."""

    def end(self, counts: Counter[str], code: int, error: "MedmailError | None", /) -> None:
        """All has been told; the exit, and the error after the first item, if there was one."""


def opened(name: str, console: "Console") -> Format:
    """The format of that name."""
    output: Format = getattr(importlib.import_module(f"medmail_cli.ui.formats.{name}"), name.title())(console)
    return output
