"""A server's answers as lines, within limits of octets and of seconds."""

import math
import socket
import time

from medmail_cli.errors import MedmailError
from medmail_cli.transport import trace

SLOWEST = 2048
"""Octets a second: what comes more slowly comes to no end."""
ANSWER = 5
"""An answer may take so many times the patience there is with a response: servers say that they are at it."""
_CHUNK = 256 * 1024


class Lines:
    """A connected socket that is read line by line; ``host`` is how errors name the server.

    An answer holds ``answer_limit`` octets at most, and what was allowed besides. ``patience`` is how many
    seconds are spent on waiting for the rest of a response that has begun, and one more for each
    :data:`SLOWEST` octets of it that come. Reading raises what the socket raises, TimeoutError after that,
    EOFError at the end, and ``server-answer-malformed``.
    """

    def __init__(
        self, connection: socket.socket, host: str, answer_limit: int, patience: float = math.inf
    ) -> None:
        self.connection = connection
        self.host = host
        self.patience = patience
        self.secret = False
        """Somebody logs in: what is said is not shown."""
        self._answer_limit = answer_limit
        self._buffer = b""
        self._at = 0
        self.begin()

    def begin(self) -> None:
        """What is read from here on is another answer, with limits of its own."""
        self._allowed = self._answer_limit
        self._received = 0
        self._waited = 0.0
        self._begun: tuple[int, float] | None = None

    def allow(self, octets: int) -> None:
        """Let the answer hold so many octets more."""
        self._allowed += octets

    @property
    def buffered(self) -> bool:
        """Has more been received than read?"""
        return self._at < len(self._buffer)

    def malformed(self, detail: str) -> MedmailError:
        """The error for an answer that is none of its protocol."""
        return MedmailError("server-answer-malformed", host=self.host, detail=detail)

    def send(self, data: bytes, shown: str = "") -> None:
        """Send all of ``data``, which a trace shows as ``shown``, else as its length."""
        if trace.is_on():
            trace.sent(self.host, shown or trace.octets(data))
        self.connection.sendall(data)

    def wait(self, seconds: float) -> bool:
        """Wait for something to be received: has it been, before so many seconds are over?"""
        if self.buffered:
            return True
        patience = self.connection.gettimeout()
        self.connection.settimeout(max(seconds, 0.001))
        try:
            self._receive()
        except TimeoutError:
            return False
        finally:
            self.connection.settimeout(patience)
        return True

    def response_begins(self) -> None:
        """Wait for the next response, of which the rest has so many seconds from then on."""
        self._begun = None
        if not self.buffered:
            self._more()
        self._begun = self._received, self._waited

    def line(self, limit: int) -> bytes:
        """The next line, with its end, of so many octets at most."""
        pieces: list[bytes] = []
        length = 0
        while True:
            end = self._buffer.find(b"\n", self._at) + 1
            stop = end or len(self._buffer)
            pieces.append(self._buffer[self._at : stop])
            length += stop - self._at
            self._at = stop
            if length > limit:
                raise self.malformed("line")
            if end:
                return b"".join(pieces)
            self._more()

    def _more(self) -> None:
        before = time.monotonic()
        self._receive()
        # only the server's own time counts: meanwhile we may have had other things to do
        self._waited += time.monotonic() - before
        late = self._waited > ANSWER * self.patience + self._received / SLOWEST
        if self._begun is not None:
            octets, seconds = self._begun
            late |= self._waited - seconds > self.patience + (self._received - octets) / SLOWEST
        if late:
            raise TimeoutError
        if self._received > self._allowed:
            raise self.malformed("answer")

    def _receive(self) -> None:
        self._buffer, self._at = self.connection.recv(_CHUNK), 0
        if not self._buffer:
            raise EOFError
        self._received += len(self._buffer)
