"""One SMTP connection after its greeting: commands written, replies read in order and within limits.

RFC 5321; what EHLO offers of PIPELINING (2920), CHUNKING (3030), SIZE (1870), 8BITMIME (6152), SMTPUTF8
(6531), DSN (3461) and LIMITS (9422).
"""

import asyncio
import hashlib
import re
import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

LINE_LIMIT = 4096
"""Octets in a line of a reply; RFC 5321 §4.5.3.1.5 says 512."""
LINES_LIMIT = 128
"""Lines in one reply."""
REPLIES_LIMIT = 4096
"""Replies that may wait to be read: more than were asked for are garbage."""
COMMAND_TIMEOUT = 120.0
END_TIMEOUT = 600.0
"""Seconds for the reply to the end of the data: who gives up early makes duplicates (§4.5.3.2.6)."""
RECIPIENTS_LIMIT = 100
"""In one transaction, unless the server names another number (§4.5.3.1.8)."""

_REPLY = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\Z", re.DOTALL)
_TOO_MANY = re.compile(r"[45]\.5\.3\b")


class Lost(Exception):  # noqa: N818 - what happened, not a fault of ours
    """The connection is of no more use; the message says why."""


@dataclass(frozen=True)
class Reply:
    """A server's reply, its lines joined by spaces."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip()

    @property
    def ok(self) -> bool:
        """2xx: done."""
        return 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        """4xx: try again later."""
        return 400 <= self.code < 500

    @property
    def too_many(self) -> bool:
        """No more recipients in this transaction (§4.5.3.1.10; 552 is what old servers say)."""
        return self.code == 452 or (self.code == 552 and bool(_TOO_MANY.search(self.text)))


@dataclass(frozen=True)
class Offer:
    """What the server's EHLO offers; ``size`` and ``messages`` are None where it sets no limit."""

    size: int | None = None
    pipelining: bool = False
    chunking: bool = False
    eight_bit: bool = False
    utf8: bool = False
    dsn: bool = False
    recipients: int = RECIPIENTS_LIMIT
    messages: int | None = None
    mechanisms: tuple[str, ...] = ()

    @classmethod
    def read(cls, extensions: Mapping[str, str]) -> "Offer":
        """From EHLO's keywords (lower case) and their parameters; nonsense is as if not offered."""
        limits = dict(
            re.findall(r"([A-Z]+)=([1-9][0-9]{0,8})\b", extensions.get("limits", "").upper())
        )  # RFC 9422
        size = re.fullmatch(r"[1-9][0-9]{0,18}", extensions.get("size", ""))
        return cls(
            size=int(size[0]) if size else None,
            pipelining="pipelining" in extensions,
            chunking="chunking" in extensions,
            eight_bit="8bitmime" in extensions,
            utf8="smtputf8" in extensions,
            dsn="dsn" in extensions,
            recipients=int(limits.get("RCPTMAX", RECIPIENTS_LIMIT)),
            messages=int(limits["MAILMAX"]) if "MAILMAX" in limits else None,
            mechanisms=tuple(extensions.get("auth", "").upper().split()[:32]),
        )


class Wire(asyncio.Protocol):
    """Writes commands and gives replies in order; every wait has an end and every buffer a limit."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._socket = transport.get_extra_info("socket") if hasattr(socket, "TCP_QUICKACK") else None
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._drained = asyncio.Event()
        self._drained.set()
        self._lost: str | None = None
        tls = transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(binary_form=True)
        self.certificate = None if shown is None else hashlib.sha256(shown).hexdigest()
        """The SHA-256 (hex) of the certificate the server showed; None outside of TLS."""

    # -- asyncio's side

    def data_received(self, data: bytes) -> None:
        if self._socket is not None:
            # at once: a server under Nagle's algorithm sends its next reply only after this one's ACK
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._buffer += data
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        if len(rest) > LINE_LIMIT or any(len(line) > LINE_LIMIT for line in lines):
            self._fail("its reply has no end")
            return
        for line in lines:
            if self._lost is None:
                self._line(line.rstrip(b"\r"))

    def _line(self, line: bytes) -> None:
        match = _REPLY.match(line)
        if not match or (self._lines and match[1] != self._lines[0][:3]):
            self._fail("its answer is not SMTP")
            return
        self._lines.append(line)
        if match[2] != b"-":
            text = b" ".join(filter(None, (one[4:].strip() for one in self._lines)))
            self._replies.append(Reply(int(match[1]), text.decode("utf-8", "replace")))
            self._lines = []
            self._wake()
        if len(self._lines) > LINES_LIMIT or len(self._replies) > REPLIES_LIMIT:
            self._fail("its reply has no end")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail((exc and exc.__class__.__name__) or "it closed the connection")

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    def _fail(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
            self._transport.abort()
            self._drained.set()
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- ours

    def write(self, data: bytes) -> None:
        """Hand ``data`` to the connection. Raises Lost."""
        if self._lost is not None:
            raise Lost(self._lost)
        self._transport.write(data)

    async def drain(self, seconds: float = END_TIMEOUT) -> None:
        """Wait until what was written has mostly gone. Raises Lost."""
        try:
            await asyncio.wait_for(self._drained.wait(), seconds)
        except TimeoutError:
            self._fail("it takes no more data")
        if self._lost is not None:
            raise Lost(self._lost)

    async def reply(self, seconds: float = COMMAND_TIMEOUT) -> Reply:
        """The next reply. Raises Lost, also for 421, which ends a connection (§3.8)."""
        while not self._replies:
            if self._lost is not None:
                raise Lost(self._lost)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._waiter, seconds)
            except TimeoutError:
                self._fail("it does not answer")
        reply = self._replies.popleft()
        if reply.code == 421:
            self._fail(str(reply))
            raise Lost(str(reply))
        return reply

    async def ask(self, command: bytes, seconds: float = COMMAND_TIMEOUT) -> Reply:
        """One command and its reply. Raises Lost."""
        self.write(command + b"\r\n")
        return await self.reply(seconds)

    async def quit(self) -> None:
        """Take leave and close."""
        try:
            await self.ask(b"QUIT", 2.0)
        except Lost:
            return
        finally:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._fail("given up")
