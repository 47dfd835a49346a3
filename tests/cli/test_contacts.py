"""``medmail contacts`` as people and scripts see it."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509

from medmail_cli.smime.fields import Mailbox
from medmail_cli.smime.protect import protect
from medmail_cli.store.trust.contacts import Contacts
from tests.support import pki
from tests.support.cli import Done, medmail, valid
from tests.support.homes import make_home
from tests.support.letters import NOW as SENT
from tests.support.letters import Person, authority, letter, person

ROOT, RIVAL = pki.make_ca("Order Root"), pki.make_ca("Rival Root")
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    (tmp_path / "root.pem").write_bytes(pki.pem(ROOT.certificate))
    assert medmail(path, "trust", "add", tmp_path / "root.pem").exit == 0
    return path


def write(folder: Path, *certificates: x509.Certificate) -> Path:
    path = folder / "contact.pem"
    path.write_bytes(pki.pem(*certificates))
    return path


def martin(ca: pki.Authority = ROOT, address: str | None = "dr.martin@medecin.test") -> x509.Certificate:
    return pki.issue(ca, address, key_type="p256", name="Dr Élise Martin")[0]


def test_add_find_list_set_remove(home: Path, tmp_path: Path) -> None:
    env = {"TZ": "UTC"}
    file = write(tmp_path, martin(), ROOT.certificate)
    row = "dr.martin@medecin.test\tyes\t{}\t2046-01-01 00:00\tadded\t{}\n"
    assert medmail(home, "contacts", "add", file, env=env) == Done(0, row.format("modern", "added"), "")
    assert medmail(home, "contacts", "add", file, env=env) == Done(0, row.format("modern", "unchanged"), "")
    for query in ("MARTIN", "élise", "medecin.test"):
        found = medmail(home, "contacts", "find", query, env=env)
        assert found == Done(0, row.format("modern", ""), "")
    missing = medmail(home, "contacts", "find", "dupont")
    assert (missing.exit, missing.stdout) == (1, "")
    assert missing.stderr == "medmail: error: there is no contact “dupont”\n"
    legacy = medmail(home, "contacts", "set", "dr.martin@medecin.test", "--reads", "legacy", env=env)
    assert legacy == Done(0, row.format("legacy", "changed"), "")
    removed = medmail(home, "contacts", "remove", "Dr.Martin@medecin.test", env=env)
    assert removed == Done(0, row.format("legacy", "removed"), "")
    assert medmail(home, "contacts", "list") == Done(0, "", "")
    assert list((home / "contacts").glob("*.json")) == []
    entries = medmail(home, "audit", "log", "--json").objects[:-1]
    done = [e["action"] for e in entries if e["kind"] == "outcome" and e["outcome"] == "done"]
    assert done == ["trust-add", "contact-add", "contact-set", "contact-remove"]


def test_the_authorities_between_are_kept_with_the_certificate(home: Path, tmp_path: Path) -> None:
    below = pki.make_ca("Issuing", parent=ROOT)
    alone, file = martin(below), tmp_path / "bundle.pem"
    done = medmail(home, "contacts", "add", write(tmp_path, alone), "--json")
    assert valid("contacts add", done)[0]["encrypts"] is False
    file.write_bytes(
        pki.pem(martin(below, "dr.b@x.test"), below.certificate, ROOT.certificate, RIVAL.certificate)
    )
    done = medmail(home, "contacts", "add", file, "--json")
    assert valid("contacts add", done)[0]["encrypts"] is True
    (known,) = next(c for c in Contacts(home / "contacts").all() if c.address == "dr.b@x.test").certificates
    assert known.above == (below.certificate,)


def test_json_says_why_a_contact_cannot_be_encrypted_to(home: Path, tmp_path: Path) -> None:
    signing = pki.issue(ROOT, "a@x.test", "sign", key_type="p256")[0]
    stranger = martin(RIVAL)
    done = medmail(home, "contacts", "add", write(tmp_path, signing, stranger), "--json")
    first, second, result = valid("contacts add", done)
    assert (first["address"], first["encrypts"]) == ("a@x.test", False)
    assert first["certificates"][0]["problems"] == ["wrong-key-usage"]
    assert second["certificates"][0]["problems"] == ["untrusted-issuer"]
    assert result["counts"] == {"contact": 2, "added": 2}
    assert len(valid("contacts list", medmail(home, "contacts", "list", "--json"))) == 3


def test_a_certificate_without_address_must_be_pinned(home: Path, tmp_path: Path) -> None:
    file = write(tmp_path, martin(address=None))
    done = medmail(home, "contacts", "add", file, "--json")
    assert (done.exit, done.objects[0]["code"]) == (5, "no-address-in-certificate")
    assert "--address" in done.stderr
    pinned = medmail(home, "contacts", "add", file, "--address", "dr.martin@medecin.test", "--json")
    assert pinned.objects[0]["certificates"][0]["origin"] == "pinned"
    bad = medmail(home, "contacts", "add", file, "--address", "martin")
    assert bad.exit == 2


def test_another_issuer_waits_for_accept(home: Path, tmp_path: Path) -> None:
    contacts = Contacts(home / "contacts")
    contacts.learn("dr.martin@medecin.test", [martin()], now=NOW)
    contacts.learn("dr.martin@medecin.test", [martin(RIVAL)], now=NOW)
    (contact, _) = medmail(home, "contacts", "list", "--json").objects
    assert [c["issuer"] for c in contact["waiting"]] == ["CN=Rival Root"]
    assert "1 waiting" in medmail(home, "contacts", "list").stdout
    done = medmail(home, "contacts", "accept", "dr.martin@medecin.test", "--json")
    (accepted, _) = valid("contacts accept", done)
    assert accepted["status"] == "accepted"
    assert sorted(c["issuer"] for c in accepted["certificates"]) == ["CN=Order Root", "CN=Rival Root"]
    again = medmail(home, "contacts", "accept", "dr.martin@medecin.test")
    assert again.exit == 1


def test_a_look_alike_is_warned_of(home: Path, tmp_path: Path) -> None:
    medmail(home, "contacts", "add", write(tmp_path, martin()))
    fake = "dr.mаrtin@medecin.test"  # a Cyrillic а
    done = medmail(home, "contacts", "add", write(tmp_path, martin()), "--address", fake, "--json")
    codes = [one["code"] for one in valid("contacts add", done) if one["type"] == "note"]
    assert codes == ["mixed-scripts", "address-resembles"]
    assert done.exit == 0


def test_nothing_but_authorities_is_no_contact(home: Path, tmp_path: Path) -> None:
    done = medmail(home, "contacts", "add", write(tmp_path, ROOT.certificate))
    assert done.exit == 1


@pytest.mark.parametrize("command", ["remove", "accept"])
def test_an_unknown_contact(home: Path, command: str) -> None:
    done = medmail(home, "contacts", command, "nobody@x.test")
    assert done == Done(1, "", "medmail: error: there is no contact “nobody@x.test”\n")
    assert medmail(home, "contacts", "set", "nobody@x.test", "--reads", "modern").exit == 1
    assert medmail(home, "contacts", "set", "nobody@x.test", "--reads", "old").exit == 2


def test_a_changed_byte_is_exit_7_and_names_the_file(home: Path, tmp_path: Path) -> None:
    medmail(home, "contacts", "add", write(tmp_path, martin()))
    (path,) = (home / "contacts").glob("*.json")
    path.write_bytes(path.read_bytes().replace(b"modern", b"legacy"))
    done = medmail(home, "contacts", "list")
    assert (done.exit, done.stdout) == (7, "")
    assert str(path) in done.stderr


def test_the_words_are_french_too(home: Path, tmp_path: Path) -> None:
    done = medmail(home, "--lang", "fr", "contacts", "add", write(tmp_path, martin()))
    assert done.exit == 0
    assert done.stdout.startswith("dr.martin@medecin.test\t")


def test_an_invitation_is_signed_and_carries_our_certificate(tmp_path: Path) -> None:
    alice, bob = person("alice"), person("bob")
    for name in ("alice", "bob"):
        (tmp_path / name).mkdir()
    sender = make_home(tmp_path / "alice", alice)
    (sender / "config.toml").write_text(ACCOUNT)
    letter = tmp_path / "invitation.eml"
    done = medmail(sender, "contacts", "invite", bob.address, "-o", letter, "--json")
    (written, _) = valid("contacts invite", done)
    assert (written["status"], written["protection"]) == ("written", "signed-only")
    receiver = make_home(tmp_path / "bob", bob)
    opened = medmail(receiver, "decrypt", letter, "--json").objects[0]
    assert opened["trusted"], opened
    assert opened["headers"]["subject"] == "My certificate for encrypted letters"
    assert opened["signature"]["signers"][0]["addresses"] == [alice.address]
    french = medmail(sender, "--lang", "fr", "contacts", "invite", bob.address, "-o", tmp_path / "fr.eml")
    assert french.exit == 0
    assert french.stdout.startswith(bob.address)
    nobody = medmail(sender, "contacts", "invite", "not an address", "-o", tmp_path / "x.eml")
    assert nobody.exit in (1, 2)


ACCOUNT = """
[accounts.work]
address = "alice@medecin.test"
smtp = { host = "127.0.0.1", port = 587, security = "starttls" }
imap = { host = "127.0.0.1", port = 143, security = "starttls" }
"""


def test_the_authorities_kept_with_a_contact_complete_its_letters(tmp_path: Path) -> None:
    """Some programs send their own certificate alone, or none."""
    home = make_home(tmp_path, person("bob"))
    sub = pki.make_ca("Practice", parent=authority("Health Root"))
    certificate, key = pki.issue(sub, "alice@medecin.test", key_type="p256")
    alice, bob = Person("alice@medecin.test", certificate, key), person("bob")
    made = protect(letter(), signer=alice.signer, recipients={bob.address: bob.certificate}, signed_at=SENT)
    (tmp_path / "letter.eml").write_bytes(made[0].message)

    def codes() -> list[str]:
        found = medmail(home, "decrypt", tmp_path / "letter.eml", "--json").objects[0]
        return [problem["code"] for problem in found["problems"]]

    assert medmail(home, "contacts", "add", write(tmp_path, certificate)).exit == 0
    assert codes() == ["untrusted-issuer"]
    file = write(tmp_path, certificate, sub.certificate)
    assert medmail(home, "contacts", "add", file, "--json").objects[0]["status"] == "changed"
    assert codes() == []
    assert medmail(home, "contacts", "add", file, "--json").objects[0]["status"] == "unchanged"


def test_a_sender_who_looks_like_a_contact_is_noted_however_good_the_signature(tmp_path: Path) -> None:
    home, bob = make_home(tmp_path, person("bob")), person("bob")
    assert medmail(home, "contacts", "add", write(tmp_path, person("alice").certificate)).exit == 0
    notes = {}
    for domain in ("medecin.test", "xn--medein-lrf.test", "xn--e1ajhdfhd.test"):  # с for c; all Cyrillic
        address = f"alice@{domain}"
        certificate, key = pki.issue(authority("Health Root"), address, key_type="p256")
        sender = Person(address, certificate, key)
        made = protect(
            letter(from_=Mailbox(address, "Alice")),
            signer=sender.signer,
            recipients={bob.address: bob.certificate},
            signed_at=SENT,
        )
        (tmp_path / "letter.eml").write_bytes(made[0].message)
        found = medmail(home, "decrypt", tmp_path / "letter.eml", "--json").objects[0]
        assert found["trusted"], found
        notes[domain] = [note["code"] for note in found["notes"]]
    doubts = {"address-resembles", "mixed-scripts"}
    assert [doubts & set(codes) for codes in notes.values()] == [set(), doubts, set()]
