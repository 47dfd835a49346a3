"""RSAES-OAEP (RFC 8017 7.1) where cryptography has none: over SHA-3 and others, after a card's bare RSA."""

import hashlib
import hmac
import secrets

from cryptography.hazmat.primitives.asymmetric import rsa

from medmail_cli.model import Oaep


def encrypt(key: rsa.RSAPublicKey, message: bytes, scheme: Oaep) -> bytes:
    """Wrap with digests by our names; ValueError for a message too long and for SHAKE."""
    numbers = key.public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    label = _hash(scheme.digest, scheme.label)
    width = len(label)
    block = label + bytes(size - len(message) - 2 * width - 2) + b"\1" + message
    seed = secrets.token_bytes(width)
    masked = _xor(block, _mask(scheme.mgf_digest, seed, len(block)))
    masked_seed = _xor(seed, _mask(scheme.mgf_digest, masked, width))
    return pow(int.from_bytes(masked_seed + masked, "big"), numbers.e, numbers.n).to_bytes(size, "big")


def decrypt(key: rsa.RSAPrivateKey, ciphertext: bytes, scheme: Oaep) -> bytes:
    """Unwrap with digests by our names.

    The base is blinded, and all checks are made before any is told: ValueError, whatever was wrong,
    and for SHAKE, for which OAEP is not defined.
    """
    numbers = key.private_numbers()
    modulus, exponent = numbers.public_numbers.n, numbers.public_numbers.e
    size = (modulus.bit_length() + 7) // 8
    number = int.from_bytes(ciphertext, "big")
    if len(ciphertext) != size or number >= modulus:
        raise ValueError("ciphertext")
    blind = 2 + secrets.randbelow(modulus - 3)
    blinded = number * pow(blind, exponent, modulus) % modulus
    above = pow(blinded % numbers.p, numbers.dmp1, numbers.p)
    below = pow(blinded % numbers.q, numbers.dmq1, numbers.q)
    raised = below + numbers.iqmp * (above - below) % numbers.p * numbers.q
    return decode((raised * pow(blind, -1, modulus) % modulus).to_bytes(size, "big"), scheme)


def decode(encoded: bytes, scheme: Oaep) -> bytes:
    """EME-OAEP decoding of what bare RSA gave, as long as the modulus; ValueError, whatever was wrong."""
    label = _hash(scheme.digest, scheme.label)
    width = len(label)
    if len(encoded) < 2 * width + 2:
        raise ValueError("ciphertext")
    masked_seed, masked = encoded[1 : 1 + width], encoded[1 + width :]
    seed = _xor(masked_seed, _mask(scheme.mgf_digest, masked, width))
    block = _xor(masked, _mask(scheme.mgf_digest, seed, len(masked)))
    message = block[width:].lstrip(b"\0")
    first = encoded[0] == 0
    same = hmac.compare_digest(block[:width], label)
    marked = message[:1] == b"\1"
    if not first & same & marked:
        raise ValueError("padding")
    return message[1:]


def _hash(name: str, octets: bytes) -> bytes:
    if name.startswith("shake"):
        raise ValueError("OAEP has no use for SHAKE")
    return hashlib.new(name.replace("-", "_"), octets, usedforsecurity=False).digest()


def _mask(name: str, seed: bytes, size: int) -> bytes:
    """MGF1 (RFC 8017 B.2.1)."""
    width = len(_hash(name, b""))
    blocks = range((size + width - 1) // width)
    return b"".join(_hash(name, seed + at.to_bytes(4, "big")) for at in blocks)[:size]


def _xor(octets: bytes, other: bytes) -> bytes:
    return (int.from_bytes(octets, "big") ^ int.from_bytes(other, "big")).to_bytes(len(octets), "big")
