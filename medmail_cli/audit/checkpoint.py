"""Checkpoints: what the log was at a size, signed by the installation's log key.

The formats are C2SP's: signed-note (https://c2sp.org/signed-note) around tlog-checkpoint
(https://c2sp.org/tlog-checkpoint), with Ed25519 (signature type 0x01), so that witnesses and other tools
for transparency logs read them. Parsing is strict: exactly one spelling of a note is accepted, so that no
byte of one can change unnoticed.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from medmail_cli.audit.tree import HASH_SIZE
from medmail_cli.errors import MedmailError

_ED25519 = b"\x01"
_KEY_ID_SIZE = 4
_DASH = "— "
_SIZE_LIMIT = 1 << 20  # a note with every witness of the world is smaller
_NAME = re.compile(r"[^\s+]+")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """A log's name, how many entries it holds, and the root (32 bytes) of its tree."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True)
class LogVerifier:
    """The public half of a log key, under the log's name."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_KEY_ID_SIZE]

    def vkey(self) -> str:
        """The verifier key in one line: ``name+hex(key ID)+base64(0x01 ‖ public key)``."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"


@dataclass(frozen=True)
class LogSigner:
    """A log key, under the log's name; the private half is a 32-byte Ed25519 seed."""

    name: str
    seed: bytes = field(repr=False)

    @property
    def verifier(self) -> LogVerifier:
        """The public half."""
        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        return LogVerifier(self.name, key.public_key().public_bytes_raw())

    def skey(self) -> str:
        """The signer key in one line, as Go's note tools write it: ``PRIVATE+KEY+name+key ID+seed``."""
        key_id = self.verifier.key_id.hex()
        return f"PRIVATE+KEY+{self.name}+{key_id}+{base64.b64encode(_ED25519 + self.seed).decode()}"


def new_signer(name: str) -> LogSigner:
    """A fresh log key. Raises ValueError where ``name`` is empty or has a space or a plus in it."""
    if not _NAME.fullmatch(name):
        raise ValueError("a log's name has neither spaces nor plus signs")
    return LogSigner(name, Ed25519PrivateKey.generate().private_bytes_raw())


def parse_vkey(text: str) -> LogVerifier:
    """Read a verifier key line. Raises ``malformed``, also where the key ID is not the key's."""
    name, public = _parse_key(text.removesuffix("\n"))
    verifier = LogVerifier(name, public)
    if verifier.vkey() != text.removesuffix("\n"):
        raise MedmailError("malformed", what="verifier key")
    return verifier


def parse_skey(text: str) -> LogSigner:
    """Read a signer key line. Raises ``malformed``, also where the key ID is not the key's."""
    line = text.removesuffix("\n")
    prefix = "PRIVATE+KEY+"
    if not line.startswith(prefix):
        raise MedmailError("malformed", what="log key")
    signer = LogSigner(*_parse_key(line.removeprefix(prefix)))
    if signer.skey() != line:
        raise MedmailError("malformed", what="log key")
    return signer


def _parse_key(line: str) -> tuple[str, bytes]:
    name, _, rest = line.partition("+")
    _, _, encoded = rest.partition("+")
    key = _decode(encoded, "log key")
    if not _NAME.fullmatch(name) or len(key) != 1 + HASH_SIZE or key[:1] != _ED25519:
        raise MedmailError("malformed", what="log key")
    return name, key[1:]


def sign(checkpoint: Checkpoint, signer: LogSigner) -> bytes:
    """The checkpoint as a signed note, with one signature line."""
    text = f"{checkpoint.origin}\n{checkpoint.size}\n{base64.b64encode(checkpoint.root).decode()}\n"
    signature = Ed25519PrivateKey.from_private_bytes(signer.seed).sign(text.encode())
    line = base64.b64encode(signer.verifier.key_id + signature).decode()
    return f"{text}\n{_DASH}{signer.name} {line}\n".encode()


def parse(note: bytes) -> Checkpoint:
    """Read a signed checkpoint without judging its signatures. Raises ``malformed``."""
    return _parse(note)[0]


def verify(note: bytes, verifier: LogVerifier) -> Checkpoint:
    """Read a checkpoint and check that ``verifier``'s key signed it.

    Signatures of others (witnesses) are ignored. Raises ``malformed``, ``other-log`` where this key has
    not signed it, and ``bad-signature`` where a signature under its name and ID is not its own.
    """
    checkpoint, text, signatures = _parse(note)
    ours = [value for name, key_id, value in signatures if (name, key_id) == (verifier.name, verifier.key_id)]
    if not ours:
        raise MedmailError("other-log", origin=checkpoint.origin)
    public = Ed25519PublicKey.from_public_bytes(verifier.public)
    for value in ours:
        try:
            public.verify(value, text)
        except InvalidSignature:
            raise MedmailError("bad-signature", what="checkpoint") from None
    return checkpoint


def _parse(note: bytes) -> tuple[Checkpoint, bytes, list[tuple[str, bytes, bytes]]]:
    malformed = MedmailError("malformed", what="checkpoint")
    if len(note) > _SIZE_LIMIT:
        raise malformed
    try:
        decoded = note.decode()
    except UnicodeDecodeError:
        raise malformed from None
    text, blank, tail = decoded.rpartition("\n\n")
    if not blank or not tail.endswith("\n") or any(ord(c) < 0x20 and c != "\n" for c in decoded):
        raise malformed
    lines = text.split("\n")
    if len(lines) < 3 or not all(lines) or not _NUMBER.fullmatch(lines[1]):
        raise malformed
    root = _decode(lines[2], "checkpoint")
    if len(root) != HASH_SIZE:
        raise malformed
    signatures = []
    for line in tail[:-1].split("\n"):
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        signature = _decode(encoded, "checkpoint")
        if not line.startswith(_DASH) or not space or not _NAME.fullmatch(name):
            raise malformed
        if len(signature) <= _KEY_ID_SIZE:
            raise malformed
        signatures.append((name, signature[:_KEY_ID_SIZE], signature[_KEY_ID_SIZE:]))
    return Checkpoint(lines[0], int(lines[1]), root), (text + "\n").encode(), signatures


def _decode(encoded: str, what: str) -> bytes:
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise MedmailError("malformed", what=what) from None
    # base64 has several spellings of one value; a note has one
    if base64.b64encode(decoded).decode() != encoded:
        raise MedmailError("malformed", what=what)
    return decoded
