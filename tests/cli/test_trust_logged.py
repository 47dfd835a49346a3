"""Whom one trusts stands in the audit log: a file that somebody put in place by hand is not believed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.audit import belief as beliefs
from medmail_cli.audit import checkpoint as checkpoints
from medmail_cli.cms.certificates import fingerprint
from medmail_cli.store.log.writer import AuditLog
from medmail_cli.store.trust.believed import SEAL, STATE
from medmail_cli.store.trust.contact import Origin, dump
from medmail_cli.store.trust.contacts import Contacts
from medmail_cli.workflows.audit import read_entries
from tests.support import pki
from tests.support.cli import medmail
from tests.support.homes import make_home
from tests.support.letters import NOW, authority, letter, person, sealed

BOB = person("bob")
STRANGE = pki.make_ca("Strange Root")


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def anchor_of(home: Path, certificate: x509.Certificate) -> Path:
    return home / "trust" / "anchors" / f"{fingerprint(certificate)}.pem"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = make_home(tmp_path, BOB)
    (tmp_path / "letter.eml").write_bytes(sealed(letter()))
    return made


def decrypted(home: Path) -> Any:
    return medmail(home, "decrypt", "--offline", "--json", home.parent / "letter.eml")


def plant(home: Path) -> Path:
    """Copy a root into the anchors' folder, as its own name wants it."""
    path = anchor_of(home, STRANGE.certificate)
    path.write_bytes(pem(STRANGE.certificate))
    return path


def test_an_anchor_put_in_place_by_hand_is_not_believed(home: Path) -> None:
    assert decrypted(home).exit == 0
    path = plant(home)
    for argv in (("decrypt", "--offline", str(home.parent / "letter.eml")), ("trust", "list")):
        done = medmail(home, *argv)
        assert (done.exit, str(path) in done.stderr, "trust add" in done.stderr) == (7, True, True), argv
    verified = medmail(home, "audit", "verify", "--json")
    assert verified.exit == 7
    assert [(one["code"], one["path"]) for one in verified.objects if one["type"] == "damaged-file"] == [
        ("unlogged-trust", str(path))
    ]
    assert [one["status"] for one in verified.objects if one["type"] == "log"] == ["contradicted"]
    done = medmail(home, "trust", "add", path, "--json")
    assert [one["status"] for one in done.objects if one["type"] == "trust"] == ["added"]
    assert decrypted(home).exit == 0
    assert medmail(home, "audit", "verify").exit == 0


def test_an_unlogged_anchor_can_be_taken_out(home: Path) -> None:
    path = plant(home)
    assert medmail(home, "trust", "remove", path.stem).exit == 0
    assert not path.exists()
    assert decrypted(home).exit == 0


def test_an_anchor_that_was_removed_and_came_back_is_not_believed(home: Path) -> None:
    path = anchor_of(home, authority("Health Root").certificate)
    kept = path.read_bytes()
    assert medmail(home, "trust", "remove", path.stem).exit == 0
    assert decrypted(home).exit == 5
    path.write_bytes(kept)
    assert (decrypted(home).exit, str(path) in decrypted(home).stderr) == (7, True)
    assert medmail(home, "trust", "add", path).exit == 0
    assert decrypted(home).exit == 0


def test_a_line_appended_to_the_log_by_hand_is_believed_by_nobody(home: Path) -> None:
    """Not made up, and not copied from elsewhere in the log."""
    path = plant(home)
    entries = home / "audit" / "entries.jsonl"
    lines = entries.read_bytes().splitlines()
    forged = json.loads(next(line for line in lines if b"trust-add" in line))
    forged |= {"index": len(lines), "objects": [path.stem]}
    with entries.open("ab") as file:
        file.write(json.dumps(forged, separators=(",", ":")).encode() + b"\n")
    assert decrypted(home).exit == 7
    verified = medmail(home, "audit", "verify", "--json")
    assert ("unvouched", len(lines)) in [
        (one["problem"], one["entry"]) for one in verified.objects if one["type"] == "fault"
    ]


def test_a_pinned_contact_put_in_place_by_hand_is_not_believed(home: Path, tmp_path: Path) -> None:
    bare = pki.issue(STRANGE, "someone@else.test", "both", "p256")[0]
    Contacts(home / "contacts").add("lab@hosp.test", [bare], now=NOW)
    (path,) = (home / "contacts").glob("*.json")
    done = medmail(home, "contacts", "list")
    assert (done.exit, str(path) in done.stderr) == (7, True)
    verified = medmail(home, "audit", "verify", "--json")
    assert [one["path"] for one in verified.objects if one["type"] == "damaged-file"] == [str(path)]
    taken = medmail(home, "trust", "add", path, "--json")
    assert [(one["kind"], one["status"]) for one in taken.objects if one["type"] == "trust"] == [
        ("contact", "added")
    ]
    assert medmail(home, "contacts", "list").exit == 0
    # the same certificate for another address is another matter
    Contacts(home / "contacts").add("other@hosp.test", [bare], now=NOW)
    assert medmail(home, "contacts", "list").exit == 7
    file = tmp_path / "bare.pem"
    file.write_bytes(pem(bare))
    assert medmail(home, "contacts", "add", file, "--address", "other@hosp.test").exit == 0
    assert medmail(home, "contacts", "list").exit == 0
    kept = {one: one.read_bytes() for one in (home / "contacts").glob("*.json")}
    assert medmail(home, "contacts", "remove", "lab@hosp.test").exit == 0
    path.write_bytes(kept[path])
    assert medmail(home, "contacts", "list").exit == 7
    assert medmail(home, "contacts", "remove", "lab@hosp.test").exit == 0
    assert medmail(home, "contacts", "list").exit == 0


def test_a_contact_copied_from_elsewhere_is_not_believed(home: Path, tmp_path: Path) -> None:
    """Though its certificate bears its address: whoever took it did so elsewhere."""
    carol, file = person("carol"), tmp_path / "carol.pem"
    file.write_bytes(pem(carol.certificate))
    (tmp_path / "there").mkdir()
    there = make_home(tmp_path / "there", BOB)
    assert medmail(there, "contacts", "add", file).exit == 0
    (copied,) = (there / "contacts").glob("*.json")
    assert medmail(home, "contacts", "list").exit == 0
    path = home / "contacts" / copied.name
    path.parent.mkdir(exist_ok=True)
    shutil.copy(copied, path)
    (home / "config.toml").write_text(
        f'[accounts.work]\naddress = "{BOB.address}"\n'
        'smtp = { host = "mail.hosp.test", port = 587, security = "starttls" }\n'
    )
    draft = ("--from", BOB.address, "--to", carol.address, "--subject", "x", "--dry-run", "--offline")
    for argv in (("contacts", "list"), ("send", "-", *draft)):
        done = medmail(home, *argv, stdin=b"text")
        assert (done.exit, str(path) in done.stderr) == (7, True), (argv, done.stderr)
    verified = medmail(home, "audit", "verify", "--json")
    assert [one["path"] for one in verified.objects if one["type"] == "damaged-file"] == [str(path)]
    digest = fingerprint(carol.certificate)
    accepted = medmail(home, "contacts", "accept", carol.address, "--sha256", digest.upper())
    assert (accepted.exit, medmail(home, "contacts", "list").exit) == (0, 0)
    assert next(read_entries(home / "audit", action="contact-accept")).objects == (digest,)
    assert medmail(home, "contacts", "accept", carol.address).exit == 1
    assert medmail(home, "audit", "verify").exit == 0


@pytest.mark.parametrize("origin", ["learned", "added"])
def test_a_certificate_pinned_under_another_word_is_not_believed(home: Path, origin: Origin) -> None:
    """What does not bear the address is pinned to it, whatever the file calls it."""
    bare = pki.issue(STRANGE, "someone@else.test", "both", "p256")[0]
    contacts = Contacts(home / "contacts")
    contact = contacts.add("lab@hosp.test", [bare], now=NOW)
    (path,) = (home / "contacts").glob("*.json")
    path.write_bytes(dump(replace(contact, certificates=(replace(contact.certificates[0], origin=origin),))))
    assert contacts.lookup("lab@hosp.test") is not None
    assert medmail(home, "trust", "list").exit == 0
    # the older home has taken it over; for this one it is a stranger's
    assert medmail(home, "contacts", "remove", "lab@hosp.test").exit == 0
    path.write_bytes(dump(replace(contact, certificates=(replace(contact.certificates[0], origin=origin),))))
    done = medmail(home, "contacts", "list")
    assert (done.exit, str(path) in done.stderr) == (7, True)


def test_what_a_letter_brought_needs_no_entry(home: Path) -> None:
    assert decrypted(home).exit == 0
    carol = person("carol")
    Contacts(home / "contacts").learn(carol.address, [carol.certificate], now=NOW)
    assert medmail(home, "contacts", "list").exit == 0
    assert medmail(home, "audit", "verify").exit == 0


def test_verifying_an_older_home_takes_nothing_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    age(home)
    of_before(home, monkeypatch)
    entries = home / "audit" / "entries.jsonl"
    written = entries.read_bytes()
    assert medmail(home, "audit", "verify").exit == 0
    assert entries.read_bytes() == written


def test_a_sealed_home_is_no_older_one(home: Path) -> None:
    """Whoever makes its log look older, to have a planted anchor taken over."""
    assert decrypted(home).exit == 0
    path, entries = plant(home), home / "audit" / "entries.jsonl"
    written = entries.read_bytes()
    assert b',"format":2' in written
    entries.write_bytes(written.replace(b',"format":2', b" " * 11, 1))
    (home / "cache" / STATE).unlink(missing_ok=True)
    done = decrypted(home)
    assert (done.exit, "anchor-adopted" in done.stdout) == (7, False)
    entries.unlink()
    done = decrypted(home)
    assert (done.exit, "anchor-adopted" in done.stdout) == (7, False)
    assert path.exists()


def age(home: Path) -> None:
    """Make a home's log as an older version would have left it."""
    shutil.rmtree(home / "audit")
    (home / "keystore" / SEAL).unlink(missing_ok=True)
    (home / "cache" / STATE).unlink(missing_ok=True)


def of_before(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a log as an older version did."""
    with monkeypatch.context() as patch:
        patch.setattr(beliefs, "ACTIONS", frozenset())
        patch.setattr("medmail_cli.audit.entry.FORMAT", 1)
        with AuditLog(home / "audit", lambda: NOW) as old:
            old.intent("trust-add", actor="me", objects=("ab" * 32,), kind="anchor")


@pytest.mark.parametrize("log", ["of before", "none"])
def test_an_older_home_takes_its_set_over_once_and_lists_it(
    home: Path, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(home)
    bare = pki.issue(STRANGE, "someone@else.test", "both", "p256")[0]
    Contacts(home / "contacts").add("lab@hosp.test", [bare], now=NOW)
    if log == "of before":
        of_before(home, monkeypatch)
    first = decrypted(home)
    assert first.exit == 0
    root = authority("Health Root").certificate
    told = {(one["code"], one["sha256"]) for one in first.objects if one["type"] == "note"}
    assert told >= {("anchor-adopted", fingerprint(root)), ("contact-adopted", fingerprint(bare))}
    adopted = list(read_entries(home / "audit", action="trust-adopt"))
    assert [one.facts["kind"] for one in adopted] == ["anchor", "contact", "end"]
    again = decrypted(home)
    assert (again.exit, "adopted" in again.stdout) == (0, False)
    plant(home)
    assert decrypted(home).exit == 7
    for name in ("cache", "keystore"):  # derived, or gone: the log still knows
        (home / name / (STATE if name == "cache" else SEAL)).unlink(missing_ok=True)
        assert decrypted(home).exit == 7


def test_trust_before_there_is_a_keystore(tmp_path: Path) -> None:
    new, file = tmp_path / "new", tmp_path / "root.pem"
    file.write_bytes(pem(STRANGE.certificate))
    assert medmail(new, "trust", "add", file).exit == 0
    assert medmail(new, "trust", "list").exit == 0
    other = anchor_of(tmp_path / "other", STRANGE.certificate)
    other.parent.mkdir(parents=True)
    other.write_bytes(file.read_bytes())
    assert medmail(tmp_path / "other", "trust", "list").exit == 7


def test_what_was_added_while_locked_is_replayed_against_the_keystores_seal(
    home: Path, tmp_path: Path
) -> None:
    assert decrypted(home).exit == 0
    assert (home / "keystore" / SEAL).exists()
    file = tmp_path / "root.pem"
    file.write_bytes(pem(STRANGE.certificate))
    locked = {"MEDMAIL_PASSPHRASE_FILE": ""}
    assert medmail(home, "trust", "add", file, env=locked).exit == 0
    assert decrypted(home).exit == 0


def test_a_log_written_anew_under_its_own_key_breaks_the_seal(home: Path, tmp_path: Path) -> None:
    """Whoever has the log key, and not the passphrase, makes a log that says other things of trust."""
    root = anchor_of(home, authority("Health Root").certificate)
    assert decrypted(home).exit == 0
    key = (home / "audit" / "key").read_bytes()
    events = len(list(read_entries(home / "audit")))
    shutil.rmtree(home / "audit")
    (home / "cache" / STATE).unlink(missing_ok=True)
    (home / "audit").mkdir(mode=0o700)
    (home / "audit" / "key").write_bytes(key)
    plant(home)
    monkeyed = AuditLog(home / "audit", lambda: NOW)
    with monkeyed as log:
        # a log of the same length whose first entries tell of another anchor
        log._ensure_key = lambda **_how: checkpoints.parse_skey(key.decode())  # type: ignore[method-assign]
        for digest in (root.stem, fingerprint(STRANGE.certificate)):
            log.outcome(log.intent("trust-add", actor="me", objects=(digest,), kind="anchor"), "done", exit=0)
        for _ in range(events):
            log.event("padding", note="x" * 200)
    done = decrypted(home)
    assert (done.exit, done.objects[-1].get("code") or done.objects[-1]["error"]["code"]) == (
        7, "trust-seal-broken",
    )  # fmt: skip
    assert str(home / "keystore" / SEAL) in done.stderr


def test_a_restored_keystore_brings_its_trust_along(home: Path, tmp_path: Path) -> None:
    assert decrypted(home).exit == 0
    secret = tmp_path / "backup-passphrase"
    secret.write_text("a good one")
    argv = ("--backup-passphrase-file", secret)
    assert medmail(home, "keys", "backup", "-o", tmp_path / "saved", *argv).exit == 0
    new = tmp_path / "new"
    shutil.copy(tmp_path / "home.passphrase", tmp_path / "new.passphrase")
    assert medmail(new, "keys", "restore", tmp_path / "saved", *argv).exit == 0
    shutil.copytree(home / "trust", new / "trust")
    assert decrypted(new).exit == 0
    path = plant(new)
    done = decrypted(new)
    assert (done.exit, str(path) in done.stderr) == (7, True)
