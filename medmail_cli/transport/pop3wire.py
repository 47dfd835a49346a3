"""POP3 on the wire: statuses, listings and letters, read within limits (RFC 1939 §3)."""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from medmail_cli.transport import trace
from medmail_cli.transport.lines import Lines

STATUS_LIMIT = 8192
"""Octets of a status line; RFC 1939 says 512, and mechanisms have longer challenges."""
LISTED_LIMIT = 1024
"""Octets of a line of a listing."""
ENTRIES_LIMIT = 500_000
ANSWER_LIMIT = 64 * 1024 * 1024
"""Octets of a listing."""
LETTER_LIMIT = 4 * 1024 * 1024 * 1024
"""A letter too large to keep is read past, up to this."""
_STATUS = re.compile(
    rb"(\+OK|-ERR)(?:[ \t]+(?:\[([A-Z0-9/-]{1,32})\][ \t]*)?([^\r\n]*))?\r?\n\Z", re.IGNORECASE
)


@dataclass(frozen=True)
class Status:
    """How a command ended, with its response code (RFC 2449 §8); a ``challenge`` is no end."""

    ok: bool
    code: str = ""
    words: str = ""
    challenge: bytes | None = None


class Wire(Lines):
    """A connected socket as a POP3 server's answers."""

    def __init__(self, connection: socket.socket, host: str, patience: float) -> None:
        super().__init__(connection, host, ANSWER_LIMIT, patience)

    def status(self) -> Status:
        """The next status, or challenge. Raises ``server-answer-malformed``."""
        self.begin()
        self.response_begins()
        line = self.line(STATUS_LIMIT)
        if trace.is_on():
            trace.received(self.host, _shown(line, secret=self.secret))
        if line.startswith(b"+ ") or line.rstrip() == b"+":
            return Status(ok=True, challenge=line[1:].strip())
        match = _STATUS.match(line)
        if match is None:
            raise self.malformed(line[:60].decode("ascii", "backslashreplace").strip())
        words = (match[3] or b"").decode("utf-8", "replace").strip()
        return Status(match[1].upper() == b"+OK", (match[2] or b"").decode().upper(), words)

    def listing(self) -> Iterator[bytes]:
        """The lines of a listing, without their ends."""
        for _ in range(ENTRIES_LIMIT):
            line = self.line(LISTED_LIMIT).rstrip(b"\r\n")
            if line == b".":
                return
            yield line[1:] if line.startswith(b".") else line
        raise self.malformed("listing")

    def text(self) -> Iterator[bytes]:
        """A letter bit by bit, as it is: its lines' first dots were doubled on the way (RFC 1939 §3)."""
        self.allow(LETTER_LIMIT)
        begins = True
        octets = 0
        while True:
            piece = self._piece(begins=begins)
            if begins and piece.startswith(b"."):
                if piece in (b".\r\n", b".\n"):
                    break
                piece = piece[1:]
            begins = piece.endswith(b"\n")
            octets += len(piece)
            yield piece
        if trace.is_on():
            trace.received(self.host, f"[{octets} octets]")

    def _piece(self, *, begins: bool) -> bytes:
        """What there is up to a line that begins with a dot; such a line, or more than a dot of it."""
        if not self.buffered:
            self._more()
        while begins and self._buffer[self._at] == ord("."):
            end = self._buffer.find(b"\n", self._at) + 1
            if not end and len(self._buffer) - self._at >= len(b".\r\n"):
                end = len(self._buffer)
            if end:
                return self._taken(end)
            rest = self._buffer[self._at :]
            self._more()
            self._buffer = rest + self._buffer
        return self._taken(self._buffer.find(b"\n.", self._at) + 1 or len(self._buffer))

    def _taken(self, end: int) -> bytes:
        piece = self._buffer[self._at : end]
        self._at = end
        return piece


def _shown(line: bytes, *, secret: bool) -> str:
    """A status as a trace may show it: while somebody logs in, and of challenges, no words."""
    line = line.rstrip(b"\r\n")
    status = re.match(rb"(?:\+OK|-ERR)(?: \[[A-Z0-9/-]{1,32}\])?|\+?", line, re.IGNORECASE)
    if not secret and not line.startswith(b"+ "):
        return trace.text(line)
    said = status[0] if status else b""
    return f"{trace.text(said)} {trace.octets(line[len(said) :])}"
