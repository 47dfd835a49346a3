"""``medmail audit``: what happened, whether the log holds together, and proofs for others."""

import base64
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.audit import belief, check, tree
from medmail_cli.audit import checkpoint as checkpoints
from medmail_cli.audit import entry as entries
from medmail_cli.audit import proof as proofs
from medmail_cli.audit.check import Fault
from medmail_cli.audit.entry import Fact
from medmail_cli.codes import DAMAGED
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.model import Note, Progress
from medmail_cli.store import files
from medmail_cli.store.keys import seal
from medmail_cli.store.log import reader
from medmail_cli.store.trust import believed

if TYPE_CHECKING:
    from medmail_cli.store.keys.keystore import Keystore
    from medmail_cli.store.log.writer import AuditLog
    from medmail_cli.store.trust.anchors import Trust
    from medmail_cli.store.trust.believed import Believed
    from medmail_cli.store.trust.contacts import Contacts

__all__ = ["AuditEntry", "AuditFile", "Fault", "LogState", "SignedCheckpoint", "SignedProof"]

_FILES = {"entries": reader.ENTRIES, "hashes": reader.HASHES}


@dataclass(frozen=True)
class AuditEntry:
    """One entry of the log."""

    type: ClassVar[str] = "entry"
    index: int
    time: datetime
    run: str
    kind: Literal["intent", "outcome", "event"]
    actor: str
    action: str
    objects: tuple[str, ...]
    of: int | None
    outcome: str | None
    exit_code: int | None
    reply: str | None
    facts: Mapping[str, Fact]
    nonce: str


@dataclass(frozen=True)
class LogState:
    """What `audit verify` found; ``contradicted``: the log is whole, and the home's trust is another.

    ``root`` is in base64, ``signed`` and ``kept`` are sizes checkpoints cover.

    ``kept`` is None where no checkpoint from elsewhere was given, ``unfinished`` counts intents without an
    outcome.
    """

    type: ClassVar[str] = "log"
    status: Literal["intact", "damaged", "contradicted"]
    entries: int
    origin: str | None
    root: str | None
    signed: int
    kept: int | None
    unfinished: int
    exit: int


@dataclass(frozen=True)
class DamagedFile:
    """A file of the log, other than its entries, that is not what it was."""

    type: ClassVar[str] = "damaged-file"
    code: str
    path: Path
    exit: int


@dataclass(frozen=True)
class SignedCheckpoint:
    """A checkpoint as a signed note, with what it says; ``root`` in base64, ``key`` a C2SP verifier key."""

    type: ClassVar[str] = "checkpoint"
    note: str
    origin: str
    size: int
    root: str
    key: str


@dataclass(frozen=True)
class SignedProof:
    """An entry's proof: its line, Merkle path (base64, leaf's sibling first), checkpoint, verifier key.

    ``proof`` is all of it as a C2SP tlog-proof.
    """

    type: ClassVar[str] = "proof"
    index: int
    line: str
    leaf: str
    path: tuple[str, ...]
    checkpoint: str
    key: str
    proof: str


@dataclass(frozen=True)
class Salt:
    """The salt (hex) of a letter's commitment: SHA-256(salt ‖ signed entity) is ``commitment``."""

    type: ClassVar[str] = "salt"
    index: int
    salt: str
    commitment: str


@dataclass(frozen=True)
class AuditFile:
    """An output file written, or found there already as it should be."""

    type: ClassVar[str] = "file"
    path: Path
    status: Literal["written", "unchanged"]
    exit: int = 0


def read_entries(
    folder: Path, *, since: datetime | None = None, action: str | None = None, last: int | None = None
) -> Iterator[AuditEntry]:
    """The log's entries, oldest first: those from ``since`` on, those of one action, the last few of them.

    Raises ``audit-damaged`` at a line that is no entry.
    """
    kept: list[AuditEntry] = []
    with reader.snapshot(folder) as log:
        if log is None:
            return
        first = 0
        if last is not None and since is None and action is None:
            first = max(0, (log.size or 0) - last)
        start = log.begin(first) or 0
        for number, line in enumerate(log.lines(start), first if start else 0):
            try:
                entry = entries.parse(line)
            except MedmailError:
                path = str(folder / reader.ENTRIES)
                raise MedmailError("audit-damaged", path=path, entry=number) from None
            if (since and entry.time < since) or (action and entry.action != action):
                continue
            if last is None:
                yield _shown(entry)
            else:
                kept.append(_shown(entry))
                # let the list grow to twice what is asked for rather than shift it at every entry
                if len(kept) > 2 * last + 1000:
                    del kept[: len(kept) - last]
    if last:
        yield from kept[-last:]


def _shown(entry: entries.Entry) -> AuditEntry:
    return AuditEntry(
        index=entry.index,
        time=entry.time,
        run=entry.run,
        kind=entry.kind,
        actor=entry.actor,
        action=entry.action,
        objects=entry.objects,
        of=entry.of,
        outcome=entry.outcome,
        exit_code=entry.exit,
        reply=entry.reply,
        facts=entry.facts,
        nonce=entry.nonce,
    )


def verify(
    folder: Path, kept: bytes | None = None, home: "Home | None" = None
) -> Iterator[Note | Progress | Fault | DamagedFile | LogState]:
    """Check the whole log in ``folder``, and that it continues the checkpoint ``kept`` elsewhere.

    Of a ``home`` also that whom it trusts stands in the log. Changes nothing. Raises ``malformed``
    where ``kept`` is no signed checkpoint.
    """
    if kept is not None:
        checkpoints.parse(kept)
    with reader.snapshot(folder) as log:
        if log is None:
            if kept is not None:
                raise MedmailError("audit-damaged", path=str(folder / reader.ENTRIES), entry=0)
            yield Note("audit-none", {"path": str(folder)})
            return
        damaged, verifier = _check_key(folder, log)
        signed: list[checkpoints.Checkpoint] = []
        sizes: list[int | None] = []
        for path, note in ((folder / reader.CHECKPOINT, log.checkpoint), (None, kept)):
            sizes.append(None)
            if note is None or verifier is None:
                continue
            try:
                signed.append(checkpoints.verify(note, verifier))
                sizes[-1] = signed[-1].size
            except MedmailError as error:
                if path is None and error.code == "other-log":
                    raise
                damaged.append(_damaged("store-damaged", path or Path("--checkpoint")))
        yield from damaged
        passing = check.scan(
            log.blocks(), log.stored_hashes, log.hashed, (checkpoint.size for checkpoint in signed)
        )
        while True:
            try:
                yield Progress(next(passing), log.size or 0, "entries")
            except StopIteration as stop:
                scanned: check.Scan = stop.value
                break
        wrong = check.faults(scanned, log.lines(), log.stored, log.hashed, signed)
        for fault in wrong:
            yield Fault(fault.problem, fault.entry, fault.last, _FILES[fault.file])
        yield from _notes(log, scanned, sizes[0])
        intact = not wrong and not damaged
        astray = list(_astray(folder, verifier, home)) if intact and home is not None else []
        yield from astray
        own = [checkpoint for checkpoint in signed if checkpoint.size == sizes[0]]
        yield LogState(
            status="damaged" if not intact else "contradicted" if astray else "intact",
            entries=scanned.size,
            origin=verifier.name if verifier else None,
            root=base64.b64encode(own[0].root).decode() if own else None,
            signed=sizes[0] or 0,
            kept=sizes[1],
            unfinished=len(scanned.intents),
            exit=0 if intact and not astray else DAMAGED,
        )


@dataclass(frozen=True)
class Home:
    """What stands beside a log and must be as it says; as the audit log's own reader sees it."""

    believed: "Believed"
    trust: "Trust"
    contacts: "Contacts"
    keystore: "Keystore"


def _astray(
    folder: Path, verifier: checkpoints.LogVerifier | None, home: Home
) -> Iterator[Fault | DamagedFile]:
    """Trust that the log knows nothing of, or that it says was remembered and is gone."""
    private = folder / reader.KEY
    if verifier is None or not private.exists():
        return  # a copy for an auditor
    key = belief.belief_key(checkpoints.parse_skey(files.read_own(private).decode()).seed)
    _, strange = believed.read_on(folder, belief.Belief(verifier.name, first=0), key)
    for index in strange:
        yield Fault("unvouched", index, index, reader.ENTRIES)
    if home.believed.is_older:
        return  # nothing of it stands in the log so far
    for path in (*home.trust.unlogged(), *home.contacts.unlogged()):
        yield _damaged("unlogged-trust", path)
    for path in home.trust.missing():
        yield _damaged("revocations-missing", path)
    try:
        home.keystore.revoked()
    except MedmailError as error:
        yield _damaged(error.code, Path(str(error.facts["path"])))


def _damaged(code: str, path: Path) -> DamagedFile:
    return DamagedFile(code, path, exit_of(code))


def _check_key(
    folder: Path, log: reader.Snapshot
) -> tuple[list[DamagedFile], checkpoints.LogVerifier | None]:
    """The log's public key, and what is wrong with the key files; a copy without the private one is fine."""
    damaged = []
    verifier = None
    path = folder / reader.PUBLIC_KEY
    try:
        verifier = reader.read_verifier(folder, log.verifier_key)
    except MedmailError as error:
        # a log killed before its first entry has no key yet
        if log.size or log.checkpoint is not None:
            damaged.append(_damaged(error.code, path))
    private = folder / reader.KEY
    try:
        signer = checkpoints.parse_skey(files.read_own(private).decode("utf-8", "replace"))
        if verifier is not None and signer.verifier != verifier:
            damaged.append(_damaged("log-key-damaged", private))
    except (FileNotFoundError, PermissionError):
        pass
    except MedmailError:
        damaged.append(_damaged("log-key-damaged", private))
    return damaged, verifier


def _notes(log: reader.Snapshot, scanned: check.Scan, signed: int | None) -> Iterator[Note]:
    if log.torn:
        yield Note("audit-torn", {"bytes": log.torn})
    if scanned.backwards:
        yield Note("audit-clock", {"count": len(scanned.backwards), "entry": scanned.backwards[0]})
    if scanned.size > (signed or 0):
        yield Note("audit-not-covered", {"count": scanned.size - (signed or 0)})


def sign_checkpoint(log: "AuditLog") -> SignedCheckpoint:
    """A signed checkpoint over the whole log; a new one is signed only where the last covers less.

    Raises ``not-found`` where no log was ever begun, ``store-damaged``, and what appending raises.
    """
    with reader.snapshot(log.folder) as view:
        if view is None:
            raise MedmailError("not-found", what="audit log", name=str(log.folder))
        verifier = reader.read_verifier(log.folder, view.verifier_key)
        note = view.checkpoint
        try:
            covered = checkpoints.verify(note, verifier).size if note is not None else -1
        except MedmailError:
            path = log.folder / reader.CHECKPOINT
            raise MedmailError("store-damaged", path=str(path)) from None
        size = view.size
    if note is None or covered != size:
        note = log.sign()
    return _signed(note, verifier)


def _signed(note: bytes, verifier: checkpoints.LogVerifier) -> SignedCheckpoint:
    signed = checkpoints.verify(note, verifier)
    root = base64.b64encode(signed.root).decode()
    return SignedCheckpoint(note.decode(), signed.origin, signed.size, root, verifier.vkey())


def prove(log: "AuditLog", index: int) -> SignedProof:
    """A proof that entry ``index`` is in the log, under a signed checkpoint.

    Raises ``not-found`` where there is no such entry, ``audit-damaged`` where it is not what was logged.
    """
    signed = sign_checkpoint(log)
    path = str(log.folder / reader.ENTRIES)
    with reader.snapshot(log.folder) as view:
        if view is None or not 0 <= index < signed.size:
            raise MedmailError("not-found", what="entry", name=str(index))
        line = view.line(index)
        if line is None:
            raise MedmailError("audit-damaged", path=path, entry=index)
        nodes = tree.inclusion_proof(index, signed.size, view.stored)
    proof = proofs.Proof(line, index, tuple(nodes), signed.note.encode())
    try:
        proofs.verify(proof, checkpoints.parse_vkey(signed.key))
    except MedmailError:
        raise MedmailError("audit-damaged", path=path, entry=index) from None
    return SignedProof(
        index=index,
        line=line.decode("utf-8", "backslashreplace"),
        leaf=base64.b64encode(tree.leaf_hash(line)).decode(),
        path=tuple(base64.b64encode(node).decode() for node in nodes),
        checkpoint=signed.note,
        key=signed.key,
        proof=proofs.encode(proof).decode(),
    )


def salt(proof: SignedProof, key: bytes) -> Salt:
    """The salt of the letter that a proved entry is about; ``key`` is the keystore's for salts.

    Raises ``not-found`` where the entry has none or it was sealed by another keystore.
    """
    facts = entries.parse(proof.line.encode()).facts
    commitment = str(facts.get("commitment") or "")
    with contextlib.suppress(ValueError):
        opened = seal.opened_line(key, facts.get("sealed_salt"), commitment.encode())
        if opened is not None:
            return Salt(proof.index, opened.hex(), commitment)
    raise MedmailError("not-found", what="salt", name=str(proof.index))


def export(folder: Path) -> Iterator[bytes]:
    """The entries' lines as they stand in the log, in blocks: what the tree's leaves are the hashes of."""
    with reader.snapshot(folder) as log:
        if log is not None:
            yield from log.blocks()


def write_file(path: Path, data: bytes, *, force: bool) -> AuditFile:
    """Write an output file. Raises ``exists``, ``disk-full``, ``not-writable``."""
    return AuditFile(path, "written" if files.write_output(path, data, force=force) else "unchanged")
