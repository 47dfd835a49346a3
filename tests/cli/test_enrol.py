"""``medmail enrol`` as people and scripts see it."""

import datetime as dt
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pexpect
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from medmail_cli.cms.certificates import fingerprint, load
from medmail_cli.commands.enrol import events
from medmail_cli.store.keys.identity import Identity
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import unlock
from medmail_cli.store.trust.anchors import Trust
from medmail_cli.ui.schema import of_command
from medmail_cli.workflows.audit import read_entries
from tests.support import pki
from tests.support.cli import MEDMAIL, PASSPHRASE, Done, medmail, passphrase
from tests.support.homes import keystore
from tests.support.slips import KEY, SLIPS, written
from tests.support.tools import run as tool

ADDRESS = "dr.martin@medecin.test"
P12_PASSWORD = "sentinel p12 password 55e1"
CA = pki.make_ca("Order Root")
SUB = pki.make_ca("Order Sub", parent=CA)
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty keystore whose passphrase costs nothing to derive from."""
    home = tmp_path / "home"
    keystore(home)
    return home


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "p12-password"
    path.write_text(P12_PASSWORD + "\n")
    return path


def run(home: Path, *argv: str | Path, **how: Any) -> Done:
    done = medmail(home, *argv, **how)
    assert P12_PASSWORD not in done.stdout + done.stderr
    return done


def objects(home: Path, *argv: str | Path, **how: Any) -> list[dict[str, Any]]:
    """The objects of a run with --json, each of which its schema allows."""
    command = f"enrol {argv[1]}"
    done = run(home, *argv, "--json", **how)
    schema = of_command(command, events()[command])
    for one in done.objects:
        jsonschema.validate(one, schema)
    assert done.objects[-1]["exit"] == done.exit
    return done.objects


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def held(home: Path) -> tuple[Identity, ...]:
    return Keystore(home / "keystore").identities()


def actions(home: Path) -> list[tuple[str, str, str | None]]:
    return [(one.action, one.actor, one.outcome) for one in read_entries(home / "audit")]


def opens(home: Path, one: Identity) -> bool:
    """The sealed key is the certificate's."""
    key = unlock(Keystore(home / "keystore"), PASSPHRASE.encode()).unseal(one)
    assert one.certificate is not None
    return key.public_key() == one.certificate.public_key()


# --- import -------------------------------------------------------------------------------------------------


def test_import_of_a_pkcs12_file(home: Path, tmp_path: Path, password: Path) -> None:
    certificate, key = pki.issue(CA, ADDRESS, name="Dr Martin")
    file = save(tmp_path / "m.p12", pki.p12(certificate, key, CA.chain, P12_PASSWORD.encode()))
    done = run(home, "enrol", "import", file, "--p12-password-file", password)
    assert (done.exit, done.stderr) == (0, "")
    until = certificate.not_valid_after_utc.astimezone().strftime("%Y-%m-%d")
    assert (
        done.stdout
        == f"imported\t{ADDRESS}\t{fingerprint(certificate)[:12]}\tsigning and encryption\t{until}\n"
    )
    advised = run(home, "enrol", "import", file, "--p12-password-file", password, "-v")
    assert "--ca-fingerprint " + fingerprint(CA.certificate) in advised.stderr
    (one,) = held(home)
    assert (one.addresses, one.name, one.purpose, one.chain) == ((ADDRESS,), "Dr Martin", "both", CA.chain)
    assert opens(home, one)
    assert actions(home) == [("enrol", ADDRESS, None), ("enrol", ADDRESS, "done")]
    assert not Trust(home / "trust", home / "cache").anchors()


def test_import_of_the_same_again_changes_nothing_and_asks_for_no_passphrase(
    home: Path, tmp_path: Path, password: Path
) -> None:
    certificate, key = pki.issue(CA, ADDRESS)
    file = save(tmp_path / "m.p12", pki.p12(certificate, key, CA.chain, P12_PASSWORD.encode()))
    run(home, "enrol", "import", file, "--p12-password-file", password)
    passphrase(home).unlink()
    before = sorted((home / "keystore").rglob("*"))
    first, *_, result = objects(home, "enrol", "import", file, "--p12-password-file", password)
    assert (first["status"], result["exit"], result["counts"]["unchanged"]) == ("unchanged", 0, 1)
    assert sorted((home / "keystore").rglob("*")) == before


@pytest.mark.parametrize(
    "options",
    [
        ["-legacy"],  # RC2-40 for certificates, 3DES for the key, SHA-1
        ["-legacy", "-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"],
        ["-keypbe", "AES-256-CBC", "-certpbe", "AES-256-CBC"],
        ["-keypbe", "AES-256-CBC", "-certpbe", "CAMELLIA-256-CBC"],
        ["-keypbe", "NONE", "-certpbe", "NONE"],
    ],
    ids=["rc2", "3des", "aes", "camellia", "plain"],
)
def test_import_of_what_openssl_writes(
    home: Path, tmp_path: Path, password: Path, options: list[str]
) -> None:
    certificate, key = pki.issue(CA, ADDRESS)
    pem = save(tmp_path / "m.pem", pki.pem(key, certificate))
    file = tmp_path / "m.p12"
    subprocess.run(
        ["openssl", "pkcs12", "-export", *options, "-in", pem, "-passout", f"file:{password}", "-out", file],
        check=True,
        capture_output=True,
    )
    assert objects(home, "enrol", "import", file, "--p12-password-file", password)[0]["status"] == "imported"
    (one,) = held(home)
    assert opens(home, one)


def test_import_of_pem_in_one_or_two_files_encrypted_or_not(
    home: Path, tmp_path: Path, password: Path
) -> None:
    both, one_key = pki.issue(CA, "a@medecin.test")
    file = save(tmp_path / "both.pem", pki.pem(one_key, both, CA.certificate))
    assert run(home, "enrol", "import", file).exit == 0
    apart, other_key = pki.issue(CA, "b@medecin.test", key_type="p256")
    sealed = other_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(P12_PASSWORD.encode()),
    )
    files: list[str | Path] = [
        save(tmp_path / "c.pem", pki.pem(apart)),
        "--key-file",
        save(tmp_path / "k.pem", sealed),
    ]
    assert run(home, "enrol", "import", *files).exit == 4
    assert run(home, "enrol", "import", *files, "--p12-password-file", password).exit == 0
    assert [one.address for one in held(home)] == ["a@medecin.test", "b@medecin.test"]
    assert all(opens(home, one) for one in held(home))


def test_import_of_der_and_of_an_old_openssl_key(home: Path, tmp_path: Path) -> None:
    certificate, key = pki.issue(CA, ADDRESS)
    assert isinstance(key, rsa.RSAPrivateKey)
    old = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    der = save(tmp_path / "c.der", certificate.public_bytes(serialization.Encoding.DER))
    done = run(home, "enrol", "import", der, "--key-file", save(tmp_path / "k.der", old))
    assert done.exit == 0
    assert opens(home, held(home)[0])


def test_import_of_separate_certificates_for_signing_and_encryption(home: Path, tmp_path: Path) -> None:
    signing, sign_key = pki.issue(CA, ADDRESS, "sign", "p256")
    encryption, encrypt_key = pki.issue(CA, ADDRESS, "encrypt")
    file = save(tmp_path / "two.pem", pki.pem(encryption, signing, CA.certificate, sign_key, encrypt_key))
    found = objects(home, "enrol", "import", file)
    assert {(one["sha256"], one["purpose"]) for one in found if one["type"] == "enrolment"} == {
        (fingerprint(signing), "sign"),
        (fingerprint(encryption), "encrypt"),
    }
    keystore = Keystore(home / "keystore")
    assert keystore.signer(ADDRESS).certificate == signing
    assert keystore.decryption_identity(ADDRESS).certificate == encryption


def test_import_without_an_address_needs_one_and_warns(home: Path, tmp_path: Path) -> None:
    certificate, key = pki.issue(CA, None, name="Dr Martin")
    file = save(tmp_path / "m.pem", pki.pem(key, certificate))
    done = run(home, "enrol", "import", file)
    assert (done.exit, held(home)) == (2, ())
    assert "--address" in done.stderr
    found = objects(home, "enrol", "import", file, "--address", ADDRESS)
    assert found[0]["address"] == ADDRESS
    assert [one["code"] for one in found if one["type"] == "note"] == ["address-pinned"]
    assert held(home)[0].pinned


def test_import_of_an_expired_certificate_opens_old_mail_and_warns(home: Path, tmp_path: Path) -> None:
    past = NOW - dt.timedelta(days=3)
    certificate, key = pki.issue(CA, ADDRESS, not_after=past)
    found = objects(home, "enrol", "import", save(tmp_path / "m.pem", pki.pem(key, certificate)))
    assert [one["code"] for one in found if one["type"] == "note"] == ["identity-expired"]
    assert opens(home, held(home)[0])


def test_import_of_a_weak_key_warns(home: Path, tmp_path: Path) -> None:
    certificate, key = pki.issue(CA, ADDRESS, "both", "rsa1024")
    found = objects(home, "enrol", "import", save(tmp_path / "weak.pem", pki.pem(key, certificate)))
    assert [one["code"] for one in found if one["type"] == "note"] == ["weak-identity"]
    assert opens(home, held(home)[0])


def test_import_with_replace_retires_the_old_one(home: Path, tmp_path: Path) -> None:
    for name, more in (("old", []), ("new", ["--replace"])):
        certificate, key = pki.issue(CA, ADDRESS, "both", "p256")
        assert run(home, "enrol", "import", save(tmp_path / name, pki.pem(key, certificate)), *more).exit == 0
    assert [one.state for one in held(home)] == ["retired", "active"]
    assert held(home)[1].certificate == certificate


@pytest.mark.parametrize(
    ("content", "code", "exit_"),
    [
        ("other key", "key-mismatch", 1),
        ("no key", "key-not-here", 1),
        ("only a key", "key-mismatch", 1),
        ("an authority", "wrong-key-usage", 5),
        ("garbage", "malformed", 1),
        ("damaged p12", "wrong-p12-password", 4),
    ],
)
def test_import_of_what_cannot_be_an_identity(
    home: Path, tmp_path: Path, password: Path, content: str, code: str, exit_: int
) -> None:
    certificate, key = pki.issue(CA, ADDRESS, "both", "p256")
    issuing = pki._key_usage(key_cert_sign=True)
    packed = pki.p12(certificate, key, (), P12_PASSWORD.encode())
    data = {
        "other key": pki.pem(certificate, pki.make_key("p256")),
        "no key": pki.pem(certificate),
        "only a key": pki.pem(key),
        "an authority": pki.pem(*pki.issue(CA, ADDRESS, "none", "p256", extensions=[(issuing, True)])),
        "garbage": b"\x30\x82garbage",
        "damaged p12": packed[:-40] + bytes([packed[-40] ^ 1]) + packed[-39:],
    }[content]
    (error,) = objects(
        home, "enrol", "import", save(tmp_path / "f", data), "--p12-password-file", password,
        "--address", ADDRESS,
    )  # fmt: skip
    assert (error["code"], error["exit"], held(home)) == (code, exit_, ())


def test_import_takes_the_root_as_anchor_where_the_fingerprint_matches(home: Path, tmp_path: Path) -> None:
    certificate, key = pki.issue(CA, ADDRESS, "both", "p256")
    file = save(tmp_path / "m.pem", pki.pem(key, certificate, CA.certificate))
    wanted = fingerprint(CA.certificate)
    wrong = wanted[::-1]
    (error,) = objects(home, "enrol", "import", file, "--ca-fingerprint", wrong)
    assert (error["code"], error["exit"], held(home)) == ("ca-fingerprint-mismatch", 5, ())
    assert run(home, "enrol", "import", file, "--ca-fingerprint", "xyz").exit == 2
    spelled = ":".join(wanted[i : i + 2] for i in range(0, 64, 2)).upper()
    for status in ("added", "unchanged"):
        done = run(home, "enrol", "import", file, "--ca-fingerprint", spelled, "--json")
        assert done.stderr == ""
        (anchor,) = [one for one in done.objects if one["type"] == "anchor"]
        assert (anchor["status"], anchor["sha256"]) == (status, wanted)
    assert Trust(home / "trust", home / "cache").anchors() == (CA.certificate,)
    assert actions(home)[-2:] == [("trust-add", ADDRESS, None), ("trust-add", ADDRESS, "done")]


@pytest.mark.parametrize(("answer", "taken"), [("y", 1), ("", 0)])
def test_import_on_a_terminal_asks_for_the_new_passphrase_and_for_the_root(
    tmp_path: Path, answer: str, taken: int
) -> None:
    certificate, key = pki.issue(CA, ADDRESS, "both", "p256")
    file = save(tmp_path / "m.pem", pki.pem(key, certificate, CA.certificate))
    home = tmp_path / "home"
    child = pexpect.spawn(
        MEDMAIL,
        ["enrol", "import", str(file)],
        env={"MEDMAIL_HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "dumb"},
        encoding="utf-8",
        timeout=120,
    )
    for typed in (PASSPHRASE, "something else", PASSPHRASE, PASSPHRASE):
        child.expect("assphrase.*: ")
        child.sendline(typed)
    child.expect(r"\[y/N\]")
    assert PASSPHRASE not in (child.before or "")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert len(Trust(home / "trust", home / "cache").anchors()) == taken
    assert opens(home, held(home)[0])


def test_the_first_import_makes_the_keystore_only_once_the_file_is_good(tmp_path: Path) -> None:
    home = tmp_path / "home"
    passphrase(home)
    assert run(home, "enrol", "import", save(tmp_path / "bad", b"?")).exit == 1
    assert not (home / "keystore").exists()
    certificate, key = pki.issue(CA, ADDRESS, "both", "p256")
    file = save(tmp_path / "m.pem", pki.pem(key, certificate))
    assert run(home, "enrol", "import", file, env={"MEDMAIL_PASSPHRASE_FILE": ""}).exit == 4
    assert run(home, "enrol", "import", file).exit == 0
    assert oct((home / "keystore").stat().st_mode)[-3:] == "700"
    for path in (home / "keystore").rglob("*"):
        assert oct(path.stat().st_mode)[-3:] in ("700", "600")


def test_no_secret_stands_in_any_file(home: Path, tmp_path: Path, password: Path) -> None:
    certificate, key = pki.issue(CA, ADDRESS)
    assert isinstance(key, rsa.RSAPrivateKey)
    file = save(tmp_path / "m.p12", pki.p12(certificate, key, CA.chain, P12_PASSWORD.encode()))
    run(home, "enrol", "import", file, "--p12-password-file", password)
    prime = key.private_numbers().p.to_bytes(128, "big")
    for path in home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(secret in data for secret in (prime, PASSPHRASE.encode(), P12_PASSWORD.encode()))


# --- new, by hand -------------------------------------------------------------------------------------------


def test_a_request_by_hand_waits_and_its_certificate_makes_the_identity(home: Path, tmp_path: Path) -> None:
    done = run(home, "enrol", "new", ADDRESS, "--method", "csr", "--key", "p256", "--name", "Dr Martin")
    assert (done.exit, done.stderr) == (0, "")
    request = x509.load_pem_x509_csr(done.stdout.encode())
    assert request.is_signature_valid
    assert [one.state for one in held(home)] == ["waiting"]

    csr = tmp_path / "m.csr"
    again = objects(home, "enrol", "new", ADDRESS, "--method", "csr", "-o", csr)
    assert again[0]["saved_as"] == str(csr)
    assert again[0]["request"] == done.stdout == csr.read_text()
    csr.write_text("something else")
    assert run(home, "enrol", "new", ADDRESS, "--method", "csr", "-o", csr).exit == 1
    assert run(home, "enrol", "new", ADDRESS, "--method", "csr", "-o", csr, "--force").exit == 0

    certificate = _certified(request, tmp_path)
    file = save(tmp_path / "m.pem", pki.pem(certificate, CA.certificate))
    assert objects(home, "enrol", "import", file)[0]["status"] == "imported"
    (one,) = held(home)
    assert (one.state, one.name, one.method, one.chain) == ("active", "Dr Martin", "csr", CA.chain)
    assert opens(home, one)
    assert objects(home, "enrol", "new", ADDRESS, "--method", "csr")[0]["status"] == "unchanged"
    assert [action for action, _, _ in actions(home)] == ["enrol-request"] * 2 + ["enrol"] * 2


def test_by_hand_it_is_renewed_by_hand(home: Path, tmp_path: Path) -> None:
    request = run(home, "enrol", "new", ADDRESS, "--method", "csr", "--key", "p256").stdout
    old = _certified(x509.load_pem_x509_csr(request.encode()), tmp_path)
    run(home, "enrol", "import", save(tmp_path / "old.pem", pki.pem(old)))
    said = objects(home, "enrol", "renew", ADDRESS)
    assert (said[0]["status"], said[-1]["exit"]) == ("waiting", 0)
    csr = x509.load_pem_x509_csr(said[0]["request"].encode())
    assert csr.public_key() != old.public_key()
    assert objects(home, "enrol", "renew", ADDRESS)[0]["request"] == said[0]["request"]
    new = _certified(csr, tmp_path)
    assert (
        objects(home, "enrol", "import", save(tmp_path / "new.pem", pki.pem(new)))[0]["status"] == "imported"
    )
    assert Keystore(home / "keystore").signer(ADDRESS).certificate == new
    assert sorted(one.state for one in held(home)) == ["active", "retired"]


@pytest.mark.parametrize("more", [(), ("--same-key",)])
@pytest.mark.parametrize("helper", ["identity", "trust"])
def test_what_came_in_a_file_is_renewed_by_hand_and_keeps_what_stands_above_it(
    home: Path, tmp_path: Path, password: Path, helper: str, more: tuple[str, ...]
) -> None:
    """The authority sends the bare certificate; the intermediate is at hand from the one before it."""
    old, key = pki.issue(SUB, ADDRESS, key_type="p256")
    chain = SUB.chain if helper == "identity" else ()
    file = save(tmp_path / "m.p12", pki.p12(old, key, chain, P12_PASSWORD.encode()))
    assert run(home, "enrol", "import", file, "--p12-password-file", password).exit == 0
    if helper == "trust":
        above = save(tmp_path / "above.pem", pki.pem(*SUB.chain))
        assert run(home, "trust", "add", "--intermediate", above).exit == 0
    said = objects(home, "enrol", "renew", ADDRESS, *more)
    assert (said[0]["status"], said[-1]["exit"]) == ("waiting", 0)
    new = _certified(x509.load_pem_x509_csr(said[0]["request"].encode()), tmp_path, by=SUB)
    (made, *_) = objects(home, "enrol", "import", save(tmp_path / "new.pem", pki.pem(new)))
    assert made["status"] == "imported"
    one = Keystore(home / "keystore").signer(ADDRESS)
    assert (one.certificate, one.chain) == (new, SUB.chain)


def test_a_letter_brings_the_intermediate_that_came_to_hand_later(
    home: Path, tmp_path: Path, password: Path
) -> None:
    """Its reader may know the root alone."""
    certificate, key = pki.issue(SUB, ADDRESS, key_type="p256")
    file = save(tmp_path / "m.p12", pki.p12(certificate, key, (), P12_PASSWORD.encode()))
    assert run(home, "enrol", "import", file, "--p12-password-file", password).exit == 0
    above = save(tmp_path / "above.pem", pki.pem(SUB.certificate))
    assert run(home, "trust", "add", "--intermediate", above).exit == 0
    out = tmp_path / "letter.eml"
    argv = ("--from", ADDRESS, "--to", "bob@medecin.test", "--sign-only", "--output", out)
    assert run(home, "send", *argv, "-", stdin=b"x").exit == 0
    root = save(tmp_path / "root.pem", pki.pem(CA.certificate))
    tool("openssl", "cms", "-verify", "-in", out, "-CAfile", root, "-out", tmp_path / "content")


def test_by_hand_the_certificate_must_bear_the_address_asked_for(home: Path, tmp_path: Path) -> None:
    request = run(home, "enrol", "new", ADDRESS, "--method", "csr", "--key", "p256").stdout
    wrong = _certified(x509.load_pem_x509_csr(request.encode()), tmp_path, "mallory@evil.test")
    file = save(tmp_path / "wrong.pem", pki.pem(wrong))
    (error,) = objects(home, "enrol", "import", file)
    assert (error["code"], error["exit"]) == ("certificate-not-as-requested", 5)
    assert [one.state for one in held(home)] == ["waiting"]
    assert objects(home, "enrol", "import", file, "--address", ADDRESS)[0]["status"] == "imported"


def test_by_hand_a_new_key_wants_a_backup_too(home: Path, tmp_path: Path) -> None:
    request = run(home, "enrol", "new", ADDRESS, "--method", "csr", "--key", "p256").stdout
    file = save(tmp_path / "a.pem", pki.pem(_certified(x509.load_pem_x509_csr(request.encode()), tmp_path)))
    backup, secret = tmp_path / "backup", save(tmp_path / "secret", b"a long backup passphrase\n")
    said = objects(home, "enrol", "import", file, "--backup", backup, "--backup-passphrase-file", secret)
    assert [one.get("status") for one in said[:2]] == ["imported", "backed-up"]
    assert backup.exists()


def _certified(
    request: x509.CertificateSigningRequest, tmp_path: Path, address: str = ADDRESS, by: pki.Authority = CA
) -> x509.Certificate:
    """What an authority without an API does, with OpenSSL."""
    extensions = tmp_path / "ext"
    extensions.write_text(f"subjectAltName=email:{address}\nkeyUsage=digitalSignature,keyAgreement\n")
    made = subprocess.run(
        [
            "openssl", "x509", "-req", "-days", "20", "-extfile", extensions,
            "-CA", save(tmp_path / "ca.pem", pki.pem(by.certificate)),
            "-CAkey", save(tmp_path / "ca.key", pki.pem(by.key)),
        ],
        input=request.public_bytes(serialization.Encoding.PEM), check=True, capture_output=True,
    )  # fmt: skip
    return x509.load_pem_x509_certificate(made.stdout)


def test_new_with_replace_keeps_the_old_one_in_use_until_the_certificate_comes(
    home: Path, tmp_path: Path
) -> None:
    certificate, key = pki.issue(CA, ADDRESS, "both", "p256")
    run(home, "enrol", "import", save(tmp_path / "old.pem", pki.pem(key, certificate)))
    done = run(home, "enrol", "new", ADDRESS, "--method", "csr", "--key", "p256", "--replace")
    assert Keystore(home / "keystore").signer(ADDRESS).certificate == certificate
    new = _certified(x509.load_pem_x509_csr(done.stdout.encode()), tmp_path)
    run(home, "enrol", "import", save(tmp_path / "new.pem", pki.pem(new)))
    assert Keystore(home / "keystore").signer(ADDRESS).certificate == new
    assert sorted(one.state for one in held(home)) == ["active", "retired"]


def test_new_without_an_authority_says_what_to_give(home: Path) -> None:
    (error,) = objects(home, "enrol", "new", ADDRESS)
    assert (error["code"], error["exit"]) == ("no-authority", 78)
    (error,) = objects(home, "enrol", "new", ADDRESS, "--ca", "order")
    assert (error["code"], error["exit"]) == ("not-found", 1)
    assert run(home, "enrol", "new", "nobody").exit == 2
    assert held(home) == ()


def test_a_wrong_passphrase_is_exit_4_and_a_damaged_store_exit_7(home: Path, tmp_path: Path) -> None:
    wrong = {"MEDMAIL_PASSPHRASE_FILE": str(save(tmp_path / "wrong", b"wrong\n"))}
    argv = ("enrol", "new", ADDRESS, "--method", "csr", "--key", "p256")
    (error,) = objects(home, *argv, env=wrong)
    assert (error["code"], error["exit"]) == ("wrong-passphrase", 4)
    path = home / "keystore" / "keystore.json"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = run(home, *argv)
    assert done.exit == 7
    assert str(path) in done.stderr


# --- status -------------------------------------------------------------------------------------------------


def test_status_tells_what_ends_when_and_fails_in_time(home: Path, tmp_path: Path) -> None:
    assert run(home, "enrol", "status", "--fail-within", "30d").exit == 0
    for address, days in (("soon@medecin.test", 20), ("later@medecin.test", 300)):
        end = NOW + dt.timedelta(days=days, hours=1)
        certificate, key = pki.issue(CA, address, "both", "p256", not_after=end)
        run(home, "enrol", "import", save(tmp_path / address, pki.pem(key, certificate)))
    assert run(home, "enrol", "status").exit == 0
    soon, later, result = objects(home, "enrol", "status", "--fail-within", "30d")
    assert (soon["address"], soon["status"], soon["days_left"], soon["exit"]) == (
        "soon@medecin.test", "expires-soon", 20, 1,
    )  # fmt: skip
    assert (later["status"], later["exit"]) == ("valid", 0)
    assert result["exit"] == 3
    assert run(home, "enrol", "status", "--fail-within", "1y").exit == 2


def test_status_leaves_out_what_a_later_certificate_has_taken_over(home: Path, tmp_path: Path) -> None:
    for days in (-5, 300):
        certificate, key = pki.issue(CA, ADDRESS, "both", "p256", not_after=NOW + dt.timedelta(days=days))
        run(home, "enrol", "import", save(tmp_path / str(days), pki.pem(key, certificate)))
    only, result = objects(home, "enrol", "status", "--fail-within", "30d")
    assert (only["status"], result["exit"]) == ("valid", 0)


def test_import_of_a_certificate_with_a_slip(home: Path, tmp_path: Path) -> None:
    """Old authorities wrote names that cryptography refuses; what is kept is the certificate as it is."""
    certificate = load(written(SLIPS["@ in a PrintableString"]))
    data = certificate.public_bytes(serialization.Encoding.PEM)
    file = save(tmp_path / "old.pem", pki.pem(KEY) + data)
    assert objects(home, "enrol", "import", file)[0]["status"] == "imported"
    (one,) = held(home)
    assert one.certificate == certificate
    exported = run(home, "keys", "export", one.id, "-o", tmp_path / "out.pem")
    assert exported.exit == 0, exported.stderr
    assert (tmp_path / "out.pem").read_bytes().startswith(data)
