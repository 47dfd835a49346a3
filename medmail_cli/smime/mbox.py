"""Several messages in one file, as mail programs save a folder (RFC 4155)."""

import re
from collections.abc import Iterator
from mmap import mmap

_DAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_FIRST_LINE = re.compile(
    # the sender, and the day by its name; a sentence that begins with "From" has no such end
    rb"(?:\A|(?<=\n)\r?\n)From \S{0,320} {0,3}" + _DAY + rb"[ ,][^\n]{0,60}\d\d:\d\d[^\n]{0,100}\n"
)
_QUOTED = re.compile(rb"^>(?=>*From )", re.MULTILINE)


def spans(file: bytes | mmap) -> Iterator[tuple[int, int]]:
    """Where each message of an mbox begins and ends, its first line ("From …") and last empty line left out.

    Nothing for a file that does not begin with such a line.
    """
    first_lines = _FIRST_LINE.finditer(file)
    line = next(first_lines, None)
    if line is None or line.start():
        return
    for later in first_lines:
        yield line.end(), later.start()
        line = later
    yield line.end(), len(file)


def unquoted(message: bytes) -> bytes:
    """A message of an mbox without the ``>`` that keeps its lines from being taken for a first line."""
    return _QUOTED.sub(b"", message)
