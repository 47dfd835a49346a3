"""``medmail enrol new`` against an EST server whose certificates OpenSSL makes."""

import base64
import datetime as dt
import os
import shutil
from pathlib import Path

import pytest

from medmail_cli.store.keys.identity import Identity
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import unlock
from medmail_cli.store.trust.anchors import Trust
from medmail_cli.workflows.audit import read_entries
from tests.support.cli import PASSPHRASE, Done, medmail
from tests.support.homes import keystore
from tests.support.killer import KILLED, count_effects, kill_points, run_killed_at
from tests.support.openssl_est import Handler, OpenSslCa, OpenSslEst

ADDRESS = "dr.martin@medecin.test"
NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    keystore(home)
    return home


def enrol(home: Path, server: OpenSslEst, *more: str | Path) -> Done:
    words = ("--key", "p256", "--no-backup", "--json", "--ca", server.url)
    return medmail(home, "enrol", "new", ADDRESS, *words, *more)


def held(home: Path) -> tuple[Identity, ...]:
    return Keystore(home / "keystore").identities()


def test_a_certificate_and_the_root_by_its_fingerprint(home: Path, server: OpenSslEst, ca: OpenSslCa) -> None:
    done = enrol(home, server, "--ca-fingerprint", ca.fingerprint, "--name", "Dr Martin")
    assert (done.exit, done.stderr) == (0, "")
    enrolment, anchor, result = done.objects
    assert (enrolment["status"], enrolment["method"], enrolment["address"]) == ("enrolled", "est", ADDRESS)
    assert (anchor["status"], result["counts"]["enrolled"]) == ("added", 1)
    (one,) = held(home)
    assert (one.state, one.purpose, one.name, one.authority) == (
        "active", "both", "Dr Martin", f"{server.url}/.well-known/est",
    )  # fmt: skip
    assert Trust(home / "trust", home / "cache").anchors() == one.chain[-1:]
    key = unlock(Keystore(home / "keystore"), PASSPHRASE.encode()).unseal(one)
    assert one.certificate is not None
    assert key.public_key() == one.certificate.public_key()
    actions = [(one.action, one.outcome) for one in read_entries(home / "audit") if one.outcome]
    assert actions == [("enrol-request", "done"), ("enrol", "done"), ("trust-add", "done")]

    asked = len(server.seen)
    again = enrol(home, server)
    assert (again.objects[0]["status"], len(server.seen)) == ("unchanged", asked)
    assert len(enrol(home, server, "--tls-anchors", ca.root, "--replace").objects) == 2
    assert [one.state for one in held(home)] == ["retired", "active"]


def test_an_authority_of_the_configuration(home: Path, server: OpenSslEst, ca: OpenSslCa) -> None:
    (home / "config.toml").write_text(
        f'[authorities.order]\nurl = "{server.url}/.well-known/est"\ntls-anchors = "{ca.root}"\n'
    )
    done = medmail(home, "enrol", "new", ADDRESS, "--key", "p256", "-v")
    assert done.exit == 0
    assert done.stdout.startswith(f"enrolled\t{ADDRESS}\t")
    assert "--ca-fingerprint" in done.stderr
    assert not Trust(home / "trust", home / "cache").anchors()


def test_a_request_that_was_not_answered_is_sent_again(home: Path, server: OpenSslEst, ca: OpenSslCa) -> None:
    bodies: list[bytes] = []

    def busy(_handler: Handler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        bodies.append(body)
        return 503, {"Retry-After": "60"}, b"later"

    server.replies["simpleenroll"] = busy
    done = enrol(home, server, "--tls-anchors", ca.root)
    assert (done.exit, done.objects[-1]["code"]) == (75, "ca-busy")
    assert [one.state for one in held(home)] == ["waiting"]
    enrol(home, server, "--tls-anchors", ca.root)
    assert bodies[0] == bodies[-1]
    del server.replies["simpleenroll"]
    assert enrol(home, server, "--tls-anchors", ca.root).objects[0]["status"] == "enrolled"
    (one,) = held(home)
    assert one.state == "active"
    outcomes = [one.outcome for one in read_entries(home / "audit") if one.action == "enrol" and one.outcome]
    assert outcomes == ["failed", "failed", "done"]


def test_a_certificate_that_only_signs_where_both_was_asked_for_is_told(
    home: Path, server: OpenSslEst, ca: OpenSslCa
) -> None:
    server.replies["simpleenroll"] = lambda _handler, body: (
        200, {}, ca.certs_only(ca.sign(base64.b64decode(body), "DER", "signs")),
    )  # fmt: skip
    done = enrol(home, server, "--tls-anchors", ca.root)
    assert done.exit == 0
    notes = [one["code"] for one in done.objects if one["type"] == "note"]
    assert "signs-only" in notes
    assert [one.purpose for one in held(home)] == ["sign"]
    # by hand as well
    request, signed = home.parent / "request.pem", home.parent / "signed.pem"
    words = ("enrol", "new", "dr.durand@medecin.test", "--method", "csr", "--key", "p256", "-o", request)
    assert medmail(home, *words).exit == 0
    signed.write_bytes(ca.sign(request.read_bytes(), "PEM", "signs"))
    done = medmail(home, "enrol", "import", signed, "--no-backup", "--json")
    assert "signs-only" in [one.get("code") for one in done.objects]


def test_the_wrong_fingerprint_stops_before_anything_is_asked_of_the_authority(
    home: Path, server: OpenSslEst
) -> None:
    done = enrol(home, server, "--ca-fingerprint", "ab" * 32)
    assert (done.exit, done.objects[-1]["code"]) == (5, "ca-fingerprint-mismatch")
    assert not [operation for operation, *_ in server.seen if "enroll" in operation]


def test_killed_anywhere_the_next_run_completes(home: Path, server: OpenSslEst, ca: OpenSslCa) -> None:
    argv = ["medmail", "enrol", "new", ADDRESS, "--key", "p256", "--ca", server.url]
    argv += ["--tls-anchors", str(ca.root), "--ca-fingerprint", ca.fingerprint]
    environment = {
        **os.environ,
        "MEDMAIL_HOME": str(home),
        "MEDMAIL_PASSPHRASE_FILE": str(home.parent / "home.passphrase"),
    }
    start = home.parent / "start"
    shutil.copytree(home, start)
    total = count_effects(argv, env=environment)
    for k in kill_points(total - 5, 14):  # how often a socket is read varies
        shutil.rmtree(home)
        shutil.copytree(start, home)
        assert run_killed_at(argv, k, env=environment).returncode == KILLED
        done = enrol(home, server, "--tls-anchors", ca.root, "--ca-fingerprint", ca.fingerprint)
        assert done.exit == 0
        (one,) = held(home)
        assert (one.state, one.address) == ("active", ADDRESS)
    assert medmail(home, "audit", "verify").exit == 0
