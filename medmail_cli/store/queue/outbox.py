"""The outbox: what is to be sent, safe on disk before anything leaves, until every recipient's fate is known.

A submission is one protected message with its envelope. Its bytes are ``messages/<id>.eml``, fsynced
before the commit that makes it exist; what becomes of each recipient is in ``outbox.db`` (SQLite, WAL,
synchronous=FULL: a commit is durable when it returns). Nothing else is kept of a letter: no subject, no
text; a letter's ``--id`` is remembered beside a digest keyed by this outbox's own random key.

A process claims a submission before it sends it, by a lock on one byte of ``claims`` that ends with the
process. Just before the end of the data goes to the server the recipients are marked in doubt, durably:
where no outcome follows, the next attempt knows that the server may have the message already.
"""

import fcntl
import hashlib
import hmac
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from medmail_cli.errors import MedmailError
from medmail_cli.store import files
from medmail_cli.store.queue import rows
from medmail_cli.store.queue.rows import Fate, Protection, QueuedMessage, QueuedRecipient, Status, Submission

__all__ = [
    "Fate",
    "Outbox",
    "Protection",
    "QueuedMessage",
    "QueuedRecipient",
    "Status",
    "Submission",
    "next_attempt",
    "retry_after",
]  # fmt: skip

FIRST_RETRY = timedelta(minutes=1)
LAST_RETRY = timedelta(hours=4)
"""After a temporary failure the next attempt waits a minute, then twice as long each time, up to this."""


class Outbox:
    """The outbox in ``folder``; usable from several threads.

    Every method raises ``store-damaged`` where the database or a message is not what it was, ``store-busy``
    where another process holds it for long, ``disk-full`` and ``not-writable``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._claims = -1
        self._claimed: set[int] = set()
        self._marked: set[tuple[int, str]] = set()

    def close(self) -> None:
        """Let go of everything, claims included."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
            if self._claims >= 0:
                os.close(self._claims)
                self._claims = -1
            self._claimed.clear()
            self._marked.clear()

    # -- letters and their keys

    def digest(self, *parts: bytes) -> bytes:
        """A digest of a letter's content that says nothing to whoever lacks this outbox's key."""
        with self._connected() as database:
            row = database.execute("SELECT value FROM meta WHERE name = 'digest-key'").fetchone()
        mac = hmac.new(bytes(row[0]), digestmod=hashlib.sha256)
        for part in parts:
            mac.update(len(part).to_bytes(8, "big"))
            mac.update(part)
        return mac.digest()

    def known(self, key: str, digest: bytes) -> bool:
        """Is the letter ``key`` queued or sent already? Raises ``id-reused`` where its content differed."""
        with self._connected() as database:
            return rows.known(database, key, digest)

    # -- submissions

    def enqueue(
        self, messages: Sequence[QueuedMessage], now: datetime, *, claim: bool
    ) -> tuple[Submission, ...]:
        """Make the messages durable submissions, in one commit, due at once and claimed if asked for.

        A message whose letter another process has entered meanwhile is left out. Raises ``id-reused``.
        """
        folder = files.make_private(self.folder / "messages")
        # the shared lock keeps a sweep from taking the files for leavings before the commit
        with files.lock(self.folder / "sweep", exclusive=False):
            with self._connected():
                pass  # a message without a database would be taken for damage
            _write_all(folder, messages)
            numbers = []
            with self._transaction() as database:
                known: dict[str, bool] = {}
                for message in messages:
                    if message.key is not None and message.digest is not None:
                        if message.key not in known:
                            known[message.key] = rows.known(database, message.key, message.digest)
                            database.execute(
                                "INSERT OR REPLACE INTO letters VALUES (?, ?)", (message.key, message.digest)
                            )
                        if known[message.key]:
                            continue
                    numbers.append(rows.insert(database, message, now))
                if claim:
                    # before the commit: nobody else may see them unclaimed
                    for number in numbers:
                        self._take(number)
            return self._read("number IN (SELECT value FROM json_each(?))", rows.as_json(numbers))

    def open(self) -> tuple[Submission, ...]:
        """The submissions not done with, oldest first."""
        return self._read("open")

    def ripe(self, now: datetime) -> tuple[Submission, ...]:
        """The open submissions whose time has come, oldest first.

        What has nobody left to send to is among them: a run sent it that died before it could tidy up.
        """
        return tuple(
            submission
            for submission in self.open()
            if not submission.pending or next_attempt(submission, now) <= now
        )

    def find(self, prefix: str) -> Submission:
        """The open submission whose id begins with ``prefix``. Raises ``not-found``, ``ambiguous``."""
        matching = self._read("open AND substr(id, 1, ?) = ?", len(prefix), prefix.lower())
        if len(prefix) < 6 or not matching:
            raise MedmailError("not-found", what="queued letter", name=prefix)
        if len(matching) > 1:
            raise MedmailError("ambiguous", prefix=prefix)
        return matching[0]

    def claim(self, submissions: Iterable[Submission]) -> tuple[Submission, ...]:
        """Those nobody else is sending and that are still open, read anew; held until :meth:`release`."""
        with self._lock:
            taken = [
                submission.number
                for submission in submissions
                if submission.number in self._claimed or self._take(submission.number)
            ]
            claimed = self._read("open AND number IN (SELECT value FROM json_each(?))", rows.as_json(taken))
            self.release(set(taken) - {submission.number for submission in claimed})
            return claimed

    def release(self, numbers: Iterable[int]) -> None:
        """Give claims back."""
        with self._lock:
            for number in numbers:
                if number in self._claimed:
                    fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, number)
                    self._claimed.discard(number)

    def mark(self, recipients: Iterable[tuple[int, str]]) -> None:
        """Note, durably, that the end of the data is about to go out for these (number, address)."""
        marks = list(recipients)
        with self._lock:
            with self._transaction() as database:
                database.executemany(
                    "UPDATE recipients SET doubts = doubts + 1 WHERE submission = ? AND address = ?", marks
                )
            self._marked.update(marks)

    def record(self, fates: Sequence[Fate], now: datetime) -> None:
        """Make what an attempt brought durable, in one commit; what stays queued is due again later."""
        with self._lock:
            with self._transaction() as database:
                for fate in fates:
                    key = (fate.number, fate.address)
                    settled = key in self._marked and fate.status != "unknown"
                    status = "queued" if fate.status == "unknown" else fate.status
                    database.execute(
                        "UPDATE recipients SET status = ?, reply = ?, server = ?, server_certificate = ?,"
                        " doubts = doubts - ? WHERE submission = ? AND address = ?",
                        (status, fate.reply, fate.server, fate.server_certificate, settled, *key),
                    )
                for number in {fate.number for fate in fates}:
                    (attempts,) = database.execute(
                        "SELECT attempts FROM submissions WHERE number = ?", (number,)
                    ).fetchone()
                    database.execute(
                        "UPDATE submissions SET attempts = ?, due_at = ? WHERE number = ?",
                        (attempts + 1, (now + retry_after(attempts)).timestamp(), number),
                    )
            self._marked.difference_update((fate.number, fate.address) for fate in fates)

    def kept(self, numbers: Iterable[int]) -> None:
        """The sender's copies of these are where they belong."""
        with self._transaction() as database:
            database.executemany(
                "UPDATE submissions SET copy = 'kept' WHERE number = ?", [(number,) for number in numbers]
            )

    def finish(self, numbers: Iterable[int]) -> None:
        """Give these claims back; close, and delete the message of, what has no recipient left to send to."""
        asked = list(numbers)
        with self._transaction() as database:
            done = database.execute(
                "SELECT number, id FROM submissions WHERE number IN (SELECT value FROM json_each(?))"
                " AND NOT EXISTS (SELECT 1 FROM recipients WHERE submission = number AND status = 'queued')",
                (rows.as_json(asked),),
            ).fetchall()
            database.executemany(
                "UPDATE submissions SET open = 0 WHERE number = ?", [row[:1] for row in done]
            )
        for _, name in done:
            self._message(name).unlink(missing_ok=True)
        self.release(asked)

    def drop(self, submission: Submission) -> None:
        """Give a claimed submission up: whoever has not got it never will; its message is deleted."""
        with self._transaction() as database:
            database.execute(
                "UPDATE recipients SET status = 'dropped' WHERE submission = ? AND status = 'queued'",
                (submission.number,),
            )
            database.execute("UPDATE submissions SET open = 0 WHERE number = ?", (submission.number,))
        submission.path.unlink(missing_ok=True)
        self.release([submission.number])

    def read(self, submission: Submission) -> bytes:
        """The message of an open submission. Raises ``store-damaged`` where it is not what was enqueued."""
        try:
            message = submission.path.read_bytes()
        except FileNotFoundError:
            raise MedmailError("store-damaged", path=str(submission.path)) from None
        if hashlib.sha256(message).hexdigest() != submission.id:
            raise MedmailError("store-damaged", path=str(submission.path))
        return message

    def sweep(self) -> None:
        """Delete messages that never became submissions, or are done with: leavings of killed runs."""
        folder = self.folder / "messages"
        try:
            with files.lock(self.folder / "sweep", wait=0):
                here = {path.stem: path for path in folder.iterdir()} if folder.is_dir() else {}
                wanted = {submission.id for submission in self.open()} if here else set()
                for name in here.keys() - wanted:
                    here[name].unlink(missing_ok=True)
        except MedmailError as error:
            # somebody is enqueuing: there will be another time
            if error.code != "store-busy":
                raise

    # -- inside

    def _read(self, where: str, *values: object) -> tuple[Submission, ...]:
        if self._database is None and not any(
            path.exists() for path in (self.folder / "outbox.db", self.folder / "messages")
        ):
            return ()
        with self._connected() as database:
            records = database.execute(
                f"SELECT {rows.COLUMNS} FROM submissions WHERE {where} ORDER BY number",  # noqa: S608 - own words
                values,
            ).fetchall()
            people: dict[int, list[QueuedRecipient]] = {row[0]: [] for row in records}
            for number, *columns in database.execute(
                "SELECT submission, address, status, doubts, reply, certificate, server, server_certificate"
                " FROM recipients WHERE submission IN (SELECT value FROM json_each(?))"
                " ORDER BY submission, position",
                (rows.as_json(people),),
            ):
                people[number].append(QueuedRecipient(*columns))
        return tuple(self._submission(row, tuple(people[row[0]])) for row in records)

    def _submission(self, row: Sequence[Any], recipients: tuple[QueuedRecipient, ...]) -> Submission:
        values = dict(zip(rows.COLUMNS.split(", "), row, strict=True))
        copy = values.pop("copy")
        return Submission(
            **values
            | {
                "utf8": bool(values["utf8"]),
                "queued_at": datetime.fromtimestamp(values["queued_at"], UTC),
                "due_at": datetime.fromtimestamp(values["due_at"], UTC),
            },
            copy_due=copy == "due",
            recipients=recipients,
            path=self._message(values["id"]),
        )

    def _message(self, name: str) -> Path:
        return self.folder / "messages" / f"{name}.eml"

    def _take(self, number: int) -> bool:
        """Lock the byte of ``claims`` that stands for a submission; False where another process holds it."""
        if self._claims < 0:
            self._claims = os.open(self.folder / "claims", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            return False
        self._claimed.add(number)
        return True

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        path = self.folder / "outbox.db"
        with self._lock, rows.database_errors(path):
            if self._database is None:
                self._database = rows.connect(path)
            yield self._database

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connected() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a failed commit has rolled back by itself
                    database.execute("ROLLBACK")
                raise


def next_attempt(submission: Submission, now: datetime) -> datetime:
    """When a submission is tried again: now, where a clock that was ahead set it farther off than is due."""
    tried = submission.attempts
    longest = FIRST_RETRY + (retry_after(tried - 1) if tried else timedelta())
    return submission.due_at if submission.due_at - now <= longest else now


def retry_after(attempts: int) -> timedelta:
    """How long to wait after a temporary failure that ``attempts`` others preceded."""
    return min(FIRST_RETRY * (1 << min(attempts, 20)), LAST_RETRY)


def _write_all(folder: Path, messages: Sequence[QueuedMessage]) -> None:
    """Write every message, then fsync them all: the first fsync carries most of the others' blocks along."""
    descriptors: list[int] = []
    with files.disk_errors(folder):
        try:
            for message in messages:
                path = folder / f"{message.id}.eml"
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                descriptors.append(descriptor)
                rest = memoryview(message.message)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            for descriptor in descriptors:
                os.fsync(descriptor)
        except BaseException:
            for message in messages[: len(descriptors)]:
                (folder / f"{message.id}.eml").unlink(missing_ok=True)
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        files.sync_folder(folder)
