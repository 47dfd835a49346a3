"""Trust under kills: after each, the next run believes what its user wanted, and goes on."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.store.trust.believed import SEAL, STATE
from tests.support import pki
from tests.support.cli import medmail
from tests.support.homes import make_home
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at
from tests.support.letters import authority, letter, person, sealed

STRANGE = pki.make_ca("Strange Root")
AT_MOST = 14


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = make_home(tmp_path, person("bob"))
    (tmp_path / "letter.eml").write_bytes(sealed(letter()))
    (tmp_path / "root.pem").write_bytes(STRANGE.certificate.public_bytes(Encoding.PEM))
    bare = pki.issue(STRANGE, "someone@else.test", "both", "p256")[0]
    (tmp_path / "bare.pem").write_bytes(bare.public_bytes(Encoding.PEM))
    return made


def killed_everywhere(home: Path, argv: list[str], check: Callable[[], None], at_most: int = AT_MOST) -> None:
    env = {
        **os.environ,
        "MEDMAIL_HOME": str(home),
        "MEDMAIL_PASSPHRASE_FILE": f"{home}.passphrase",
        "LC_ALL": "C.UTF-8",
    }
    start = home.parent / "start"
    shutil.copytree(home, start)

    def again() -> None:
        shutil.rmtree(home)
        shutil.copytree(start, home)

    again()
    for k in kill_points(count_effects(argv, env=env), at_most):
        again()
        assert run_killed_at(argv, k, env=env).returncode == KILLED
        check()
        assert medmail(home, "audit", "verify").exit == 0, k


def trusts(home: Path, digest: str) -> bool:
    done = medmail(home, "trust", "list", "--json")
    assert done.exit == 0, done.stderr
    return digest in {one["sha256"] for one in done.objects if one["type"] == "trust"}


def test_trust_add(home: Path) -> None:
    def check() -> None:
        trusts(home, "")
        assert medmail(home, "trust", "add", home.parent / "root.pem").exit == 0
        assert trusts(home, fingerprint(STRANGE.certificate))

    killed_everywhere(home, ["medmail", "trust", "add", str(home.parent / "root.pem")], check)


def test_trust_remove(home: Path) -> None:
    root = fingerprint(authority("Health Root").certificate)

    def check() -> None:
        if trusts(home, root):
            assert medmail(home, "trust", "remove", root).exit == 0
        assert not trusts(home, root)
        file = home.parent / "again.pem"
        file.write_bytes(authority("Health Root").certificate.public_bytes(Encoding.PEM))
        assert medmail(home, "trust", "add", file).exit == 0
        assert trusts(home, root)

    killed_everywhere(home, ["medmail", "trust", "remove", root], check)


def test_pinning_a_contact(home: Path) -> None:
    argv = ["contacts", "add", str(home.parent / "bare.pem"), "--address", "lab@hosp.test"]

    def check() -> None:
        assert medmail(home, "contacts", "list").exit == 0
        assert medmail(home, *argv).exit == 0
        assert "lab@hosp.test" in medmail(home, "contacts", "list").stdout

    killed_everywhere(home, ["medmail", *argv], check)


def test_taking_an_older_home_over(home: Path) -> None:
    """A home as an older version's roster made it: no log yet."""
    shutil.rmtree(home / "audit")
    for name in ("cache", "keystore"):
        (home / name / (STATE if name == "cache" else SEAL)).unlink(missing_ok=True)
    argv = ["decrypt", "--offline", str(home.parent / "letter.eml")]

    def check() -> None:
        done = medmail(home, *argv)
        assert done.exit == 0, done.stderr

    killed_everywhere(home, ["medmail", *argv], check)


def test_restoring_a_sealed_keystore(home: Path, tmp_path: Path) -> None:
    """Its seal is of another log; the files of trust were there first."""
    letter_ = ["decrypt", "--offline", str(home.parent / "letter.eml")]
    assert medmail(home, *letter_).exit == 0
    assert (home / "keystore" / SEAL).exists()
    (tmp_path / "backup-passphrase").write_text("a good one")
    secret = ["--backup-passphrase-file", str(tmp_path / "backup-passphrase")]
    assert medmail(home, "keys", "backup", "-o", tmp_path / "saved", *secret).exit == 0
    new = tmp_path / "new"
    new.mkdir(mode=0o700)
    shutil.copy(f"{home}.passphrase", f"{new}.passphrase")
    shutil.copytree(home / "trust", new / "trust")
    argv = ["keys", "restore", str(tmp_path / "saved"), *secret]

    def check() -> None:
        done = medmail(new, *argv, "--json")
        assert done.exit == 0 or done.objects[-1]["code"] == "keystore-exists", done.stderr
        done = medmail(new, *letter_)
        assert done.exit == 0, done.stderr

    killed_everywhere(new, ["medmail", *argv], check, 8)
