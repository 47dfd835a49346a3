"""OAEP of our own against cryptography's; with SHA-3 OpenSSL is the peer (tests/interop)."""

import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from medmail_cli.cms import algorithms, oaep
from medmail_cli.model import Oaep
from tests.support.people import person

pytestmark = pytest.mark.thorough

KEY = person("rsa2048").private
DIGESTS = ("sha1", "sha224", "sha256", "sha512")


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(DIGESTS), st.sampled_from(DIGESTS), st.binary(max_size=30), st.binary(max_size=64))
def test_opens_what_cryptography_wraps(digest: str, mgf: str, label: bytes, key: bytes) -> None:
    assert isinstance(KEY, rsa.RSAPrivateKey)
    scheme = padding.OAEP(padding.MGF1(algorithms.hash_of(mgf)), algorithms.hash_of(digest), label or None)
    wrapped = KEY.public_key().encrypt(key, scheme)
    assert oaep.decrypt(KEY, wrapped, Oaep(digest, mgf, label)) == key
    assert KEY.decrypt(oaep.encrypt(KEY.public_key(), key, Oaep(digest, mgf, label)), scheme) == key
    for wrong in (Oaep(digest, mgf, label + b"!"), Oaep("sha384", mgf, label), Oaep(digest, "sha384", label)):
        with pytest.raises(ValueError, match="padding"):
            oaep.decrypt(KEY, wrapped, wrong)


def test_what_no_key_can_wrap_is_refused() -> None:
    assert isinstance(KEY, rsa.RSAPrivateKey)
    assert len(oaep.encrypt(KEY.public_key(), bytes(190), Oaep("sha3-256", "sha512-256"))) == 256
    with pytest.raises(ValueError, match="negative"):
        oaep.encrypt(KEY.public_key(), bytes(191), Oaep("sha3-256", "sha512-256"))
    for shake in (Oaep("shake256", "sha256"), Oaep("sha256", "shake128")):
        with pytest.raises(ValueError, match="SHAKE"):
            oaep.encrypt(KEY.public_key(), b"key", shake)
        with pytest.raises(ValueError, match="SHAKE"):
            oaep.decrypt(KEY, bytes(256), shake)


def test_what_is_no_ciphertext_is_refused() -> None:
    assert isinstance(KEY, rsa.RSAPrivateKey)
    modulus = KEY.public_key().public_numbers().n.to_bytes(256, "big")
    scheme = Oaep("sha3-256", "sha3-256")
    for wrong in (b"", bytes(255), bytes(256), bytes(257), modulus, b"\0" + secrets.token_bytes(255)):
        with pytest.raises(ValueError, match=r"padding|ciphertext"):
            oaep.decrypt(KEY, wrong, scheme)
