"""Letters put together at random from signed, encrypted, wrapped and plain parts: what may never happen."""

import random

import pytest

from medmail_cli.smime.policy import Policy
from tests.support.letters import OUTER, codes, encrypt, opened, sign

pytestmark = pytest.mark.thorough

Words = list[tuple[str, tuple[str, ...]]]
"""Every word that stands somewhere in a letter, and what it stands in, outermost first."""


def within(words: Words, what: str) -> Words:
    return [(word, (what, *around)) for word, around in words]


def grown(chance: random.Random, depth: int) -> tuple[bytes, Words]:
    """An entity with parts at random, every text one word of its own."""
    kind = chance.choices(["text", "multipart", "signed", "encrypted", "rfc822"], [2, 3, 4, 2, 1])[0]
    if depth == 0 or kind == "text":
        word = f"word{chance.getrandbits(64):x}"
        file = chance.choice([b"", b"", b"Content-Disposition: attachment; filename=a.txt\r\n"])
        return b"Content-Type: text/plain\r\n" + file + b"\r\n" + word.encode(), [(word, ())]
    if kind == "multipart":
        return several(chance, depth)
    inner, words = grown(chance, depth - 1)
    if kind == "signed":
        who = chance.choice(["alice", "alice", "carol"])
        return sign(inner, who, detached=chance.random() < 0.5), within(words, who)
    if kind == "encrypted":
        cipher = chance.choice(["aes-256-gcm", "aes-256-cbc"])
        return encrypt(inner, cipher=cipher), within(words, "encrypted")
    author = chance.choice([b"alice", b"carol"])
    head = b"Content-Type: message/rfc822\r\n\r\nFrom: %b@medecin.test\r\nSubject: x\r\n" % author
    return head + inner, within(words, "rfc822")


def several(chance: random.Random, depth: int) -> tuple[bytes, Words]:
    """A multipart of one to three parts and perhaps an empty one."""
    parts = [grown(chance, depth - 1) for _ in range(chance.choice([1, 1, 2, 3]))]
    words = [word for _, found in parts for word in found]
    empty = [b"\r\n \r\n"] if chance.random() < 0.2 else []
    mark = b"--%x" % chance.getrandbits(64)
    kind = chance.choice([b"mixed", b"mixed", b"alternative", b"related", b"digest"])
    head = b"Content-Type: multipart/" + kind + b"; boundary=" + mark[2:] + b"\r\n\r\n"
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in [*(part for part, _ in parts), *empty])
    return head + body + mark + b"--\r\n", within(words, "alone" if len(parts) == 1 else "several")


@pytest.mark.parametrize("seed", range(8))
def test_nothing_unsigned_is_trusted_and_no_piece_is_decrypted(seed: int) -> None:
    chance = random.Random(seed)
    trusted = 0
    for _ in range(100):
        raw, words = grown(chance, 5)
        result = opened(OUTER + raw, policy=Policy(show_unverified=chance.random() < 0.3))
        verdict = result.verdict
        trusted += verdict.trusted
        assert verdict.trusted == (not codes(result))
        released = (verdict.text or "").encode() + b"".join(result.parts)
        for word, around in words:
            if word.encode() not in released:
                continue
            # the letter is From Alice: what is shown as hers she signed, at one depth or another
            assert not verdict.trusted or "alice" in around, around
            # decrypted is only what is the whole of everything around it
            sealed = len(around) - around[::-1].index("encrypted") - 1 if "encrypted" in around else 0
            assert not {"several", "rfc822"} & set(around[:sealed]), around
    assert trusted > 5
