"""The audit log's folder, read: where what stands, and one consistent view of it.

=================  ==============================================================================
entries.jsonl      an entry a line, appended only; writers lock this file
hashes             the tree's stored hashes (``audit.tree``), 32 bytes each; rebuilt if short
checkpoint         the signed checkpoint of the last run
key, key.pub       the log key (0600) and its verifier key line
reserve            room on the disk, given up for the record of what frees some
runs/START-RUN     held locked by a run as long as it lives; START is the size of the log it found
=================  ==============================================================================

No file of it is opened through a link: what stands in its place is ``store-damaged``.

Nothing here writes: a log on a read-only copy can be read and verified.
"""

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from medmail_cli.audit import checkpoint as checkpoints
from medmail_cli.audit import entry as entries
from medmail_cli.audit.tree import HASH_SIZE, size_of_stored
from medmail_cli.errors import MedmailError, not_readable
from medmail_cli.store import files

ENTRIES, HASHES, CHECKPOINT, KEY, PUBLIC_KEY, RUNS = (
    "entries.jsonl",
    "hashes",
    "checkpoint",
    "key",
    "key.pub",
    "runs",
)
LOCK_WAIT = 30.0
"""Seconds to wait for other processes' appends, each of which takes milliseconds."""

_CHUNK = 1 << 16
_BLOCK = 1 << 17  # stays in the cache
_NEWLINE = ord("\n")


@contextlib.contextmanager
def locked(descriptor: int, path: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the log's lock through an open descriptor of its entries. Raises ``store-busy``."""
    files.wait_for_lock(descriptor, path, exclusive=exclusive, wait=LOCK_WAIT, pause=0.002)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def last_line(descriptor: int, end: int) -> tuple[bytes, int]:
    """The last whole line (no newline) before ``end``, and where the whole lines end.

    Bytes between that place and ``end`` are a torn write. The line is empty where there is none.
    """
    tail, start = b"", end
    while start and tail.count(b"\n") < 2:  # the newline before and the one after
        step = min(_CHUNK, start)
        start -= step
        tail = os.pread(descriptor, step, start) + tail
    whole = tail.rfind(b"\n") + 1
    if not whole:
        return b"", 0
    begin = tail.rfind(b"\n", 0, whole - 1) + 1
    return tail[begin : whole - 1], start + whole


def locate(descriptor: int, index: int, end: int) -> int | None:
    """Where the line of entry ``index`` begins before ``end``, found by bisection; None where it is not."""
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        begin = _line_start(descriptor, middle)
        line = _line_at(descriptor, begin, end)
        number = entries.index_of(line)
        if number is None:
            return None
        if number == index:
            return begin
        if number < index:
            low = begin + len(line) + 1
        else:
            high = begin
    return None


def _line_start(descriptor: int, position: int) -> int:
    while position:
        step = min(4096, position)
        newline = os.pread(descriptor, step, position - step).rfind(b"\n")
        if newline >= 0:
            return position - step + newline + 1
        position -= step
    return 0


def _line_at(descriptor: int, begin: int, end: int) -> bytes:
    line = b""
    while begin + len(line) < end:
        part = os.pread(descriptor, min(4096, end - begin - len(line)), begin + len(line))
        newline = part.find(b"\n")
        if newline >= 0:
            return line + part[:newline]
        if not part:
            break
        line += part
    return line


@dataclass(frozen=True)
class Snapshot:
    """The log as it stood at one moment; later appends do not show.

    ``end`` is where its whole lines end, ``torn`` how many bytes of a torn last write follow,
    ``hashed`` how many entries the stored hashes cover.
    """

    folder: Path
    file: BinaryIO
    end: int
    torn: int
    size: int | None
    hashes: bytes | mmap.mmap
    hashed: int
    checkpoint: bytes | None
    verifier_key: str | None

    def blocks(self, start: int = 0) -> Iterator[bytes]:
        """The lines from a place on, in blocks of whole lines."""
        self.file.seek(start)
        left = self.end - start
        while left:
            block = self.file.read(min(_BLOCK, left))
            if not block:
                return  # cut off meanwhile: whoever reads finds entries missing
            if block[-1] != _NEWLINE:
                block += self.file.readline(left - len(block))
            left -= len(block)
            yield block

    def lines(self, start: int = 0) -> Iterator[bytes]:
        """The lines from a place on, without their newlines."""
        for block in self.blocks(start):
            yield from block[:-1].split(b"\n")

    def stored(self, index: int) -> bytes:
        """The stored hash at a position of the stored order."""
        return self.hashes[index * HASH_SIZE : (index + 1) * HASH_SIZE]

    def stored_hashes(self, index: int, count: int) -> bytes:
        """Several stored hashes, one after the other."""
        return self.hashes[index * HASH_SIZE : (index + count) * HASH_SIZE]

    def line(self, index: int) -> bytes | None:
        """The line of entry ``index`` without its newline, or None."""
        begin = locate(self.file.fileno(), index, self.end)
        return None if begin is None else _line_at(self.file.fileno(), begin, self.end)

    def begin(self, index: int) -> int | None:
        """Where the line of entry ``index`` begins, or None."""
        return locate(self.file.fileno(), index, self.end)


@contextlib.contextmanager
def snapshot(folder: Path) -> Iterator[Snapshot | None]:
    """A consistent view of the log in ``folder``; None where none was ever begun.

    Raises ``store-busy``, and ``audit-damaged`` where entries are gone while the rest of the log stands.
    """
    path = folder / ENTRIES
    try:
        file = os.fdopen(files.open_own(path), "rb")
    except FileNotFoundError:
        if (folder / HASHES).exists() or (folder / CHECKPOINT).exists():
            raise MedmailError("audit-damaged", path=str(path), entry=0) from None
        yield None
        return
    except OSError as error:
        raise not_readable(path, error) from None
    with file, contextlib.ExitStack() as stack:
        with locked(file.fileno(), path, exclusive=False):
            length = os.fstat(file.fileno()).st_size
            last, end = last_line(file.fileno(), length)
            hashes = _map(folder / HASHES, stack)
            checkpoint = _read(folder / CHECKPOINT)
            verifier_key = _read(folder / PUBLIC_KEY)
        index = entries.index_of(last) if end else -1
        yield Snapshot(
            folder=folder,
            file=file,
            end=end,
            torn=length - end,
            size=None if index is None else index + 1,
            hashes=hashes,
            hashed=size_of_stored(len(hashes) // HASH_SIZE),
            checkpoint=checkpoint,
            verifier_key=None if verifier_key is None else verifier_key.decode("utf-8", "replace"),
        )


def _map(path: Path, stack: contextlib.ExitStack) -> bytes | mmap.mmap:
    try:
        file = stack.enter_context(os.fdopen(files.open_own(path), "rb"))
    except FileNotFoundError:
        return b""
    if not os.fstat(file.fileno()).st_size:
        return b""
    return stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _read(path: Path) -> bytes | None:
    try:
        return files.read_own(path)
    except FileNotFoundError:
        return None


def read_verifier(folder: Path, text: str | None) -> checkpoints.LogVerifier:
    """The log's verifier key. Raises ``public-log-key-damaged`` where it is missing or not one."""
    try:
        if text is not None:
            return checkpoints.parse_vkey(text)
    except MedmailError:
        pass
    raise MedmailError("public-log-key-damaged", path=str(folder / PUBLIC_KEY))
