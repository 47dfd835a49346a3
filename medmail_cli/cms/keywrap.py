"""Key wraps: AES (RFC 3394, 5649), and Triple-DES (RFC 3217) to read old letters."""

import hashlib
import hmac

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap,
    aes_key_wrap_with_padding,
)

from medmail_cli.cms import algorithms

_TRIPLE_DES_VECTOR = bytes.fromhex("4adda22c79e82105")
_OF_SIZE = {size: oid for oid, size in algorithms.KEY_WRAPS.items()}


def wrap_for(key: bytes, least: int = 16) -> tuple[str, int]:
    """The key wrap to write around a content-encryption key, and its own key's octets.

    As strong as the content's cipher, neither more nor less (RFC 8551 2.3), unless ``least`` octets are more.
    Keys of less than 16 octets, which old RC2 has, need the wrap with padding (RFC 5649).
    """
    size = max(len(key), least)
    return (_OF_SIZE[size], size) if len(key) >= 16 else (algorithms.AES256_WRAP_PAD, 32)


def wrap_key(wrap: str, kek: bytes, key: bytes) -> bytes:
    """``key`` wrapped by AES."""
    return (aes_key_wrap if wrap in algorithms.KEY_WRAPS else aes_key_wrap_with_padding)(kek, key)


def kek_size(wrap: str) -> int | None:
    """Octets of the key-encryption key that a key wrap's identifier wants; None for one we do not know."""
    if wrap == algorithms.TRIPLE_DES_WRAP:
        return 24
    return algorithms.KEY_WRAPS.get(wrap) or algorithms.PADDED_KEY_WRAPS.get(wrap)


def unwrap_key(wrap: str, kek: bytes, wrapped: bytes) -> bytes:
    """The key inside. Raises InvalidUnwrap where the wrap's own check fails."""
    if wrap == algorithms.TRIPLE_DES_WRAP:
        return _triple_des(kek, wrapped)
    return (aes_key_unwrap if wrap in algorithms.KEY_WRAPS else aes_key_unwrap_with_padding)(kek, wrapped)


def _triple_des(kek: bytes, wrapped: bytes) -> bytes:
    """RFC 3217 3.2."""
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    if len(wrapped) != 40:
        raise InvalidUnwrap
    inner = Cipher(TripleDES(kek), CBC(_TRIPLE_DES_VECTOR)).decryptor().update(wrapped)[::-1]
    opened = Cipher(TripleDES(kek), CBC(inner[:8])).decryptor().update(inner[8:])
    key, check = opened[:24], opened[24:]
    if not hmac.compare_digest(hashlib.sha1(key, usedforsecurity=False).digest()[:8], check):
        raise InvalidUnwrap
    return key
