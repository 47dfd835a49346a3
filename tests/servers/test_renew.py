"""``medmail enrol renew``: a new key under the same names, the old one kept for reading."""

import os
import shutil
from pathlib import Path

import pytest
from cryptography import x509

from medmail_cli.sandbox.operator import Operator
from medmail_cli.store.keys.identity import Identity
from medmail_cli.store.keys.keystore import Keystore
from tests.support.cli import Done, medmail, passphrase
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at
from tests.support.openssl_est import Handler, OpenSslCa, OpenSslEst, Reply

ADDRESS = "dr.martin@medecin.test"
OTHER = "dr.durand@medecin.test"


@pytest.fixture
def home(tmp_path: Path, server: OpenSslEst, ca: OpenSslCa) -> Path:
    home = tmp_path / "home"
    passphrase(home)
    home.mkdir()
    (home / "config.toml").write_text(
        f'[authorities.order]\nurl = "{server.url}/.well-known/est"\ntls-anchors = "{ca.root}"\n'
    )
    for address in (ADDRESS, OTHER):
        assert medmail(home, "enrol", "new", address, "--key", "p384", "--name", "Dr M").exit == 0
    return home


def held(home: Path, address: str = ADDRESS) -> list[Identity]:
    return [one for one in Keystore(home / "keystore").identities() if address in one.addresses]


def renew(home: Path, *more: str) -> Done:
    return medmail(home, "enrol", "renew", *more, "--no-backup", "--json")


def test_a_new_key_under_the_same_names(home: Path, server: OpenSslEst) -> None:
    done = renew(home, ADDRESS)
    assert (done.exit, done.objects[0]["status"], done.objects[0]["key"]) == (0, "renewed", "p384")
    old, new = sorted(held(home), key=lambda one: one.created)
    assert (old.state, new.state, new.name) == ("retired", "active", "Dr M")
    assert old.certificate is not None
    assert new.certificate is not None
    assert old.key_sha256 != new.key_sha256
    assert old.certificate.subject == new.certificate.subject
    names = [
        one.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        for one in (old, new)
        if one.certificate
    ]
    assert names[0] == names[1]
    assert server.seen[-1][1] == "simplereenroll"
    assert [one.state for one in held(home, OTHER)] == ["active"]


def test_only_what_ends_soon(home: Path) -> None:
    done = renew(home, "--all", "--within", "7d")
    assert [one["status"] for one in done.objects[:-1]] == ["unchanged", "unchanged"]
    done = renew(home, "--all", "--within", "30d")
    assert [one["status"] for one in done.objects[:-1]] == ["renewed", "renewed"]


def test_one_that_fails_does_not_stop_the_others(home: Path, server: OpenSslEst) -> None:
    answered = 0

    def once(_handler: Handler, body: bytes) -> Reply:
        nonlocal answered
        answered += 1
        return (503, {}, b"") if answered == 1 else (200, {}, server.issue(body))

    server.replies["simplereenroll"] = once
    done = renew(home, "--all")
    assert (done.exit, [one["status"] for one in done.objects[:-1]]) == (3, ["failed", "renewed"])
    assert (done.objects[0]["code"], done.objects[0]["exit"]) == ("ca-busy", 75)
    again = renew(home, done.objects[0]["address"])
    assert (again.exit, again.objects[0]["status"]) == (0, "renewed")
    assert [one.state for one in held(home, done.objects[0]["address"])].count("waiting") == 0


def test_renewing_nobody(home: Path) -> None:
    assert renew(home, "nobody@medecin.test").objects[0]["code"] == "no-identity"
    assert renew(home).exit == 2
    assert renew(home, ADDRESS, "--all").exit == 2


def test_killed_anywhere_it_goes_on_with_the_same_key(home: Path, tmp_path: Path) -> None:
    argv = ["medmail", "enrol", "renew", ADDRESS, "--no-input"]
    spare = tmp_path / "spare"
    shutil.copytree(home, spare)
    passphrase(spare)
    total = count_effects(argv, env=environment(spare))
    for k in kill_points(total - 5, 8):
        shutil.rmtree(spare)
        shutil.copytree(home, spare)
        assert run_killed_at(argv, k, env=environment(spare)).returncode == KILLED
        waiting = {one.key_sha256 for one in held(spare) if one.state == "waiting"}
        renewed = [one for one in held(spare) if one.replaces and one.state == "active"]
        if not renewed:
            assert renew(spare, ADDRESS).exit == 0
        assert sorted(one.state for one in held(spare)) == ["active", "retired"]
        assert waiting <= {one.key_sha256 for one in held(spare)}


def test_the_same_key_under_a_new_certificate(home: Path, server: OpenSslEst) -> None:
    done = renew(home, ADDRESS, "--same-key")
    assert (done.exit, done.objects[0]["status"]) == (0, "renewed")
    old, new = sorted(held(home), key=lambda one: one.created)
    assert (old.state, new.state, new.name, old.key_sha256) == ("retired", "active", "Dr M", new.key_sha256)
    assert (old.certificate == new.certificate, server.seen[-1][1]) == (False, "simplereenroll")
    assert renew(home, ADDRESS, "--same-key", "--key", "p256").exit == 2
    assert renew(home, ADDRESS).objects[0]["status"] == "renewed"
    assert sorted(one.state for one in held(home)) == ["active", "retired", "retired"]


def test_the_same_key_killed_anywhere_sends_the_same_request(
    home: Path, server: OpenSslEst, tmp_path: Path
) -> None:
    requests: list[bytes] = []

    def certify(_handler: Handler, body: bytes) -> Reply:
        requests.append(body)
        return 200, {}, server.issue(body)

    server.replies["simplereenroll"] = certify
    argv, spare = ["medmail", "enrol", "renew", ADDRESS, "--same-key", "--no-input"], tmp_path / "spare"
    shutil.copytree(home, spare)
    passphrase(spare)
    total = count_effects(argv, env=environment(spare))
    for k in kill_points(total - 5, 6):
        requests.clear()
        shutil.rmtree(spare)
        shutil.copytree(home, spare)
        assert run_killed_at(argv, k, env=environment(spare)).returncode == KILLED
        if [one.state for one in held(spare)] == ["active"]:
            assert renew(spare, ADDRESS, "--same-key").exit == 0
        assert sorted(one.state for one in held(spare)) == ["active", "retired"]
        assert len({one.key_sha256 for one in held(spare)}) == 1
        assert len(set(requests)) == 1


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "MEDMAIL_HOME": str(home),
        "MEDMAIL_PASSPHRASE_FILE": str(home.parent / "home.passphrase"),
    }


def test_the_certificate_that_ends_is_login_enough(tmp_path: Path) -> None:
    with Operator(tmp_path / "s") as operator:
        home = operator.home(ADDRESS)
        passphrase(home)
        assert medmail(home, "enrol", "new", ADDRESS, "--key", "p256").exit == 0
        operator.password_file.write_text("wrong\n")
        assert renew(home, ADDRESS).objects[0]["status"] == "renewed"
        *_, new = sorted(held(home), key=lambda one: one.created)
        assert new.certificate is not None
        operator.authority.revoke(new.certificate.serial_number, new.created)
        assert renew(home, ADDRESS).objects[-1]["code"] == "ca-refused"


def test_a_contact_hears_of_the_new_certificate_with_the_next_letter(tmp_path: Path) -> None:
    with Operator(tmp_path / "s") as operator:
        mine, theirs = operator.home(ADDRESS), operator.home(OTHER)
        for home, address in ((mine, ADDRESS), (theirs, OTHER)):
            passphrase(home)
            words = ("--key", "p256", "--no-backup", "--ca-fingerprint", operator.authority.fingerprint)
            assert medmail(home, "enrol", "new", address, *words).exit == 0
        assert medmail(mine, "contacts", "invite", OTHER).exit == 0
        assert received(theirs) == [True]
        letter(theirs, ADDRESS)
        assert received(mine) == [True]
        assert renew(mine, ADDRESS).exit == 0
        letter(mine, OTHER)
        assert received(theirs) == [True]
        letter(theirs, ADDRESS)
        (old,) = [one for one in held(mine) if one.state == "retired"]
        assert medmail(mine, "keys", "delete", old.id, "--force").exit == 0
        assert received(mine) == [True]


def letter(home: Path, to: str) -> None:
    done = medmail(home, "send", "--to", to, "--subject", "x", "-", stdin=b"text\n")
    assert done.exit == 0, done


def received(home: Path) -> list[bool]:
    """Fetch, and open what is new."""
    assert medmail(home, "fetch").exit == 0
    done = medmail(home, "decrypt", "--unopened", "--json")
    return [one["trusted"] for one in done.objects if one["type"] == "message"]
