"""Which keys a backup holds, or their owner has refused one for: ``backups.json`` beside the identities.

Names of key pairs (SHA-256 of the SubjectPublicKeyInfo), nothing secret. Losing the file costs a question.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from medmail_cli.store import files
from medmail_cli.store.keys.identity import Identity

_NAME = "backups.json"
Answer = Literal["backed-up", "refused"]


def record(folder: Path, keys: Iterable[str], answer: Answer) -> None:
    """Write down that a backup holds these keys, or that none is wanted. Raises ``disk-full`` …"""
    with files.lock(folder / "lock"):
        known = _read(folder) | dict.fromkeys(keys, answer)
        files.write_atomic(folder / _NAME, json.dumps(known, indent=1).encode())


def missing(folder: Path, identities: Sequence[Identity]) -> tuple[Identity, ...]:
    """The identities in use whose letters nobody could open any more if this keystore were lost."""
    known = _read(folder)
    return tuple(
        identity
        for identity in identities
        if identity.state == "active" and identity.purpose != "sign" and identity.key_sha256 not in known
    )


def _read(folder: Path) -> dict[str, str]:
    try:
        recorded = json.loads((folder / _NAME).read_bytes())
    except (OSError, ValueError):  # never written, or no use any more
        return {}
    return {str(key): str(value) for key, value in recorded.items()} if isinstance(recorded, dict) else {}
