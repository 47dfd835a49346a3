"""``medmail enrol batch`` where each person gets several keys, or ones that encrypt only."""

from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate

from medmail_cli.sandbox.operator import Operator
from medmail_cli.store.keys.keystore import Keystore
from tests.support import letters, pki
from tests.support.cli import PASSPHRASE, medmail
from tests.support.homes import make_home
from tests.support.rosters import enrol, person, registrar, roster, rows, use_profile
from tests.support.tools import require, run


@pytest.fixture
def home(operator: Operator, tmp_path: Path) -> Path:
    return registrar(tmp_path, operator)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    return roster(tmp_path / "three.csv", map(person, range(3)))


@pytest.mark.parametrize(
    ("profile", "key", "expected"),
    [
        ("two", "p384", {("sign", "p384"), ("encrypt", "p384")}),
        ("one", "ed25519", {("sign", "ed25519"), ("encrypt", "x25519")}),
        ("one", "ml-kem-768", {("both", "rsa3072"), ("encrypt", "ml-kem-768")}),
    ],
)
def test_each_key_has_a_certificate_of_its_own(
    operator: Operator,
    home: Path,
    three: Path,
    tmp_path: Path,
    profile: str,
    key: str,
    expected: set[tuple[str, str]],
) -> None:
    use_profile(home, f'certificates = "{profile}"\n')
    before = len(operator.authority.issued)
    root = operator.authority.fingerprint
    options = ("--key", key, "--out-dir", tmp_path / "out", "--json", "--ca-fingerprint", root)
    done = medmail(home, "enrol", "batch", three, *options, "--report", tmp_path / "r.jsonl")
    assert (done.exit, done.objects[-1]["counts"]) == (0, {"enrolment": 3, "enrolled": 3})
    found = rows(done)
    given = {one["serial"]: one for row in found.values() for one in row["certificates"]}
    assert set(given) == {f"{one.serial_number:x}" for one in operator.authority.issued[before:]}
    assert len(given) == 6
    for address, row in found.items():
        assert {(one["purpose"], one["key"]) for one in row["certificates"]} == expected
        first = {name: value for name, value in row["certificates"][0].items() if name != "purpose"}
        assert {name: row[name] for name in first} == first
        held = Keystore(tmp_path / "out" / address / "keystore").identities()
        assert {one.sha256 for one in held} == {one["sha256"] for one in row["certificates"]}
    # the log names every certificate, and the report is as it was told
    log = medmail(home, "audit", "log", "--json").objects
    told = {e["objects"][0] for e in log if e.get("action") == "enrol" and e.get("outcome") == "done"}
    assert told >= {one["sha256"] for one in given.values()}
    merged = medmail(home, "enrol", "merge", tmp_path / "r.jsonl", "--json")
    assert rows(merged) == found
    again = medmail(home, "enrol", "batch", three, *options)
    assert again.objects[-1]["counts"] == {"enrolment": 3, "unchanged": 3}
    kept = {address: row["certificates"] for address, row in found.items()}
    assert {address: row["certificates"] for address, row in rows(again).items()} == kept
    # they write to themselves with it
    theirs = tmp_path / "out" / "p1@medecin.test"
    secret = Path(found["p1@medecin.test"]["password_file"])
    (tmp_path / "out" / "p1@medecin.test.passphrase").write_bytes(secret.read_bytes())
    more = ["--post-quantum"] if key.startswith("ml-kem") else []
    words = ("--to", "p1@medecin.test", "--subject", "x", "-o", tmp_path / "l.eml", "-")
    sent = medmail(theirs, "send", *more, *words, stdin=b"me\n")
    assert sent.exit == 0, sent.stderr
    (opened, _) = medmail(theirs, "decrypt", "--offline", tmp_path / "l.eml", "--json").objects
    assert (opened["trusted"], opened["text"]) == (True, "me\n")
    if more:
        assert opened["encryption"]["key_management"] == "ml-kem-768"


def test_a_pkcs12_file_for_each_key(home: Path, three: Path, tmp_path: Path) -> None:
    require("openssl")
    use_profile(home, 'certificates = "two"\n')
    out = tmp_path / "out"
    row = rows(enrol(home, three, "--out-dir", out, "--p12"))["p2@medecin.test"]
    places = [Path(one["saved_as"]) for one in row["certificates"]]
    assert places == [out / "p2@medecin.test.p12", out / "p2@medecin.test.encryption.p12"]
    for one, place in zip(row["certificates"], places, strict=True):
        password = f"file:{row['password_file']}"
        shown = run("openssl", "pkcs12", "-in", str(place), "-passin", password, "-nodes").stdout
        certificate = load_pem_x509_certificate(shown[shown.index(b"-----BEGIN CERT") :])
        assert f"{certificate.serial_number:x}" == one["serial"]
        assert b"PRIVATE KEY" in shown
    mine = tmp_path / "mine"
    (tmp_path / "mine.passphrase").write_text(PASSPHRASE)
    for place in places:
        taken = medmail(
            mine, "enrol", "import", place, "--p12-password-file", row["password_file"], "--no-backup"
        )
        assert taken.exit == 0, taken.stderr
    assert {one["purpose"] for one in medmail(mine, "keys", "list", "--json").objects[:-1]} == {
        "sign",
        "encrypt",
    }


@pytest.mark.parametrize(
    ("key", "options"), [("x25519", ()), ("ed25519", ("--p12",)), ("ml-kem-1024", ("--p12",))]
)
def test_what_cannot_be_given_is_refused_before_anything_is_asked(
    operator: Operator, home: Path, three: Path, tmp_path: Path, key: str, options: tuple[str, ...]
) -> None:
    before = len(operator.authority.issued)
    done = medmail(
        home, "enrol", "batch", three, "--key", key, *options, "--out-dir", tmp_path / "out", "--json"
    )
    assert (done.exit, done.objects[-1]["code"]) == (2, "usage")
    assert not (tmp_path / "out").exists()
    assert len(operator.authority.issued) == before


def test_the_organisation_has_a_copy_of_what_encrypts(
    operator: Operator, home: Path, three: Path, tmp_path: Path
) -> None:
    clinic = letters.person("archive", key_type="p256")
    (home / "clinic.pem").write_bytes(pki.pem(clinic.certificate))
    use_profile(home, 'certificates = "two"\nescrow = "clinic.pem"\n')
    found = rows(enrol(home, three, "--out-dir", tmp_path / "out"))
    encrypts = {one["sha256"]: one for row in found.values() for one in row["certificates"][1:]}
    copies = {path.stem: path for path in (home / "escrow").iterdir()}
    assert set(copies) == set(encrypts)
    (tmp_path / "archive").mkdir()
    archive = make_home(tmp_path / "archive", clinic)
    (tmp_path / "root.pem").write_bytes(operator.authority.pem)
    assert medmail(archive, "trust", "add", tmp_path / "root.pem").exit == 0
    name = found["p0@medecin.test"]["certificates"][1]["sha256"]
    opened = medmail(archive, "decrypt", "--offline", copies[name], "--json").objects[0]
    assert opened["headers"]["from"] == "p0@medecin.test"
    assert {one["name"] for one in opened["attachments"]} == {f"{name}.p8", f"{name}.pem"}
    signer = opened["signature"]["signers"][0]["sha256"]
    assert signer == found["p0@medecin.test"]["sha256"]
