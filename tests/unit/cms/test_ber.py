"""The reader of BER: everything it accepts it understands, everything else is one error, in bounded time."""

import contextlib
import datetime as dt
import time
import tracemalloc
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.cms import ber, der
from medmail_cli.errors import MedmailError
from tests.support.ber import restyle

pytestmark = pytest.mark.thorough

PRIMITIVE = st.builds(
    der.tlv, st.sampled_from([0x02, 0x04, 0x05, 0x06, 0x17, 0x80, 0x82]), st.binary(max_size=40)
)
TREES = st.recursive(
    PRIMITIVE,
    lambda inner: st.one_of(
        st.builds(lambda items: der.sequence(*items), st.lists(inner, max_size=5)),
        st.builds(der.set_of, st.lists(inner, max_size=5)),
        st.builds(lambda items: der.tlv(0xA1, *items), st.lists(inner, max_size=5)),
    ),
    max_leaves=20,
)


def walk(node: ber.Node) -> None:
    """Read everything there is to read, children first."""
    for child in node.elements() if node.constructed else ():
        walk(child)
    for read in (node.octets, node.integer, node.oid, node.bits, node.time):
        try:
            read()
        except MedmailError as error:
            assert error.code == "malformed"  # noqa: PT017 - either outcome is right


@given(TREES)
def test_der_comes_back_as_it_was(encoded: bytes) -> None:
    node = ber.parse(encoded)
    assert node.raw == encoded
    assert der.canonical(node) == encoded
    walk(node)


@given(TREES, st.randoms(use_true_random=False))
def test_every_ber_form_of_a_value_means_the_same(encoded: bytes, random: Random) -> None:
    # a chunked [0] is only known to be a string by those who expect one, so canonical() leaves it alone
    other = restyle(ber.parse(encoded), random, keep=lambda node: node.tag == 0x80)
    assert der.canonical(ber.parse(other)) == encoded


@given(st.binary(max_size=300), st.randoms(use_true_random=False))
def test_chunked_strings_are_joined(content: bytes, random: Random) -> None:
    for tag in (0x04, 0x80):
        assert ber.parse(restyle(ber.parse(der.tlv(tag, content)), random)).octets(tag) == content


def test_bit_strings_are_joined() -> None:
    """X.690 8.6.4: pieces of whole octets; ours never have unused bits."""
    pieces = der.bit_string(b"ab"), der.tlv(0x23, der.bit_string(b""), der.bit_string(b"c"))
    for encoded in (der.tlv(0x23, *pieces), b"\x23\x80" + b"".join(pieces) + b"\0\0"):
        assert bytes(ber.parse(encoded).bits()) == b"abc"
    for wrong in (der.tlv(0x23), der.tlv(0x23, der.octet_string(b"\0a")), der.tlv(0x23, b"\x03\x00"),
                  der.tlv(0x23, pieces[0], b"\x03\x02\x01\xfe"), b"\x03\x00"):  # fmt: skip
        with pytest.raises(MedmailError, match="malformed"):
            ber.parse(wrong).bits()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Something that was DER before an octet or two of it changed."""
    encoded = draw(TREES)
    at = draw(st.integers(0, len(encoded) - 1))
    return encoded[:at] + draw(st.binary(min_size=1, max_size=2)) + encoded[at + 1 :]


@given(st.binary(max_size=200) | damaged())
def test_any_bytes_are_understood_or_malformed(encoded: bytes) -> None:
    try:
        walk(ber.parse(encoded))
    except MedmailError as error:
        assert error.code == "malformed"  # noqa: PT017 - either outcome is right


@given(TREES)
def test_truncated_or_extended_is_malformed(encoded: bytes) -> None:
    for wrong in (*(encoded[:size] for size in range(len(encoded))), encoded + b"\0"):
        with pytest.raises(MedmailError) as error:
            walk(ber.parse(wrong))
        assert error.value.code == "malformed"


@given(st.integers(-(2**2100), 2**2100), st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2150, 1, 1)))
def test_numbers_and_times_round_trip(number: int, moment: dt.datetime) -> None:
    assert ber.parse(der.integer(number)).integer() == number
    moment = moment.replace(microsecond=0, tzinfo=dt.UTC)
    assert ber.parse(der.time(moment)).time() == moment


@given(st.integers(0, 2), st.lists(st.integers(0, 2**40), min_size=1, max_size=8))
def test_object_identifiers_round_trip(first: int, rest: list[int]) -> None:
    rest[0] %= 40
    dotted = ".".join(map(str, (first, *rest)))
    assert ber.parse(der.oid(dotted)).oid() == dotted


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("17:2601021530Z", dt.datetime(2026, 1, 2, 15, 30)),
        ("17:260102153059+0130", dt.datetime(2026, 1, 2, 14, 0, 59)),
        ("17:500102153059Z", dt.datetime(1950, 1, 2, 15, 30, 59)),
        ("18:20260102153059.5Z", dt.datetime(2026, 1, 2, 15, 30, 59, 500000)),
    ],
)
def test_times_in_ber(text: str, moment: dt.datetime) -> None:
    tag, value = text.split(":")
    assert ber.parse(der.tlv(int(tag, 16), value.encode())).time() == moment.replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "text", ["260102153059", "261302153059Z", "2601021530", "", "²60102153059Z", "260102153059+9900"]
)
def test_bad_times(text: str) -> None:
    with pytest.raises(MedmailError):
        ber.parse(der.tlv(0x17, text.encode())).time()


BOMBS = {
    "nested indefinite": b"\x30\x80" * 50_000,
    "nested indefinite, closed": b"\x30\x80" * 50_000 + b"\0\0" * 50_000,
    "nested strings": b"\x24\x80" * 50_000 + b"\0\0" * 50_000,
    "nested definite": b"",
    "siblings": der.tlv(0x30, b"\x30\x80\0\0" * 50_000),
    "tiny chunks": der.tlv(0x24, b"\x04\x01\x00" * 50_000),
    "tiny elements": der.tlv(0x31, b"\x05\x00" * 50_000),
    "indefinite in definite": der.tlv(0x30, b"\x30\x80" + der.tlv(0x30, b"\x30\x80\0\0" * 40_000) + b"\0\0"),
    "huge length": b"\x30\x88" + b"\x7f" * 8 + bytes(1_000_000),
    "huge length of length": b"\x30\xff" + b"\xff" * 1_000_000,
    "huge integer": der.tlv(0x02, b"\x7f" * 1_000_000),
    "huge identifier": der.tlv(0x06, b"\x81" * 1_000_000),
    "huge time": der.tlv(0x17, b"1" * 1_000_000),
}
for _ in range(12_000):
    BOMBS["nested definite"] = der.tlv(0x30, BOMBS["nested definite"])


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_bounded(name: str) -> None:
    bomb = BOMBS[name]
    started = time.process_time()
    with contextlib.suppress(MedmailError):
        walk(ber.parse(bomb))
    assert time.process_time() - started < 2
    tracemalloc.start()
    with contextlib.suppress(MedmailError):
        walk(ber.parse(bomb))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(bomb) + 500_000


def test_too_large_is_said_before_anything_is_read() -> None:
    with pytest.raises(MedmailError) as error:
        ber.parse(b"\x04\x03abc", ber.Limits(size=4))
    assert error.value.code == "too-large"


def test_large_content_is_a_slice() -> None:
    letter = bytes(1_000_000)
    encoded = der.sequence(der.octet_string(letter))
    tracemalloc.start()
    content = ber.parse(encoded).fields().take(ber.OCTET_STRING).octets()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert content == letter
    assert peak < 10_000


@pytest.mark.parametrize("encoded", ["5f24021234", "7f240404021234", "30055f24021234"])
def test_tags_of_several_octets_are_not_made_into_others(encoded: str) -> None:
    """Found by fuzzing: a primitive element lost the rest of its tag."""
    with pytest.raises(MedmailError):
        der.canonical(ber.parse(bytes.fromhex(encoded)))
