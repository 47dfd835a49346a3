"""The journal of a batch: what was asked for each person and what came, so that a killed run continues.

JSON Lines, appended and fsynced before what they announce is done. A shard writes a journal of its own and
reads all of them, so a roster may be cut otherwise next time. A line that a kill cut short ends a file; it
announced nothing yet and is written over.
"""

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from medmail_cli.errors import MedmailError
from medmail_cli.store import files

Step = Literal["asked", "refused", "received", "done"]
"""*asked*: a request for ``key`` leaves now; *refused*: it brought no certificate; *received*: it brought
``chain``; *done*: the person has every certificate there shall be."""
_NAME = re.compile(r"journal(-\d+-of-\d+)?\.jsonl")
_LOCK = re.compile(r"journal(?:-\d+-of-(\d+))?\.lock")
_LARGEST_LINE = 1 << 20


@dataclass
class State:
    """What the journal knows of one person.

    ``unanswered`` counts requests of which it is not known whether they brought a certificate, and those
    that brought one for a key which was made anew since. ``abandoned`` counts those among them whose key is
    not used any more: asking again with the key in use cannot settle them.
    """

    asked: int = 0
    unanswered: int = 0
    abandoned: int = 0
    pending: str = ""
    """The key whose request has not been answered."""
    chains: tuple[tuple[bytes, ...], ...] = ()
    """Each certificate received (DER) and those above it, not yet handed over."""
    done: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Record:
    """One line: a person, by the address compared caselessly, and what happened."""

    person: str
    step: Step
    facts: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """The journal of one shard in ``folder``; a context that holds its lock.

    Raises ``store-busy`` where another process writes the same shard's, or one of another number of
    shards, whose people are these too; ``store-damaged``.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] = (0, 1)) -> None:
        index, count = shard
        name = "journal.jsonl" if count == 1 else f"journal-{index}-of-{count}.jsonl"
        self._folder, self._path, self._count = folder, folder / name, count
        self.states: dict[str, State] = {}
        self._stack = ExitStack()
        self._file = -1

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What the journals of all shards say now, for looking only. Raises ``store-damaged``."""
        journal = cls(folder)
        if folder.is_dir():
            journal._read_all()
        return journal

    def __enter__(self) -> Self:
        files.make_private(self._folder)
        with ExitStack() as stack:
            stack.enter_context(files.lock(self._path.with_suffix(".lock"), wait=1.0))
            self._nobody_divides_otherwise()
            if (whole := self._read_all()) is not None:
                os.truncate(self._path, whole)
            with files.disk_errors(self._path):
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._file = os.open(self._path, flags, 0o600)
                stack.callback(os.close, self._file)
                files.sync_folder(self._folder)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _nobody_divides_otherwise(self) -> None:
        """Each takes its own lock first, so that of two that begin together one sees the other."""
        for path in sorted(self._folder.iterdir()):
            match = _LOCK.fullmatch(path.name)
            if match and int(match.group(1) or 1) != self._count:
                with files.lock(path, wait=1.0):
                    pass

    def state(self, person: str) -> State:
        """What is known of a person."""
        return self.states.setdefault(person, State())

    def add(self, records: Iterable[Record]) -> None:
        """Write records down, durable on return. Raises ``disk-full``, ``not-writable``."""
        group = list(records)
        lines = [
            json.dumps({"person": record.person, "step": record.step, **record.facts}, ensure_ascii=True)
            + "\n"
            for record in group
        ]
        if not group:
            return
        with files.disk_errors(self._path):
            whole = os.fstat(self._file).st_size
            rest = memoryview("".join(lines).encode())
            try:
                while rest:
                    rest = rest[os.write(self._file, rest) :]
                os.fsync(self._file)
            except OSError:
                # part of a line would spoil the one written after it
                os.ftruncate(self._file, whole)
                raise
        for record in group:
            self._apply(record)

    def _read_all(self) -> int | None:
        """Take in every shard's journal; how many octets of our own are whole lines, if there is one."""
        own = None
        for path in sorted(self._folder.iterdir()):
            if _NAME.fullmatch(path.name):
                whole = self._read(path)
                own = whole if path == self._path else own
        return own

    def _read(self, path: Path) -> int:
        """Take in a journal; how many of its octets are whole lines."""
        whole = 0
        with path.open("rb") as stream:
            for line in iter(lambda: stream.readline(_LARGEST_LINE), b""):
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                try:
                    values = json.loads(line)
                    self._apply(Record(values.pop("person"), values.pop("step"), values))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise MedmailError("store-damaged", path=str(path)) from error
        return whole

    def _apply(self, record: Record) -> None:
        state = self.state(record.person)
        match record.step:
            case "asked":
                key = str(record.facts["key"])
                state.asked += 1
                # the one before was neither refused nor answered
                state.unanswered += bool(state.pending)
                state.abandoned += state.pending not in ("", key)
                state.pending, state.done = key, None
            case "refused":
                state.pending = ""
            case "received":
                state.pending = ""
                chain = tuple(
                    base64.b64decode(certificate, validate=True) for certificate in record.facts["chain"]
                )
                state.chains = (*state.chains, chain)
            case "done":
                # those that came for a key that was made anew meanwhile
                left = len(state.chains) - len(record.facts["certificates"])
                state.unanswered += left
                state.abandoned += left
                state.chains, state.done = (), dict(record.facts)
            case _:
                raise ValueError(record.step)


def received(person: str, chain: Iterable[bytes]) -> Record:
    """The record of a certificate (DER) that came, and those above it."""
    return Record(
        person, "received", {"chain": [base64.b64encode(certificate).decode() for certificate in chain]}
    )
