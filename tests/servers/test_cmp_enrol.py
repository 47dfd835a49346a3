"""``medmail enrol`` by CMP, at the sandbox: new, renewed, resumed, and killed anywhere."""

import os
import shutil
from pathlib import Path

import pytest
from cryptography import x509

from medmail_cli.sandbox.operator import Operator
from medmail_cli.store.keys.identity import Identity
from medmail_cli.store.keys.keystore import Keystore
from tests.support.cli import medmail, passphrase
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at

ADDRESS = "dr.martin@medecin.test"


@pytest.fixture
def home(tmp_path: Path, operator: Operator) -> Path:
    home = tmp_path / "home"
    passphrase(home)
    home.mkdir()
    (home / "config.toml").write_text(
        f'[authorities.order]\nurl = "{operator.cmp_url}"\nmethod = "cmp"\n'
        f'tls-anchors = "{operator.order_anchors}"\npassword-file = "{operator.password_file}"\n'
    )
    return home


def held(home: Path) -> list[Identity]:
    return sorted(Keystore(home / "keystore").identities(), key=lambda one: one.created)


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "MEDMAIL_HOME": str(home),
        "MEDMAIL_PASSPHRASE_FILE": str(home.parent / f"{home.name}.passphrase"),
    }


def valid_at(operator: Operator, key_of: x509.Certificate) -> list[x509.Certificate]:
    """The certificates for that key which the authority has issued and not revoked."""
    same = [one for one in operator.authority.issued if one.public_key() == key_of.public_key()]
    return [one for one in same if one.serial_number not in operator.authority.revoked]


def test_enrolled_and_renewed(home: Path, operator: Operator) -> None:
    done = medmail(home, "enrol", "new", ADDRESS, "--key", "p256", "--name", "Dr M", "--json")
    assert (done.exit, done.objects[0]["status"], done.objects[0]["method"]) == (0, "enrolled", "cmp")
    done = medmail(home, "enrol", "renew", ADDRESS, "--json")
    assert (done.exit, done.objects[0]["status"], done.objects[0]["method"]) == (0, "renewed", "cmp")
    assert [one.state for one in held(home)] == ["retired", "active"]
    assert list((home / "keystore").glob("*.transaction")) == []


def test_by_its_address_alone(home: Path, operator: Operator) -> None:
    (home / "config.toml").unlink()
    host = operator.cmp_url.removesuffix("/.well-known/cmp")
    done = medmail(
        home, "enrol", "new", ADDRESS, "--ca", host, "--method", "cmp", "--key", "p256", "--json",
        "--tls-anchors", operator.order_anchors, "--password-file", operator.password_file,
        "--ca-fingerprint", operator.authority.fingerprint,
    )  # fmt: skip
    assert (done.exit, done.objects[0]["status"]) == (0, "enrolled")
    assert done.objects[1]["type"] == "anchor"


def test_a_wrong_secret_is_a_refused_login(home: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong\n")
    done = medmail(
        home, "enrol", "new", ADDRESS, "--key", "p256", "--json", "--password-file", tmp_path / "wrong"
    )
    assert (done.exit, done.objects[-1]["code"]) == (4, "ca-refused")
    assert [one.state for one in held(home)] == ["waiting"]
    assert medmail(home, "enrol", "new", ADDRESS).exit == 0


def test_killed_anywhere_one_certificate_is_left(home: Path, operator: Operator, tmp_path: Path) -> None:
    argv = ["medmail", "enrol", "new", ADDRESS, "--key", "p256", "--no-input"]
    spare = tmp_path / "spare"
    passphrase(spare)
    shutil.copytree(home, spare)
    total = count_effects(argv, env=environment(spare))
    killed = 0
    for k in kill_points(total - 1, 14):
        shutil.rmtree(spare)
        shutil.copytree(home, spare)
        if run_killed_at(argv, k, env=environment(spare)).returncode != KILLED:
            continue  # not every run has as many effects
        killed += 1
        assert medmail(spare, "enrol", "new", ADDRESS, "--key", "p256").exit == 0
        (one,) = held(spare)
        assert one.state == "active"
        assert one.certificate is not None
        assert valid_at(operator, one.certificate) == [one.certificate]
    assert killed > 9
