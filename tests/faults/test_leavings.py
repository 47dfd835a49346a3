"""What a kill leaves half-written is swept by the next run, and a full disk keeps nobody from deleting."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from medmail_cli.store import files
from tests.support.cli import MEDMAIL, medmail, passphrase
from tests.support.homes import make_home
from tests.support.killer import KILLED, run_killed_at
from tests.support.letters import authority, letter, person, sealed
from tests.support.pki import pem


def left(*folders: Path) -> list[Path]:
    """The files that are half-written."""
    return [path for folder in folders for path in folder.rglob(".*.tmp")]


def environment(home: Path) -> dict[str, str]:
    secret = home.parent / f"{home.name}.passphrase"
    return {**os.environ, "MEDMAIL_HOME": str(home), "MEDMAIL_PASSPHRASE_FILE": str(secret)}


def killed_everywhere(home: Path, argv: list[str], before: Callable[[], None], place: Path) -> None:
    """Kill the run wherever it writes a file; the same again leaves none half-written in ``place``."""
    found = 0
    for step in ("fsync", "replace", "link"):
        for k in range(1, 30):
            before()
            done = run_killed_at(["medmail", *argv], k, at=f"c_call {step}", env=environment(home))
            if done.returncode != KILLED:
                assert done.returncode == 0, done
                break
            if leavings := left(place):
                found += 1
                again = medmail(home, *argv)
                assert again.exit == 0, (step, k, again)
                assert left(place) == [], (step, k, leavings)
    assert found


def test_a_contact_half_written_is_swept(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    (file := tmp_path / "bob.pem").write_bytes(pem(person("bob").certificate))
    (home / "contacts").mkdir(exist_ok=True)

    def before() -> None:
        shutil.rmtree(home / "contacts", ignore_errors=True)

    killed_everywhere(home, ["contacts", "add", str(file)], before, home / "contacts")


def test_plaintext_half_written_is_swept(tmp_path: Path) -> None:
    home = make_home(tmp_path, person("bob"))
    (file := tmp_path / "letter.eml").write_bytes(sealed(letter()))
    out = tmp_path / "out"

    def before() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    killed_everywhere(home, ["decrypt", str(file), "--out-dir", str(out)], before, out)
    single = ["decrypt", str(file), "-o", str(out / "text")]
    killed_everywhere(home, single, before, out)


def test_plaintext_half_written_is_swept_by_a_run_that_writes_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path, person("bob"))
    (file := tmp_path / "letter.eml").write_bytes(b"From: a@b.test\r\n\r\nunsigned\r\n")
    (out := tmp_path / "out").mkdir()
    (leaving := out / ".message.txt.0123456789ab.tmp").write_text("Hello")
    mine = out / ".message.txt.tmp"
    mine.write_text("not of that kind")
    assert medmail(home, "decrypt", file, "--out-dir", out).exit != 0
    assert (leaving.exists(), mine.exists()) == (False, True)


def test_an_authority_half_written_is_swept(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    (file := tmp_path / "root.pem").write_bytes(pem(authority("Another Root").certificate))

    def before() -> None:
        shutil.rmtree(home / "trust", ignore_errors=True)

    killed_everywhere(home, ["trust", "add", str(file)], before, home / "trust")


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    """Held in the middle of writing by its own pipe, a process is swept round and completes its file."""
    script = (
        "import pathlib, sys\n"
        "from medmail_cli.store import files\n"
        "replace = pathlib.Path.replace\n"
        "def held(self, other):\n"
        "    print(self, flush=True); sys.stdin.readline(); return replace(self, other)\n"
        "pathlib.Path.replace = held\n"
        f"files.write_atomic(pathlib.Path({str(tmp_path / 'file')!r}), b'whole')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        temporary = Path(writer.stdout.readline().strip())
        files.sweep(tmp_path)
        assert temporary.read_bytes() == b"whole"
        writer.communicate("\n", timeout=60)
    assert writer.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("字" * 85)
    files.write_atomic(path, b"whole")
    assert path.read_bytes() == b"whole"


def on_a_full_disk(home: Path, command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run it with the home on a real file system of its own that has not one block left."""
    words = shlex.join([str(MEDMAIL), *command])
    script = f"""
        set -e
        mount -t tmpfs -o size=4m none {home.parent}/disk
        cp -a {home} {home.parent}/disk/home
        ! cat /dev/zero > {home.parent}/disk/filling 2> {home.parent}/said
        export MEDMAIL_HOME={home.parent}/disk/home
        set +e
        {words}; code=$?
        rm {home.parent}/disk/filling
        {MEDMAIL} audit verify > {home.parent}/verified 2>&1 || exit 99
        rm -rf {home}; cp -a {home.parent}/disk/home {home}
        exit $code
    """
    (home.parent / "disk").mkdir(exist_ok=True)
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env=environment(home),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_key_is_deleted_on_a_full_disk(tmp_path: Path) -> None:
    home = tmp_path / "home"
    passphrase(home)
    made = medmail(home, "enrol", "new", "a@medecin.test", "--method", "csr", "--key", "p256", "--json")
    assert made.exit == 0, made
    done = on_a_full_disk(home, ["keys", "delete", "a@medecin.test", "--force"])
    assert done.returncode == 0, done
    assert medmail(home, "keys", "list", "--json").objects[:-1] == []
    assert left(home) == []


def test_a_contact_is_removed_on_a_full_disk(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    (file := tmp_path / "bob.pem").write_bytes(pem(person("bob").certificate))
    assert medmail(home, "contacts", "add", file).exit == 0
    done = on_a_full_disk(home, ["contacts", "remove", person("bob").address])
    assert done.returncode == 0, done
    assert medmail(home, "contacts", "list", "--json").objects[:-1] == []
