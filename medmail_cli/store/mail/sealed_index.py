"""What was learned from inside opened letters, each sealed under a key of the keystore.

AES-256-GCM, the message's id as associated data. Which letters have been opened can be read while the
keystore is locked; what they say cannot, neither here nor in SQLite's journal.
"""

import hashlib
import hmac
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medmail_cli.errors import MedmailError
from medmail_cli.store import files
from medmail_cli.store.mail.outer_index import translated

_VERSION = 2
_NONCE = 12


class Learned:
    """The sealed index at ``path``, made with its first entry.

    Raises ``store-damaged`` where it cannot be read or an entry is not what was sealed under the key given;
    entries sealed under another keystore's key count as opened and say nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: sqlite3.Connection | None = None

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def opened(self) -> frozenset[str]:
        """The ids of the letters that have been opened."""
        return frozenset(row[0] for row in self._select("SELECT id FROM learned"))

    def add(self, letters: Sequence[tuple[str, Mapping[str, Any]]], subkey: bytes) -> None:
        """Seal what letters (id, JSON values) said, in one durable step; the last opening of one counts."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        cipher, mark = AESGCM(subkey), _mark(subkey)
        rows = []
        for id_, values in letters:
            nonce = os.urandom(_NONCE)
            plain = json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")
            sealed = nonce + cipher.encrypt(nonce, plain, id_.encode())
            rows.append((id_, mark, sealed, _message_mark(subkey, str(values.get("message_id") or ""))))
        files.make_private(self.path.parent)
        with self._errors():
            database = self._connected()
            with database:
                database.executemany("INSERT OR REPLACE INTO learned VALUES (?, ?, ?, ?)", rows)

    def read(self, subkey: bytes, ids: Iterable[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """What was learned from every letter, or from those named."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        query = "SELECT id, sealed FROM learned WHERE mark = ?"
        values: list[object] = [_mark(subkey)]
        if ids is not None:
            query += " AND id IN (SELECT value FROM json_each(?))"
            values.append(json.dumps(list(ids)))
        cipher = AESGCM(subkey)
        for id_, sealed in self._select(query, *values):
            try:
                plain = cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], id_.encode())
            except (InvalidTag, ValueError):
                raise MedmailError("store-damaged", path=str(self.path)) from None
            yield id_, json.loads(plain)

    def with_message_id(self, message_id: str, subkey: bytes) -> tuple[str, ...]:
        """The ids of the letters that bore this Message-ID inside."""
        if not message_id:
            return ()
        wanted = _message_mark(subkey, message_id)
        return tuple(row[0] for row in self._select("SELECT id FROM learned WHERE message = ?", wanted))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error, self.path, "store-damaged") from error

    def _select(self, query: str, *values: object) -> list[Any]:
        if self._database is None and not self.path.exists():
            return []
        with self._errors():
            return self._connected().execute(query, values).fetchall()

    def _connected(self) -> sqlite3.Connection:
        if self._database is None:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            database = sqlite3.connect(self.path, timeout=10, check_same_thread=False)
            try:
                database.execute("PRAGMA temp_store = MEMORY")
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if version > _VERSION:
                    raise MedmailError("newer-store", path=str(self.path))
                if version == 0:
                    database.execute(
                        "CREATE TABLE IF NOT EXISTS learned (id TEXT PRIMARY KEY, mark BLOB NOT NULL,"
                        " sealed BLOB NOT NULL, message BLOB) WITHOUT ROWID"
                    )
                if version == 1:
                    database.execute("ALTER TABLE learned ADD COLUMN message BLOB")
                if version < _VERSION:
                    database.execute("CREATE INDEX IF NOT EXISTS learned_message ON learned (message)")
                    database.execute(f"PRAGMA user_version = {_VERSION}")
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database


def _message_mark(subkey: bytes, message_id: str) -> bytes | None:
    """Finds a Message-ID again under the key, and says nothing of it without."""
    if not message_id:
        return None
    return hmac.digest(
        subkey, b"medmail learned message\0" + message_id.encode("utf-8", "replace"), hashlib.sha256
    )[:16]


def _mark(subkey: bytes) -> bytes:
    """Says under which key an entry is sealed, and nothing about the key."""
    return hmac.digest(subkey, b"medmail learned index", hashlib.sha256)[:8]
