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
from typing import NoReturn, cast

from medmail_cli.transport import trace

LINE_LIMIT = 4096
"""Octets in a line of a reply; RFC 5321 §4.5.3.1.5 says 512."""
LINES_LIMIT = 128
"""Lines in one reply."""
COMMAND_TIMEOUT = 300.0
"""Seconds for the greeting and for the reply to a command (§4.5.3.2)."""
END_TIMEOUT = 600.0
"""Seconds for the reply to the end of the data: who gives up early makes duplicates (§4.5.3.2.6)."""
RECIPIENTS_LIMIT = 100
"""In one transaction, unless the server names another number (§4.5.3.1.8)."""

CLOSING = 421
"""The code of a server that ends the connection (§3.8)."""

_REPLY = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\Z", re.DOTALL)
_TOO_MANY = re.compile(r"[45]\.5\.3\b")


_ELSEWHERE = (220, 221, 235)
"""Ready, closing, logged in."""


class Lost(Exception):  # noqa: N818 - what happened, not a fault of ours
    """The connection is of no more use; the message says why.

    ``reply`` is the server's, where it was one that ended the connection in answer to a command: what that
    command asked for, and what followed it, was not done. ``cause`` is what the system said. ``confused``:
    replies do not fit the commands, so none since the last end of a transaction can be relied on.
    """

    def __init__(
        self,
        why: str,
        reply: "Reply | None" = None,
        cause: BaseException | None = None,
        *,
        confused: bool = False,
    ) -> None:
        super().__init__(why)
        self.reply, self.cause, self.confused = reply, cause, confused


@dataclass(frozen=True)
class Reply:
    """A server's reply."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """Its lines joined by spaces."""
        return " ".join(filter(None, self.lines))

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip()

    @property
    def ok(self) -> bool:
        """2xx: done. Those that belong to another command (§4.2.3) are no answer to this one."""
        return 200 <= self.code < 300 and self.code not in _ELSEWHERE

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
    """Writes commands and gives replies in order; every wait has an end and every buffer a limit.

    Each reply belongs to a command: one that nobody asked for ends the connection, as from there on nobody
    could tell what belongs to what. ``expected`` is how many come of themselves: one, the greeting.
    """

    def __init__(self, transport: asyncio.Transport | None = None, expected: int = 0) -> None:
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._replies: deque[Reply] = deque()
        self._expected = expected
        self._waiter: asyncio.Future[None] | None = None
        self._drained = asyncio.Event()
        self._drained.set()
        self._lost: Lost | None = None
        self._transport: asyncio.Transport | None = None
        self.name = ""
        """The server, in a trace."""
        self.secret = False
        """Somebody logs in: what is said is not shown."""
        self.certificate: str | None = None
        """The SHA-256 (hex) of the certificate the server showed; None outside of TLS."""
        if transport is not None:
            self.connection_made(transport)

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak on ``transport`` from here on."""
        self._transport = cast("asyncio.Transport", transport)
        self._socket = transport.get_extra_info("socket") if hasattr(socket, "TCP_QUICKACK") else None
        tls = transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(binary_form=True)
        self.certificate = None if shown is None else hashlib.sha256(shown).hexdigest()

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
            said = tuple(line[4:].strip().decode("utf-8", "replace") for line in self._lines)
            if trace.is_on():
                words = trace.octets(b"".join(self._lines)) if self.secret else " / ".join(said)
                trace.received(self.name, f"{int(match[1])} {trace.text(words.encode())}")
            self._answered(Reply(int(match[1]), said))
            self._lines = []
        if len(self._lines) > LINES_LIMIT:
            self._fail("its reply has no end")

    def _answered(self, reply: Reply) -> None:
        if self._expected:
            self._expected -= 1
            self._replies.append(reply)
            self._wake()
        elif reply.code == CLOSING:
            self._fail(str(reply))
        else:
            # which of the answers before was the one too many cannot be told: none of them counts
            self._replies.clear()
            self._fail(Lost("it answers what was not asked", confused=True))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Lost("cut-off", cause=exc))

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    def _fail(self, why: str | Lost) -> None:
        if self._lost is None:
            self._lost = why if isinstance(why, Lost) else Lost(why)
            if self._transport is not None:
                self._transport.abort()
            self._drained.set()
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    # -- ours

    @property
    def transport(self) -> asyncio.Transport:
        """What it speaks on. Raises Lost before there is any."""
        if self._transport is None:
            raise Lost("cut-off")
        return self._transport

    @property
    def unread(self) -> bool:
        """Has more come than was asked for and read?"""
        return bool(self._buffer or self._lines or self._replies)

    def write(self, data: bytes, replies: int = 1) -> None:
        """Hand ``data`` to the connection, which asks for so many replies. Raises Lost."""
        self._check()
        self._expected += replies
        if trace.is_on():
            shown = trace.smtp_commands(data, secret=self.secret) if replies else [trace.octets(data)]
            for line in shown:
                trace.sent(self.name, line)
        self.transport.write(data)

    async def drain(self, seconds: float = END_TIMEOUT) -> None:
        """Wait until what was written has mostly gone. Raises Lost."""
        try:
            await asyncio.wait_for(self._drained.wait(), seconds)
        except TimeoutError:
            self._fail("it takes no more data")
        self._check()

    async def reply(self, seconds: float = COMMAND_TIMEOUT) -> Reply:
        """The next reply. Raises Lost, also for 421, which ends a connection (§3.8)."""
        while not self._replies:
            self._check()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._waiter, seconds)
            except TimeoutError:
                self._fail("timed-out")
        reply = self._replies.popleft()
        if reply.code == CLOSING:
            self.fail(reply)
        return reply

    def fail(self, reply: Reply) -> NoReturn:
        """Give the connection up at a reply after which nothing that was asked is done. Raises Lost."""
        lost = Lost(str(reply), reply)
        self._fail(lost)
        raise lost

    def give_up(self, why: str) -> NoReturn:
        """Give the connection up where it is not known any more what was done. Raises Lost."""
        lost = Lost(why, confused=True)
        self._fail(lost)
        raise lost

    async def ask(self, command: bytes, seconds: float = COMMAND_TIMEOUT) -> Reply:
        """One command and its reply. Raises Lost."""
        self.write(command + b"\r\n")
        return await self.reply(seconds)

    async def reset(self) -> None:
        """End whatever transaction may be open (RSET, §4.1.1.5). Raises Lost."""
        reply = await self.ask(b"RSET")
        if not reply.ok:
            self.fail(reply)

    async def quit(self) -> None:
        """Take leave and close."""
        try:
            await self.ask(b"QUIT", 2.0)
        except Lost:
            return
        finally:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._fail("given up")
