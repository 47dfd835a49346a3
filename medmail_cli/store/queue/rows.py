"""The outbox's database: what a submission is, and how SQLite holds it."""

import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from medmail_cli.errors import MedmailError
from medmail_cli.store import files

Status = Literal["queued", "accepted", "refused", "dropped"]
Protection = Literal["end-to-end", "signed-only", "transport-only"]

_VERSION = 2
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE letters (key TEXT PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE submissions (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  key TEXT,
  account TEXT NOT NULL,
  sender TEXT NOT NULL,
  message_id TEXT NOT NULL,
  protection TEXT NOT NULL,
  utf8 INTEGER NOT NULL,
  size INTEGER NOT NULL,
  queued_at REAL NOT NULL,
  due_at REAL NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  copy TEXT NOT NULL,
  open INTEGER NOT NULL DEFAULT 1,
  commitment TEXT,
  sealed_salt TEXT);
CREATE INDEX submissions_open ON submissions (number) WHERE open;
CREATE INDEX submissions_key ON submissions (key) WHERE key IS NOT NULL;
CREATE TABLE recipients (
  submission INTEGER NOT NULL REFERENCES submissions,
  position INTEGER NOT NULL,
  address TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'queued',
  doubts INTEGER NOT NULL DEFAULT 0,
  reply TEXT,
  certificate TEXT,
  server TEXT,
  server_certificate TEXT,
  PRIMARY KEY (submission, position)) WITHOUT ROWID;
"""
_FROM_1_TO_2 = """
ALTER TABLE submissions ADD COLUMN commitment TEXT;
ALTER TABLE submissions ADD COLUMN sealed_salt TEXT;
ALTER TABLE recipients ADD COLUMN certificate TEXT;
ALTER TABLE recipients ADD COLUMN server TEXT;
ALTER TABLE recipients ADD COLUMN server_certificate TEXT;
"""
COLUMNS = (
    "number, id, key, account, sender, message_id, protection, utf8, size, queued_at, due_at, attempts, copy,"
    " commitment, sealed_salt"
)


@dataclass(frozen=True)
class QueuedMessage:
    """A protected message with its envelope, to be entered; ``id`` is its SHA-256 in hex.

    ``key`` and ``digest`` are those of its letter (see :meth:`Outbox.digest`); ``keep`` says whether a copy
    belongs among what was sent, ``utf8`` whether the header needs SMTPUTF8 (RFC 6531). What is to be proved
    later: ``commitment`` and its salt, sealed (see :class:`medmail_cli.smime.protect.Submission`), and the
    SHA-256 of each recipient's certificate.
    """

    id: str
    message: bytes
    account: str
    sender: str
    recipients: tuple[str, ...]
    message_id: str
    protection: Protection = "end-to-end"
    utf8: bool = False
    key: str | None = None
    digest: bytes | None = None
    keep: bool = True
    commitment: str | None = None
    sealed_salt: str | None = None
    certificates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class QueuedRecipient:
    """One recipient's fate so far; ``doubts`` counts attempts whose end nobody knows.

    ``certificate`` (the recipient's) and ``server_certificate`` (of the server whose ``reply`` it is) are
    SHA-256 in hex.
    """

    address: str
    status: Status
    doubts: int
    reply: str | None
    certificate: str | None = None
    server: str | None = None
    server_certificate: str | None = None


@dataclass(frozen=True)
class Submission:
    """A submission as the outbox holds it; ``copy_due`` while the sender's copy is not kept yet."""

    number: int
    id: str
    key: str | None
    account: str
    sender: str
    message_id: str
    protection: Protection
    utf8: bool
    size: int
    queued_at: datetime
    due_at: datetime
    attempts: int
    copy_due: bool
    recipients: tuple[QueuedRecipient, ...]
    path: Path
    commitment: str | None = None
    sealed_salt: str | None = None

    @property
    def certificates(self) -> Mapping[str, str]:
        """The SHA-256 of the certificate of each recipient that has one."""
        return {
            recipient.address: recipient.certificate
            for recipient in self.recipients
            if recipient.certificate is not None
        }

    @property
    def pending(self) -> tuple[str, ...]:
        """The addresses still to be sent to."""
        return tuple(recipient.address for recipient in self.recipients if recipient.status == "queued")

    @property
    def doubtful(self) -> frozenset[str]:
        """The addresses to which a further attempt may bring the message twice."""
        return frozenset(
            recipient.address
            for recipient in self.recipients
            if recipient.status == "queued" and recipient.doubts
        )


@dataclass(frozen=True)
class Fate:
    """What an attempt brought for one recipient.

    ``accepted`` and ``refused`` are final, ``queued`` is tried again, ``unknown`` likewise but the server
    may have taken the message.
    """

    number: int
    address: str
    status: Literal["accepted", "refused", "queued", "unknown"]
    reply: str | None = None
    server: str | None = None
    server_certificate: str | None = None


def known(database: sqlite3.Connection, key: str, digest: bytes) -> bool:
    """Was a letter entered under ``key`` whose recipients are not all refused? Raises ``id-reused``."""
    # a letter that everybody refused, or that was dropped, was not sent: its key is free again
    row = database.execute(
        "SELECT digest FROM letters WHERE key = ? AND EXISTS (SELECT 1 FROM submissions JOIN recipients"
        " ON submission = number WHERE submissions.key = letters.key AND status IN ('queued', 'accepted'))",
        (key,),
    ).fetchone()
    if row is None:
        return False
    if not hmac.compare_digest(bytes(row[0]), digest):
        raise MedmailError("id-reused", key=key)
    return True


def insert(database: sqlite3.Connection, message: QueuedMessage, now: datetime) -> int:
    """Enter a message with its recipients; the number of the submission."""
    number = database.execute(
        "INSERT INTO submissions (id, key, account, sender, message_id, protection, utf8, size, queued_at,"
        " due_at, copy, commitment, sealed_salt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            message.id,
            message.key,
            message.account,
            message.sender,
            message.message_id,
            message.protection,
            message.utf8,
            len(message.message),
            now.timestamp(),
            now.timestamp(),
            "due" if message.keep else "none",
            message.commitment,
            message.sealed_salt,
        ),
    ).lastrowid
    assert number is not None  # noqa: S101 - SQLite's promise after INSERT
    database.executemany(
        "INSERT INTO recipients (submission, position, address, certificate) VALUES (?, ?, ?, ?)",
        [
            (number, position, address, message.certificates.get(address))
            for position, address in enumerate(message.recipients)
        ],
    )
    return number


def connect(path: Path) -> sqlite3.Connection:
    """Open the database, made where there is none. Raises ``store-damaged``."""
    files.make_private(path.parent)
    # made here, so that it and what SQLite puts beside it are for the owner alone
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            # a message is only ever written once the database stands
            if any((path.parent / "messages").glob("*.eml")):
                raise MedmailError("store-damaged", path=str(path))
            _create(database)
        elif version < _VERSION:
            _widen(database)
        elif version != _VERSION:
            raise MedmailError("store-damaged", path=str(path))
    except BaseException:
        database.close()
        raise
    return database


def _create(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    if database.execute("PRAGMA user_version").fetchone() == (0,):  # no other process was quicker
        for statement in _SCHEMA.split(";")[:-1]:
            database.execute(statement)
        database.execute("INSERT INTO meta VALUES ('digest-key', ?)", (secrets.token_bytes(32),))
        database.execute(f"PRAGMA user_version = {_VERSION}")
    database.execute("COMMIT")


def _widen(database: sqlite3.Connection) -> None:
    """Let a database of version 1 hold what version 2 does; its letters go out without a commitment."""
    database.execute("BEGIN IMMEDIATE")
    if database.execute("PRAGMA user_version").fetchone() == (1,):  # no other process was quicker
        for statement in _FROM_1_TO_2.split(";")[:-1]:
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {_VERSION}")
    database.execute("COMMIT")


def as_json(numbers: Iterable[int] | Mapping[int, object]) -> str:
    """A list as SQLite takes it for ``json_each``."""
    return "[" + ",".join(map(str, numbers)) + "]"


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Translate what SQLite complains of."""
    try:
        with files.disk_errors(path):
            yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise MedmailError("store-busy", path=str(path)) from error
        if name.startswith("SQLITE_FULL"):
            raise MedmailError("disk-full", path=str(path)) from error
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM")):
            raise MedmailError("not-writable", path=str(path), reason=str(error)) from error
        raise MedmailError("store-damaged", path=str(path)) from error
