"""The mailbox index: what the Maildirs hold, in SQLite, so that listing and finding are quick.

Only outer headers stand in it. Everything in it can be read from the Maildirs again, so it is made anew
where it is missing; ``index-damaged`` where SQLite cannot read it.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from medmail_cli.errors import MedmailError
from medmail_cli.store import files
from medmail_cli.store.mail import index_conversion
from medmail_cli.store.mail.maildir import NONE

_VERSION = 2
_SCHEMA = f"""
CREATE TABLE messages (
  account TEXT NOT NULL, folder TEXT NOT NULL, id TEXT NOT NULL,
  generation TEXT NOT NULL, server_id TEXT NOT NULL,
  name TEXT NOT NULL, size INTEGER NOT NULL, stored_at REAL NOT NULL,
  sender TEXT NOT NULL, recipients TEXT NOT NULL, subject TEXT NOT NULL, date REAL, message_id TEXT NOT NULL,
  PRIMARY KEY (account, folder, id)) WITHOUT ROWID;
CREATE INDEX messages_id ON messages (id);
CREATE INDEX messages_server_id ON messages (account, folder, generation, length(server_id), server_id);
CREATE INDEX messages_message_id ON messages (message_id);
CREATE TABLE folders (
  account TEXT NOT NULL, folder TEXT NOT NULL, position TEXT, stamps TEXT NOT NULL,
  PRIMARY KEY (account, folder)) WITHOUT ROWID;
CREATE TABLE owed (
  account TEXT NOT NULL, folder TEXT NOT NULL, generation TEXT NOT NULL, server_id TEXT NOT NULL,
  PRIMARY KEY (account, folder, generation, server_id)) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""
_COLUMNS = (
    "account, folder, id, generation, server_id, name, size, stored_at,"
    " sender, recipients, subject, date, message_id"
)
WITNESSES = 8
"""Messages by whose Message-IDs it is seen whether server ids still mean what they did."""


@dataclass(frozen=True)
class Stored:
    """A message of the mailbox, by its outer header; ``name`` is its file's, without flags.

    ``id`` is the SHA-256 in hex of its bytes as they came, ``stored_at`` when that was; for ``generation``
    and ``server_id`` see :class:`.maildir.Name`. Times are in UTC.
    """

    account: str
    folder: str
    id: str
    generation: str
    server_id: str
    name: str = field(metadata={"json": False})
    size: int
    stored_at: datetime
    from_: str
    to: str
    subject: str
    date: datetime | None
    message_id: str


@dataclass(frozen=True)
class Folder:
    """How far a folder has been fetched: everything before ``position``, the server's text, is dealt with.

    It is empty before a first time, and None where the server ids of what is stored say nothing of what the
    server holds under them. ``stamps`` are those of the Maildir when the index last agreed with it, empty
    where it may not.
    """

    position: str | None = ""
    stamps: str = ""


class Index:
    """The index at ``path``, whose file exists already; usable from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None

    @classmethod
    def create(cls, path: Path) -> "Index":
        """Make an empty index. Whoever makes one holds the mailbox's lock."""
        files.make_private(path.parent)
        index = cls(path)
        with index.transaction(fresh=True) as database:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
        path.chmod(0o600)
        return index

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error, self.path, "index-damaged") from error

    def _connected(self, *, fresh: bool = False) -> sqlite3.Connection:
        if self._database is None:
            database = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
            try:
                database.execute("PRAGMA temp_store = MEMORY")
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if version == index_conversion.FIRST:
                    index_conversion.convert(database, _SCHEMA.split(";"))
                elif version > _VERSION:
                    raise MedmailError("newer-store", path=str(self.path))
                if version == 0 and not fresh:
                    raise MedmailError("index-damaged", path=str(self.path))
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    @contextmanager
    def transaction(self, *, fresh: bool = False) -> Iterator[sqlite3.Connection]:
        """Changes that happen together or not at all, durable at the end."""
        with self._lock, self._errors():
            database = self._connected(fresh=fresh)
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise

    def _rows(self, where: str, *values: object) -> list[Stored]:
        with self._lock, self._errors():
            return [
                _stored(row)
                for row in self._connected().execute(
                    f"SELECT {_COLUMNS} FROM messages WHERE {where}",  # noqa: S608 - own words
                    values,
                )
            ]

    # -- messages

    def all(self, account: str | None = None, folder: str | None = None) -> list[Stored]:
        """Every message, oldest first; of one account or folder (caseless) where given."""
        return self._rows(
            "(?1 IS NULL OR account = ?1) AND (?2 IS NULL OR folder = ?2 COLLATE NOCASE)"
            " ORDER BY stored_at, length(generation), generation, length(server_id), server_id",
            account,
            folder,
        )

    def with_prefix(self, prefix: str) -> list[Stored]:
        """The messages whose id begins with ``prefix``."""
        return self._rows("id >= ? AND id < ? ORDER BY id, stored_at", prefix, prefix + "g")

    def among(self, account: str, folder: str, ids: Iterable[str]) -> dict[str, Stored]:
        """Those of ``ids`` that a folder holds."""
        where = "account = ? AND folder = ? AND id IN (SELECT value FROM json_each(?))"
        return {letter.id: letter for letter in self._rows(where, account, folder, json.dumps(list(ids)))}

    def names(self, account: str, folder: str) -> dict[str, str]:
        """The file names of a folder's messages, and their ids."""
        with self._lock, self._errors():
            rows = self._connected().execute(
                "SELECT name, id FROM messages WHERE account = ? AND folder = ?", (account, folder)
            )
            return dict(rows.fetchall())

    def with_message_id(self, message_id: str) -> list[Stored]:
        """The messages that bear a Message-ID."""
        return self._rows("message_id = ? ORDER BY stored_at", message_id)

    def stored(self, account: str, folder: str, generation: str, server_ids: Iterable[str]) -> set[str]:
        """Those of ``server_ids`` that are stored already."""
        with self._lock, self._errors():
            rows = self._connected().execute(
                "SELECT server_id FROM json_each(?) CROSS JOIN messages WHERE account = ? AND folder = ?"
                " AND generation = ? AND length(server_id) = length(value) AND server_id = value",
                (json.dumps(list(server_ids)), account, folder, generation),
            )
            return {row[0] for row in rows}

    def witnesses(self, account: str, folder: str, generation: str) -> dict[str, frozenset[str]]:
        """The last server ids that are stored with a Message-ID, and these, without blanks."""
        with self._lock, self._errors():
            rows = (
                self._connected()
                .execute(
                    "SELECT server_id, message_id FROM messages WHERE account = ? AND folder = ?"
                    " AND generation = ? AND message_id <> ''"
                    " ORDER BY length(server_id) DESC, server_id DESC LIMIT ?",
                    (account, folder, generation, WITNESSES),
                )
                .fetchall()
            )
        # of the last one there may be more
        whole = [row for row in rows if len(rows) < WITNESSES or row[0] != rows[-1][0]]
        return {
            server_id: frozenset("".join(value.split()) for other, value in whole if other == server_id)
            for server_id, _ in whole
        }

    # -- folders

    def folder(self, account: str, folder: str) -> Folder:
        """How far a folder has been fetched."""
        with self._lock, self._errors():
            row = (
                self._connected()
                .execute(
                    "SELECT position, stamps FROM folders WHERE account = ? AND folder = ?",
                    (account, folder),
                )
                .fetchone()
            )
        return Folder(*row) if row else Folder()

    def owed(self, account: str, folder: str, generation: str) -> list[str]:
        """The server ids of messages that the server names and has not given, the oldest first."""
        with self._lock, self._errors():
            rows = self._connected().execute(
                "SELECT server_id FROM owed WHERE account = ? AND folder = ? AND generation = ?"
                " ORDER BY length(server_id), server_id",
                (account, folder, generation),
            )
            return [row[0] for row in rows]

    def stamps(self) -> dict[tuple[str, str], str]:
        """The stamps of every folder as the index knows it."""
        with self._lock, self._errors():
            rows = self._connected().execute("SELECT account, folder, stamps FROM folders")
            return {(row[0], row[1]): row[2] for row in rows}


def add(database: sqlite3.Connection, messages: Sequence[Stored]) -> None:
    """Enter messages, in the place of what the folder had under the same ids."""
    database.executemany(
        f"INSERT OR REPLACE INTO messages ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608
        [
            (
                letter.account,
                letter.folder,
                letter.id,
                letter.generation,
                letter.server_id,
                letter.name,
                letter.size,
                letter.stored_at.timestamp(),
                _text(letter.from_),
                _text(letter.to),
                _text(letter.subject),
                letter.date.timestamp() if letter.date else None,
                _text(letter.message_id),
            )
            for letter in messages
        ],
    )


def remove(database: sqlite3.Connection, account: str, folder: str, ids: Iterable[str]) -> None:
    """Take messages out."""
    database.executemany(
        "DELETE FROM messages WHERE account = ? AND folder = ? AND id = ?",
        [(account, folder, i) for i in ids],
    )


def forget_server_ids(database: sqlite3.Connection, account: str, folder: str) -> None:
    """Note of a folder's messages that they are stored, and nothing of what the server calls them."""
    database.execute(
        "UPDATE messages SET generation = ? WHERE account = ? AND folder = ?", (NONE, account, folder)
    )
    database.execute("DELETE FROM owed WHERE account = ? AND folder = ?", (account, folder))


def set_folder(database: sqlite3.Connection, account: str, folder: str, state: Folder) -> None:
    """Note how far a folder has been fetched."""
    database.execute(
        "INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?)", (account, folder, state.position, state.stamps)
    )


def set_owed(
    database: sqlite3.Connection, account: str, folder: str, generation: str, server_ids: Iterable[str]
) -> None:
    """Note them, in the place of what a folder owed before."""
    database.execute("DELETE FROM owed WHERE account = ? AND folder = ?", (account, folder))
    database.executemany(
        "INSERT INTO owed VALUES (?, ?, ?, ?)",
        [(account, folder, generation, server_id) for server_id in server_ids],
    )


def set_stamps(database: sqlite3.Connection, account: str, folder: str, stamps: str) -> None:
    """Note the state of a folder's directories that the index agrees with."""
    database.execute(
        "INSERT INTO folders (account, folder, position, stamps) VALUES (?1, ?2, '', ?3)"
        " ON CONFLICT DO UPDATE SET stamps = ?3",
        (account, folder, stamps),
    )


def translated(error: sqlite3.Error, path: Path, damaged: str) -> MedmailError:
    """What SQLite complains of, as the user hears it; ``damaged`` is the code where it cannot read it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return MedmailError("store-busy", path=str(path))
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return MedmailError("disk-full", path=str(path))
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return MedmailError("not-writable", path=str(path), reason=str(error))
    return MedmailError(damaged, path=str(path))


def _text(value: str) -> str:
    # what strangers wrote may hold halves of surrogate pairs, which SQLite does not take
    return value.encode("utf-8", "replace").decode()


def _stored(row: tuple[object, ...]) -> Stored:
    values = list(row)
    for at in (7, 11):
        if values[at] is not None:
            values[at] = datetime.fromtimestamp(values[at], UTC)  # type: ignore[arg-type]
    return Stored(*values)  # type: ignore[arg-type]
