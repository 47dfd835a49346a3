"""The certificates of one's own that their authority has revoked: ``revoked.json`` beside the identities.

A checked document (see :mod:`medmail_cli.store.keys.seal`) of SHA-256 digests. A folder of an identity never
changes, so this stands beside it; the identity retires: it opens old mail and signs nothing more.
"""

from pathlib import Path

from medmail_cli.errors import MedmailError
from medmail_cli.store import files
from medmail_cli.store.keys import seal

REVOKED = "revoked.json"


def revoked(folder: Path) -> frozenset[str]:
    """The digests. Raises ``store-damaged``."""
    path = folder / REVOKED
    try:
        return frozenset(seal.read_document(path.read_bytes())["certificates"])
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError):
        raise MedmailError("store-damaged", path=str(path)) from None


def add_revoked(folder: Path, sha256: str) -> None:
    """Write down that a certificate is revoked. Raises ``disk-full``, ``not-writable`` …"""
    with files.lock(folder / "lock"):
        known = sorted(revoked(folder) | {sha256})
        files.write_atomic(folder / REVOKED, seal.document({"certificates": known}))
