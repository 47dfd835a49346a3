"""``medmail audit`` as people and scripts see it."""

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medmail_cli.audit import checkpoint as checkpoints
from medmail_cli.audit import proof as proofs
from medmail_cli.store.log.writer import AuditLog
from tests.support.cli import medmail, valid

TIMES = [datetime(2026, 3, day, 9, 30, tzinfo=UTC) for day in range(1, 7)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A log of five entries: a letter sent, one refused, one event."""
    clock = iter(TIMES)
    with AuditLog(tmp_path / "home" / "audit", lambda: next(clock)) as log:
        one = log.intent(
            "send", actor="dr.martin@medecin.test", objects=["ab" * 32], recipient="labo@medecin.test"
        )
        log.outcome(one, "done", exit=0, reply="250 2.0.0 Ok: queued as 4F3A")
        two = log.intent("send", actor="dr.martin@medecin.test", recipient="nobody@medecin.test")
        log.outcome(two, "refused", exit=1, reply="550 \x1b[31mno such user\u202e")
        log.event("demo", actor="dr.martin@medecin.test")
    return tmp_path / "home"


def damage(home: Path) -> None:
    path = home / "audit" / "entries.jsonl"
    path.write_bytes(path.read_bytes().replace(b"nobody@", b"secret@"))


def test_log_off_a_terminal(home: Path) -> None:
    done = medmail(home, "audit", "log", env={"TZ": "UTC"})
    assert (done.exit, done.stderr) == (0, "")
    assert done.stdout == (
        "0\t2026-03-01 09:30\tsend\tintent\tdr.martin@medecin.test\trecipient=labo@medecin.test\n"
        "1\t2026-03-02 09:30\tsend\t0 done\tdr.martin@medecin.test\t250 2.0.0 Ok: queued as 4F3A\n"
        "2\t2026-03-03 09:30\tsend\tintent\tdr.martin@medecin.test\trecipient=nobody@medecin.test\n"
        "3\t2026-03-04 09:30\tsend\t2 refused\tdr.martin@medecin.test\t550 \\x1b[31mno such user\\u202e\n"
        "4\t2026-03-05 09:30\tdemo\tevent\tdr.martin@medecin.test\t\n"
    )


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ((), [0, 1, 2, 3, 4]),
        (("--last", "2"), [3, 4]),
        (("--last", "0"), []),
        (("--last", "99"), [0, 1, 2, 3, 4]),
        (("--action", "demo"), [4]),
        (("--action", "send", "--last", "1"), [3]),
        (("--since", "2026-03-04"), [3, 4]),
        (("--since", "2026-03-04T10:29:59+01:00"), [3, 4]),
        (("--since", "2026-03-04", "--action", "send"), [3]),
    ],
)
def test_log_filters(home: Path, options: tuple[str, ...], shown: list[int]) -> None:
    done = medmail(home, "audit", "log", "--json", *options, env={"TZ": "UTC"})
    *entries, result = valid("audit log", done)
    assert [entry["index"] for entry in entries] == shown
    assert result["ok"]


def test_log_of_a_wrong_time_is_usage(home: Path) -> None:
    assert medmail(home, "audit", "log", "--since", "yesterday").exit == 2


def test_log_before_the_first_entry(tmp_path: Path) -> None:
    done = medmail(tmp_path / "home", "audit", "log")
    assert (done.exit, done.stdout) == (0, "")
    assert not (tmp_path / "home" / "audit").exists()


def test_verify(home: Path) -> None:
    done = medmail(home, "audit", "verify")
    assert (done.exit, done.stderr) == (0, "")
    assert re.sub("medmail/[0-9a-f]{16}", "medmail/ID", done.stdout) == (
        "intact: 5 entries, 5 under the checkpoint of medmail/ID\n"
        "checked against this installation's own key; a checkpoint kept elsewhere proves more\n"
    )
    state = valid("audit verify", medmail(home, "audit", "verify", "--json"))[-2]
    assert (state["status"], state["entries"], state["signed"], state["kept"]) == ("intact", 5, 5, None)


def test_verify_against_a_checkpoint_kept_elsewhere(home: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.checkpoint"
    assert medmail(home, "audit", "checkpoint", "-o", kept).exit == 0
    done = medmail(home, "audit", "verify", "--checkpoint", kept)
    assert done.exit == 0
    assert "it continues the checkpoint kept elsewhere, over 5 entries" in done.stdout
    from_stdin = medmail(home, "audit", "verify", "--checkpoint", "-", stdin=kept.read_bytes())
    assert from_stdin.stdout == done.stdout
    # the whole log begun anew, as someone with the disk could
    shutil.rmtree(home / "audit")
    with AuditLog(home / "audit", lambda: TIMES[0]) as log:
        log.event("demo")
    assert medmail(home, "audit", "verify").exit == 0
    done = medmail(home, "audit", "verify", "--checkpoint", kept)
    assert done.exit == 7
    assert "did not sign that checkpoint" in done.stderr


def test_verify_names_what_was_changed(home: Path) -> None:
    damage(home)
    done = medmail(home, "audit", "verify")
    assert done.exit == 7
    assert done.stdout == "entry 2 was changed\nthe log is damaged (5)\n"
    objects = valid("audit verify", medmail(home, "audit", "verify", "--json"))
    (fault,) = [one for one in objects if one["type"] == "fault"]
    assert fault == {
        "type": "fault",
        "problem": "changed",
        "entry": 2,
        "last": 2,
        "file": "entries.jsonl",
        "exit": 7,
    }
    assert objects[-1]["exit"] == 7


def test_a_damaged_file_is_named(home: Path) -> None:
    (home / "audit" / "checkpoint").write_text("x\n")
    done = medmail(home, "audit", "verify")
    assert done.exit == 7
    assert done.stdout.splitlines()[0] == f"{home}/audit/checkpoint is damaged"
    assert medmail(home, "audit", "checkpoint").exit == 7


def test_verify_without_the_checkpoint_named(home: Path) -> None:
    done = medmail(home, "audit", "verify", "--checkpoint", "/nowhere", "--json")
    assert done.exit == 1
    assert valid("audit verify", done)[0]["code"] == "not-found"


def test_verify_before_the_first_entry(tmp_path: Path) -> None:
    done = medmail(tmp_path / "home", "audit", "verify", "--json")
    assert done.exit == 0
    assert valid("audit verify", done)[0]["code"] == "audit-none"


def test_a_torn_write_is_reported_and_left_by_verify(home: Path) -> None:
    path = home / "audit" / "entries.jsonl"
    with path.open("ab") as file:
        file.write(b'{"index":5,"ti')
    before = path.read_bytes()
    done = medmail(home, "audit", "verify")
    assert done.exit == 0
    assert "torn (14 bytes)" in done.stderr
    assert path.read_bytes() == before


def test_prove(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "entry.tlog-proof"
    assert medmail(home, "audit", "prove", "2", "-o", path).exit == 0
    verifier = checkpoints.parse_vkey((home / "audit" / "key.pub").read_text())
    proof = proofs.parse(path.read_bytes())
    assert proofs.verify(proof, verifier).size == 5
    assert json.loads(proof.line)["facts"] == {"recipient": "nobody@medecin.test"}
    assert medmail(home, "audit", "prove", "2").stdout == path.read_text()
    shown = valid("audit prove", medmail(home, "audit", "prove", "2", "--json"))[0]
    assert shown["proof"] == path.read_text()
    assert shown["key"] == verifier.vkey()
    # the same again is no error, another is not overwritten unasked
    assert medmail(home, "audit", "prove", "2", "-o", path).exit == 0
    assert medmail(home, "audit", "prove", "1", "-o", path).exit == 1
    assert medmail(home, "audit", "prove", "1", "-o", path, "--force").exit == 0


def test_prove_what_is_not_there_or_not_so(home: Path, tmp_path: Path) -> None:
    assert medmail(home, "audit", "prove", "5").exit == 1
    assert medmail(home, "audit", "prove", "x").exit == 2
    assert medmail(tmp_path / "empty", "audit", "prove", "0").exit == 1
    damage(home)
    done = medmail(home, "audit", "prove", "2", "--json")
    assert done.exit == 7
    assert done.objects[0]["code"] == "audit-damaged"
    assert medmail(home, "audit", "prove", "1").exit == 0


def test_checkpoint(home: Path, tmp_path: Path) -> None:
    done = medmail(home, "audit", "checkpoint")
    assert (done.exit, done.stderr) == (0, "")
    assert done.stdout == (home / "audit" / "checkpoint").read_text()
    shown = valid("audit checkpoint", medmail(home, "audit", "checkpoint", "--json"))[0]
    assert (shown["size"], shown["note"]) == (5, done.stdout)
    assert medmail(tmp_path / "empty", "audit", "checkpoint").exit == 1


def test_export(home: Path, tmp_path: Path) -> None:
    lines = (home / "audit" / "entries.jsonl").read_text()
    assert medmail(home, "audit", "export").stdout == lines
    assert medmail(home, "audit", "export", "-o", tmp_path / "out").exit == 0
    assert (tmp_path / "out").read_text() == lines
    *entries, result = valid("audit export", medmail(home, "audit", "export", "--json"))
    assert [entry["nonce"] for entry in entries] == [json.loads(line)["nonce"] for line in lines.splitlines()]
    assert result["counts"] == {"entry": 5}


def test_a_read_only_copy_can_be_read(home: Path) -> None:
    folder = home / "audit"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for command in ("log", "verify", "checkpoint", "export"):
        assert medmail(home, "audit", command).exit == 0
    assert medmail(home, "audit", "prove", "0").exit == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
