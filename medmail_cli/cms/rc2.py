"""RC2 (RFC 2268) with keys shorter than what cryptography has: only to read letters older than AES."""

from itertools import pairwise

_PI = bytes.fromhex(
    "d978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2"
    "179a59f587b34f1361456d8d09817d32bd8f40eb86b77b0bf09521225c6b4e82"
    "54d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb626"
    "6fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed7"
    "08e8eade8052eef784aa72ac354d6a2a961ad2715a1549744b9fd05e0418a4ec"
    "c2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731"
    "2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a9"
    "0d38341bab33ffb0bb480c5fb9b1cd2ec5f3db47e5a59c770aa62068fe7fc1ad"
)
_BLOCK = 8


def decrypt_cbc(key: bytes, bits: int, vector: bytes, encrypted: bytes | memoryview) -> bytes:
    """Decrypt whole blocks of eight octets in CBC; ``bits`` is the effective key length (RFC 2268 2)."""
    schedule = _expand(key, bits)
    blocks = [vector, *(bytes(encrypted[at : at + _BLOCK]) for at in range(0, len(encrypted), _BLOCK))]
    return b"".join(
        (_decrypt_block(schedule, block) ^ int.from_bytes(before, "little")).to_bytes(_BLOCK, "little")
        for before, block in pairwise(blocks)
    )


def _expand(key: bytes, bits: int) -> list[int]:
    """The 64 words of the expanded key (RFC 2268 2)."""
    size, octets = len(key), (bits + 7) // 8
    table = bytearray(key.ljust(128, b"\0"))
    for at in range(size, 128):
        table[at] = _PI[(table[at - 1] + table[at - size]) & 0xFF]
    table[128 - octets] = _PI[table[128 - octets] & 0xFF >> (8 * octets - bits)]
    for at in range(127 - octets, -1, -1):
        table[at] = _PI[table[at + 1] ^ table[at + octets]]
    return [table[at] | table[at + 1] << 8 for at in range(0, 128, 2)]


def _decrypt_block(key: list[int], block: bytes) -> int:
    """One block (RFC 2268 4), as a little-endian number; written out, for there are many blocks."""
    number = int.from_bytes(block, "little")
    a, b, c, d = number & 0xFFFF, number >> 16 & 0xFFFF, number >> 32 & 0xFFFF, number >> 48
    for at in range(60, -1, -4):
        d = (d >> 5 | d << 11) - key[at + 3] - (c & b) - (~c & a) & 0xFFFF
        c = (c >> 3 | c << 13) - key[at + 2] - (b & a) - (~b & d) & 0xFFFF
        b = (b >> 2 | b << 14) - key[at + 1] - (a & d) - (~a & c) & 0xFFFF
        a = (a >> 1 | a << 15) - key[at] - (d & c) - (~d & b) & 0xFFFF
        if at in (44, 20):
            d = d - key[c & 63] & 0xFFFF
            c = c - key[b & 63] & 0xFFFF
            b = b - key[a & 63] & 0xFFFF
            a = a - key[d & 63] & 0xFFFF
    return a | b << 16 | c << 32 | d << 48
