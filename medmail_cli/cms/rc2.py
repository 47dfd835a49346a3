"""RC2 (RFC 2268) with keys shorter than what cryptography has: only to read letters older than AES."""

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
_BLOCK, _CHUNK = 8, 1 << 16


def decrypt_cbc(key: bytes, bits: int, vector: bytes, encrypted: bytes | memoryview) -> bytes:
    """Decrypt whole blocks of eight octets in CBC; ``bits`` is the effective key length (RFC 2268 2)."""
    schedule = _expand(key, bits)
    opened, before = [], vector
    for at in range(0, len(encrypted), _CHUNK):
        chunk = bytes(encrypted[at : at + _CHUNK])
        chained = int.from_bytes(before + chunk[:-_BLOCK], "little")
        opened.append((_decrypt(schedule, chunk) ^ chained).to_bytes(len(chunk), "little"))
        before = chunk[-_BLOCK:]
    return b"".join(opened)


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


def _decrypt(key: list[int], blocks: bytes) -> int:
    """All blocks at once (RFC 2268 4): the first words of all in one number, 32 bits apart, and so on.

    A word has 16 bits, so that nothing runs over into the next; block by block it takes twenty times as long.
    """
    count = len(blocks) // _BLOCK
    ones = int.from_bytes(b"\1\0\0\0" * count, "little")
    mask, bias = ones * 0xFFFF, ones * 0x30000  # what is subtracted is less than three words
    low, high = (bytes(key[octet & 63] >> shift & 0xFF for octet in range(256)) for shift in (0, 8))

    def spread(lower: bytes, upper: bytes) -> int:
        words = bytearray(4 * count)
        words[::4], words[1::4] = lower, upper
        return int.from_bytes(words, "little")

    def mixed(word: int, turn: int, at: int, first: int, second: int, third: int) -> int:
        turned = (word >> turn | word << 16 - turn) & mask
        return turned + bias - ones * key[at] - (first & second) - (third & ~first) & mask

    def mashed(word: int, by: int) -> int:
        octets = by.to_bytes(4 * count, "little")[::4]
        return word + bias - spread(octets.translate(low), octets.translate(high)) & mask

    a, b, c, d = (spread(blocks[at::_BLOCK], blocks[at + 1 :: _BLOCK]) for at in range(0, _BLOCK, 2))
    for at in range(60, -1, -4):
        d = mixed(d, 5, at + 3, c, b, a)
        c = mixed(c, 3, at + 2, b, a, d)
        b = mixed(b, 2, at + 1, a, d, c)
        a = mixed(a, 1, at, d, c, b)
        if at in (44, 20):
            d = mashed(d, c)
            c = mashed(c, b)
            b = mashed(b, a)
            a = mashed(a, d)
    opened = bytearray(len(blocks))
    for at, word in zip(range(0, _BLOCK, 2), (a, b, c, d), strict=True):
        octets = word.to_bytes(4 * count, "little")
        opened[at::_BLOCK], opened[at + 1 :: _BLOCK] = octets[::4], octets[1::4]
    return int.from_bytes(opened, "little")
