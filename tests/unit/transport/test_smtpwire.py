"""SMTP's framing: whatever a server says is read within limits, whatever we send arrives as it was."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.transport.smtphandover import Envelope, Result, hand_over, stuffed, xtext
from medmail_cli.transport.smtpwire import LINE_LIMIT, Lost, Offer, Wire


class Transport:
    """Takes what is written; ``script`` is what the server says, all at once."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def get_extra_info(self, _name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


def wire(said: Sequence[bytes], asked: int = 100) -> tuple[Wire, Transport]:
    """A wire on which ``said`` has come, and ``asked`` replies are due."""
    transport = Transport()
    made = Wire(cast("Any", transport), asked)
    for piece in said:
        made.data_received(piece)
    return made, transport


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_any_octets_are_replies_or_the_end_of_the_connection(said: list[bytes]) -> None:
    async def read() -> None:
        made, transport = wire(said)
        made.connection_lost(None)
        try:
            while True:
                reply = await made.reply(1)
                assert 200 <= reply.code < 600
        except Lost:
            assert transport.aborted

    asyncio.run(read())


@given(st.lists(st.integers(1, 40), max_size=30))
def test_replies_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    said = b"250-first\r\n250 second\r\n354 go\r\n550-5.1.1 no\n550 5.1.1 such user\n"
    pieces, rest = [], said
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]

    async def read() -> list[str]:
        made, _ = wire([*pieces, rest])
        return [str(await made.reply(1)) for _ in range(3)]

    assert asyncio.run(read()) == ["250 first second", "354 go", "550 5.1.1 no 5.1.1 such user"]


@pytest.mark.parametrize(
    "said", [b"x" * (LINE_LIMIT + 1), b"250-x\r\n" * 200, b"HTTP/1.1 400\r\n", b"250-a\r\n550 b\r\n"]
)
def test_what_has_no_end_or_is_no_smtp_ends_the_connection(said: bytes) -> None:
    async def read() -> None:
        made, transport = wire([said])
        with pytest.raises(Lost):
            await made.reply(1)
        assert transport.aborted

    asyncio.run(read())


@given(st.binary(max_size=200))
def test_stuffing_can_be_undone(data: bytes) -> None:
    data = re.sub(rb"\r?\n|\r", b"\r\n", data)
    sent = stuffed(data)
    assert sent.endswith(b"\r\n")
    assert b"\r\n.\r\n" not in b"\r\n" + sent
    lines = [line.removeprefix(b".") for line in sent.split(b"\r\n")]
    received = b"\r\n".join(lines)
    assert received == (data if data.endswith(b"\r\n") else data + b"\r\n")


@given(st.text(max_size=30))
def test_xtext_is_printable_ascii_without_its_own_signs(text: str) -> None:
    assert re.fullmatch(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", xtext(text))


@given(st.dictionaries(st.sampled_from(["size", "limits", "auth", "pipelining"]), st.text(max_size=30)))
def test_any_offer_is_read(extensions: dict[str, str]) -> None:
    offer = Offer.read(extensions)
    assert offer.recipients > 0
    assert offer.size is None or offer.size > 0


class Scripted(Transport):
    """Answers each line written, or each end of data, by what ``answer`` makes of it."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self.answer = answer
        self.wire: Wire | None = None
        self.in_data = False
        self.chunk = 0
        self.lines: list[bytes] = []

    def write(self, data: bytes) -> None:
        super().write(data)
        assert self.wire is not None
        rest, self.chunk = bytes(data)[self.chunk :], max(0, self.chunk - len(data))
        said = b""
        while rest:
            line, _, rest = rest.partition(b"\r\n")
            if self.in_data and line != b".":
                continue
            self.in_data = False
            self.lines.append(line)
            reply = self.answer(line)
            self.in_data = line == b"DATA" and reply.startswith(b"354")
            if line.startswith(b"BDAT"):
                size = int(line.split()[1])
                rest, self.chunk = rest[size:], max(0, size - len(rest))
            said += reply
        if said:
            self.wire.data_received(said)


OFFERS = {
    "bdat": Offer(pipelining=True, chunking=True),
    "chunks": Offer(chunking=True),
    "pipelined": Offer(pipelining=True),
    "plain": Offer(),
}
ORDINARY = {b"DATA": b"354 go\r\n"}


def sent(
    offer: Offer, answer: Callable[[bytes], bytes], *addresses: str
) -> tuple[dict[str, Result], Lost | None, Scripted, Wire]:
    """Hand one letter over; what became of its recipients, and of the connection."""

    async def mark(_addresses: Sequence[str]) -> None:
        return

    async def go() -> tuple[dict[str, Result], Lost | None, Scripted, Wire]:
        transport = Scripted(answer)
        made = transport.wire = Wire(cast("Any", transport))
        results: dict[str, Result] = {}
        lost = None
        try:
            await hand_over(made, offer, Envelope("s@x", addresses, "<1@x>"), b"hi\r\n", results, mark)
        except Lost as error:
            lost = error
        return results, lost, transport, made

    return asyncio.run(go())


def saying(replies: Mapping[bytes, bytes]) -> Callable[[bytes], bytes]:
    """A server that says ``replies`` to commands that begin so, and 250 (354) to all others."""
    return lambda line: next(
        (said for start, said in {**ORDINARY, **replies}.items() if line.startswith(start)), b"250 ok\r\n"
    )


@pytest.mark.parametrize("kind", OFFERS)
@pytest.mark.parametrize("refusal", [b"550 no\r\n", b"450 later\r\n"])
def test_a_transaction_that_came_to_nothing_is_closed(kind: str, refusal: bytes) -> None:
    no_one = {b"RCPT": refusal, b"DATA": b"554 no valid recipients\r\n", b"BDAT": b"503 no recipients\r\n"}
    results, lost, transport, _ = sent(OFFERS[kind], saying(no_one), "a@x", "b@x")
    assert lost is None
    assert {one.status for one in results.values()} == {"refused" if refusal[:1] == b"5" else "queued"}
    assert transport.lines[-1] == b"RSET"
    for command in (b"BDAT", b"DATA", b"MAIL", b"."):
        _, lost, transport, _ = sent(OFFERS[kind], saying({command: b"554 no\r\n"}), "a@x")
        assert lost is None
        assert transport.lines[-1] == b"RSET" or command not in b"".join(transport.lines)


@pytest.mark.parametrize("kind", OFFERS)
def test_mail_out_of_place_is_no_word_on_a_recipient(kind: str) -> None:
    nested = dict.fromkeys((b"MAIL", b"RCPT", b"BDAT", b"DATA"), b"503 5.5.1 nested MAIL command\r\n")
    results, lost, _, _ = sent(OFFERS[kind], saying(nested), "a@x")
    assert lost is not None
    assert results["a@x"].status == "queued"
    results, lost, _, _ = sent(OFFERS[kind], saying({b"RCPT": b"503 MAIL first\r\n"}), "a@x")
    assert lost is not None
    assert results["a@x"].status in ("queued", "unknown")


@pytest.mark.parametrize("kind", ["pipelined", "plain"])
@pytest.mark.parametrize("said", [b"250 ok\r\n", b"220 x\r\n", b"221 bye\r\n", b"334 \r\n", b"503 what\r\n"])
def test_nothing_but_354_lets_the_data_go(kind: str, said: bytes) -> None:
    replies = {**ORDINARY, b"DATA": said}

    def answer(line: bytes) -> bytes:
        return next((reply for start, reply in replies.items() if line.startswith(start)), b"250 ok\r\n")

    results, lost, transport, _ = sent(OFFERS[kind], answer, "a@x")
    assert results["a@x"].status == "queued"
    assert lost is not None
    assert b"hi" not in transport.written


@pytest.mark.parametrize("kind", OFFERS)
@pytest.mark.parametrize("command", [b"MAIL", b"RCPT", b"DATA", b"BDAT", b".", b"RSET"])
def test_one_reply_too_many_is_a_lost_connection(kind: str, command: bytes) -> None:
    """Whatever the server answers twice, its refusal of the letter is never taken for its acceptance."""

    def answer(line: bytes) -> bytes:
        end = line == b"." or line.endswith(b"LAST")
        said = b"554 refused\r\n" if end else saying({})(line)
        return b"250 ok\r\n" + said if line.startswith(command) else said

    results, lost, transport, made = sent(OFFERS[kind], answer, "a@x", "b@x")
    assert all(one.status != "accepted" for one in results.values())
    if command in b"\n".join(transport.lines):
        # told at once, or when the connection is used again
        with pytest.raises(Lost):
            raise lost or _used_again(made)


def _used_again(made: Wire) -> Lost:
    try:
        made.write(b"NOOP\r\n")
    except Lost as lost:
        return lost
    raise AssertionError("the connection is still used")


@pytest.mark.parametrize("kind", OFFERS)
@pytest.mark.parametrize("command", [b"MAIL", b"RCPT", b"DATA", b"BDAT", b"."])
def test_a_goodbye_in_answer_to_a_command_says_that_it_was_not_done(kind: str, command: bytes) -> None:
    gone = False

    def answer(line: bytes) -> bytes:
        nonlocal gone
        if gone:
            return b""
        gone = line.startswith(command)
        return b"421 4.7.0 too many connections\r\n" if gone else saying({})(line)

    results, lost, _, _ = sent(OFFERS[kind], answer, "a@x")
    assert results["a@x"].status == ("queued" if gone else "accepted")
    assert (lost is not None) == gone
    assert not gone or "too many connections" in (results["a@x"].reply or "")


def test_a_server_that_goes_once_it_has_taken_the_letter_has_taken_it() -> None:
    results, lost, _, _ = sent(OFFERS["bdat"], saying({b"RSET": b"421 closing\r\n"}), "a@x")
    assert (results["a@x"].status, lost) == ("accepted", None)


def test_a_refused_recipient_does_not_stop_the_others() -> None:
    async def go() -> dict[str, Result]:
        made, transport = wire(
            [
                b"250 ok\r\n550 no\r\n250 ok\r\n452 too many\r\n250 taken\r\n250 reset\r\n",
                b"250 ok\r\n250 ok\r\n250 taken\r\n250 reset\r\n",
            ]
        )
        results: dict[str, Result] = {}

        async def mark(_addresses: Sequence[str]) -> None:
            return

        offer = Offer(pipelining=True, chunking=True)
        await hand_over(
            made, offer, Envelope("s@x", ("a@x", "b@x", "c@x"), "<1@x>"), b"hi\r\n", results, mark
        )
        assert transport.written.count(b"BDAT 4 LAST\r\nhi\r\n") == 2
        return results

    found = asyncio.run(go())
    assert {address: result.status for address, result in found.items()} == {
        "a@x": "refused",
        "b@x": "accepted",
        "c@x": "accepted",
    }


@pytest.mark.parametrize("text", ["a\r\nRCPT TO:<eve@x>", "a\0b"])
def test_no_command_can_be_smuggled_in(text: str) -> None:
    async def mark(_addresses: Sequence[str]) -> None:
        return

    async def go() -> None:
        made, _ = wire([])
        await hand_over(made, Offer(), Envelope("s@x", (text,), "<1@x>"), b"", {}, mark)

    with pytest.raises(ValueError, match="control"):
        asyncio.run(go())
