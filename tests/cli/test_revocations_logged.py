"""What is remembered of revocations stands in the audit log: it counts, and is missed when it is gone."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.store.keys.own_revoked import REVOKED, add_revoked
from medmail_cli.store.log.writer import AuditLog
from medmail_cli.store.trust.anchors import Trust
from medmail_cli.store.trust.believed import Believed
from medmail_cli.workflows.audit import read_entries
from tests.support.cli import Done, medmail
from tests.support.homes import make_home
from tests.support.letters import NOW, letter, person, sealed

BOB = person("bob")
OWN = fingerprint(BOB.certificate)
NAME = "ab" * 32 + "-" + "cd" * 16


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = make_home(tmp_path, BOB)
    (tmp_path / "letter.eml").write_bytes(sealed(letter()))
    return made


def decrypted(home: Path) -> Done:
    return medmail(home, "decrypt", "--offline", home.parent / "letter.eml")


def verified(home: Path) -> list[tuple[str, str]]:
    """What `audit verify` finds wrong."""
    done = medmail(home, "audit", "verify", "--json")
    found = [(one["code"], one["path"]) for one in done.objects if one["type"] == "damaged-file"]
    assert done.exit == (7 if found else 0)
    return found


def remembering(home: Path) -> Path:
    """Let a home remember of a list what no list at hand says; the file."""
    path = home / "trust" / "dropped" / f"{NAME}.txt"
    path.parent.mkdir(parents=True)
    text = f"1 {'ef' * 16} 2020-01-01T00:00:00+00:00 2021-01-01T00:00:00+00:00 key_compromise\n".encode()
    path.write_bytes(sha256(text).encode() + b"\n" + text)
    with AuditLog(home / "audit", lambda: NOW) as log:
        Believed(log, home / "cache").remember(NAME, len(text), sha256(text))
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def changed(path: Path) -> None:
    """An earlier line is another; the file is whole in itself."""
    text = path.read_bytes().partition(b"\n")[2].replace(b"2020", b"2030")
    path.write_bytes(sha256(text).encode() + b"\n" + text)


@pytest.mark.parametrize("lose", [Path.unlink, changed])
def test_what_is_remembered_of_a_list_and_is_gone_is_damage(home: Path, lose: Callable[[Path], None]) -> None:
    path = remembering(home)
    assert decrypted(home).exit == 0
    assert verified(home) == []
    kept = path.read_bytes()
    lose(path)
    assert verified(home) == [("revocations-missing", str(path))]
    done = decrypted(home)
    assert (done.exit, str(path) in done.stderr) == (7, True)
    path.write_bytes(kept)
    assert decrypted(home).exit == 0


def test_more_may_stand_there_than_the_log_says(home: Path) -> None:
    path = remembering(home)
    text = path.read_bytes().partition(b"\n")[2] + (
        f"2 {'ef' * 16} 2020-01-01T00:00:00+00:00 2021-01-01T00:00:00+00:00 unspecified\n".encode()
    )
    path.write_bytes(sha256(text).encode() + b"\n" + text)
    assert decrypted(home).exit == 0
    assert verified(home) == []


def test_what_is_remembered_is_forgotten_by_its_files_name_where_its_list_is_gone(home: Path) -> None:
    path = remembering(home)
    path.unlink()
    assert medmail(home, "contacts", "list").exit == 7
    done = medmail(home, "trust", "remove", path.name, "--json")
    assert (done.exit, done.objects[0]["code"]) == (0, "revocations-forgotten")
    assert decrypted(home).exit == 0
    assert verified(home) == []
    assert medmail(home, "trust", "remove", path.name).exit == 1


def test_ones_own_revocation_that_is_gone_is_damage(home: Path) -> None:
    path = home / "keystore" / REVOKED
    with AuditLog(home / "audit", lambda: NOW) as log:
        add_revoked(path.parent, OWN)
        Believed(log, home / "cache").remember_revoked(OWN)
    assert OWN in medmail(home, "audit", "log", "--action", "revocation-keep", "--json").stdout
    assert state(home) == "retired"
    assert verified(home) == []
    for lose in (path.unlink, lambda: shutil.copy(kept_before(home), path)):
        lose()
        for argv in (("keys", "list"), ("decrypt", "--offline", home.parent / "letter.eml")):
            done = medmail(home, *argv)
            assert (done.exit, str(path) in done.stderr) == (7, True), (argv, done.stderr)
        assert verified(home) == [("own-revocations-missing", str(path))]
    # the way back
    medmail(home, "enrol", "revoke", BOB.address, "--force")
    assert OWN in path.read_text()
    assert state(home) == "retired"


def state(home: Path) -> str:
    """Of the one identity."""
    (one,) = (one for one in medmail(home, "keys", "list", "--json").objects if one["type"] == "identity")
    return str(one["status"])


def kept_before(home: Path) -> Path:
    """The file as it was when another certificate had been revoked, and not yet this one."""
    folder = home.parent / "before"
    folder.mkdir()
    add_revoked(folder, "ab" * 32)
    return folder / REVOKED


def test_an_older_backup_takes_back_no_revocation(home: Path, tmp_path: Path) -> None:
    secret = tmp_path / "backup-passphrase"
    secret.write_text("a good one")
    argv = ("--backup-passphrase-file", secret)
    assert decrypted(home).exit == 0
    remembering(home)
    assert medmail(home, "keys", "backup", "-o", tmp_path / "saved", *argv).exit == 0
    with AuditLog(home / "audit", lambda: NOW) as log:
        add_revoked(home / "keystore", OWN)
        Believed(log, home / "cache").remember_revoked(OWN)
    shutil.rmtree(home / "keystore")
    assert medmail(home, "keys", "restore", tmp_path / "saved", *argv).exit == 0
    assert state(home) == "retired"
    assert decrypted(home).exit == 0
    # elsewhere the files of lists are not to be missed: a backup has none
    new = tmp_path / "new"
    shutil.copy(tmp_path / "home.passphrase", tmp_path / "new.passphrase")
    assert medmail(new, "keys", "restore", tmp_path / "saved", *argv).exit == 0
    shutil.copytree(home / "trust" / "anchors", new / "trust" / "anchors")
    assert decrypted(new).exit == 0


def test_an_anchor_that_was_removed_does_not_come_back_with_an_older_backup(
    home: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "backup-passphrase"
    secret.write_text("a good one")
    argv = ("--backup-passphrase-file", secret)
    (item,) = (one for one in Trust(home / "trust", home / "cache").items() if one.kind == "anchor")
    data = item.path.read_bytes()
    assert decrypted(home).exit == 0
    assert medmail(home, "keys", "backup", "-o", tmp_path / "saved", *argv).exit == 0
    assert medmail(home, "trust", "remove", item.sha256).exit == 0
    shutil.rmtree(home / "keystore")
    assert medmail(home, "keys", "restore", tmp_path / "saved", *argv).exit == 0
    item.path.write_bytes(data)
    assert medmail(home, "trust", "list").exit == 7
    assert not list(read_entries(home / "audit", action="trust-adopt"))
