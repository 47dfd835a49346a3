"""Long fuzzing, outside CI (``make soak``): letters changed at random never crash, hang, or lie."""

import contextlib
import random
import sys
import time

import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509.bundle import read_bundle
from tests.support.letters import authority, codes, encrypt, letter, opened, person, sealed, sign

MINUTES = 5
SLOWEST = 1.0
"""Seconds of processor time that one letter may take."""


def changed(data: bytes, chance: random.Random) -> bytes:
    """The octets with a few of them flipped, cut out, doubled or moved."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at, to = sorted(chance.randrange(len(made)) for _ in range(2))
        match chance.randrange(4):
            case 0:
                made[at] ^= 1 << chance.randrange(8)
            case 1 if to - at < len(made) // 2:
                del made[at:to]
            case 2:
                made[at:at] = made[at : min(to, at + 200)]
            case _:
                made[at] = chance.randrange(256)
        if not made:
            made = bytearray(b"\n")
    return bytes(made)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_letters_changed_at_random(seed: int) -> None:
    chance = random.Random(seed)
    samples = [
        sealed(),
        sealed(cipher="aes-256-cbc"),
        sealed(signature="detached"),
        sign(b"Content-Type: text/plain\r\n\r\nHello\r\n", detached=True),
        encrypt(sign(b"Content-Type: text/plain\r\n\r\nHello\r\n")),
    ]
    texts = {opened(sample).verdict.text for sample in samples} | {letter().body}
    ends = time.monotonic() + MINUTES * 60 / 4
    tried, slowest = 0, 0.0
    while time.monotonic() < ends:
        raw = changed(chance.choice(samples), chance)
        begun = time.process_time()
        result = opened(raw)
        slowest = max(slowest, time.process_time() - begun)
        tried += 1
        assert not result.verdict.trusted or result.verdict.text in texts, raw
        assert result.verdict.trusted or codes(result), raw
    sys.stderr.write(f"{tried} letters, slowest {slowest * 1000:.0f} ms\n")
    assert slowest < SLOWEST


@pytest.mark.soak
def test_certificates_changed_at_random() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    chance = random.Random(0)
    samples = [
        one.public_bytes(Encoding.DER)
        for one in (authority("Health Root").certificate, person("alice").certificate)
    ]
    ends = time.monotonic() + MINUTES * 60 / 4
    while time.monotonic() < ends:
        raw = changed(chance.choice(samples), chance)
        with contextlib.suppress(MedmailError):  # whatever else is raised fails the test
            read_bundle(raw, "fuzzed")
