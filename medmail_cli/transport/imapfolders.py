"""Folders as an IMAP server lists them (RFC 3501 §7.2.2): names are octets, only what is shown is decoded."""

import re
from collections.abc import Container

from medmail_cli.transport.imapwire import Response, decode_folder

EMPTY = frozenset({b"\\noselect", b"\\nonexistent"})
"""Attributes, in lower case, of names under which there are no messages."""

LONGEST = 4096
"""Octets of a name; what is longer is no folder that a server could be asked for."""

_LIST = re.compile(
    rb'\s*LIST\s+\(([^)]*)\)\s+(?:NIL|"(?:\\.|[^"\\])*"|[^\s"]+)[ ](.*)', re.IGNORECASE | re.DOTALL
)


def listed(response: Response) -> tuple[frozenset[bytes], bytes]:
    """Attributes in lower case, and the name as the server writes it, of a LIST response.

    A name is a literal, a quoted string, or whatever stands there to the end of the line: servers write
    brackets, blanks and letters beyond ASCII without quotes. A line that cannot be read at all is a name
    itself: it is told of as a folder that cannot be opened, and the others are not lost with it.
    """
    match = _LIST.match(response.text)
    if match is None:
        return frozenset(), _cut(response.text)
    flags = frozenset(match[1].lower().split())
    rest = match[2]
    if len(response.chunks) > 1 and not rest.strip():
        literal = response.chunks[1]
        return flags, literal[:LONGEST] if isinstance(literal, bytes) else _cut(response.text)
    rest = rest.rstrip(b"\r\n")
    if quoted := re.match(rb'"((?:[^"\\]|\\.)*)"\s*(?:\(.*)?\Z', rest, re.DOTALL) or re.match(
        rb'"(.*)"\s*\Z', rest, re.DOTALL
    ):
        # some do not escape at all: a backslash before anything else stands for itself
        return flags, re.sub(rb'\\(["\\])', rb"\1", quoted[1])[:LONGEST]
    return flags, _cut(rest if rest.strip() else response.text)


def _cut(name: bytes) -> bytes:
    return name.strip(b"\r\n")[:LONGEST]


def shown(name: bytes, taken: Container[str] = ()) -> str:
    """A name as people read it: modified UTF-7 or UTF-8 decoded, unless that is ``taken`` by another."""
    if name.upper() == b"INBOX":
        return "INBOX"
    text = decode_folder(name.decode("utf-8", "replace"))
    if text in taken or not text or text.upper() == "INBOX":
        text = name.decode("utf-8", "backslashreplace")
    while text in taken or not text:
        text += "_"
    return text
