"""The outermost layer, Data and CompressedData."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.cms import algorithms, ber, content, der
from medmail_cli.errors import MedmailError


def compressed(octets: bytes, algorithm: str = algorithms.ZLIB) -> bytes:
    """A CompressedData around what is already compressed."""
    inner = der.sequence(der.oid(algorithms.DATA), der.tlv(0xA0, der.octet_string(octets)))
    data = der.sequence(der.integer(0), algorithms.identifier(algorithm), inner)
    return der.sequence(der.oid(algorithms.COMPRESSED_DATA), der.tlv(0xA0, data))


def failure(encoded: bytes, limit: int = 1000) -> str:
    """The code that decompressing ends with."""
    with pytest.raises(MedmailError) as error:
        content.decompress(ber.parse(encoded), limit)
    return error.value.code


@given(st.binary(max_size=500))
def test_data_and_compressed_data(octets: bytes) -> None:
    data = ber.parse(der.sequence(der.oid(algorithms.DATA), der.tlv(0xA0, der.octet_string(octets))))
    assert content.content_type(data) == "data"
    assert content.data(data) == octets
    node = ber.parse(compressed(zlib.compress(octets)))
    assert content.content_type(node) == "compressed-data"
    assert content.decompress(node, len(octets)) == (algorithms.DATA, octets)


def test_compression_has_a_limit_and_must_be_whole() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    assert failure(compressed(bomb)) == "too-large"
    assert failure(compressed(zlib.compress(bytes(1001)))) == "too-large"
    assert failure(compressed(zlib.compress(b"letter")[:-1])) == "malformed"
    assert failure(compressed(zlib.compress(b"letter") + b"more")) == "malformed"
    assert failure(compressed(b"letter")) == "malformed"
    assert failure(compressed(zlib.compress(b"letter"), "1.2.3.4")) == "unsupported-algorithm"


def test_other_content_types() -> None:
    other = ber.parse(der.sequence(der.oid("1.2.3.4"), der.tlv(0xA0, der.NULL)))
    assert content.content_type(other) == "1.2.3.4"
    with pytest.raises(MedmailError):
        content.data(other)
