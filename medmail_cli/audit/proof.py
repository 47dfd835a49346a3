"""Proofs that an entry is in the log, to be checked by anyone who trusts the log's public key.

The format is C2SP's tlog-proof (https://c2sp.org/tlog-proof); the entry itself travels in its ``extra``
line, and its leaf hash is SHA-256(0x00 ‖ entry line without its newline).
"""

import base64
import binascii
import re
from dataclasses import dataclass

from medmail_cli.audit import checkpoint as checkpoints
from medmail_cli.audit.tree import HASH_SIZE, leaf_hash, verify_inclusion
from medmail_cli.errors import MedmailError

_HEADER = "c2sp.org/tlog-proof@v1"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_PATH_LIMIT = 64
_SIZE_LIMIT = 1 << 21


@dataclass(frozen=True)
class Proof:
    """An entry's line (no newline), its index, its Merkle path (32-byte hashes), a signed checkpoint."""

    line: bytes
    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes


def encode(proof: Proof) -> bytes:
    """The proof as a tlog-proof file."""
    lines = [
        _HEADER,
        f"extra {base64.b64encode(proof.line).decode()}",
        f"index {proof.index}",
        *(base64.b64encode(node).decode() for node in proof.path),
        "",
        "",
    ]
    return "\n".join(lines).encode() + proof.checkpoint


def parse(data: bytes) -> Proof:
    """Read a tlog-proof file that carries its entry. Raises ``malformed``."""
    malformed = MedmailError("malformed", what="proof")
    if len(data) > _SIZE_LIMIT:
        raise malformed
    head, blank, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
        if not blank or len(lines) < 3 or lines[0] != _HEADER:
            raise malformed
        extra, index = lines[1].removeprefix("extra "), lines[2].removeprefix("index ")
        if extra == lines[1] or index == lines[2] or not _NUMBER.fullmatch(index):
            raise malformed
        line = base64.b64decode(extra, validate=True)
        path = tuple(base64.b64decode(node, validate=True) for node in lines[3:])
    except (UnicodeDecodeError, binascii.Error, ValueError):
        raise malformed from None
    if len(path) > _PATH_LIMIT or any(len(node) != HASH_SIZE for node in path):
        raise malformed
    return Proof(line, int(index), path, note)


def verify(proof: Proof, verifier: checkpoints.LogVerifier) -> checkpoints.Checkpoint:
    """Check a proof against the log's public key; the checkpoint that covers the entry.

    Raises what :func:`medmail_cli.audit.checkpoint.verify` raises, and ``bad-signature`` where the path
    does not lead from the entry to the signed root.
    """
    covering = checkpoints.verify(proof.checkpoint, verifier)
    leaf = leaf_hash(proof.line)
    if not verify_inclusion(leaf, proof.index, covering.size, proof.path, covering.root):
        raise MedmailError("bad-signature", what="proof")
    return covering
