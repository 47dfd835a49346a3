"""The one exception that reaches a user, and what several exits come to.

An error is raised where the fact is known, with a kebab-case code and the facts; its words are in
``ui/error_messages.py`` and only ``app`` turns it into an exit.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from medmail_cli.codes import EXITS, PARTIAL

if TYPE_CHECKING:
    from pathlib import Path


class MedmailError(Exception):
    """Something the user has to hear of.

    ``code`` is kebab-case and never translated, ``facts`` fill the words' placeholders and must never
    hold a secret or anything from inside a letter.
    """

    def __init__(self, code: str, /, **facts: object) -> None:
        if code not in EXITS:
            raise LookupError(f"error code without an exit: {code}")
        super().__init__(code)
        self.code = code
        self.facts = facts

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{self.code} ({facts})" if facts else self.code


class NothingAttemptedError(MedmailError):
    """An error before the first effect, though items may have been told of (faulty rows, no certificate)."""


def not_readable(path: object, error: Exception) -> MedmailError:
    """What a file or folder comes to that cannot be read: ``not-readable``, with the system's reason."""
    reason = getattr(error, "strerror", None) or str(error)
    return MedmailError("not-readable", path=str(path), reason=reason)


def path_of(text: str) -> "Path":
    """A path as somebody wrote it, ``~`` and ``~user`` expanded.

    Raises ``not-readable`` for a user whom nobody knows, and for what can be no path.
    """
    from pathlib import Path

    try:
        if "\0" in text:
            raise ValueError("embedded null byte")
        return Path(text).expanduser()
    except (RuntimeError, ValueError) as error:
        raise not_readable(text, error) from None


def exit_of(code: str) -> int:
    """The process exit that belongs to an error or problem code."""
    return EXITS[code]


def combine(exits: Iterable[int]) -> int:
    """One exit for several items: their common one if they end alike, else 3 (partial)."""
    distinct = set(exits)
    if len(distinct) > 1:
        return PARTIAL
    return distinct.pop() if distinct else 0
