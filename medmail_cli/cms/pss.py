"""RSASSA-PSS (RFC 8017 8.1): its parameters, and verifying where cryptography has none: SHAKE (RFC 8702)."""

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from medmail_cli.cms import algorithms, ber

_LONGEST_MODULUS, _LONGEST_EXPONENT = 16384, 64
"""Bits; longer ones, which OpenSSL does not use either, only serve to keep us busy (RFC 8550 6)."""
_SHAKES = {"shake128": hashlib.shake_128, "shake256": hashlib.shake_256}


@dataclass(frozen=True)
class Pss:
    """RSASSA-PSS's parameters (RFC 8017 9.1): digests by name, octets of salt.

    The mask comes from MGF1 over ``mgf_digest``, or from SHAKE itself where that is named (RFC 8702 3.2.1).
    """

    digest: str
    mgf_digest: str
    salt_length: int


def of(algorithm: algorithms.Algorithm) -> Pss:
    """The parameters of a signature's algorithm, which RFC 8702's identifiers fix."""
    _, shake = algorithms.SIGNATURES.get(algorithm.oid, ("", ""))
    if shake:
        return Pss(shake, shake, algorithms.hash_of(shake).digest_size)
    return read(algorithm.parameters)


def read(parameters: ber.Node | None) -> Pss:
    """RSASSA-PSS-params (RFC 4055 3.1); SHA-1, MGF1 over SHA-1 and 20 octets by default."""
    if parameters is None:
        raise ber.malformed("pss-parameters")
    fields = parameters.fields()
    digest, mgf, salt, trailer = (fields.maybe(tag) for tag in (0x80, 0x81, 0x82, 0x83))
    fields.end()
    salt_length = salt.explicit(0x82).integer() if salt else 20
    if (trailer and trailer.explicit(0x83).integer() != 1) or not 0 <= salt_length <= 1024:
        raise ber.malformed("pss-parameters")
    digest_name = algorithms.digest_name(algorithms.read(digest.explicit(0x80))) if digest else "sha1"
    return Pss(digest_name, _mask_digest(algorithms.read(mgf.explicit(0x81))) if mgf else "sha1", salt_length)


def _mask_digest(generator: algorithms.Algorithm) -> str:
    if generator.oid == algorithms.MGF1 and generator.parameters is not None:
        name = algorithms.digest_name(algorithms.read(generator.parameters))
        if not name.startswith("shake"):
            return name
    for name in _SHAKES:
        if generator.oid == algorithms.DIGESTS[name]:
            return name
    raise algorithms.unsupported(generator.oid)


def verify(key: rsa.RSAPublicKey, signature: bytes, message: bytes, scheme: Pss) -> bool:
    """Whether the signature is over the message. False or cryptography's InvalidSignature say that not."""
    hashed = algorithms.hash_of(scheme.digest)
    if "shake" not in scheme.digest + scheme.mgf_digest:
        mgf = padding.MGF1(algorithms.hash_of(scheme.mgf_digest))
        key.verify(signature, message, padding.PSS(mgf, scheme.salt_length), hashed)
        return True
    numbers = key.public_numbers()
    number, bits = int.from_bytes(signature, "big"), numbers.n.bit_length() - 1
    whole = len(signature) == (bits + 8) // 8 and number < numbers.n
    if not whole or bits >= _LONGEST_MODULUS or numbers.e.bit_length() > _LONGEST_EXPONENT:
        return False
    return _encodes(pow(number, numbers.e, numbers.n), bits, _digest(scheme.digest, message), scheme)


def _encodes(number: int, bits: int, digest: bytes, scheme: Pss) -> bool:
    """EMSA-PSS-VERIFY (RFC 8017 9.1.2)."""
    size, width, salt_length = (bits + 7) // 8, len(digest), scheme.salt_length
    if number.bit_length() > bits or size < width + salt_length + 2 or number & 0xFF != 0xBC:
        return False
    encoded = number.to_bytes(size, "big")
    masked, salted_hash = encoded[: -width - 1], encoded[-width - 1 : -1]
    mask = _mask(scheme.mgf_digest, salted_hash, len(masked))
    block = int.from_bytes(masked, "big") ^ int.from_bytes(mask, "big")
    block &= (1 << bits - 8 * (width + 1)) - 1
    salt = block & (1 << 8 * salt_length) - 1
    if block >> 8 * salt_length != 1:
        return False
    return _digest(scheme.digest, bytes(8) + digest + salt.to_bytes(salt_length, "big")) == salted_hash


def _mask(name: str, seed: bytes, size: int) -> bytes:
    if name in _SHAKES:
        return _SHAKES[name](seed).digest(size)
    width = algorithms.hash_of(name).digest_size
    blocks = range((size + width - 1) // width)
    return b"".join(_digest(name, seed + at.to_bytes(4, "big")) for at in blocks)[:size]


def _digest(name: str, octets: bytes) -> bytes:
    hasher = hashes.Hash(algorithms.hash_of(name))
    hasher.update(octets)
    return hasher.finalize()
