"""SMTP's framing: whatever a server says is read within limits, whatever we send arrives as it was."""

import asyncio
import re
from collections.abc import Sequence
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


def wire(said: Sequence[bytes]) -> tuple[Wire, Transport]:
    transport = Transport()
    made = Wire(cast("Any", transport))
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


def test_a_refused_recipient_does_not_stop_the_others() -> None:
    async def go() -> dict[str, Result]:
        made, transport = wire(
            [b"250 ok\r\n550 no\r\n250 ok\r\n452 too many\r\n250 taken\r\n250 ok\r\n250 ok\r\n250 taken\r\n"]
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
