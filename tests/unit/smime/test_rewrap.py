"""What another recipient's entry must not hide: how weakly a letter's key was wrapped when it came."""

import hashlib
import os

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.cms import algorithms, der, identifiers
from medmail_cli.cms.agreement import derive
from medmail_cli.errors import MedmailError
from medmail_cli.smime import rewrap
from medmail_cli.smime.layers import unwrap
from tests.support.letters import OUTER, TEXT, entity, person

AES_192_CBC = "2.16.840.1.101.3.4.1.22"
SCHEME = "1.3.132.1.11.1"
"""dhSinglePass-stdDH-sha256kdf."""


def cbc(cipher: AES | TripleDES, vector: bytes, octets: bytes) -> bytes:
    return Cipher(cipher, CBC(vector)).encryptor().update(octets)


def weakly_wrapped(content: bytes) -> bytes:
    """AES-192 whose key is wrapped by Triple-DES (RFC 3217 3.1) for Bob's elliptic curve key."""
    bob = person("bob")
    public = bob.certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    key, vector = os.urandom(24), os.urandom(16)
    ephemeral = ec.generate_private_key(public.curve)
    wrap = algorithms.identifier(algorithms.TRIPLE_DES_WRAP, der.NULL)
    kek = TripleDES(derive(SCHEME, ephemeral.exchange(ec.ECDH(), public), wrap, 24, None))
    first = os.urandom(8)
    checked = key + hashlib.sha1(key, usedforsecurity=False).digest()[:8]
    inner = (first + cbc(kek, first, checked))[::-1]
    wrapped = cbc(kek, bytes.fromhex("4adda22c79e82105"), inner)
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    originator = der.tlv(0xA1, algorithms.identifier(algorithms.EC_PUBLIC_KEY), der.bit_string(point))
    recipient = der.sequence(identifiers.issuer_and_serial_of(bob.certificate), der.octet_string(wrapped))
    entry = der.tlv(
        0xA1,
        der.integer(3),
        der.tlv(0xA0, originator),
        algorithms.identifier(SCHEME, wrap),
        der.sequence(recipient),
    )
    pad = 16 - len(content) % 16
    sealed = cbc(AES(key), vector, content + bytes([pad]) * pad)
    algorithm = der.sequence(der.oid(AES_192_CBC), der.octet_string(vector))
    inside = der.sequence(der.oid(algorithms.DATA), algorithm, der.octet_string(sealed, 0x80))
    data = der.sequence(der.integer(2), der.set_of([entry]), inside)
    return der.sequence(der.oid(algorithms.ENVELOPED_DATA), der.tlv(0xA0, data))


def test_a_weak_key_wrap_is_not_forgotten() -> None:
    letter = OUTER + entity(weakly_wrapped(TEXT), "enveloped-data")
    bob, heir = person("bob"), person("bob", serial=2, key_type="rsa2048")
    opened = unwrap(letter, [(bob.certificate, bob.key)], allow_weak=True)
    assert opened.failure is None
    assert opened.decrypted is not None
    assert opened.decrypted.weak
    with pytest.raises(MedmailError) as caught:
        rewrap.rewrap(letter, [(bob.certificate, bob.key)], (heir.certificate, heir.key))
    assert caught.value.code == "weak-algorithm"
