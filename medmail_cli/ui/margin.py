"""A stranger's words on a screen, so that none of them can be taken for a line of ours.

Each line has a margin, also where a terminal breaks it, and all stand between two marks that their writer
could not know.
"""

import secrets
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from medmail_cli.ui.console import Console, Line

_MARGIN = "| "
_NARROWEST = 20
"""Columns; on a screen that is narrower lines are not broken."""


def set_apart(lines: "Iterable[tuple[str, str]]", console: "Console") -> "Iterator[Line]":
    """Lines, if there are any, each with its label (bold) or "", within a margin and a random mark.

    Off a terminal a line stays one line, whatever its length.
    """
    lines = list(lines)
    if not lines:
        return
    mark = f"+-- {secrets.token_hex(4)}"
    width = console.width - len(_MARGIN) if console.interactive_out else 0
    yield mark
    for label, text in lines:
        first, *others = _broken(label + text, width) if width >= _NARROWEST else [label + text]
        plain = _MARGIN + first if first else _MARGIN.rstrip()
        yield [_MARGIN, ("bold", label), first[len(label) :]] if label else plain
        yield from (_MARGIN + other for other in others)
    yield mark


def _broken(line: str, width: int) -> list[str]:
    """A line in pieces of at most ``width`` columns, at blanks where there are some."""
    line = line.expandtabs()
    pieces: list[str] = []
    start = used = 0
    blank = -1
    for at, character in enumerate(line):
        columns = _columns(character)
        if used + columns > width and at > start:
            end = blank if blank > start else at
            pieces.append(line[start:end])
            start = end + (line[end] == " ")
            used = sum(map(_columns, line[start:at]))
            blank = -1
        if character == " ":
            blank = at
        used += columns
    return [*pieces, line[start:]]


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
