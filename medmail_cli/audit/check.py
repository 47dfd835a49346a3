"""Does a log hold together? A fast pass that says whether, and a thorough one that names what is wrong.

The pass hashes every line into a tree of its own and compares it with the stored hashes and with the
signed roots; that the lines are numbered in order and every outcome closes an intent is checked beside it.
Only where something differs does :func:`faults` look again, slowly, and name entries.
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from operator import gt
from typing import ClassVar, Literal

from medmail_cli.audit import tree
from medmail_cli.audit.checkpoint import Checkpoint
from medmail_cli.audit.entry import index_of
from medmail_cli.codes import DAMAGED

Problem = Literal[
    "changed", "removed", "moved", "repeated", "no-such-intent", "stored-hash", "rewritten", "unvouched"
]

ReadHashes = Callable[[int, int], bytes]
"""Gives some stored hashes, one after the other: from a position of the stored order, so many."""

FAULT_LIMIT = 1000
"""Faults named at most; a log with more is not read for the sake of more names."""

# HEADS of audit.entry without its care for detail, which the hashes take over here: half the time
_HEADS = re.compile(
    rb'\{"index":(\d{1,18}),"time":"([^"]{27})","run":"[^"]{16}"'
    rb',"kind":"(?:outcome","of":(\d{1,18})|(i)ntent"|event"),'
)


@dataclass(frozen=True)
class Fault:
    """What is wrong with entries ``entry`` to ``last``, or with what is stored for them in ``file``."""

    type: ClassVar[str] = "fault"
    problem: Problem
    entry: int
    last: int
    file: str
    exit: int = DAMAGED


@dataclass
class Scan:
    """What one pass over the lines found.

    ``roots`` are the lines' roots at the sizes asked for, ``mismatch`` is the first place of the stored
    order whose hash is not the lines', ``disordered`` that some line is not the entry its place demands,
    ``backwards`` the entries whose time is before that of the one above, ``intents`` those still open.
    """

    size: int = 0
    roots: dict[int, bytes] = field(default_factory=dict)
    mismatch: int | None = None
    disordered: bool = False
    orphans: list[int] = field(default_factory=list)
    backwards: list[int] = field(default_factory=list)
    intents: set[int] = field(default_factory=set)


def scan(
    blocks: Iterable[bytes], hashes: ReadHashes, hashed: int, sizes: Iterable[int]
) -> Generator[int, None, Scan]:
    """Pass over blocks of whole lines; yields how many entries are done, returns what was found.

    ``hashes`` reads the stored hashes, of which those of ``hashed`` entries count; ``sizes`` are those at
    which a root is wanted.
    """
    scanned = Scan()
    wanted = sorted(set(sizes), reverse=True)
    frontier: list[bytes] = []
    time = b""
    while wanted and wanted[-1] == 0:
        scanned.roots[wanted.pop()] = tree.EMPTY_ROOT
    for block in blocks:
        lines = block[:-1].split(b"\n")
        leaves = [sha256(b"\x00" + line).digest() for line in lines]
        first, done = scanned.size, 0
        while done < len(leaves):
            stop = len(leaves)
            if wanted:
                stop = min(stop, wanted[-1] - first)
            frontier, stored = tree.extend(first + done, frontier, leaves[done:stop])
            if scanned.mismatch is None:
                scanned.mismatch = _mismatch(first + done, stored, hashes, hashed)
            done = stop
            if wanted and wanted[-1] == first + done:
                scanned.roots[wanted.pop()] = tree.fold(frontier)
        scanned.size += len(lines)
        if not scanned.disordered:
            time = _read_heads(scanned, block, first, len(lines), time)
        yield scanned.size
    return scanned


def _mismatch(size: int, stored: list[bytes], hashes: ReadHashes, hashed: int) -> int | None:
    begin = tree.stored_count(size)
    count = min(len(stored), tree.stored_count(hashed) - begin)
    if count <= 0:
        return None
    there = hashes(begin, count)
    if there == b"".join(stored[:count]):
        return None
    width = tree.HASH_SIZE
    return begin + next(i for i in range(count) if there[i * width : (i + 1) * width] != stored[i])


def _read_heads(scanned: Scan, block: bytes, first: int, count: int, time: bytes) -> bytes:
    """Check one block's numbering, times and outcomes; the time of its last entry."""
    heads: list[tuple[bytes, bytes, bytes, bytes]] = _HEADS.findall(block)
    if len(heads) != count:
        scanned.disordered = True
        return time
    indices, times, closing, opening = zip(*heads, strict=True)
    if list(map(int, indices)) != list(range(first, first + count)):
        scanned.disordered = True
        return time
    if any(map(gt, (time, *times), times)):
        before = (time, *times)
        scanned.backwards += [first + i for i in range(count) if before[i] > times[i]]
    intents = scanned.intents
    for index, of, opens in zip(range(first, first + count), closing, opening, strict=True):
        if opens:
            intents.add(index)
        elif of:
            if int(of) in intents:
                intents.remove(int(of))
            else:
                scanned.orphans.append(index)
    last: bytes = times[-1]
    return last


def faults(
    scanned: Scan, lines: Iterable[bytes], read: tree.ReadHash, hashed: int, signed: Sequence[Checkpoint]
) -> list[Fault]:
    """What is wrong, by name; empty where the log holds together.

    ``lines`` are those that were scanned, without newlines (read only where something is wrong), ``read``
    gives stored hashes, ``signed`` are the checkpoints that must hold.
    """
    covered = max((checkpoint.size for checkpoint in signed), default=0)
    kept = (
        all(scanned.roots.get(checkpoint.size) == checkpoint.root for checkpoint in signed)
        and not scanned.disordered
    )
    named = [Fault("no-such-intent", index, index, "entries") for index in scanned.orphans[:FAULT_LIMIT]]
    if kept and scanned.mismatch is None and covered <= hashed <= scanned.size:
        return named
    if kept and hashed <= scanned.size:
        if scanned.mismatch is None:
            # the checkpoint is signed only after its hashes are durable: they were taken away
            return [*named, Fault("stored-hash", hashed, covered - 1, "hashes")]
        entry, last = _leaves(scanned.mismatch)
        if last < covered:
            return [*named, Fault("stored-hash", entry, last, "hashes")]
    named += _compare(lines, lambda index: read(tree.stored_index(0, index)), hashed)
    if scanned.size < covered and not any(fault.problem == "removed" for fault in named):
        named.append(Fault("removed", scanned.size, covered - 1, "entries"))
    if not named and scanned.mismatch is not None:
        # the leaves were changed with the lines, but not all of the tree above them
        named.append(Fault("changed", *_leaves(scanned.mismatch), "entries"))
    named += [
        Fault("rewritten", 0, checkpoint.size - 1, "entries")
        for checkpoint in signed
        if not named and scanned.roots.get(checkpoint.size) != checkpoint.root
    ]
    return named


def _leaves(stored: int) -> tuple[int, int]:
    """The first and last entry below a stored hash."""
    level, number = tree.stored_place(stored)
    return number << level, (number + 1 << level) - 1


def _compare(lines: Iterable[bytes], leaf: tree.ReadHash, hashed: int) -> Iterator[Fault]:
    """Lay the lines beside the stored leaf hashes; names what was changed, removed, moved or repeated."""
    missing: list[range] = []
    moved: list[int] = []
    limit = FAULT_LIMIT
    expected = 0
    for line in lines:
        digest = tree.leaf_hash(line)
        if expected < hashed and leaf(expected) == digest:
            expected += 1
            continue
        index = index_of(line)
        if index is not None and index < hashed and leaf(index) == digest:
            # the line is whole, it only does not belong here
            if index > expected:
                missing.append(range(expected, index))
                expected = index + 1
            elif any(index in gap for gap in missing) and index not in moved:
                moved.append(index)
            else:
                yield Fault("repeated", index, index, "entries")
                limit -= 1
        else:
            if expected < hashed or index != expected:
                yield Fault("changed", expected, expected, "entries")
                limit -= 1
            expected += 1
        if limit <= 0 or len(moved) + len(missing) > FAULT_LIMIT:
            return
    if expected < hashed:
        missing.append(range(expected, hashed))
    for index in sorted(moved):
        yield Fault("moved", index, index, "entries")
    for gap in missing:
        for first, last in _without(gap, sorted(index for index in moved if index in gap)):
            yield Fault("removed", first, last, "entries")


def _without(gap: range, taken: Sequence[int]) -> Iterator[tuple[int, int]]:
    """What is left of a range, as (first, last), when some of its numbers are taken out."""
    first = gap.start
    for index in [*taken, gap.stop]:
        if first < index:
            yield first, index - 1
        first = index + 1
