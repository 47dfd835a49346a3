"""RSASSA-PSS over SHAKE: what is encoded by the book verifies, and nothing that departs from it."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from medmail_cli.cms import pss

KEYS = [
    rsa.generate_private_key(65537, bits) for bits in (2048, 2049)
]  # the encoded message is an octet shorter
SIZES = {"shake128": 32, "shake256": 64}
MESSAGE = b"Bonjour"


def signature(
    key: rsa.RSAPrivateKey,
    name: str,
    *,
    salt: bytes | None = None,
    separator: int = 1,
    padding: int = 0,
    trailer: int = 0xBC,
) -> bytes:
    """RFC 8017 9.1.1 by hand, with the faults asked for; the private operation is textbook RSA."""
    xof = hashlib.shake_128 if name == "shake128" else hashlib.shake_256
    size, numbers = SIZES[name], key.private_numbers()
    modulus = numbers.public_numbers.n
    bits = modulus.bit_length() - 1
    length = (bits + 7) // 8
    salt = b"s" * size if salt is None else salt
    hashed = xof(bytes(8) + xof(MESSAGE).digest(size) + salt).digest(size)
    block = bytes([padding] * (length - len(salt) - size - 2)) + bytes([separator]) + salt
    mask = xof(hashed).digest(len(block))
    masked = int.from_bytes(block, "big") ^ int.from_bytes(mask, "big")
    masked &= (1 << bits - 8 * (size + 1)) - 1
    encoded = (masked << 8 * (size + 1)) | int.from_bytes(hashed + bytes([trailer]), "big")
    return pow(encoded, numbers.d, modulus).to_bytes((key.key_size + 7) // 8, "big")


def verifies(key: rsa.RSAPublicKey, octets: bytes, message: bytes, name: str) -> bool:
    return pss.verify(key, octets, message, pss.Pss(name, name, SIZES[name]))


@pytest.mark.parametrize("key", KEYS, ids=["2048", "2049"])
@pytest.mark.parametrize("name", SIZES)
def test_only_the_one_encoding_verifies(key: rsa.RSAPrivateKey, name: str) -> None:
    public, good = key.public_key(), signature(key, name)
    assert verifies(public, good, MESSAGE, name)
    other = "shake256" if name == "shake128" else "shake128"
    assert not verifies(public, good, MESSAGE, other)
    assert not verifies(public, good, MESSAGE + b"!", name)
    size = SIZES[name]
    faults: list[dict[str, int | bytes]] = [
        {"salt": b"s" * (size - 1)}, {"salt": b"s" * (size + 1)}, {"salt": b""},
        {"separator": 2}, {"separator": 0}, {"padding": 1}, {"trailer": 0xCC},
    ]  # fmt: skip
    for fault in faults:
        assert not verifies(public, signature(key, name, **fault), MESSAGE, name), fault  # type: ignore[arg-type]
    for place in range(0, len(good), 7):
        changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        assert not verifies(public, changed, MESSAGE, name)
    again = int.from_bytes(good, "big") + public.public_numbers().n
    for wrong in (b"", good[:-1], b"\0" + good, again.to_bytes(len(good) + 1, "big")):
        assert not verifies(public, wrong, MESSAGE, name)


def test_a_key_too_short_for_the_salt_verifies_nothing() -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - too short for this, and to be trusted
    assert not verifies(key.public_key(), bytes(128), MESSAGE, "shake256")
