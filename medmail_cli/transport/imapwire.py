"""IMAP4rev1 on the wire: responses read within limits and taken apart (RFC 3501 §7 and §9).

Whatever a server sends becomes a :class:`Response` or raises ``server-answer-malformed``: lines, literals,
their number and their nesting are all bounded, and so is an answer as a whole, in octets and in seconds.
"""

import base64
import binascii
import math
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from medmail_cli.transport import trace
from medmail_cli.transport.lines import Lines
from medmail_cli.transport.mailserver import Received, Sink, TooLarge

LINE_LIMIT = 16 * 1024 * 1024
"""Octets of text in one response: the numbers of two million messages found by one SEARCH."""
ANSWER_LIMIT = 2 * LINE_LIMIT
"""Octets of an answer, without the messages that were asked for."""
LITERALS_LIMIT = 256
DEPTH_LIMIT = 32
DISCARD_LIMIT = 4 * 1024 * 1024 * 1024
"""A literal too large to keep is read past, up to this."""

Value = bytes | None | list["Value"]
"""An atom or string, NIL, or a list in parentheses."""

_LITERAL = re.compile(rb"\{(\d{1,20})\+?\}\r?\n\Z")
_STATUS = re.compile(rb"\+|\S+ +(?:OK|NO|BAD|BYE|PREAUTH)\b", re.IGNORECASE)
_TOKEN = re.compile(
    rb'([ \r\n]+)|(\()|(\))|"((?:[^"\\\r\n]|\\["\\])*)"'
    rb'|([^ ()"\r\n\[\]{]*\[[^\]\r\n]*\](?:<\d+>)?|[^ ()"\r\n\[\]{]+)'
)


Literal = Received
"""What came as a literal (RFC 3501 §4.3)."""


@dataclass(frozen=True)
class Wanted:
    """Which literals of an answer were asked for, given the text before one and its size.

    They do not count against what the answer may hold. ``room`` takes a large one of this size, if it is not
    too large.
    """

    asked: Callable[[bytes, int], bool]
    room: Callable[[int], Sink | None]


@dataclass(frozen=True)
class Response:
    """One response: ``tag`` is ``*``, ``+`` or a command's; ``chunks`` its text with the literals between."""

    tag: bytes
    chunks: tuple[Literal, ...]

    @property
    def text(self) -> bytes:
        """What follows the tag, up to the first literal."""
        first = self.chunks[0]
        return first if isinstance(first, bytes) else b""

    @property
    def word(self) -> bytes:
        """Its first word in upper case: OK, NO, SEARCH, or the number of ``* 5 FETCH``."""
        return self.text.lstrip().split(b" ", 1)[0].strip().upper()

    def number(self, word: bytes) -> int | None:
        """The number of ``* 5 EXISTS`` and its like, where this is one about ``word``."""
        match = re.match(rb"\s*(\d{1,10})\s+(\w+)(?:\s|\Z)", self.text) if self.tag == b"*" else None
        return int(match[1]) if match and match[2].upper() == word else None

    @property
    def code(self) -> str:
        """The response code in brackets of OK, NO, BAD, BYE and PREAUTH (§7.1), else empty."""
        match = re.match(rb"\s*\w+ \[([^\]]*)\]", self.text)
        return match[1].decode("ascii", "replace") if match else ""

    @property
    def said(self) -> str:
        """The words for people of OK, NO, BAD, BYE and PREAUTH."""
        words = re.sub(rb"\A\s*\w+ (?:\[[^\]]*\] ?)?", b"", self.text)
        return words.decode("utf-8", "replace").strip()[:500]

    def values(self) -> "list[Value | TooLarge | Sink]":
        """Everything after the tag, taken apart. Raises ValueError where it is not IMAP."""
        return parse(self.chunks)


def discard(chunks: Iterable[Literal], but: object = None) -> None:
    """Let go of what large literals were written to."""
    for chunk in chunks:
        if not isinstance(chunk, bytes | TooLarge) and chunk is not but:
            chunk.discard()


def parse(chunks: tuple[Literal, ...]) -> "list[Value | TooLarge | Sink]":
    """Take apart text with literals at the odd places. Raises ValueError."""
    top: list[Value | TooLarge | Sink] = []
    stack: list[list[Value | TooLarge | Sink]] = [top]
    for number, chunk in enumerate(chunks):
        if number % 2:
            stack[-1].append(chunk)
            continue
        if not isinstance(chunk, bytes):
            raise ValueError("text")  # noqa: TRY004 - one exception for whatever is malformed
        at = 0
        while at < len(chunk):
            token = _TOKEN.match(chunk, at)
            if token is None:
                raise ValueError(chunk[at : at + 20])
            at = token.end()
            if token[2]:
                inner: list[Value | TooLarge | Sink] = []
                stack[-1].append(inner)  # type: ignore[arg-type]
                stack.append(inner)
                if len(stack) > DEPTH_LIMIT:
                    raise ValueError("depth")
            elif token[3]:
                stack.pop()
                if not stack:
                    raise ValueError("parenthesis")
            elif token[4] is not None:
                stack[-1].append(re.sub(rb"\\(.)", rb"\1", token[4]))
            elif token[5]:
                stack[-1].append(None if token[5].upper() == b"NIL" else token[5])
    if len(stack) != 1:
        raise ValueError("parenthesis")
    return top


class Wire(Lines):
    """A socket as a stream of responses; ``literal_limit`` octets of a literal are kept in memory."""

    def __init__(
        self, connection: socket.socket, host: str, literal_limit: int, patience: float = math.inf
    ) -> None:
        super().__init__(connection, host, ANSWER_LIMIT, patience)
        self.literal_limit = literal_limit

    def response(self, wanted: Wanted | None = None) -> Response:
        """The next response. Large literals go to where those ``wanted`` belong, or nowhere."""
        self.response_begins()
        line = self.line(LINE_LIMIT)
        tag, space, rest = line.partition(b" ")
        if not space and tag.strip() != b"+":
            raise self.malformed(_shown(line))
        chunks: list[Literal] = []
        left = LINE_LIMIT
        try:
            # the words of a status are for people: braces in them announce nothing (§7.1)
            while not _STATUS.match(line) and (literal := _LITERAL.search(rest)):
                if len(chunks) > 2 * LITERALS_LIMIT:
                    raise self.malformed("literals")
                chunks.append(rest[: literal.start()])
                left -= len(rest) + self._literal(int(literal[1]), chunks, wanted, left)
                rest = self.line(left)
        except BaseException:
            discard(chunks)
            raise
        if trace.is_on():
            trace.received(self.host, trace.imap_response(line, secret=self.secret))
        chunks.append(rest)
        return Response(tag.strip(), tuple(chunks))

    def _literal(self, size: int, chunks: list[Literal], wanted: Wanted | None, left: int) -> int:
        """Read a literal, the next of ``chunks``; how many octets of it are kept in memory."""
        if size > DISCARD_LIMIT:
            raise self.malformed("literal")
        before = chunks[-1]
        asked = wanted is not None and isinstance(before, bytes) and wanted.asked(before, size)
        if asked:
            self.allow(size)
        if size <= self.literal_limit:
            if size > left:
                raise self.malformed("literals")
            chunks.append(b"".join(self._pieces(size)))
            return size
        sink = wanted.room(size) if wanted is not None and asked else None
        chunks.append(TooLarge(size) if sink is None else sink)
        for piece in self._pieces(size):
            if sink is not None:
                sink.write(piece)
        return 0

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size:
            if not self.buffered:
                self._more()
            piece = self._buffer[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece


def _shown(line: bytes) -> str:
    return line[:60].decode("ascii", "backslashreplace").strip()


def quoted(text: str) -> bytes:
    """An IMAP string for a command; only what :func:`encode_folder` gives, printable ASCII."""
    return b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode("ascii") + b'"'


def with_strings(command: bytes, strings: list[bytes]) -> list[bytes]:
    """A command with string arguments as it is sent: one piece, or several, each after the server's ``+``.

    What is printable ASCII is quoted, anything else a literal (§4.3).
    """
    pieces = [command]
    for string in strings:
        if re.fullmatch(rb"[\x20-\x7e]*", string):
            pieces[-1] += b' "' + re.sub(rb'(["\\])', rb"\\\1", string) + b'"'
        else:
            pieces[-1] += b" {%d}" % len(string)
            pieces.append(string)
    return pieces


def encode_folder(name: str) -> str:
    """A folder's name in modified UTF-7 (RFC 3501 §5.1.3); halves of surrogate pairs survive."""

    def shifted(match: re.Match[str]) -> str:
        data = match[0].encode("utf-16-be", "surrogatepass")
        return "&" + base64.b64encode(data).decode().rstrip("=").replace("/", ",") + "-"

    return re.sub(r"[^\x20-\x7e]+", shifted, name.replace("&", "&-"))


def decode_folder(encoded: str) -> str:
    """The name of :func:`encode_folder`; what is not modified UTF-7 stays as it is."""

    def unshifted(match: re.Match[str]) -> str:
        if not match[1]:
            return "&"
        padded = match[1].replace(",", "/") + "=" * (-len(match[1]) % 4)
        try:
            return base64.b64decode(padded, validate=True).decode("utf-16-be", "surrogatepass")
        except (binascii.Error, UnicodeDecodeError):
            return match[0]

    return re.sub(r"&([A-Za-z0-9+,]*)-", unshifted, encoded)


def uid_set(uids: list[int]) -> bytes:
    """Ascending UIDs as a sequence set, runs drawn together (§9)."""
    runs: list[list[int]] = []
    for uid in uids:
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return ",".join(str(a) if a == b else f"{a}:{b}" for a, b in runs).encode()
