"""What protects a letter, and that it is never lost in silence where the network would do without."""

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import unlock
from medmail_cli.store.trust.anchors import Trust
from medmail_cli.store.trust.contacts import Contacts
from tests.support import letters, pki
from tests.support.cli import PASSPHRASE, Done
from tests.support.homes import make_home
from tests.support.letters import Person
from tests.support.senders import Sender, recipients

BOB = letters.person("bob")
CAROL = letters.person("carol")
NOW = letters.NOW
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
ENDED = dt.datetime(2021, 1, 1, tzinfo=dt.UTC)
STRANGER = "stranger@medecin.test"
OUTSIDER = "outsider@elsewhere.test"


def expired(name: str) -> Person:
    return letters.person(name, not_before=LONG_AGO, not_after=ENDED)


def sender(tmp_path: Path, person: Person) -> Sender:
    made = Sender(make_home(tmp_path, person), person)
    (made.home / "domains.txt").write_text("medecin.test\n")
    (made.home / "network.toml").write_text('end-to-end = "when-possible"\nwhitelist = "domains.txt"\n')
    (made.home / "config.toml").write_text(
        f'profile = "network.toml"\n[accounts.work]\naddress = "{person.address}"\n'
        'smtp = { host = "127.0.0.1", port = 1, security = "tls" }\n'
    )
    return made


@pytest.fixture
def alice(tmp_path: Path) -> Sender:
    return sender(tmp_path, letters.person("alice"))


def revoke(who: Sender, person: Person) -> None:
    crl = pki.make_crl(letters.authority("Health Root"), [person.certificate])
    Trust(who.home / "trust", who.home / "cache").add(crl.public_bytes(Encoding.PEM), "crl")


def queued(who: Sender, to: Sequence[str], *options: str) -> Done:
    words = [word for address in to for word in ("--to", address)]
    return who.send(*words, *options, "--queue", "--subject", "x", "-", stdin=b"hello\n")


def protection(done: Done) -> dict[str, str]:
    return {
        address: one["protection"] for address, one in recipients(done).items() if one["status"] != "not-sent"
    }


def waits(who: Sender) -> int:
    return int(who.run("outbox", "list", "--json").objects[-1]["counts"].get("submission", 0))


@pytest.mark.parametrize("fault", ["revoked", "expired", "not-yet-valid", "wrong-key-usage"])
def test_a_certificate_that_must_not_be_used_is_never_taken_for_none(alice: Sender, fault: str) -> None:
    person = {
        "expired": expired("dora"),
        "not-yet-valid": letters.person("dora", not_before=dt.datetime(2040, 1, 1, tzinfo=dt.UTC)),
        "wrong-key-usage": letters.person("dora", purpose="sign"),
    }.get(fault, letters.person("dora"))
    alice.knows(person)
    if fault == "revoked":
        revoke(alice, person)
    done = queued(alice, [person.address])
    fate = recipients(done)[person.address]
    assert (done.exit, fate["code"], fate["detail"]) == (5, "no-recipient-certificate", fault)
    assert waits(alice) == 0
    # beside somebody who never had one, too; who is left out of a partial letter is told of
    partial = queued(alice, [person.address, STRANGER], "--partial")
    assert (partial.exit, protection(partial)) == (3, {STRANGER: "transport-only"})
    # whoever says that they know may
    known = queued(alice, [person.address], "--transport-only", person.address)
    assert (known.exit, protection(known)) == (0, {person.address: "transport-only"})


def test_one_without_a_certificate_takes_it_from_nobody(alice: Sender) -> None:
    alice.knows(BOB, CAROL)
    everybody = [BOB.address, CAROL.address, STRANGER]
    done = queued(alice, everybody)
    assert (done.exit, recipients(done)[STRANGER]["code"]) == (5, "no-recipient-certificate")
    assert waits(alice) == 0
    partial = queued(alice, everybody, "--partial")
    assert partial.exit == 3
    assert protection(partial) == {BOB.address: "end-to-end", CAROL.address: "end-to-end"}
    # one strength a letter: who says it of the one says it of all
    known = queued(alice, everybody, "--transport-only", STRANGER)
    assert (known.exit, set(protection(known).values())) == (0, {"transport-only"})
    assert set(protection(known)) == set(everybody)
    # of each of them
    other = "other@medecin.test"
    half = queued(alice, [*everybody, other], "--transport-only", STRANGER)
    assert (half.exit, recipients(half)[other]["code"]) == (5, "no-recipient-certificate")
    both = queued(alice, [*everybody, other], "--transport-only", STRANGER, "--transport-only", other)
    assert (both.exit, set(protection(both).values())) == (0, {"transport-only"})


def test_the_permission_is_used_only_where_it_is_needed(alice: Sender, tmp_path: Path) -> None:
    alice.knows(BOB)
    done = queued(alice, [BOB.address], "--transport-only", BOB.address)
    assert protection(done) == {BOB.address: "end-to-end"}
    # it opens no way out of the network
    for to in ([OUTSIDER], [BOB.address, OUTSIDER]):
        outside = queued(alice, to, "--transport-only", OUTSIDER)
        assert (outside.exit, recipients(outside)[OUTSIDER]["code"]) == (5, "not-whitelisted")
    partial = queued(alice, [BOB.address, OUTSIDER], "--transport-only", OUTSIDER, "--partial")
    assert (partial.exit, protection(partial)) == (3, {BOB.address: "end-to-end"})
    # nor through what the profile demands
    (alice.home / "network.toml").write_text('end-to-end = "required"\nwhitelist = "domains.txt"\n')
    refused = queued(alice, [STRANGER], "--transport-only", STRANGER)
    assert (refused.exit, recipients(refused)[STRANGER]["code"]) == (5, "no-recipient-certificate")
    # and who it names must be a recipient
    typo = queued(alice, [BOB.address], "--transport-only", "bbo@medecin.test")
    assert (typo.exit, typo.objects[-1]["code"]) == (2, "not-a-recipient")


def test_nobody_with_a_certificate_is_the_network_s_own_case(alice: Sender) -> None:
    # a contact of whom only the program is known has no certificate
    Contacts(alice.home / "contacts").set_reads("noted@medecin.test", "legacy")
    done = queued(alice, [STRANGER, "noted@medecin.test"])
    assert (done.exit, set(protection(done).values())) == (0, {"transport-only"})


def test_manifests_and_whole_messages_lose_nothing_either(alice: Sender, tmp_path: Path) -> None:
    alice.knows(BOB, expired("dora"))
    manifest = tmp_path / "m.jsonl"
    rows = [
        {"id": "1", "to": [BOB.address], "subject": "x", "body": "x"},
        {"id": "2", "to": [BOB.address], "cc": ["dora@medecin.test"], "subject": "x", "body": "x"},
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = alice.send("--batch", manifest, "--queue")
    assert (done.exit, recipients(done)["dora@medecin.test"]["detail"], waits(alice)) == (5, "expired", 0)
    known = alice.send("--batch", manifest, "--queue", "--transport-only", "dora@medecin.test")
    ways = [(one["key"], one["protection"]) for one in known.objects if one["type"] == "recipient"]
    assert (known.exit, ways) == (0, [("1", "end-to-end"), *[("2", "transport-only")] * 2])
    message = tmp_path / "m.eml"
    message.write_bytes(b"From: alice@medecin.test\nTo: dora@medecin.test\nSubject: x\n\nx\n")
    assert alice.send("--message", message, "--queue").exit == 5


def test_each_recipient_s_protection_stands_in_the_text(alice: Sender, tmp_path: Path) -> None:
    alice.knows(BOB)
    for to, options, said in (
        (BOB.address, (), "end-to-end"),
        (STRANGER, (), "transport-only"),
        (STRANGER, ("--sign-only",), "signed-only"),
    ):
        for how in (("--dry-run",), ("--queue",), ("--output", str(tmp_path / f"{said}.eml"))):
            done = alice.run("send", "--to", to, *options, *how, "--subject", "x", "-", stdin=b"x\n")
            assert (done.exit, done.stdout.split("\t")[2].strip()) == (0, said)
    waiting = alice.run("outbox", "list").stdout.splitlines()
    assert [line.split("\t")[-1] for line in waiting] == ["end-to-end", "transport-only", "signed-only"]


@pytest.mark.parametrize("fault", ["expired", "revoked", "expired for reading"])
def test_with_a_certificate_of_one_s_own_past_use_nothing_is_written(tmp_path: Path, fault: str) -> None:
    person = expired("alice") if fault == "expired" else letters.person("alice")
    alice = sender(tmp_path, person)
    if fault == "expired for reading":
        keystore = Keystore(alice.home / "keystore")
        reader = expired("alice")
        unlocked = unlock(keystore, PASSPHRASE.encode())
        signer = letters.person("alice", purpose="sign")
        keystore.delete(keystore.identities()[0])
        of = (person.address,)
        unlocked.add(
            reader.raw_key, reader.certificate, addresses=of, purpose="encrypt", method="import", now=NOW
        )
        unlocked.add(
            signer.raw_key, signer.certificate, addresses=of, purpose="sign", method="import", now=NOW
        )
    if fault == "revoked":
        revoke(alice, person)
    alice.knows(BOB)
    out = tmp_path / "out.eml"
    for how in (("--queue",), ("--output", str(out)), ("--dry-run",), ("--sign-only", "--queue")):
        done = alice.send("--to", BOB.address, *how, "--subject", "x", "-", stdin=b"x\n")
        assert (done.exit, done.objects[-1]["code"]) == (5, "identity-unfit"), how
    assert fault.split()[0] in done.stderr
    assert not out.exists()
    assert waits(alice) == 0
    assert alice.run("contacts", "invite", "new@medecin.test", "--queue").exit == 5


def test_a_letter_to_oneself_needs_a_certificate_in_use(alice: Sender) -> None:
    done = queued(alice, [alice.person.address])
    assert (done.exit, protection(done)) == (0, {alice.person.address: "end-to-end"})
