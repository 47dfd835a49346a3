"""Sealing at rest: a passphrase wraps a key, a key seals bytes, a checksum tells damage from a wrong secret.

- *Passphrase to key*: Argon2id (RFC 9106), by default its second recommended parameters (64 MiB, three
  passes, four lanes), a random salt of 16 bytes; parameters and salt stand beside what they protect. The
  passphrase is taken in Unicode form NFC if it is UTF-8, so that one typed on another system is the same.
- *Sealing*: AES-256-GCM with a random nonce of 12 bytes; what names the sealed thing is associated data.
- *Subkeys*: HKDF-SHA-256 (RFC 5869) of a 32-byte key, without salt, a label as info.
- *Checked files*: a body, then one line ``sha256 HEX`` over it. A flipped byte is thus told from a wrong
  passphrase; the seal, not the checksum, keeps out those who mean harm.
"""

import base64
import contextlib
import hashlib
import json
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_SIZE = 32
_SALT_SIZE, _NONCE_SIZE = 16, 12
_MOST_MEMORY = 2 * 1024 * 1024
"""KiB: RFC 9106's first recommendation (§4)."""
_MOST_WORK = 4 * 1024 * 1024
"""KiB of memory times passes: some seconds, twenty times what is written here."""
_MOST_LANES = 64
_TRAILER = b"\nsha256 "
_TRAILER_SIZE = len(_TRAILER) + 64 + 1


@dataclass(frozen=True)
class Cost:
    """Argon2id's parameters: KiB of memory, passes, lanes; by default RFC 9106's second recommendation."""

    memory: int = 64 * 1024
    passes: int = 3
    lanes: int = 4


def new_key() -> bytes:
    """A random key of 32 bytes."""
    return os.urandom(KEY_SIZE)


def subkey(key: bytes, label: str) -> bytes:
    """A key of 32 bytes for one use, by HKDF-SHA-256."""
    return HKDF(SHA256(), KEY_SIZE, salt=None, info=label.encode()).derive(key)


def wrap(passphrase: bytes, secret: bytes, bound: bytes, cost: Cost) -> dict[str, Any]:
    """``secret`` under a passphrase, as JSON holds it; ``bound`` is what it is bound to."""
    salt = os.urandom(_SALT_SIZE)
    kdf = {
        "name": "argon2id",
        "memory-kib": cost.memory,
        "passes": cost.passes,
        "lanes": cost.lanes,
        "salt": encode(salt),
    }
    key = _derive(passphrase, salt, cost)
    return {"kdf": kdf, "sealed": seal(key, secret, canonical(kdf) + bound)}


def unwrap(passphrase: bytes, wrapped: Mapping[str, Any], bound: bytes) -> bytes | None:
    """What :func:`wrap` wrapped, None if the passphrase is another. Raises ValueError where malformed."""
    kdf = wrapped.get("kdf")
    if not isinstance(kdf, dict) or kdf.get("name") != "argon2id":
        raise ValueError("kdf")
    memory, passes, lanes = (kdf.get(name) for name in ("memory-kib", "passes", "lanes"))
    if not (isinstance(memory, int) and isinstance(passes, int) and isinstance(lanes, int)):
        raise ValueError("kdf")  # noqa: TRY004 - one exception for whatever is malformed
    salt = decode(kdf.get("salt"))
    if not (0 < memory <= _MOST_MEMORY and 0 < passes <= _MOST_WORK // memory and 0 < lanes <= _MOST_LANES):
        raise ValueError("kdf")
    if not 8 <= len(salt) <= 64:  # RFC 9106 §3.1 has no shorter ones
        raise ValueError("kdf")
    key = _derive(passphrase, salt, Cost(memory, passes, lanes))
    return unseal(key, wrapped.get("sealed"), canonical(kdf) + bound)


def _derive(passphrase: bytes, salt: bytes, cost: Cost) -> bytes:
    with contextlib.suppress(UnicodeDecodeError):  # what is not text is taken as it is
        passphrase = unicodedata.normalize("NFC", passphrase.decode()).encode()
    return Argon2id(
        salt=salt, length=KEY_SIZE, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory
    ).derive(passphrase)


def seal(key: bytes, plain: bytes, bound: bytes) -> dict[str, str]:
    """AES-256-GCM as JSON holds it: nonce, and ciphertext with its tag."""
    nonce = os.urandom(_NONCE_SIZE)
    return {"nonce": encode(nonce), "data": encode(AESGCM(key).encrypt(nonce, plain, bound))}


def unseal(key: bytes, sealed: object, bound: bytes) -> bytes | None:
    """What :func:`seal` sealed, None if key, binding or bytes differ. Raises ValueError where malformed."""
    if not isinstance(sealed, dict):
        raise ValueError("sealed")  # noqa: TRY004 - one exception for whatever is malformed
    nonce, data = decode(sealed.get("nonce")), decode(sealed.get("data"))
    if len(nonce) != _NONCE_SIZE:
        raise ValueError("nonce")
    try:
        return AESGCM(key).decrypt(nonce, data, bound)
    except InvalidTag:
        return None


def sealed_line(key: bytes, plain: bytes, bound: bytes) -> str:
    """As :func:`seal`, as one word: nonce and ciphertext together in Base64."""
    nonce = os.urandom(_NONCE_SIZE)
    return encode(nonce + AESGCM(key).encrypt(nonce, plain, bound))


def opened_line(key: bytes, line: object, bound: bytes) -> bytes | None:
    """What :func:`sealed_line` sealed, None if key, binding or bytes differ. Raises ValueError."""
    data = decode(line)
    try:
        return AESGCM(key).decrypt(data[:_NONCE_SIZE], data[_NONCE_SIZE:], bound)
    except InvalidTag:
        return None


def checked(body: bytes) -> bytes:
    """A body with its checksum line."""
    return body + _TRAILER + hashlib.sha256(body).hexdigest().encode() + b"\n"


def unchecked(data: bytes) -> bytes:
    """The body of :func:`checked`. Raises ValueError where a byte of it or of its checksum has changed."""
    body = data[:-_TRAILER_SIZE]
    if len(data) < _TRAILER_SIZE or checked(body) != data:
        raise ValueError("checksum")
    return body


def document(values: Mapping[str, Any]) -> bytes:
    """JSON values as a checked file."""
    return checked(json.dumps(values, indent=1, ensure_ascii=False).encode())


def read_document(data: bytes) -> dict[str, Any]:
    """The values of :func:`document`. Raises ValueError."""
    try:
        values = json.loads(unchecked(data))
    except RecursionError:
        raise ValueError("document") from None
    if not isinstance(values, dict):
        raise ValueError("document")  # noqa: TRY004 - one exception for whatever is malformed
    return values


def canonical(values: Mapping[str, Any]) -> bytes:
    """The one byte string of JSON values that seals are bound to: sorted keys, no spaces, UTF-8."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def encode(data: bytes) -> str:
    """Base64, as JSON holds bytes."""
    return base64.b64encode(data).decode()


def decode(text: object) -> bytes:
    """Bytes of :func:`encode`. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("base64")  # noqa: TRY004 - one exception for whatever is malformed
    return base64.b64decode(text, validate=True)
