"""RSASSA-PSS over SHAKE (RFC 8702 3.2.1), whose mask is SHAKE itself: cryptography has no such thing."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

_SIZES = {"shake128": 32, "shake256": 64}
"""Octets of the digest, and of the salt."""


def verifies(key: "rsa.RSAPublicKey", signature: bytes, message: bytes, name: str) -> bool:
    """RSASSA-PSS-VERIFY (RFC 8017 8.1.2, 9.1.2) with the SHAKE of that name; nothing here is secret."""
    numbers, size = key.public_numbers(), _SIZES[name]
    bits = numbers.n.bit_length() - 1
    length, number = (bits + 7) // 8, int.from_bytes(signature, "big")
    if len(signature) != (key.key_size + 7) // 8 or number >= numbers.n or length < 2 * size + 2:
        return False
    encoded = pow(number, numbers.e, numbers.n)
    if encoded >> bits:
        return False
    octets = encoded.to_bytes(length, "big")
    masked, hashed, trailer = octets[: -size - 1], octets[-size - 1 : -1], octets[-1]
    mask = int.from_bytes(_shake(name, hashed, len(masked)), "big")
    block = (int.from_bytes(masked, "big") ^ mask) & ((1 << bits - 8 * (size + 1)) - 1)
    marker, salt = block >> 8 * size, (block & ((1 << 8 * size) - 1)).to_bytes(size, "big")
    again = _shake(name, bytes(8) + _shake(name, message, size) + salt, size)
    return (trailer, marker, again) == (0xBC, 1, hashed)


def _shake(name: str, octets: bytes, size: int) -> bytes:
    return (hashlib.shake_128 if name == "shake128" else hashlib.shake_256)(octets).digest(size)
