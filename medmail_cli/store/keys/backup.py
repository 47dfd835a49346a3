"""The whole keystore in one encrypted file.

A checked document (see :mod:`medmail_cli.store.keys.seal`)::

    {"medmail-backup": 1, "created": …, "kdf": {"name": "argon2id", …}, "sealed": {"nonce": …, "data": …}}

The backup's own passphrase gives a key by Argon2id, that key opens (AES-256-GCM, bound to the other fields)
JSON with the keystore's ``id`` and ``created``, its ``master`` key in Base64, the files of each identity
under ``identities`` in Base64, those that stand beside them under ``beside`` (which certificates are revoked,
accounts at authorities, how far requests have come, the seal over whom one trusts), and under ``checkpoint``
the audit log's last signed one, or null. The key that signs the audit log stays where it is: a restored
keystore begins a new log that cites the checkpoint.
"""

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.store.keys import seal
from medmail_cli.store.keys.identity import CARD, CHAIN, ID, METADATA, REQUEST, of_files
from medmail_cli.store.keys.keystore import is_beside
from medmail_cli.store.keys.seal import Cost
from medmail_cli.store.trust.believed import SEAL, SEAL_LABEL, open_seal

if TYPE_CHECKING:
    from medmail_cli.store.keys.keystore import Keystore
    from medmail_cli.store.keys.unlocked import Unlocked

VERSION = 1
LARGEST = 64 << 20
"""Octets of a backup: tens of thousands of identities."""
_LARGEST_FILE, _LARGEST_SEAL = 1 << 20, 32 << 20
_MOST_IDENTITIES, _MOST_BESIDE = 10_000, 40_000


@dataclass(frozen=True)
class Backup:
    """What a backup holds, opened; ``identities`` are each one's files by name, ``beside`` the others."""

    store_id: str
    created: dt.datetime
    master: bytes = field(repr=False)
    identities: dict[str, dict[str, bytes]] = field(repr=False)
    checkpoint: bytes | None = None
    beside: dict[str, bytes] = field(default_factory=dict, repr=False)


def write_backup(
    store: "Unlocked", passphrase: bytes, checkpoint: bytes | None, now: dt.datetime, cost: Cost | None = None
) -> bytes:
    """The keystore as one encrypted file. Raises ``store-damaged`` rather than save what does not open."""
    header = store.keystore.read_header()
    held = store.identities()
    for identity in held:
        store.opened_seal(identity)
    content = {
        "id": header["id"],
        "created": header["created"],
        "master": seal.encode(store.master_key()),
        "checkpoint": None if checkpoint is None else checkpoint.decode(),
        "identities": {
            identity.id: {name: seal.encode(data) for name, data in identity.files().items()}
            for identity in held
        },
        "beside": {name: seal.encode(data) for name, data in store.keystore.beside().items()},
    }
    outside = {"medmail-backup": VERSION, "created": now.astimezone(dt.UTC).isoformat()}
    wrapped = seal.wrap(passphrase, json.dumps(content).encode(), seal.canonical(outside), cost or Cost())
    return seal.document(outside | wrapped)


def read_backup(data: bytes, path: Path, passphrase: Callable[[], bytes]) -> Backup:
    """Open what :func:`write_backup` wrote, from the file ``path``; ``passphrase`` is asked if it is one.

    Raises ``malformed`` where it is no backup, ``backup-damaged``, ``newer-store`` and
    ``wrong-backup-passphrase``.
    """
    if not data[:64].lstrip().startswith(b"{"):
        raise MedmailError("malformed", what=str(path))
    if len(data) > LARGEST:
        raise MedmailError("backup-damaged", path=str(path))
    try:
        values = seal.read_document(data)
        if "medmail-backup" not in values:
            raise MedmailError("malformed", what=str(path))
        if values["medmail-backup"] != VERSION:
            raise MedmailError("newer-store", path=str(path))
        outside = {name: values[name] for name in ("medmail-backup", "created")}
        plain = seal.unwrap(passphrase(), values, seal.canonical(outside))
        if plain is None:
            raise MedmailError("wrong-backup-passphrase", path=str(path))
        content = json.loads(plain)
        checkpoint = content["checkpoint"]
        saved = Backup(
            content["id"],
            dt.datetime.fromisoformat(content["created"]),
            seal.decode(content["master"]),
            {
                identity_id: {name: seal.decode(file) for name, file in files.items()}
                for identity_id, files in content["identities"].items()
            },
            None if checkpoint is None else checkpoint.encode(),
            {name: seal.decode(file) for name, file in content.get("beside", {}).items()},
        )
        _check(saved)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MedmailError("backup-damaged", path=str(path)) from None
    return saved


def _check(saved: Backup) -> None:
    """Whether names, numbers and sizes are such as are written here. Raises ValueError, TypeError.

    Who made the file, and gives the passphrase along with it, may be anybody: none of it becomes a path
    before it is seen to be one of ours.
    """
    files = [
        *saved.beside.items(),
        *(file for content in saved.identities.values() for file in content.items()),
    ]
    if (
        not re.fullmatch(r"[0-9a-f]{16}", saved.store_id)
        or len(saved.master) != seal.KEY_SIZE
        or saved.created.tzinfo is None
        or len(saved.identities) > _MOST_IDENTITIES
        or len(saved.beside) > _MOST_BESIDE
        or not all(map(ID.fullmatch, saved.identities))
        or not all(
            set(content) in ({METADATA, CHAIN}, {METADATA, REQUEST}) for content in saved.identities.values()
        )
        or not all(map(is_beside, saved.beside))
        or any(len(content) > (_LARGEST_SEAL if name == SEAL else _LARGEST_FILE) for name, content in files)
        or not _seal_opens(saved)
    ):
        raise ValueError("backup")


def _seal_opens(saved: Backup) -> bool:
    from medmail_cli.store.keys.unlocked import subkey

    sealed = saved.beside.get(SEAL)
    if sealed is None:
        return True
    held = open_seal(sealed, subkey(saved.master, SEAL_LABEL))
    return held is not None and held.is_sound


def restore_backup(keystore: "Keystore", backup: Backup, passphrase: bytes) -> "Unlocked":
    """Write the backup's keystore where none is, under a new passphrase. Raises ``keystore-exists``.

    Of a key on a card only the card's names come back: which module is loaded is for this machine to say.
    Raises ``store-damaged`` where an identity does not open; nothing is then written. Killed half-way it
    leaves no keystore, and the next try begins afresh.
    """
    from medmail_cli.store.keys.unlocked import Unlocked

    store = Unlocked(keystore, backup.master)
    identities = {
        identity_id: _placeless(store, identity_id, content)
        for identity_id, content in backup.identities.items()
    }
    with keystore.writing():
        if keystore.exists:
            raise MedmailError("keystore-exists", path=str(keystore.folder))
        keystore.install(
            backup.master, passphrase, backup.store_id, backup.created, identities, backup.beside
        )
    keystore.recall()  # a backup knows nothing of what was revoked since
    for identity in store.identities():
        store.opened_seal(identity)
    return store


def _placeless(store: "Unlocked", identity_id: str, content: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """An identity's files, a card's without the path of a module: code that a stranger could choose."""
    folder = store.keystore.folder / identity_id
    try:
        identity = of_files(folder, content.__getitem__)
        if identity.method != CARD:
            store.opened_seal(identity)
            return content
        return store.without_module(identity).files()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MedmailError("store-damaged", path=str(folder / METADATA)) from None
