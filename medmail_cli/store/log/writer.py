"""The audit log, written: an entry of intent before each effect, one of outcome after it.

An entry is durable before the call that appends it returns. Several processes append to one log, a lock
on ``entries.jsonl`` for the time of an append. Hashes follow the entries and are made durable before a
checkpoint covers them; where a crash left them short they are computed again. What a crash left of a torn
line is cut off, and an entry says so. A run that died leaves its file in ``runs/`` without a lock on it:
the next run to append writes the outcome ``interrupted`` for what it had begun.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from medmail_cli.audit import entry as entries
from medmail_cli.audit import tree
from medmail_cli.audit.checkpoint import parse
from medmail_cli.audit.entry import Ending, Fact, Intent, Outcome
from medmail_cli.codes import INTERRUPTED
from medmail_cli.errors import MedmailError
from medmail_cli.model import Note
from medmail_cli.store import files
from medmail_cli.store.log import checkpoints, reader, reserve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medmail_cli.audit.checkpoint import LogSigner

__all__ = ["AuditLog", "Intent", "Outcome"]

_SYSTEM = "medmail"
"""The actor of what medmail does for itself."""


class AuditLog:
    """The audit log in ``folder``, made at its first entry; ``now`` gives aware times.

    ``notes`` collects what the caller should tell: torn writes repaired, dead runs' intents closed. All
    methods that append raise ``audit-damaged`` or ``store-damaged`` where the log does not hold together,
    ``disk-full`` or ``not-writable`` (nothing is then appended) and ``store-busy``.
    """

    def __init__(self, folder: Path, now: Callable[[], datetime]) -> None:
        self.folder = folder
        self.notes: list[Note] = []
        self.run = entries.new_run()
        self._now = now
        self._thread_lock = threading.RLock()
        self._open: dict[int, Intent] = {}
        self._entries = self._hashes = self._run_lock = -1
        self._run_file: Path | None = None
        self._size = 0
        self._end = -1
        self._frontier: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except MedmailError:
            # what went wrong first is what the user must hear of
            if error is None:
                raise

    # --- entries ---------------------------------------------------------------------------------------

    def intent(self, action: str, *, actor: str, objects: Sequence[str] = (), **facts: Fact) -> int:
        """Say what is about to be done; durable on return. The index to give to :meth:`outcome`.

        ``objects`` are SHA-256 digests in hex; ``facts`` (recipient, account, server …) never hold what a
        letter says, its subject or a secret.
        """
        return self.intents([Intent(action, actor, tuple(objects), facts)])[0]

    def intents(self, intents: Iterable[Intent]) -> range:
        """Several intents with one write and one fsync; their indices, in order."""
        group = list(intents)
        with self._appending():
            first = self._size
            self._write_all(group, "intent")
            indices = range(first, first + len(group))
            self._open.update(zip(indices, group, strict=True))
        return indices

    def outcome(
        self,
        intent: int,
        outcome: Ending,
        *,
        exit: int,  # noqa: A002 - the word of the JSON
        reply: str | None = None,
        objects: Sequence[str] = (),
        **facts: Fact,
    ) -> int:
        """Say how an intent of this run ended; durable on return. The outcome's own index."""
        return self.outcomes([Outcome(intent, outcome, exit, reply, tuple(objects), facts)])[0]

    def outcomes(self, outcomes: Iterable[Outcome]) -> range:
        """Several outcomes with one write and one fsync; their indices, in order.

        Raises KeyError where one names no open intent of this run.
        """
        group = [(outcome, self._open[outcome.of]) for outcome in outcomes]
        with self._appending():
            first = self._size
            self._write(
                [
                    entries.outcome_line(first + i, self._now(), self.run, outcome, intent)
                    for i, (outcome, intent) in enumerate(group)
                ]
            )
            for outcome, _ in group:
                del self._open[outcome.of]
        return range(first, first + len(group))

    def events(self, events: Iterable[Intent]) -> None:
        """Record several with one write and one fsync."""
        with self._appending():
            self._write_all(events, "event")

    def event(self, action: str, *, actor: str = _SYSTEM, objects: Sequence[str] = (), **facts: Fact) -> int:
        """Record what needs no intent (nothing outside the log depends on it); its index."""
        with self._appending():
            return self._event(Intent(action, actor, tuple(objects), facts))

    def start(self, *, cites: bytes | None = None) -> int:
        """Begin a log, as after `keys restore`, with an entry that cites the checkpoint of the one before.

        Raises ``malformed`` where ``cites`` is no signed checkpoint.
        """
        if cites is None:
            return self.event("start")
        old = parse(cites)
        return self.event("start", cites=cites.decode(), origin=old.origin, size=old.size)

    # --- checkpoints -----------------------------------------------------------------------------------

    def checkpoint(self) -> bytes | None:
        """The last signed checkpoint as it stands on disk, or None."""
        return checkpoints.read(self.folder)

    def sign(self) -> bytes:
        """A signed checkpoint over every entry there is; signs a new one only where the last covers fewer."""
        with self._appending():
            return self._sign()

    def close(self) -> None:
        """End the run: intents still open end as ``interrupted``, a checkpoint is signed, all is let go."""
        with self._thread_lock:
            if self._entries < 0:
                return
            try:
                if self._run_file is not None:
                    if self._open:
                        self.outcomes([_interrupted(index) for index in list(self._open)])
                    with self._appending():
                        self._sign()
                        self._run_file.unlink(missing_ok=True)
                        reserve.keep(self.folder)
            finally:
                for descriptor in (self._entries, self._hashes, self._run_lock):
                    if descriptor >= 0:
                        os.close(descriptor)
                self._entries = self._hashes = self._run_lock = -1
                self._run_file, self._end = None, -1
                self._open.clear()

    # --- inside the lock -------------------------------------------------------------------------------

    @contextmanager
    def _appending(self) -> "Iterator[None]":
        path = self.folder / reader.ENTRIES
        with self._thread_lock, files.disk_errors(path):
            if self._entries < 0:
                self._open_files()
            with reader.locked(self._entries, path, exclusive=True):
                if os.fstat(self._entries).st_size != self._end:
                    self._load()
                if self._run_file is None:
                    self._register()
                yield

    def _open_files(self) -> None:
        files.make_private(self.folder)
        flags = os.O_RDWR | os.O_CREAT
        entries_ = files.open_own(self.folder / reader.ENTRIES, flags | os.O_APPEND)
        try:
            self._hashes = files.open_own(self.folder / reader.HASHES, flags)
        except BaseException:
            os.close(entries_)
            raise
        self._entries = entries_

    def _load(self) -> None:
        """Take over what is on disk, repairing what a crash can have left."""
        length = os.fstat(self._entries).st_size
        last, end = reader.last_line(self._entries, length)
        index = entries.index_of(last) if end else -1
        hashed = tree.size_of_stored(os.fstat(self._hashes).st_size // tree.HASH_SIZE)
        if index is None or hashed > index + 1:
            # hashes are written only after their entries are durable: entries have been taken away
            raise self._damaged(hashed - 1 if index is None else index + 1)
        signed = checkpoints.verified(self.folder, self._ensure_key)
        if signed.size > index + 1:
            raise self._damaged(index + 1)
        if self._run_file is None:
            hashed = self._first_unwritten(signed.size, hashed)
            if hashed >= signed.size and tree.root(signed.size, self._stored) != signed.root:
                raise MedmailError("store-damaged", path=str(self.folder / reader.HASHES))
        frontier = tree.frontier(hashed, self._stored)
        if hashed < index + 1:
            frontier = self._rehash(hashed, index + 1, end, frontier)
            if hashed < signed.size and tree.root(signed.size, self._stored) != signed.root:
                raise self._damaged(hashed)
        elif end and self._stored(tree.stored_index(0, index)) != tree.leaf_hash(last):
            raise self._damaged(index)
        self._size, self._end, self._frontier = index + 1, end, frontier
        if length > end:
            os.ftruncate(self._entries, end)
            self._ensure_key()
            self._event(Intent("repair", _SYSTEM, (), {"bytes": length - end}))
            self.notes.append(Note("audit-repaired", {"bytes": length - end}))

    def _first_unwritten(self, signed: int, hashed: int) -> int:
        """How many entries' hashes stand: after a power cut, blocks not yet covered may read as zeros."""
        begin = tree.stored_count(signed)
        count = tree.stored_count(hashed) - begin
        if count <= 0:
            return hashed
        tail = os.pread(self._hashes, count * tree.HASH_SIZE, begin * tree.HASH_SIZE)
        for i in range(count):
            if not any(tail[i * tree.HASH_SIZE : (i + 1) * tree.HASH_SIZE]):
                return tree.size_of_stored(begin + i)
        return hashed

    def _rehash(self, hashed: int, size: int, end: int, frontier: list[bytes]) -> list[bytes]:
        """Store the hashes of entries that have none yet."""
        begin = reader.locate(self._entries, hashed, end)
        if begin is None:
            raise self._damaged(hashed)
        with os.fdopen(os.dup(self._entries), "rb") as file:
            file.seek(begin)
            for index in range(hashed, size):
                line = file.readline()
                if entries.index_of(line) != index:
                    raise self._damaged(index)
                frontier, stored = tree.extend(index, frontier, [tree.leaf_hash(line[:-1])])
                self._store(index, stored)
        return frontier

    def _write(self, lines: Sequence[bytes]) -> None:
        """Append lines as the next entries: entries durable first, then their hashes."""
        if not lines:
            return
        data = b"".join(line + b"\n" for line in lines)
        frontier, stored = tree.extend(self._size, self._frontier, [tree.leaf_hash(line) for line in lines])
        try:
            _write_all(self._entries, data)
            os.fsync(self._entries)
            self._store(self._size, stored)
        except BaseException:
            # hashes first: they must never cover more than there are entries
            os.ftruncate(self._hashes, tree.stored_count(self._size) * tree.HASH_SIZE)
            os.ftruncate(self._entries, self._end)
            raise
        self._size += len(lines)
        self._end += len(data)
        self._frontier = frontier

    def _event(self, event: Intent) -> int:
        self._write_all([event], "event")
        return self._size - 1

    def _write_all(self, said: Iterable[Intent], kind: Literal["intent", "event"]) -> None:
        self._write(
            [
                entries.intent_line(index, self._now(), self.run, self._vouched(index, intent), kind=kind)
                for index, intent in enumerate(said, self._size)
            ]
        )

    def _vouched(self, index: int, intent: Intent) -> Intent:
        """What changes whom one trusts counts only under the log key (see ``audit.belief``)."""
        from medmail_cli.audit import belief

        if intent.action not in belief.ACTIONS:
            return intent
        said = belief.voucher(belief.belief_key(self._ensure_key().seed), index, intent)
        return replace(intent, facts={**intent.facts, belief.VOUCHED: said})

    def _store(self, size: int, stored: Sequence[bytes]) -> None:
        rest, position = memoryview(b"".join(stored)), tree.stored_count(size) * tree.HASH_SIZE
        while rest:
            written = os.pwrite(self._hashes, rest, position)
            rest, position = rest[written:], position + written

    def _stored(self, index: int) -> bytes:
        return os.pread(self._hashes, tree.HASH_SIZE, index * tree.HASH_SIZE)

    # --- runs ------------------------------------------------------------------------------------------

    def _register(self) -> None:
        """Close what dead runs left open, then leave a mark that this one lives."""
        files.sweep(self.folder)
        self._ensure_key()
        runs = self.folder / reader.RUNS
        if runs.is_symlink():
            raise MedmailError("store-damaged", path=str(runs))
        files.make_private(runs)
        for path in sorted(runs.iterdir()):
            self._bury(path)
        mark = runs / f"{self._size}-{self.run}"
        self._run_lock = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._run_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files.sync_folder(runs)
        self._run_file = mark

    def _bury(self, path: Path) -> None:
        descriptor = files.open_own(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # it lives
        else:
            start, _, run = path.name.partition("-")
            left = self._open_intents(run, int(start) if start.isdecimal() else 0)
            self._write(
                [
                    entries.outcome_line(self._size + i, self._now(), self.run, _interrupted(index), intent)
                    for i, (index, intent) in enumerate(left.items())
                ]
            )
            path.unlink()
            if left:
                self.notes.append(Note("audit-closed", {"count": len(left)}))
        finally:
            os.close(descriptor)

    def _open_intents(self, run: str, start: int) -> dict[int, Intent]:
        """The intents of a run without an outcome, among the entries from ``start`` on."""
        left: dict[int, Intent] = {}
        begin = reader.locate(self._entries, start, self._end)
        if begin is None:
            return left
        with os.fdopen(os.dup(self._entries), "rb") as file:
            file.seek(begin)
            for line in file:
                match = entries.HEADS.match(line)
                if match and match[4] == b"intent" and match[3] == run.encode():
                    entry = entries.parse(line)
                    left[entry.index] = Intent(entry.action, entry.actor, entry.objects, entry.facts)
                elif match and match[4] == b"outcome":
                    left.pop(int(match[5]), None)
        return left

    def signer(self) -> "LogSigner | None":
        """The log key, None where no log was begun. Raises ``log-key-damaged``."""
        try:
            begun = (self.folder / reader.ENTRIES).stat().st_size > 0
        except FileNotFoundError:
            begun = (self.folder / reader.CHECKPOINT).exists()
        return self._ensure_key(make=False) if begun else None

    # --- key and checkpoint ----------------------------------------------------------------------------

    def _ensure_key(self, *, make: bool = True) -> "LogSigner":
        return checkpoints.log_key(self.folder, begun=self._size > 0, make=make)

    def _sign(self) -> bytes:
        signer = self._ensure_key()
        last = self.checkpoint()
        if last is not None and parse(last).size == self._size:
            return last
        os.fsync(self._hashes)
        return checkpoints.write(self.folder, signer, self._size, tree.fold(self._frontier))

    def _damaged(self, index: int) -> MedmailError:
        return MedmailError("audit-damaged", path=str(self.folder / reader.ENTRIES), entry=index)


def _interrupted(index: int) -> Outcome:
    return Outcome(index, "interrupted", INTERRUPTED)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
