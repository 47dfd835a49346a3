"""``medmail demo``: the tour is the real thing, in time, and says so when it is not."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from medmail_cli.commands.demo import events
from medmail_cli.ui.schema import of_command
from tests.support import tools
from tests.support.cli import MEDMAIL, Done, medmail


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("demo") / "tour"
    return folder, medmail(folder.parent / "nobody", "demo", "--dir", folder, "--json")


def test_every_command_ends_as_it_should(toured: tuple[Path, Done]) -> None:
    _, done = toured
    assert (done.exit, done.stderr) == (0, "")
    *objects, result = done.objects
    schema = of_command("demo", events()["demo"])
    for one in done.objects:
        jsonschema.validate(one, schema)
    steps = [one for one in objects if one["type"] == "step"]
    assert [(one["returned"], one["exit"]) for one in steps if one["returned"]] == [(6, 0)]
    assert result["counts"]["step"] == len(steps)
    verbs = [one["command"].split()[1] for one in steps]
    for verb in ("enrol", "contacts", "send", "fetch", "inbox", "decrypt", "reply", "audit"):
        assert verb in verbs
    assert [one["part"] for one in objects if one["type"] == "chapter"][-1] == "end"


def test_what_it_shows_really_happened(toured: tuple[Path, Done]) -> None:
    """The folder it leaves holds what two physicians would have, and the same commands work in it."""
    folder, done = toured
    tools.require("openssl")
    opened = next((folder / "opened").glob("*/scanner.pdf"))
    assert opened.read_bytes() == (folder / "scanner.pdf").read_bytes()
    for name in ("martin", "bernard"):
        verified = medmail(folder / name, "audit", "verify", "--checkpoint", folder / f"{name}.checkpoint")
        assert verified.exit == 0
        assert (folder / f"{name}.tlog-proof").stat().st_size > 0
    # what left was sealed: OpenSSL sees an envelope, nobody reads the patient's name in a stored letter
    structure = tools.run("openssl", "cms", "-cmsout", "-print", "-in", folder / "letter.eml").stdout
    assert b"authEnvelopedData" in structure
    for stored in (folder / "martin" / "mail").rglob("*"):
        if stored.is_file():
            assert b"Dupont" not in stored.read_bytes()
    again = medmail(
        folder / "bernard", "decrypt", folder / "tampered.eml",
        "--passphrase-file", folder / "bernard.passphrase",
    )  # fmt: skip
    shown = next(one for one in done.objects if one.get("returned") == 6)
    assert again.exit == 6
    # the marks round a letter are another's at each opening
    marks = re.compile(r"(?m)^\+-- [0-9a-f]{8}$")
    assert marks.sub("", again.stdout) == marks.sub("", shown["stdout"])
    assert "Dupont" not in shown["stdout"]


def test_people_see_commands_as_they_would_type_them_and_nothing_is_left(tmp_path: Path) -> None:
    done = medmail(tmp_path, "demo", env={"TMPDIR": str(tmp_path)})
    assert done.exit == 0
    shown = done.stdout.splitlines()
    assert "$ medmail send --to dr.bernard@medecin.test --attach scanner.pdf letter.txt" in shown
    assert "(exit 6)" in shown
    assert "Believe it: every check held" in shown
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_fails_ends_the_tour(tmp_path: Path) -> None:
    """Files of 4 kB at most: the audit log of the first physician is full before the tour is over."""
    demo = f"ulimit -f 4; exec {MEDMAIL} demo --json --dir {tmp_path / 'tour'}"
    done = tools.run("bash", "-c", demo, expect=1)
    *steps, result = map(json.loads, done.stdout.splitlines())
    assert (result["exit"], result["error"]["code"]) == (1, "step-failed")
    assert steps[-1]["type"] == "step"
    assert (steps[-1]["returned"], steps[-1]["expected"], steps[-1]["exit"]) == (1, 0, 1)
    assert steps[-1]["command"].encode() in done.stderr
    assert "chapter" in {one["type"] for one in steps}


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    done = medmail(tmp_path, "demo", "--dir", tmp_path / "full", "--json")
    assert (done.exit, done.objects[-1]["code"]) == (1, "folder-not-empty")
