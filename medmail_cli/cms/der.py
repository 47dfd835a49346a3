"""Writing DER (X.690): small values as bytes, large ones as pieces joined once at the end."""

import datetime as dt
from collections.abc import Iterable
from functools import lru_cache

from medmail_cli.cms import ber

SEQUENCE, SET = 0x30, 0x31
"""Identifier octets as written: constructed."""

Piece = bytes | memoryview
NULL = b"\x05\x00"


def header(tag: int, length: int) -> bytes:
    """Identifier octet ``tag`` and the length octets for ``length`` octets of content."""
    if length < 0x80:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def pieces(tag: int, content: Iterable[Piece]) -> list[Piece]:
    """An element whose content is the pieces given, not joined: wrap again, at last ``b"".join``."""
    parts = list(content)
    return [header(tag, sum(map(len, parts))), *parts]


def tlv(tag: int, *content: Piece) -> bytes:
    """An element with identifier octet ``tag`` around the joined content."""
    return b"".join(pieces(tag, content))


def sequence(*content: Piece) -> bytes:
    """A SEQUENCE of encoded elements."""
    return tlv(SEQUENCE, *content)


def set_of(content: Iterable[Piece], tag: int = SET) -> bytes:
    """A SET OF encoded elements, sorted as DER asks; ``tag`` for an IMPLICIT one."""
    return tlv(tag, *sorted(map(bytes, content)))


def octet_string(content: Piece, tag: int = 0x04) -> bytes:
    """An OCTET STRING."""
    return tlv(tag, content)


def bit_string(content: Piece, tag: int = 0x03) -> bytes:
    """A BIT STRING of whole octets."""
    return tlv(tag, b"\0", content)


def integer(value: int) -> bytes:
    """An INTEGER."""
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


@lru_cache(maxsize=1024)
def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER from dotted numbers."""
    first, second, *rest = map(int, dotted.split("."))
    content = bytearray()
    for number in (first * 40 + second, *rest):
        octets = [number & 0x7F]
        while number := number >> 7:
            octets.append(0x80 | number & 0x7F)
        content += bytes(reversed(octets))
    return tlv(0x06, bytes(content))


def time(value: dt.datetime) -> bytes:
    """A time as CMS writes it (RFC 5652 11.3): UTCTime from 1950 to 2049, GeneralizedTime otherwise."""
    value = value.astimezone(dt.UTC)
    if 1950 <= value.year < 2050:
        return tlv(0x17, value.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, f"{value.year:04}{value.strftime('%m%d%H%M%SZ')}".encode())


def canonical(node: ber.Node, tag: int | None = None) -> bytes:
    """A BER element re-encoded as DER: shortest lengths, strings in one piece, sets sorted.

    ``tag`` replaces the element's own identifier (an IMPLICIT SET OF is sorted when it becomes 0x31).
    Values of primitive elements are kept as they are.
    """
    if node.tag > 0xFF:  # of many octets; no structure of ours has one
        raise ber.malformed("tag")
    identifier = tag if tag is not None else node.raw[0]
    if not node.constructed:
        return tlv(identifier, node.content)
    if node.tag == ber.OCTET_STRING:
        return tlv(ber.OCTET_STRING, node.octets())
    content = [canonical(child) for child in node.elements()]
    return set_of(content) if identifier == SET else tlv(identifier, *content)
