"""The same value in other encodings: what BER allows and DER forbids."""

from collections.abc import Callable
from random import Random

from medmail_cli.cms import ber, der


def restyle(node: ber.Node, random: Random, keep: Callable[[ber.Node], bool] = lambda _: False) -> bytes:
    """An element re-encoded with indefinite lengths, long lengths and chunked strings, as chance has it.

    Elements for which ``keep`` holds stay as they are. Primitive [0] elements are taken for OCTET STRINGs,
    as they are everywhere in CMS.
    """
    raw = bytes(node.raw)
    if keep(node):
        return raw
    if node.constructed:
        return _wrap(raw[0], b"".join(restyle(child, random, keep) for child in node.elements()), random)
    if node.tag in (ber.OCTET_STRING, 0x80) and random.random() < 0.5:
        content, chunks = bytes(node.content), []
        while content:
            size = random.randint(1, max(1, len(content)))
            chunk = der.octet_string(content[:size])
            chunks.append(_wrap(0x24, chunk, random) if random.random() < 0.2 else chunk)
            content = content[size:]
        return _wrap(raw[0] | 0x20, b"".join(chunks), random)
    return raw[:1] + _long_length(len(node.content), random) + bytes(node.content)


def _wrap(tag: int, content: bytes, random: Random) -> bytes:
    if random.random() < 0.5:
        return bytes([tag, 0x80]) + content + b"\0\0"
    return bytes([tag]) + _long_length(len(content), random) + content


def _long_length(length: int, random: Random) -> bytes:
    if random.random() < 0.7:
        return der.header(0, length)[1:]
    size = random.randint((length.bit_length() + 7) // 8 or 1, 6)
    return bytes([0x80 | size]) + length.to_bytes(size, "big")
