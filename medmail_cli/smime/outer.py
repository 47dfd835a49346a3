"""The outer header of a message at a glance: what a mailbox lists without opening anything.

Five fields by one search each, not a parse of the whole: thousands of messages are looked at while they
are fetched. Where the header begins and ends is what ``mime`` says, as when the letter is opened.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from medmail_cli.smime import mime
from medmail_cli.smime.fields import decode_words, to_text
from medmail_cli.smime.syntax import parse_date

LONGEST_HEADER = 256 * 1024
"""Octets looked at; a longer header is cut."""
LONGEST_VALUE = 2000
"""Characters kept of each field."""

_FIELD = re.compile(rb"(?im)^(from|to|subject|date|message-id)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)")
_FOLD = re.compile(r"(?<!\r)\r*+\n(?=[ \t])")


@dataclass(frozen=True)
class Outer:
    """The first of each field as text, encoded words decoded; empty where there is none."""

    from_: str
    to: str
    subject: str
    date: datetime | None
    message_id: str


def outer(message: bytes) -> Outer:
    """Read the outer header of ``message``, or of as much of its beginning as is given. Never raises."""
    head, _ = mime.begin(message[:LONGEST_HEADER])
    start, end = mime.header_span(head)
    values: dict[bytes, str] = {}
    for field in _FIELD.finditer(head, start, end):
        values.setdefault(field[1].lower(), _FOLD.sub("", to_text(field[2][: 4 * LONGEST_VALUE])).strip())
    return Outer(
        from_=_words(values.get(b"from", "")),
        to=_words(values.get(b"to", "")),
        subject=_words(values.get(b"subject", "")),
        date=parse_date(values.get(b"date", "")),
        message_id=values.get(b"message-id", "")[:LONGEST_VALUE],
    )


def _words(value: str) -> str:
    return (decode_words(value) if "=?" in value else value)[:LONGEST_VALUE]
