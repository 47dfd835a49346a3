"""What is secret stays with its owner: where content goes, who reads secrets' files, what a crash leaves."""

import os
from pathlib import Path

import pexpect
import pytest

from medmail_cli.errors import MedmailError
from medmail_cli.store.files import make_own, others_can_read
from tests.support.cli import MEDMAIL, PASSPHRASE, medmail
from tests.support.homes import make_home
from tests.support.letters import person, sealed


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path, person("bob"))


def written(home: Path, folder: Path) -> tuple[int, list[str]]:
    """Exit and codes of a letter decrypted into ``folder``."""
    letter = home.parent / "letter.eml"
    if not letter.exists():
        letter.write_bytes(sealed())
    done = medmail(home, "decrypt", letter, "--out-dir", folder, "--json")
    return done.exit, [one["code"] for one in done.objects if one["type"] == "error"]


def test_content_goes_into_no_link_and_no_folder_that_everybody_may_change(
    home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert written(home, out) == (0, [])
    (own,) = out.iterdir()
    kept = {path.name: path.read_bytes() for path in own.iterdir()}
    assert kept
    elsewhere = tmp_path / "elsewhere"
    own.rename(elsewhere)
    own.symlink_to(elsewhere)
    for path in elsewhere.iterdir():
        path.unlink()
    assert written(home, out) == (1, ["unsafe-folder"])
    assert not list(elsewhere.iterdir())

    own.unlink()
    out.chmod(0o777)
    assert written(home, out) == (1, ["unsafe-folder"])
    assert not own.exists()
    out.chmod(0o1777)
    assert written(home, out) == (0, [])
    assert {path.name: path.read_bytes() for path in own.iterdir()} == kept
    own.chmod(0o777)
    assert written(home, out) == (1, ["unsafe-folder"])


def test_content_goes_into_no_folder_of_somebody_else(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    if os.geteuid() == 0:
        theirs.mkdir()
        os.chown(theirs, 4711, -1)
    else:
        theirs = Path("/usr")
    with pytest.raises(MedmailError) as caught:
        make_own(theirs)
    assert (caught.value.code, caught.value.facts["reason"]) == ("unsafe-folder", "another-owner")


def test_keys_of_a_roster_go_into_no_folder_that_everybody_may_change(home: Path, tmp_path: Path) -> None:
    roster, out = tmp_path / "roster.csv", tmp_path / "out"
    roster.write_text("address\na@medecin.test\n")
    out.mkdir()
    out.chmod(0o777)
    done = medmail(
        home, "enrol", "batch", roster, "--ca", "https://127.0.0.1:9/est", "--out-dir", out, "--json"
    )
    assert (done.exit, done.objects[-1]["code"]) == (1, "unsafe-folder")
    assert not list(out.iterdir())


def test_a_secrets_file_that_everybody_reads_is_told_of(home: Path, tmp_path: Path) -> None:
    open_folder = Path("/tmp") / f"medmail-test-{os.getpid()}"  # pytest's own folders are private
    open_folder.mkdir(mode=0o755)
    file = open_folder / "passphrase"
    try:
        open_folder.chmod(0o755)
        file.write_text(PASSPHRASE)
        letter = tmp_path / "letter.eml"
        letter.write_bytes(sealed())
        notes = {}
        for mode in (0o644, 0o600):
            file.chmod(mode)
            assert others_can_read(file) == (mode == 0o644)
            done = medmail(home, "decrypt", letter, "--passphrase-file", file, "--json")
            assert (done.exit, done.stderr) == (0, "")
            notes[mode] = [one for one in done.objects if one["type"] == "note"]
        assert [(one["code"], one["path"]) for one in notes[0o644]] == [("secret-readable", str(file))]
        assert not notes[0o600]
        file.chmod(0o644)
        plain = medmail(home, "decrypt", letter, "--passphrase-file", file)
        assert (plain.exit, plain.stderr) == (0, "")  # off a terminal, success says nothing there
        child = pexpect.spawn(
            MEDMAIL, ["--home", str(home), "decrypt", str(letter), "--passphrase-file", str(file)],
            env=os.environ | {"LC_ALL": "C.UTF-8"}, encoding="utf-8", timeout=120, dimensions=(50, 200),
        )  # fmt: skip
        child.expect(pexpect.EOF)
        assert "chmod 600" in str(child.before)
        open_folder.chmod(0o700)
        assert not others_can_read(file)
    finally:
        file.unlink(missing_ok=True)
        open_folder.rmdir()


def test_no_core_dump_is_written_of_a_process_that_holds_a_secret(home: Path, tmp_path: Path) -> None:
    script = 'ulimit -c unlimited; exec "$0" "$@"'
    child = pexpect.spawn(
        "/bin/sh", ["-c", script, MEDMAIL, "--home", str(home), "keys", "passwd"],
        env=os.environ | {"LC_ALL": "C.UTF-8"}, encoding="utf-8", timeout=120, cwd=tmp_path,
    )  # fmt: skip
    child.expect("Passphrase")
    child.sendline(PASSPHRASE)
    child.expect("Passphrase")  # the new one; the old one is in memory
    limits = Path(f"/proc/{child.pid}/limits")
    if limits.exists():
        (line,) = [one for one in limits.read_text().splitlines() if one.startswith("Max core file size")]
        assert line.split()[4] == "0"
        # what is not dumpable belongs to root in /proc (proc(5)): nobody of the same user looks into it
        assert Path(f"/proc/{child.pid}/mem").stat().st_uid == 0
    child.kill(6)
    child.expect(pexpect.EOF)
    child.close()
    assert child.signalstatus == 6
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("core")]
