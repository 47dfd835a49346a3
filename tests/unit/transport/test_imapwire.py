"""IMAP taken apart: what is IMAP is read, what is not is told, and nothing runs away."""

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.transport import imapanswers, imapwire, lines
from medmail_cli.transport.imapwire import Response, Wire
from medmail_cli.transport.mailserver import TooLarge

pytestmark = pytest.mark.thorough

if TYPE_CHECKING:
    import socket

ATOMS = st.from_regex(rb"[A-Za-z0-9$\\.:+-]{1,12}", fullmatch=True).filter(lambda a: a.upper() != b"NIL")
STRINGS = st.binary(max_size=40)
VALUES = st.recursive(st.none() | ATOMS | STRINGS, lambda inner: st.lists(inner, max_size=5), max_leaves=30)


class Octets:
    """What a peer has sent, received in pieces."""

    def __init__(self, data: bytes, piece: int) -> None:
        self.data, self.piece = data, piece

    def recv(self, size: int) -> bytes:
        got, self.data = self.data[: min(size, self.piece)], self.data[min(size, self.piece) :]
        return got


def wire_of(data: bytes, limit: int = 1000, piece: int = 1 << 20) -> Wire:
    # all that is asked of a socket for reading
    return Wire(cast("socket.socket", Octets(data, piece)), "host", limit)


def written(value: imapwire.Value, chunks: list[bytes]) -> None:
    """As a server might write it; strings that are no atoms as literals or quoted."""
    if value is None:
        chunks[-1] += b"NIL"
    elif isinstance(value, list):
        chunks[-1] += b"("
        for number, one in enumerate(value):
            chunks[-1] += b" " if number else b""
            written(one, chunks)
        chunks[-1] += b")"
    elif value.isalnum() and value.upper() != b"NIL" and value[0] % 2:
        chunks[-1] += value
    elif all(31 < octet < 127 for octet in value):
        chunks[-1] += b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    else:
        chunks += [value, b""]


@given(st.lists(VALUES, min_size=1, max_size=6))
def test_values_round_trip(values: "list[imapwire.Value]") -> None:
    chunks = [b"1 FETCH "]
    written(values, chunks)
    line = (
        b"* "
        + b"".join(c if i % 2 == 0 else b"{%d}\r\n%s" % (len(c), c) for i, c in enumerate(chunks))
        + b"\r\n"
    )
    response = wire_of(line).response()
    assert response.tag == b"*"
    assert response.values() == [b"1", b"FETCH", values]


@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [
                b"* 1 FETCH ",
                b"(",
                b")",
                b"UID ",
                b"5 ",
                b"BODY[] ",
                b"{3}\r\n",
                b"abc",
                b"NIL",
                b'"',
                b"\\",
                b"\r\n",
                b"[",
                b"]",
            ]
        )
    ).map(b"".join)
)
def test_garbage_is_a_response_or_an_error(data: bytes) -> None:
    wire = wire_of(data)
    # anything else that is raised fails the test
    with contextlib.suppress(EOFError, MedmailError):
        while True:
            response = wire.response()
            assert isinstance(response.code + response.said, str)
            with contextlib.suppress(ValueError):
                response.values()
                imapanswers.fetched(response)


@given(st.integers(0, 3000), st.integers(1, 50), st.integers(1, 500))
def test_literals_whole_however_they_arrive(size: int, limit: int, piece: int) -> None:
    body = bytes(n % 251 for n in range(size))
    wire = wire_of(b"* 1 FETCH (UID 5 BODY[] {%d}\r\n%s)\r\n* OK\r\n" % (size, body), limit * 100, piece)
    expected = body if size <= limit * 100 else TooLarge(size)
    assert imapanswers.fetched(wire.response()) == (5, expected)
    assert wire.response().word == b"OK"


@pytest.mark.parametrize(
    "data",
    [b"* 1 FETCH {4294967297}\r\n", b"nonsense\r\n", b"\r\n", b"* A" + b" {0}\r\n" * 2000 + b"\r\n"],
)
def test_limits(data: bytes) -> None:
    with pytest.raises(MedmailError) as caught:
        wire_of(data).response()
    assert caught.value.code == "server-answer-malformed"


@pytest.mark.parametrize("text", [b"(", b")", b'"open', b"((a)", b"(" * 100 + b")" * 100, b"{5}"])
def test_what_is_not_imap(text: bytes) -> None:
    with pytest.raises(ValueError):
        Response(b"*", (text,)).values()


def test_codes_and_words() -> None:
    response = Response(b"*", (b"OK [UIDVALIDITY 5] it is so\r\n",))
    assert (response.word, response.code, response.said) == (b"OK", "UIDVALIDITY 5", "it is so")
    assert Response(b"*", (b"no plain words\r\n",)).said == "plain words"


@given(st.text(max_size=60))
def test_folder_names_round_trip(name: str) -> None:
    encoded = imapwire.encode_folder(name)
    assert all(31 < ord(char) < 127 for char in encoded)
    assert imapwire.decode_folder(encoded) == name


def test_folder_names_of_the_rfc() -> None:
    assert imapwire.encode_folder("~peter/mail/台北/日本語") == "~peter/mail/&U,BTFw-/&ZeVnLIqe-"
    assert imapwire.decode_folder("&Jjo-!&&-&#-") == "☺!&&&#-"


@given(st.text(max_size=40))
def test_any_folder_name_decodes_to_something(name: str) -> None:
    assert isinstance(imapwire.decode_folder(name), str)


@given(st.sets(st.integers(1, 200)))
def test_uid_sets(uids: "set[int]") -> None:
    found = set()
    for run in imapwire.uid_set(sorted(uids)).split(b",") if uids else []:
        first, _, last = run.partition(b":")
        found |= set(range(int(first), int(last or first) + 1))
    assert found == uids


class Clock:
    """Time that passes while something is received: a second for so many octets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("medmail_cli.transport.lines.time.monotonic", lambda: self.now)

    def line(self, data: bytes, rate: float, piece: int) -> Octets:
        clock = self

        class Line(Octets):
            def recv(self, size: int) -> bytes:
                got = super().recv(size)
                clock.now += len(got) / rate
                return got

        return Line(data, piece)


@pytest.mark.parametrize("rate", [1, 100, lines.SLOWEST // 2])
def test_what_comes_by_the_octet_comes_to_no_end(monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    clock = Clock(monkeypatch)
    body = b"* 1 FETCH (UID 5 BODY[] {999999}\r\n" + b"x" * 999_999 + b")\r\n"
    line = cast("socket.socket", clock.line(body, rate, max(1, rate // 10)))
    with pytest.raises(TimeoutError):
        Wire(line, "host", 1 << 20, 60.0).response()
    assert clock.now <= 2 * 60 + 2


def test_a_slow_line_brings_a_large_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    body = b"* 1 FETCH (UID 5 BODY[] {999999}\r\n" + b"x" * 999_999 + b")\r\n"
    wire = Wire(cast("socket.socket", clock.line(body, lines.SLOWEST, 1400)), "host", 1 << 20, 60.0)
    assert imapanswers.fetched(wire.response())[0] == 5
    assert clock.now > 400


def test_a_server_that_says_it_is_at_it_has_longer_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    hang_in = b"* OK Hang in there..\r\n"
    # each time in one piece, after 45 seconds
    line = cast("socket.socket", clock.line(hang_in * 100, len(hang_in) / 45, len(hang_in)))
    wire = Wire(line, "host", 1000, 60.0)
    for _ in range(6):
        assert wire.response().word == b"OK"
    with pytest.raises(TimeoutError):
        wire.response()
    wire.begin()
    for _ in range(6):
        assert wire.response().word == b"OK"


def test_time_that_is_ours_is_not_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    line = cast("socket.socket", clock.line(b"* OK\r\n" * 3, 1000, 6))
    wire = Wire(line, "host", 1000, 1.0)
    for _ in range(3):
        assert wire.response().word == b"OK"
        clock.now += 1000


@dataclass
class Kept:
    """A sink in memory."""

    data: bytes = b""
    discarded: bool = False

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> None:
        self.data += data

    def discard(self) -> None:
        self.discarded = True


def test_an_answer_holds_no_more_than_was_asked_for() -> None:
    sinks: list[Kept] = []

    def room(_size: int) -> Kept:
        sinks.append(Kept())
        return sinks[-1]

    large = imapwire.ANSWER_LIMIT // 4
    said = b"* 1 FETCH (UID %d BODY[] {%d}\r\n%s)\r\n"
    unasked, asked = (said % (uid, large, b"x" * large) for uid in (4, 5))
    wanted = imapwire.Wanted(lambda text, _size: b"UID 5 " in text, room)
    wire = wire_of(asked * 6 + unasked * 9)
    for _ in range(6):
        assert isinstance(imapanswers.fetched(wire.response(wanted))[1], Kept)
    assert [sink.size for sink in sinks] == [large] * 6
    assert imapanswers.fetched(wire.response(wanted)) == (4, TooLarge(large))
    with pytest.raises(MedmailError) as caught:
        list(iter(partial(wire.response, wanted), None))
    assert caught.value.code == "server-answer-malformed"
    assert len(sinks) == 6


def test_what_is_cut_off_leaves_no_half() -> None:
    sink = Kept()
    wanted = imapwire.Wanted(lambda _text, _size: True, lambda _size: sink)
    with pytest.raises(EOFError):
        wire_of(b"* 1 FETCH (UID 5 BODY[] {9000}\r\nabc").response(wanted)
    assert sink.discarded
    sink = Kept()
    with pytest.raises(EOFError):
        wire_of(b"* 1 FETCH (UID 5 BODY[] {2000}\r\n" + b"x" * 2000).response(wanted)
    assert sink.discarded
