"""The audit log under SIGKILL: at every effect of a run, what was acknowledged stands and the rest heals."""

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medmail_cli.store.log.writer import AuditLog
from medmail_cli.workflows.audit import LogState, read_entries, verify
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at

# what a run does: intents, the effects they announce, outcomes; it says on stdout what was acknowledged
RUN = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from medmail_cli.store.log.writer import AuditLog, Intent, Outcome

def tell(kind, number) -> None:
    print(kind, number, flush=True)

with AuditLog(Path(sys.argv[1]), lambda: datetime.now(UTC)) as log:
    for _ in range(2):
        one = log.intent("send", actor="dr.martin@medecin.test", objects=["ab" * 32])
        tell("intent", one)
        tell("outcome", log.outcome(one, "done", exit=0, reply="250 ok"))
    group = log.intents([Intent("fetch", "dr.martin@medecin.test")] * 3)
    for number in group:
        tell("intent", number)
    for number in log.outcomes([Outcome(number, "done", 0) for number in group]):
        tell("outcome", number)
"""


def now() -> datetime:
    return datetime.now(UTC)


def run_once(folder: Path) -> AuditLog:
    with AuditLog(folder, now) as log:
        log.outcome(log.intent("decrypt", actor="me"), "done", exit=0)
        return log


def judge(folder: Path, kept: bytes | None = None) -> LogState:
    *_, state = verify(folder, kept)
    assert isinstance(state, LogState)
    return state


def check(folder: Path, acknowledged: list[str]) -> None:
    """The next run completes the log: all that was acknowledged is there, every intent has one end."""
    kept = (folder / "checkpoint").read_bytes() if (folder / "checkpoint").exists() else None
    if (folder / "entries.jsonl").exists():
        assert judge(folder).status == "intact"
    run_once(folder)
    state = judge(folder, kept)
    assert (state.status, state.unfinished) == ("intact", 0)
    assert state.signed == state.entries
    entries = list(read_entries(folder))
    assert [entry.index for entry in entries] == list(range(len(entries)))
    kinds = {entry.index: entry.kind for entry in entries}
    for line in acknowledged:
        kind, number = line.split()
        assert kinds[int(number)] == kind
    closed = [entry.of for entry in entries if entry.of is not None]
    assert sorted(closed) == [entry.index for entry in entries if entry.kind == "intent"]
    assert not list((folder / "runs").iterdir())
    assert not list(folder.glob(".*.tmp"))


@pytest.mark.parametrize("state", ["new", "used", "torn"])
def test_killed_at_every_effect(tmp_path: Path, state: str) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    before = tmp_path / "before"
    if state != "new":
        run_once(before)
        # a run that dies with an intent open, for the doomed run to close
        run_killed_at([str(script), str(before)], 30)
    if state == "torn":
        with (before / "entries.jsonl").open("ab") as file:
            file.write(b'{"index":')
    folder = tmp_path / "audit"

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, folder)

    prepare()
    total = count_effects([str(script), str(folder)])
    assert total > 20
    for k in kill_points(total):
        prepare()
        killed = run_killed_at([str(script), str(folder)], k)
        assert killed.returncode == KILLED, killed.stderr.decode()
        check(folder, killed.stdout.decode().splitlines())
    assert run_killed_at([str(script), str(folder)], total + 1000).returncode == 0


def test_killed_command(tmp_path: Path) -> None:
    """The command that signs: the checkpoint is the old or the new one, never half of one."""
    home = tmp_path / "home"
    env = {"MEDMAIL_HOME": str(home), "PATH": "/usr/bin:/bin"}
    run_once(home / "audit")
    old = (home / "audit" / "checkpoint").read_bytes()
    with AuditLog(home / "audit", now) as log:
        log.intent("send", actor="me")
        assert log._run_file is not None
        log._run_file.unlink()
        log._run_file = None  # ends without signing
    saved = tmp_path / "saved"
    shutil.copytree(home, saved)
    argv = ["medmail", "audit", "checkpoint", "--json"]
    total = count_effects(argv, env=env)
    for k in kill_points(total, 25):
        shutil.rmtree(home)
        shutil.copytree(saved, home)
        assert run_killed_at(argv, k, env=env).returncode == KILLED
        state = judge(home / "audit", old)
        assert state.status == "intact"
        done = run_killed_at(argv, 0, env=env)
        assert done.returncode == 0, done.stderr
        note, result = map(json.loads, done.stdout.splitlines())
        assert note["size"] >= 3
        assert result["ok"]


def test_a_living_runs_intents_are_left_alone(tmp_path: Path) -> None:
    with AuditLog(tmp_path, now) as living:
        mine = living.intent("send", actor="a")
        run_once(tmp_path)
        assert not [entry for entry in read_entries(tmp_path) if entry.of == mine]
        living.outcome(mine, "done", exit=0)
    ends = [entry.outcome for entry in read_entries(tmp_path) if entry.of == mine]
    assert ends == ["done"]


def test_processes_at_once(tmp_path: Path) -> None:
    import subprocess

    script = tmp_path / "run.py"
    script.write_text(RUN)
    folder = tmp_path / "audit"
    running = [subprocess.Popen([sys.executable, script, folder], stdout=-1) for _ in range(6)]
    said = b"".join(one.communicate(timeout=60)[0] for one in running)
    assert [one.returncode for one in running] == [0] * 6
    entries = list(read_entries(folder))
    assert len(entries) == 6 * 10
    assert len(said.splitlines()) == 60
    check(folder, said.decode().splitlines())


def test_full_disk(tmp_path: Path) -> None:
    """RLIMIT_FSIZE at every size of one append: a clear error, and the log as before."""
    import resource

    from medmail_cli.errors import MedmailError

    run_once(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = AuditLog(tmp_path, now)
    log.intent("send", actor="me")
    entries, hashes = (tmp_path / "entries.jsonl").stat().st_size, (tmp_path / "hashes").stat().st_size
    try:
        for room in (0, 1, 17, 100, 150):
            resource.setrlimit(resource.RLIMIT_FSIZE, (entries + room, hard))
            with pytest.raises(MedmailError) as error:
                log.intent("send", actor="me")
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert error.value.code == "disk-full"
            assert (tmp_path / "entries.jsonl").stat().st_size == entries
            assert (tmp_path / "hashes").stat().st_size == hashes
            state = judge(tmp_path)
            assert (state.status, state.unfinished) == ("intact", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.close()
    state = judge(tmp_path)
    assert (state.status, state.unfinished) == ("intact", 0)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    from medmail_cli.errors import MedmailError

    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(MedmailError) as error:
        AuditLog(Path(blocked) / "audit", now).intent("send", actor="me")
    assert error.value.code == "not-writable"
