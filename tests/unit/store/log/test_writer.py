"""The audit log on disk: nothing in it changes unnoticed, and what a crash leaves is repaired."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medmail_cli.audit import checkpoint as checkpoints
from medmail_cli.audit.entry import parse
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.model import Note
from medmail_cli.store.log.writer import AuditLog, Intent, Outcome
from medmail_cli.workflows import audit
from medmail_cli.workflows.audit import DamagedFile, Fault, LogState

pytestmark = pytest.mark.thorough

ENTRIES = 7


def now() -> datetime:
    return datetime.now(UTC)


def fill(folder: Path, pairs: int = 3) -> None:
    with AuditLog(folder, now) as log:
        for number in range(pairs):
            intent = log.intent("send", actor="dr.martin@medecin.test", recipient=f"{number}@labo.test")
            log.outcome(intent, "done", exit=0, reply="250 2.0.0 Ok")
        log.event("demo")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of seven entries, closed: to be copied, never changed."""
    folder = tmp_path_factory.mktemp("sample") / "audit"
    fill(folder)
    return folder


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    shutil.copytree(sample, tmp_path / "audit")
    return tmp_path / "audit"


def judge(folder: Path, kept: bytes | None = None) -> tuple[LogState, list[Fault], list[DamagedFile]]:
    """(state, faults, damaged files) of a verification."""
    found = list(audit.verify(folder, kept))
    (state,) = [one for one in found if isinstance(one, LogState)]
    faults = [one for one in found if isinstance(one, Fault)]
    files = [one for one in found if isinstance(one, DamagedFile)]
    assert (state.status == "intact") == (not faults and not files) == (state.exit == 0)
    assert all(one.exit == 7 for one in faults + files)
    return state, faults, files


def forsake(log: AuditLog) -> None:
    """Let a run end without signing, and nobody notice."""
    assert log._run_file is not None
    log._run_file.unlink()
    log._run_file = None


def lines_of(folder: Path) -> list[bytes]:
    return (folder / "entries.jsonl").read_bytes().splitlines(keepends=True)


def replace_lines(folder: Path, lines: list[bytes]) -> None:
    (folder / "entries.jsonl").write_bytes(b"".join(lines))


def test_intact(folder: Path) -> None:
    state, _, _ = judge(folder)
    assert (state.entries, state.signed, state.kept, state.unfinished) == (ENTRIES, ENTRIES, None, 0)
    state, _, _ = judge(folder, (folder / "checkpoint").read_bytes())
    assert state.kept == ENTRIES


def test_modes(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("key", "entries.jsonl", "hashes"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_every_changed_byte_of_an_entry_is_named(folder: Path) -> None:
    path = folder / "entries.jsonl"
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        changed = good[:place].count(b"\n")
        _, faults, _ = judge(folder)
        assert changed in {fault.entry for fault in faults}, place
        assert {fault.entry for fault in faults} <= {changed, changed + 1}, place


def test_every_changed_byte_beside_the_entries_is_named(folder: Path) -> None:
    for name in ("hashes", "checkpoint", "key", "key.pub"):
        path = folder / name
        good = path.read_bytes()
        for place in range(len(good)):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            _, faults, files = judge(folder)
            assert {fault.file for fault in faults} | {file.path.name for file in files} == {name}, place
            if name != "hashes":  # of which an append reads a few only
                with pytest.raises(MedmailError) as error, AuditLog(folder, now) as log:
                    log.event("more")
                codes = {"key": "log-key-damaged", "key.pub": "public-log-key-damaged"}
                assert error.value.code == codes.get(name, "store-damaged")
        path.write_bytes(good)


@pytest.mark.parametrize("gone", range(ENTRIES))
def test_a_removed_entry_is_named(folder: Path, gone: int) -> None:
    lines = lines_of(folder)
    del lines[gone]
    replace_lines(folder, lines)
    _, faults, _ = judge(folder)
    assert [(fault.problem, fault.entry, fault.last) for fault in faults] == [("removed", gone, gone)]


@pytest.mark.parametrize("left", range(ENTRIES))
def test_removed_entries_that_a_checkpoint_covers(folder: Path, left: int) -> None:
    """The end of the log taken away, hashes and all: the checkpoint tells, whichever is at hand."""
    kept = (folder / "checkpoint").read_bytes()
    replace_lines(folder, lines_of(folder)[:left])
    os.truncate(folder / "hashes", 32 * (2 * left - left.bit_count()))
    for remove in (False, True):
        if remove:
            (folder / "checkpoint").unlink()
        _, faults, _ = judge(folder, kept if remove else None)
        assert [(fault.problem, fault.entry, fault.last) for fault in faults] == [
            ("removed", left, ENTRIES - 1)
        ]


def test_every_exchange_of_two_entries_is_named(folder: Path) -> None:
    lines = lines_of(folder)
    for first in range(ENTRIES):
        for second in range(first + 1, ENTRIES):
            changed = list(lines)
            changed[first], changed[second] = changed[second], changed[first]
            replace_lines(folder, changed)
            _, faults, _ = judge(folder)
            named = {fault.entry for fault in faults}
            assert named & {first, second}
            assert all(fault.problem == "moved" for fault in faults)


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_other_order_or_choice_of_lines_is_damage(
    sample: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lines = lines_of(sample)
    choice = data.draw(st.lists(st.integers(0, ENTRIES - 1), max_size=ENTRIES + 2))
    copy = tmp_path_factory.mktemp("copy") / "audit"
    shutil.copytree(sample, copy)
    replace_lines(copy, [lines[index] for index in choice])
    state, faults, _ = judge(copy)
    assert (state.status == "intact") == (choice == list(range(ENTRIES)))
    assert bool(faults) == (state.status == "damaged")


def rewrite(folder: Path, index: int, *, nodes: bool) -> None:
    """What someone would do who knows the format: change an entry and its hash, and perhaps the tree."""
    from medmail_cli.audit import tree

    lines = [line[:-1] for line in lines_of(folder)]
    lines[index] = lines[index].replace(b"labo.test", b"evil.test").replace(b'"demo"', b'"nemo"')
    replace_lines(folder, [line + b"\n" for line in lines])
    hashes = bytearray((folder / "hashes").read_bytes())
    leaves = [tree.leaf_hash(line) for line in lines]
    if nodes:
        hashes[:] = b"".join(tree.extend(0, [], leaves)[1])
    else:
        place = tree.stored_index(0, index) * 32
        hashes[place : place + 32] = leaves[index]
    (folder / "hashes").write_bytes(hashes)


@pytest.mark.parametrize("index", [0, 2, 4, 6])
@pytest.mark.parametrize("nodes", [False, True])
def test_an_entry_changed_with_its_hash(folder: Path, index: int, nodes: bool) -> None:
    rewrite(folder, index, nodes=nodes)
    _, faults, _ = judge(folder)
    (fault,) = faults
    assert fault.entry <= index <= fault.last
    assert fault.problem == ("rewritten" if nodes or index == 6 else "changed")


def test_a_log_rewritten_and_signed_anew_is_found_by_a_checkpoint_kept_elsewhere(folder: Path) -> None:
    kept = (folder / "checkpoint").read_bytes()
    rewrite(folder, 2, nodes=True)
    (folder / "checkpoint").unlink()
    with AuditLog(folder, now) as log:
        log.event("more")
    assert judge(folder)[0].status == "intact"
    _, (fault,), _ = judge(folder, kept)
    assert (fault.problem, fault.entry, fault.last) == ("rewritten", 0, ENTRIES - 1)


def test_another_logs_checkpoint(folder: Path, tmp_path: Path) -> None:
    fill(tmp_path / "other")
    with pytest.raises(MedmailError) as error:
        judge(folder, (tmp_path / "other" / "checkpoint").read_bytes())
    assert error.value.code == "other-log"
    with pytest.raises(MedmailError) as error:
        judge(folder, b"nonsense")
    assert error.value.code == "malformed"


def test_an_old_checkpoint_covers_the_beginning(folder: Path) -> None:
    old = (folder / "checkpoint").read_bytes()
    fill(folder)
    state, _, _ = judge(folder, old)
    assert (state.kept, state.signed, state.entries) == (ENTRIES, 2 * ENTRIES, 2 * ENTRIES)


def test_every_torn_write_is_repaired_and_reported(folder: Path) -> None:
    path = folder / "entries.jsonl"
    good, hashes = path.read_bytes(), (folder / "hashes").read_bytes()
    checkpoint = (folder / "checkpoint").read_bytes()
    with AuditLog(folder, now) as log:
        log.event("last")
        forsake(log)
    whole, more_hashes = path.read_bytes(), (folder / "hashes").read_bytes()
    for end in range(len(good) + 1, len(whole) + 1):
        # where the entry is whole, its hashes may be there, torn or missing
        for stored in {len(hashes)} if end < len(whole) else range(len(hashes), len(more_hashes) + 1):
            path.write_bytes(whole[:end])
            (folder / "hashes").write_bytes(more_hashes[:stored])
            assert judge(folder)[0].status == "intact"
            with AuditLog(folder, now) as log:
                log.event("next")
            torn = end - len(good) if end < len(whole) else 0
            assert [note.facts for note in log.notes if note.code == "audit-repaired"] == (
                [{"bytes": torn}] if torn else []
            )
            actions = [parse(line).action for line in lines_of(folder)[ENTRIES:]]
            assert actions == (["repair", "next"] if torn else ["last", "next"])
            state, _, _ = judge(folder)
            assert (state.status, state.signed) == ("intact", state.entries)
            # back to before
            (folder / "checkpoint").write_bytes(checkpoint)


def test_hashes_are_rebuilt_from_entries(folder: Path) -> None:
    good = (folder / "hashes").read_bytes()
    (folder / "hashes").unlink()
    assert judge(folder)[1][0].problem == "stored-hash"
    with AuditLog(folder, now) as log:
        log.event("next")
    assert (folder / "hashes").read_bytes().startswith(good)
    assert judge(folder)[0].status == "intact"


def test_zeros_where_a_power_cut_lost_hashes(folder: Path) -> None:
    with AuditLog(folder, now) as log:
        for _ in range(5):
            log.event("lost")
        forsake(log)
    hashes = bytearray((folder / "hashes").read_bytes())
    hashes[-96:] = bytes(96)
    (folder / "hashes").write_bytes(hashes)
    with AuditLog(folder, now) as log:
        log.event("next")
    assert judge(folder)[0].status == "intact"


def test_a_log_without_its_entries_or_key(folder: Path) -> None:
    key = (folder / "key").read_bytes()
    (folder / "key").unlink()
    with pytest.raises(MedmailError) as error:
        AuditLog(folder, now).event("more")
    assert error.value.code == "log-key-damaged"
    assert judge(folder)[0].status == "intact"  # a copy given to an auditor has no private key
    (folder / "key").write_bytes(key)
    (folder / "entries.jsonl").unlink()
    with pytest.raises(MedmailError) as error:
        judge(folder)
    assert error.value.code == "audit-damaged"
    with pytest.raises(MedmailError) as error:
        AuditLog(folder, now).event("more")
    assert error.value.code == "audit-damaged"


@pytest.mark.parametrize("name", ["entries.jsonl", "hashes", "checkpoint", "key", "key.pub", "runs"])
@pytest.mark.parametrize("instead", ["link", "pipe"])
def test_no_file_of_the_log_is_opened_through_a_link(folder: Path, name: str, instead: str) -> None:
    """Nothing elsewhere is written, truncated, locked or taken for ours, and no pipe is waited for."""
    elsewhere = folder.parent / "elsewhere"
    (folder / name).rename(elsewhere)
    if instead == "link":
        (folder / name).symlink_to(elsewhere)
    else:
        os.mkfifo(folder / name)
    before = elsewhere.stat().st_mtime_ns
    for use in (lambda: AuditLog(folder, now).event("more"), lambda: AuditLog(folder, now).sign()):
        with pytest.raises(MedmailError) as error:
            use()
        assert error.value.facts["path"] == str(folder / name)
        assert exit_of(error.value.code) == 7 or (name, instead) == ("runs", "pipe")
    assert elsewhere.stat().st_mtime_ns == before
    if name == "key":
        _, _, damaged = judge(folder)
        assert [(one.code, one.path) for one in damaged] == [("log-key-damaged", folder / name)]
    elif name != "runs":  # which reading has no need of
        with pytest.raises(MedmailError) as error:
            judge(folder)
        assert (error.value.code, error.value.facts["path"]) == ("store-damaged", str(folder / name))


def test_nothing_logged_writes_nothing(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit", now):
        pass
    assert not (tmp_path / "audit").exists()


def test_groups_and_their_ends(tmp_path: Path) -> None:
    with AuditLog(tmp_path, now) as log:
        numbers = log.intents([Intent("fetch", "me", ("ab" * 32,), {"uid": i}) for i in range(300)])
        assert numbers == range(300)
        assert log.outcomes([Outcome(i, "done", 0) for i in numbers[:299]]) == range(300, 599)
        with pytest.raises(KeyError):
            log.outcome(0, "done", exit=0)
        assert log.intents([]) == range(599, 599)
    state, _, _ = judge(tmp_path)
    assert (state.entries, state.unfinished) == (600, 0)
    last = parse(lines_of(tmp_path)[-1])
    assert (last.of, last.outcome, last.exit, last.facts) == (299, "interrupted", 130, {})


def test_an_outcome_of_nothing_is_named(tmp_path: Path) -> None:
    with AuditLog(tmp_path, now) as log:
        log._open[5] = Intent("send", "me")
        log.intent("send", actor="me")
        log.outcome(5, "done", exit=0)
    _, faults, _ = judge(tmp_path)
    assert [(fault.problem, fault.entry) for fault in faults] == [("no-such-intent", 1)]


def test_a_clock_that_goes_back_is_noted(tmp_path: Path) -> None:
    clock = iter([now(), now() - timedelta(days=1), now()])
    with AuditLog(tmp_path, lambda: next(clock)) as log:
        for _ in range(3):
            log.event("tick")
    assert Note("audit-clock", {"count": 1, "entry": 1}) in list(audit.verify(tmp_path))


def test_a_restored_log_cites_the_one_before(folder: Path, tmp_path: Path) -> None:
    old = (folder / "checkpoint").read_bytes()
    with AuditLog(tmp_path / "new", now) as log:
        assert log.start(cites=old) == 0
    first = parse(lines_of(tmp_path / "new")[0])
    assert (first.action, first.facts["cites"], first.facts["size"]) == ("start", old.decode(), ENTRIES)
    with pytest.raises(MedmailError):
        log.start(cites=b"nonsense")


def test_a_checkpoint_is_signed_once_a_size(folder: Path) -> None:
    before = (folder / "checkpoint").read_bytes()
    with AuditLog(folder, now) as log:
        assert log.sign() == before
        log.event("more")
        assert log.sign() != before
    assert checkpoints.parse(log.checkpoint() or b"").size == ENTRIES + 1


def counting(calls: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: object) -> object:
        calls.append(name)
        return function(*arguments)

    return call


def test_what_it_costs_does_not_grow_with_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads and writes an append makes: as many in a log of 40 as of 4,000."""
    counts = []
    for size in (40, 4000):
        folder = tmp_path / str(size)
        with AuditLog(folder, now) as log:
            log.intents([Intent("fetch", "me")] * size)
        calls: list[str] = []

        with monkeypatch.context() as patch:
            for name in ("pread", "pwrite", "write", "fsync", "read"):
                patch.setattr(os, name, counting(calls, name, getattr(os, name)))
            with AuditLog(folder, now) as log:
                log.event("one")
        counts.append(len(calls))
    assert counts[1] - counts[0] <= 40  # some reads more for a deeper tree
