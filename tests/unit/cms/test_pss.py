"""PSS with SHAKE, which cryptography has not; Bouncy Castle's is read in tests/interop (RFC 8702)."""

import hashlib
import secrets
import time

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa

from medmail_cli.cms import algorithms, ber, der, pss
from medmail_cli.cms.pss import Pss
from medmail_cli.errors import MedmailError
from tests.support.people import LETTER, person

KEY = person("rsa2048").private
SCHEMES = [
    Pss("shake128", "shake128", 32),
    Pss("shake256", "shake256", 64),
    Pss("sha256", "shake128", 32),
    Pss("sha512", "shake256", 0),
    Pss("shake256", "sha256", 64),
    Pss("sha256", "shake256", 222),
]


def hashed(name: str, octets: bytes) -> bytes:
    if name.startswith("shake"):
        return hashlib.new(name.replace("shake", "shake_"), octets).digest(32 if name == "shake128" else 64)  # type: ignore[call-arg]
    return hashlib.new(name, octets).digest()


def mask(name: str, seed: bytes, size: int) -> bytes:
    if name.startswith("shake"):
        return hashlib.new(name.replace("shake", "shake_"), seed).digest(size)  # type: ignore[call-arg]
    return b"".join(hashed(name, seed + at.to_bytes(4, "big")) for at in range(size))[:size]


def sign(message: bytes, scheme: Pss, *, first: int = 1, trailer: int = 0xBC) -> bytes:
    """RSASSA-PSS-SIGN (RFC 8017 8.1.1) for a modulus of 2,048 bits."""
    assert isinstance(KEY, rsa.RSAPrivateKey)
    salt = secrets.token_bytes(scheme.salt_length)
    found = hashed(scheme.digest, bytes(8) + hashed(scheme.digest, message) + salt)
    size = 256 - len(found) - 1
    block = (bytes([first]) + salt).rjust(size, b"\0")
    masked = bytes(a ^ b for a, b in zip(block, mask(scheme.mgf_digest, found, size), strict=True))
    encoded = bytes([masked[0] & 0x7F]) + masked[1:] + found + bytes([trailer])
    numbers = KEY.private_numbers()
    raised = pow(int.from_bytes(encoded, "big"), numbers.d, numbers.public_numbers.n)
    return raised.to_bytes(256, "big")


def holds(signature: bytes, scheme: Pss, message: bytes = LETTER) -> bool:
    assert isinstance(KEY, rsa.RSAPrivateKey)
    try:
        return pss.verify(KEY.public_key(), signature, message, scheme)
    except InvalidSignature:
        return False


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_what_was_signed_holds_and_nothing_else(scheme: Pss) -> None:
    signature = sign(LETTER, scheme)
    assert holds(signature, scheme)
    assert not holds(signature, scheme, LETTER + b"!")
    for other in {*SCHEMES, Pss(scheme.digest, scheme.mgf_digest, scheme.salt_length + 1)} - {scheme}:
        assert not holds(signature, other)
    for at in range(0, 256, 5):
        assert not holds(signature[:at] + bytes([signature[at] ^ 4]) + signature[at + 1 :], scheme)
    assert not holds(sign(LETTER, scheme, first=2), scheme)
    assert not holds(sign(LETTER, scheme, trailer=0xCC), scheme)
    for wrong in (b"", bytes(256), b"\xff" * 256, signature[:-1], b"\0" + signature):
        assert not holds(wrong, scheme)


def test_a_salt_longer_than_the_key_holds_nothing() -> None:
    assert not holds(sign(LETTER, SCHEMES[0]), Pss("shake128", "shake128", 1024))


def test_an_exponent_made_to_keep_us_busy_is_not_used() -> None:
    assert isinstance(KEY, rsa.RSAPrivateKey)
    modulus = KEY.public_key().public_numbers().n
    key = rsa.RSAPublicNumbers((1 << 2046) + 1, modulus).public_key()
    assert not pss.verify(key, sign(LETTER, SCHEMES[0]), LETTER, SCHEMES[0])


def test_a_modulus_made_to_keep_us_busy_is_not_used() -> None:
    """A stranger's key of 50,000 octets: seconds for each signature."""
    modulus = (1 << 400_000) - 1
    key = rsa.RSAPublicNumbers((1 << 63) + 1, modulus).public_key()
    started = time.process_time()
    assert not pss.verify(key, b"\x55" * 50_000, LETTER, SCHEMES[0])
    assert time.process_time() - started < 1


def test_parameters_that_name_shake() -> None:
    """RFC 8702 3.2.1: as the mask itself, never inside of MGF1."""
    digest = der.tlv(0xA0, algorithms.identifier(algorithms.DIGESTS["sha256"]))
    shake = algorithms.identifier(algorithms.DIGESTS["shake128"])
    read = pss.read(ber.parse(der.sequence(digest, der.tlv(0xA1, shake))))
    assert read == Pss("sha256", "shake128", 20)
    assert pss.of(algorithms.read(ber.parse(algorithms.identifier("1.3.6.1.5.5.7.6.31")))) == SCHEMES[1]
    inside = der.tlv(0xA1, algorithms.identifier(algorithms.MGF1, shake))
    with pytest.raises(MedmailError, match="unsupported-algorithm"):
        pss.read(ber.parse(der.sequence(digest, inside)))
