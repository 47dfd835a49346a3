"""The keystore under kills, full disks, read-only folders and several processes at once."""

import datetime as dt
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.errors import MedmailError
from medmail_cli.store.keys.backup import write_backup
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import Unlocked, unlock
from medmail_cli.store.log.writer import AuditLog
from medmail_cli.workflows.audit import read_entries
from tests.support import pki
from tests.support.cli import MEDMAIL, PASSPHRASE, medmail, passphrase
from tests.support.homes import CHEAP, keystore, sealing
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
ADDRESS = "dr.martin@medecin.test"
CA = pki.make_ca("Order Root")
OLD = pki.issue(CA, ADDRESS, "both", "p256")
NEW = pki.issue(CA, ADDRESS, "both", "p256")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A keystore with one identity."""
    home = tmp_path / "home"
    keep(keystore(home), OLD)
    return home


def keep(store: Unlocked, pair: tuple[x509.Certificate, pki.Key]) -> None:
    store.add(pair[1], pair[0], CA.chain, addresses=[ADDRESS], purpose="both", method="import", now=NOW)


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "MEDMAIL_HOME": str(home),
        "MEDMAIL_PASSPHRASE_FILE": str(home.parent / f"{home.name}.passphrase"),
        "LC_ALL": "C.UTF-8",
    }


def whole(home: Path, secret: str = PASSPHRASE) -> set[str | None]:
    """Every identity reads and opens; their fingerprints."""
    store = unlock(Keystore(home / "keystore"), secret.encode())
    for one in store.identities():
        key = store.unseal(one)
        assert one.certificate is None or key.public_key() == one.certificate.public_key()
    return {one.sha256 for one in store.identities()}


def tidy(home: Path) -> bool:
    """Nothing half-made is left."""
    return not [path for path in (home / "keystore").rglob("*") if path.name[0] == "."]


def log_is_closed(home: Path) -> None:
    """Every intent has its outcome once another run has written."""
    with AuditLog(home / "audit", lambda: dt.datetime.now(dt.UTC)) as log:
        log.event("demo")
    entries = list(read_entries(home / "audit"))
    intents = {one.index for one in entries if one.kind == "intent"}
    assert intents == {one.of for one in entries if one.kind == "outcome"}


def killed_everywhere(home: Path, argv: list[str], check: Callable[[], None], at_most: int) -> None:
    """Kill the run at many of its effects, each time from the same beginning; ``check`` runs it again."""
    start = home.parent / "start"
    shutil.copytree(home, start) if home.exists() else start.mkdir()

    def again() -> None:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(start, home)

    again()
    total = count_effects(argv, env=environment(home))
    for k in kill_points(total, at_most):
        again()
        assert run_killed_at(argv, k, env=environment(home)).returncode == KILLED
        check()
        with Keystore(home / "keystore").writing():
            assert tidy(home)  # whatever writes next sweeps what the kill left
        log_is_closed(home)


def test_import_killed_anywhere_is_completed_by_the_next(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "new.pem"
    file.write_bytes(pki.pem(*NEW, CA.certificate))
    prints = {fingerprint(NEW[0]), fingerprint(OLD[0])}

    def check() -> None:
        assert whole(home) in (prints, {fingerprint(OLD[0])})
        assert medmail(home, "enrol", "import", file, "--replace").exit == 0
        assert whole(home) == prints
        assert [one.state for one in Keystore(home / "keystore").identities()] == ["retired", "active"]

    killed_everywhere(home, ["medmail", "enrol", "import", str(file), "--replace"], check, 12)


def test_the_first_request_killed_anywhere_is_resumed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    passphrase(home)
    argv = ["enrol", "new", ADDRESS, "--method", "csr", "--key", "p256"]

    def check() -> None:
        first = medmail(home, *argv)
        assert first.exit == 0
        assert medmail(home, *argv).stdout == first.stdout
        assert len(Keystore(home / "keystore").identities()) == 1
        assert whole(home) == {None}

    killed_everywhere(home, ["medmail", *argv], check, 12)


def test_a_certificate_for_a_waiting_key_killed_anywhere(home: Path, tmp_path: Path) -> None:
    store = unlock(Keystore(home / "keystore"), PASSPHRASE.encode())
    store.add_waiting(NEW[1], request_of(NEW[1]), address=ADDRESS, method="csr", now=NOW)
    file = tmp_path / "new.pem"
    file.write_bytes(pki.pem(NEW[0]))

    def check() -> None:
        assert len(Keystore(home / "keystore").identities()) == 2
        assert medmail(home, "enrol", "import", file).exit == 0
        assert whole(home) == {fingerprint(NEW[0]), fingerprint(OLD[0])}

    killed_everywhere(home, ["medmail", "enrol", "import", str(file)], check, 12)


def request_of(key: pki.Key) -> bytes:
    from medmail_cli.cms.keys import SoftwareKey
    from medmail_cli.pki.issuance.csr import build_request

    return build_request(SoftwareKey(key), address=ADDRESS)


def test_passwd_killed_anywhere_leaves_one_of_the_two(home: Path, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("another\n")

    def check() -> None:
        try:
            whole(home)
        except MedmailError as error:
            if error.code != "wrong-passphrase":
                raise
            whole(home, "another")
        else:
            argv = ("keys", "passwd", "--new-passphrase-file", tmp_path / "new")
            assert medmail(home, *argv).exit == 0

    killed_everywhere(
        home, ["medmail", "keys", "passwd", "--new-passphrase-file", str(tmp_path / "new")], check, 8
    )


def test_delete_killed_anywhere_leaves_it_whole_or_gone(home: Path) -> None:
    keep(unlock(Keystore(home / "keystore"), PASSPHRASE.encode()), NEW)
    victim = fingerprint(NEW[0])

    def check() -> None:
        assert whole(home) >= {fingerprint(OLD[0])}
        assert medmail(home, "keys", "delete", victim, "--force").exit in (0, 1)
        assert whole(home) == {fingerprint(OLD[0])}

    killed_everywhere(home, ["medmail", "keys", "delete", victim, "--force"], check, 12)


def test_restore_killed_anywhere_begins_afresh_or_is_done(home: Path, tmp_path: Path) -> None:
    store = unlock(Keystore(home / "keystore"), PASSPHRASE.encode())
    keep(store, NEW)
    expected = whole(home)
    file = tmp_path / "b"
    file.write_bytes(write_backup(store, PASSPHRASE.encode(), None, NOW, CHEAP))
    other = tmp_path / "other"
    passphrase(other)
    argv = ["keys", "restore", str(file), "--backup-passphrase-file", str(tmp_path / "other.passphrase")]

    def check() -> None:
        done = medmail(other, *argv, "--json")
        assert done.exit == 0 or done.objects[-1]["code"] == "keystore-exists"
        assert whole(other) == expected

    killed_everywhere(other, ["medmail", *argv], check, 10)


@pytest.mark.parametrize("size", [10, 300, 700])
def test_a_full_disk_leaves_the_store_as_it_was(home: Path, tmp_path: Path, size: int) -> None:
    file = tmp_path / "new.pem"
    file.write_bytes(pki.pem(*NEW, CA.certificate))
    sealing(home)
    before = snapshot(home / "keystore")
    done = subprocess.run(
        [MEDMAIL, "enrol", "import", file],
        env=environment(home), capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "no space left" in done.stderr
    assert snapshot(home / "keystore") == before
    assert medmail(home, "enrol", "import", file).exit == 0
    log_is_closed(home)


def test_a_read_only_folder_is_read_and_refuses_to_be_written(home: Path, tmp_path: Path) -> None:
    folder = home / "keystore"
    (tmp_path / "new").write_text("another\n")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = snapshot(folder)
    # root may write anywhere unless it gives that right away
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    for argv, exit_, said in (
        (["keys", "list"], 0, ""),
        (["keys", "passwd", "--new-passphrase-file", str(tmp_path / "new")], 1, "cannot be written"),
        (["enrol", "new", "x@medecin.test", "--method", "csr", "--key", "p256"], 1, "cannot be written"),
    ):
        done = subprocess.run(
            [*without, MEDMAIL, *argv], env=environment(home), capture_output=True, text=True, check=False
        )
        assert (done.returncode, said in done.stderr) == (exit_, True), done.stderr
        assert "Traceback" not in done.stderr
    assert snapshot(folder) == before
    assert whole(home) == {fingerprint(OLD[0])}


def test_several_processes_at_once(home: Path, tmp_path: Path) -> None:
    pairs = [pki.issue(CA, f"p{i}@medecin.test", "both", "p256") for i in range(4)]
    files = [tmp_path / f"{i}.pem" for i in range(4)]
    for file, pair in zip(files, pairs, strict=True):
        file.write_bytes(pki.pem(*pair))
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(medmail, home, "enrol", "import", file) for file in files * 2]
        runs.append(pool.submit(medmail, home, "keys", "list"))
        assert [run.result().exit for run in runs] == [0] * 9
    assert whole(home) == {fingerprint(one) for one, _ in (*pairs, OLD)}
    assert tidy(home)


def test_two_first_runs_at_once_make_one_keystore(tmp_path: Path) -> None:
    home = tmp_path / "home"
    passphrase(home)
    argv = ("--method", "csr", "--key", "p256")
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(medmail, home, "enrol", "new", f"p{i}@medecin.test", *argv) for i in range(3)]
        assert [run.result().exit for run in runs] == [0] * 3
    assert len(Keystore(home / "keystore").identities()) == 3
    whole(home)


def test_a_store_held_by_another_is_75(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medmail_cli.store import files

    holder = Keystore(home / "keystore")
    other = unlock(Keystore(home / "keystore"), PASSPHRASE.encode())
    monkeypatch.setattr(files.lock, "__kwdefaults__", {"exclusive": True, "wait": 0.1})
    with holder.writing(), pytest.raises(MedmailError) as caught:
        keep(other, NEW)
    assert caught.value.code == "store-busy"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
