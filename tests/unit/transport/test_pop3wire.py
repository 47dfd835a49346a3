"""POP3 as it comes over the wire: whatever pieces it comes in, and whatever it is."""

import contextlib
import re
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.transport.pop3 import server_ids
from medmail_cli.transport.pop3wire import Status, Wire
from tests.support.measured import processor_time
from tests.support.pop3server import stuffed

if TYPE_CHECKING:
    import socket


class Pieces:
    """A connection over which octets come in pieces, then its end."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def recv(self, _most: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def wire(*pieces: bytes) -> Wire:
    return Wire(cast("socket.socket", Pieces(*pieces)), "pop.test:995", 60.0)


PIECES = st.sampled_from([b".", b"..", b"\r\n", b"\r", b"\n", b".\r\n", b"text", b"\0\xff", b""])


@given(
    st.lists(PIECES).map(b"".join),
    st.lists(st.integers(1, 7), max_size=40),
)
def test_a_letter_is_what_was_sent_in_whatever_pieces_it_comes(text: bytes, cuts: list[int]) -> None:
    letter = re.sub(rb"\r?\n", b"\r\n", text)
    letter = letter if letter.endswith(b"\r\n") else letter + b"\r\n"
    octets, pieces = stuffed(letter) + b".\r\n+OK next\r\n", []
    for cut in cuts:
        pieces.append(octets[:cut])
        octets = octets[cut:]
    read = wire(*pieces, octets)
    assert b"".join(read.text()) == letter
    assert read.status() == Status(ok=True, words="next")


def test_a_line_without_an_end_is_passed_on_as_it_comes() -> None:
    read = wire(b"." * 3, b"x" * 100_000, b"x" * 100_000, b"\r\n.\r\n")
    assert [len(piece) for piece in read.text()] == [2, 100_000, 100_000, 2]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"+OK\r\n", Status(ok=True)),
        (b"+ok  two words \n", Status(ok=True, words="two words")),
        (b"-ERR [IN-USE] later\r\n", Status(ok=False, code="IN-USE", words="later")),
        (b"-ERR [sys/temp]\r\n", Status(ok=False, code="SYS/TEMP")),
        (b"-ERR caf\xe9\r\n", Status(ok=False, words="caf\ufffd")),
        (b"+ cXVlc3Rpb24=\r\n", Status(ok=True, challenge=b"cXVlc3Rpb24=")),
        (b"+\r\n", Status(ok=True, challenge=b"")),
    ],
)
def test_statuses(line: bytes, status: Status) -> None:
    assert wire(line).status() == status


@given(st.binary(max_size=200))
def test_any_octets_are_a_status_or_malformed(data: bytes) -> None:
    with contextlib.suppress(EOFError, MedmailError):
        assert wire(data).status().ok in (True, False)


@pytest.mark.parametrize(
    "answer", [b"x" * 10_000 + b"\r\n", b"+OK " + b"x" * 10_000, b"* OK IMAP4\r\n", b"HTTP/1.1\n"]
)
def test_what_is_no_status_is_malformed(answer: bytes) -> None:
    with pytest.raises(MedmailError) as caught:
        wire(answer).status()
    assert caught.value.code == "server-answer-malformed"


@given(
    st.lists(st.binary(min_size=1, max_size=200) | st.sampled_from([b"a", b"b" * 43, b"b" * 42]), max_size=30)
)
def test_server_ids_differ_and_stay_what_they_are(uidls: list[bytes]) -> None:
    ids = list(server_ids(uidls))
    assert len(set(ids)) == len(uidls)
    assert all(re.fullmatch(r"[0-9A-Za-z_-]{1,43}", server_id) for server_id in ids)
    # what comes later changes nothing
    assert list(server_ids([*uidls, b"later"]))[:-1] == ids


def test_ten_times_as_many_uidls_take_ten_times_as_long() -> None:
    def given_again(count: int) -> None:
        assert len(set(server_ids([b"the same"] * count))) == count

    assert processor_time(lambda: given_again(50_000)) < 40 * processor_time(lambda: given_again(5000)) + 0.01


def test_a_listing_ends_with_its_dot_and_within_its_limits() -> None:
    assert list(wire(b"1 a\r\n..2 b\r\n.\r\nmore").listing()) == [b"1 a", b".2 b"]
    with pytest.raises(MedmailError):
        list(wire(b"1 " + b"a" * 2000 + b"\r\n.\r\n").listing())
