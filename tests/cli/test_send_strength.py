"""How strongly a letter goes out: by each recipient's certificate and capabilities, never below the floor."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import algorithms, der
from medmail_cli.pki.x509.usage import is_ml_kem
from medmail_cli.smime.open import Opened
from medmail_cli.smime.protect import Signer, protect
from medmail_cli.store.keys.keystore import Keystore
from medmail_cli.store.keys.unlocked import unlock
from medmail_cli.store.mail.mailbox import Mailbox
from medmail_cli.store.trust.contacts import Contacts
from tests.support import letters, pki
from tests.support.cli import PASSPHRASE
from tests.support.homes import knowing, make_home
from tests.support.letters import Person
from tests.support.senders import Sender, opened_by, recipients
from tests.support.tools import require, run

BOB = letters.person("bob")
PQ_BOB = letters.person("bob", key_type="ml-kem-768", purpose="encrypt")
RSA_CAROL = letters.person("carol", key_type="rsa2048")
NOW = letters.NOW
OTHER_THAN_CIPHERS = (
    "1.2.840.10045.4.3.2", "1.3.132.1.11.1", "2.16.840.1.101.3.4.1.5", "2.16.840.1.101.3.4.4.1",
    "1.2.840.113549.1.9.16.3.8", "1.2.840.113549.1.1.1", "aes-192-gcm",
)  # fmt: skip
"""ECDSA, ECDH with another key wrap, that wrap, ML-KEM-512, compression, RSA; a cipher as new as GCM."""


@pytest.fixture
def alice(tmp_path: Path) -> Sender:
    person = letters.person("alice")
    made = Sender(make_home(tmp_path, person), person)
    configure(made)
    return made


def configure(sender: Sender, profile: str = "generic") -> None:
    (sender.home / "config.toml").write_text(
        f'profile = "{profile}"\n[accounts.work]\naddress = "alice@medecin.test"\n'
        'smtp = { host = "127.0.0.1", port = 1, security = "tls" }\n'
    )


def says(sender: Sender, person: Person, *capabilities: str, **how: Any) -> None:
    """The person has said what they read."""
    values: dict[str, Any] = {"capabilities": capabilities, "signed_at": NOW, "now": NOW, "chains": {}}
    Contacts(sender.home / "contacts").learn(person.address, (), **values | how)


def written(sender: Sender, *to: Person, options: tuple[str, ...] = ()) -> Opened:
    """What the first of them makes of a letter to all."""
    out = sender.home.parent / "letter.eml"
    words = [word for one in to for word in ("--to", one.address)]
    done = sender.send(*words, *options, "--output", out, "--force", "--subject", "x", "-", stdin=b"hello\n")
    assert done.exit == 0, done
    opened = opened_by(to[0], out.read_bytes())
    assert opened.verdict.text == "hello\n"
    assert opened.verdict.trusted
    return opened


def strength(opened: Opened) -> tuple[str | None, str | None]:
    return opened.verdict.encryption.algorithm, opened.verdict.encryption.key_management


def test_without_a_word_what_everybody_must_read(alice: Sender) -> None:
    alice.knows(BOB, RSA_CAROL)
    assert strength(written(alice, BOB)) == ("aes-256-gcm", "ecdh-es-p256")
    assert strength(written(alice, RSA_CAROL)) == ("aes-256-gcm", "rsa-pkcs1v15")


@pytest.mark.parametrize(
    ("said", "cipher"),
    [
        (("aes-256-gcm", "aes-128-cbc"), "aes-256-gcm"),
        (("aes-128-gcm", "aes-256-cbc"), "aes-128-gcm"),
        (("aes-256-cbc", "aes-128-cbc"), "aes-256-cbc"),
        (("aes-128-cbc", "1.2.3.4"), "aes-128-cbc"),
        (("rsa-oaep-sha256",), "aes-256-gcm"),
        # 3DES and Camellia: older than AES-GCM, so the best of S/MIME before it
        (("1.2.840.113549.3.7", "1.2.392.200011.61.1.1.1.4"), "aes-128-cbc"),
        (("aes-192-cbc",), "aes-128-cbc"),
        (OTHER_THAN_CIPHERS, "aes-256-gcm"),
    ],
)
def test_the_strongest_cipher_that_all_read(alice: Sender, said: tuple[str, ...], cipher: str) -> None:
    alice.knows(BOB, RSA_CAROL)
    says(alice, RSA_CAROL, *said)
    assert strength(written(alice, RSA_CAROL, BOB))[0] == cipher


def test_chacha20_goes_to_who_names_nothing_else(alice: Sender) -> None:
    """RFC 8551 2.7.1.1: what stands in the recipient's list is used where we know how."""
    alice.knows(BOB)
    says(alice, BOB, "chacha20-poly1305", "prefer-binary-inside")
    assert strength(written(alice, BOB))[0] == "chacha20-poly1305"


def test_only_the_newest_word_counts_and_none_from_the_future(alice: Sender) -> None:
    alice.knows(BOB)
    day = dt.timedelta(days=1)
    says(alice, BOB, "aes-256-gcm", signed_at=NOW - day)
    says(alice, BOB, "aes-128-cbc", signed_at=NOW - 2 * day)
    says(alice, BOB, "aes-128-cbc", signed_at=NOW + day)
    assert strength(written(alice, BOB))[0] == "aes-256-gcm"


def test_oaep_and_derived_keys_where_they_were_advertised(alice: Sender) -> None:
    alice.knows(BOB, RSA_CAROL)
    says(alice, RSA_CAROL, "aes-256-gcm", "rsa-oaep-sha256", "cek-hkdf-sha256")
    assert strength(written(alice, RSA_CAROL)) == ("aes-256-gcm", "rsa-oaep-sha256")
    derived = b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x03\x1f"

    def derives(*to: Person) -> bool:
        from medmail_cli.smime import mime

        written(alice, *to)
        raw = (alice.home.parent / "letter.eml").read_bytes()
        return derived in mime.decode_body(mime.parse(raw))

    assert derives(RSA_CAROL)
    assert not derives(RSA_CAROL, BOB)


def test_a_certificate_may_advertise_too_but_no_older_ciphers(alice: Sender) -> None:
    """RFC 4262, until its holder has signed something newer."""
    old = der.sequence(der.sequence(der.oid("1.2.840.113549.3.7")))  # Triple-DES, as authorities fill in
    for value, expected in (
        (der.sequence(algorithms.CAPABILITY_BYTES["rsa-oaep-sha256"]), "rsa-oaep-sha256"),
        (old, "rsa-pkcs1v15"),
        (b"\x30\x80nonsense", "rsa-pkcs1v15"),
    ):
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(algorithms.CAPABILITIES), value)
        dora = letters.person("dora", key_type="rsa2048", extensions=((extension, False),))
        assert alice.run("contacts", "remove", dora.address).exit in (0, 1)
        alice.knows(dora)
        assert strength(written(alice, dora)) == ("aes-256-gcm", expected)
        says(alice, dora, "aes-256-gcm")
        assert strength(written(alice, dora)) == ("aes-256-gcm", "rsa-pkcs1v15")


def test_a_profile_that_wants_oaep_wants_it_of_every_entry(tmp_path: Path) -> None:
    """The sender's own too: any entry opens the letter."""
    person = letters.person("alice", key_type="rsa2048")
    alice = Sender(make_home(tmp_path, person), person)
    own = tmp_path / "oaep.toml"
    own.write_text('rsa-encryption = "oaep"\n')
    configure(alice, str(own))
    alice.knows(RSA_CAROL)
    written(alice, RSA_CAROL)
    raw = (alice.home.parent / "letter.eml").read_bytes()
    assert opened_by(person, raw).verdict.encryption.key_management == "rsa-oaep-sha256"


def test_the_profile_s_floor_refuses_rather_than_goes_below(alice: Sender, tmp_path: Path) -> None:
    alice.knows(BOB, RSA_CAROL)
    own = tmp_path / "strict.toml"
    own.write_text('weakest-cipher = "aes-256-gcm"\n')
    configure(alice, str(own))
    says(alice, RSA_CAROL, "aes-256-cbc", "aes-128-gcm")
    done = alice.send("--to", BOB.address, "--to", RSA_CAROL.address, "--queue", "-", stdin=b"x\n")
    assert (done.exit, done.objects[-1]["code"]) == (5, "below-floor")
    assert recipients(done)[RSA_CAROL.address]["code"] == "below-floor"
    partial = alice.send(
        "--to", BOB.address, "--to", RSA_CAROL.address, "--partial", "--queue", "-", stdin=b"x\n"
    )
    assert partial.exit == 3


def test_a_contact_said_to_be_modern_is_taken_at_that_word(alice: Sender, tmp_path: Path) -> None:
    alice.knows(RSA_CAROL)
    own = tmp_path / "strict.toml"
    own.write_text('weakest-cipher = "aes-128-gcm"\n')
    configure(alice, str(own))
    says(alice, RSA_CAROL, "aes-256-cbc")
    assert alice.send("--to", RSA_CAROL.address, "--dry-run", "-", stdin=b"x\n").exit == 5
    assert alice.run("contacts", "set", RSA_CAROL.address, "--reads", "modern").exit == 0
    assert strength(written(alice, RSA_CAROL))[0] == "aes-256-gcm"


def test_below_the_floor_is_never_replaced_by_the_network_s_own_protection(
    alice: Sender, tmp_path: Path
) -> None:
    alice.knows(RSA_CAROL)
    (tmp_path / "domains.txt").write_text("medecin.test\n")
    own = tmp_path / "network.toml"
    own.write_text(
        'end-to-end = "when-possible"\nweakest-cipher = "aes-256-gcm"\nwhitelist = "domains.txt"\n'
    )
    configure(alice, str(own))
    says(alice, RSA_CAROL, "aes-256-cbc")
    done = alice.send("--to", RSA_CAROL.address, "--queue", "-", stdin=b"x\n")
    assert (done.exit, done.objects[-1]["code"]) == (5, "below-floor")
    # beside somebody without a certificate, too
    to = ("--to", RSA_CAROL.address, "--to", "stranger@medecin.test")
    done = alice.send(*to, "--partial", "--queue", "-", stdin=b"x\n")
    assert done.exit == 3
    assert recipients(done)[RSA_CAROL.address]["code"] == "below-floor"
    assert recipients(done)["stranger@medecin.test"]["protection"] == "transport-only"


def test_two_who_read_nothing_in_common_need_two_letters(alice: Sender) -> None:
    alice.knows(BOB, RSA_CAROL)
    says(alice, BOB, "aes-256-gcm")
    assert alice.run("contacts", "set", RSA_CAROL.address, "--reads", "legacy").exit == 0
    to = ("--to", BOB.address, "--to", RSA_CAROL.address)
    for how in ("--queue", "--dry-run"):
        done = alice.send(*to, how, "-", stdin=b"x\n")
        assert (done.exit, done.objects[-1]["code"]) == (5, "no-common-cipher")
    assert alice.run("outbox", "list").stdout == ""
    assert alice.send(*to, "--sign-only", "--queue", "-", stdin=b"x\n").exit == 0


def test_legacy_readers_see_the_subject_the_older_way(alice: Sender) -> None:
    alice.knows(RSA_CAROL)
    assert alice.run("contacts", "set", RSA_CAROL.address, "--reads", "legacy").exit == 0
    opened = written(alice, RSA_CAROL)
    assert strength(opened)[0] == "aes-256-cbc"
    assert opened.content is not None
    assert opened.content.parameters["protected-headers"] == "v1"
    assert opened.content.parameters["hp"] == "cipher"
    # a reader without header protection sees the subject at the head of the text
    assert bytes(opened.content.raw).endswith(b"Subject: x\r\n\r\nhello\r\n")


def test_of_legacy_readers_nothing_newer_is_believed(tmp_path: Path) -> None:
    """Their programs may advertise more than the one they read with can do."""
    person = letters.person("alice", key_type="rsa2048")
    alice = Sender(make_home(tmp_path, person), person)
    configure(alice)
    alice.knows(RSA_CAROL)
    says(alice, RSA_CAROL, "aes-256-gcm", "rsa-oaep-sha256", "rsa-pss-sha256", "cek-hkdf-sha256",
         "prefer-binary-inside")  # fmt: skip
    modern = written(alice, RSA_CAROL)
    assert strength(modern) == ("aes-256-gcm", "rsa-oaep-sha256")
    assert alice.run("contacts", "set", RSA_CAROL.address, "--reads", "legacy").exit == 0
    legacy = written(alice, RSA_CAROL)
    assert strength(legacy) == ("aes-256-cbc", "rsa-pkcs1v15")
    schemes = [one.judged[0].info.signature_scheme for one in (modern, legacy)]
    assert schemes == ["rsa-pss", "rsa-pkcs1v15"]


@pytest.mark.parametrize("reads", ["legacy", "modern"])
def test_openssl_and_gpgsm_open_what_is_sent(alice: Sender, tmp_path: Path, reads: str) -> None:
    require("openssl", "gpgsm")
    alice.knows(RSA_CAROL)
    alice.run("contacts", "set", RSA_CAROL.address, "--reads", reads)
    written(alice, RSA_CAROL)
    (tmp_path / "carol.pem").write_bytes(pki.pem(RSA_CAROL.certificate, RSA_CAROL.raw_key))
    inner = run(
        "openssl", "cms", "-decrypt", "-in", tmp_path / "letter.eml", "-recip", tmp_path / "carol.pem"
    ).stdout
    (tmp_path / "root.pem").write_bytes(pki.pem(letters.authority("Health Root").certificate))
    said = run("openssl", "cms", "-verify", "-CAfile", tmp_path / "root.pem", stdin=inner).stdout
    assert b"hello" in said


def test_a_certificate_whose_kind_of_key_is_unknown_is_passed_over(alice: Sender) -> None:
    """An RSA key for OAEP alone (RFC 4055 1.2): it may serve nothing else, and is not read."""
    for_oaep = RSA_CAROL.certificate.public_bytes(Encoding.DER).replace(
        der.sequence(der.oid(algorithms.RSA), der.NULL), der.sequence(der.oid(algorithms.RSA_OAEP), der.NULL)
    )
    certificates = [x509.load_der_x509_certificate(for_oaep)]
    knowing(alice.home, RSA_CAROL.address, *certificates)
    for options, code in (((), "no-recipient-certificate"), (("--post-quantum",), "not-post-quantum")):
        done = alice.send("--to", RSA_CAROL.address, "--queue", *options, "-", stdin=b"x\n")
        assert (done.exit, done.objects[-1]["code"]) == (5, code)
    alice.knows(RSA_CAROL)
    assert strength(written(alice, RSA_CAROL)) == ("aes-256-gcm", "rsa-pkcs1v15")


def test_the_certificate_that_a_trusted_letter_asks_for_is_used(alice: Sender) -> None:
    """RFC 8551 2.5.3: though it is the older one."""
    old, new = (
        letters.person("bob", purpose="encrypt", not_before=dt.datetime(2026, month, 1, tzinfo=dt.UTC))
        for month in (1, 6)
    )
    knows_both(alice, old, new)
    assert strength(written(alice, new))[1] == "ecdh-es-p256"
    signer = letters.person("bob", purpose="sign")
    answer = protect(
        letters.letter(from_=signer.box, to=(alice.person.box,)),
        signer=Signer(signer.key, signer.certificate, separate_encryption_certificate=old.certificate),
        recipients={alice.person.address: alice.person.certificate},
        signed_at=dt.datetime.now(dt.UTC),
    )
    box = Mailbox(alice.home / "mail")
    box.store("work", "INBOX", "1", [("1", answer[0].message)], dt.datetime.now(dt.UTC))
    assert alice.run("decrypt", "--unopened").exit == 0
    assert strength(written(alice, old))[1] == "ecdh-es-p256"


# -- post-quantum


def gets_ml_kem(sender: Sender) -> None:
    """Alice's own ML-KEM certificate, beside the one she signs with."""
    mine = letters.person("alice", key_type="ml-kem-768", purpose="encrypt")
    unlock(Keystore(sender.home / "keystore"), PASSPHRASE.encode()).add(
        mine.raw_key, mine.certificate, addresses=[mine.address], purpose="encrypt", method="import", now=NOW
    )


def knows_both(sender: Sender, *people: Person) -> None:
    knowing(sender.home, people[0].address, *(one.certificate for one in people))


def test_every_entry_is_ml_kem_or_nothing_is_sent(alice: Sender) -> None:
    knows_both(alice, BOB, PQ_BOB)
    alice.knows(RSA_CAROL)
    refused = alice.send("--to", BOB.address, "--post-quantum", "--queue", "-", stdin=b"x\n")
    assert (refused.exit, refused.objects[-1]["code"]) == (5, "not-post-quantum")
    assert alice.person.address in refused.objects[-1]["message"]
    assert BOB.address not in refused.objects[-1]["message"]
    both = alice.send("--to", RSA_CAROL.address, "--post-quantum", "--partial", "--queue", "-", stdin=b"x\n")
    assert both.exit == 5
    assert all(one in both.objects[-1]["message"] for one in (alice.person.address, RSA_CAROL.address))
    gets_ml_kem(alice)
    opened = written(alice, PQ_BOB, options=("--post-quantum",))
    assert strength(opened) == ("aes-256-gcm", "ml-kem-768")
    mixed = alice.send(
        "--to", BOB.address, "--to", RSA_CAROL.address, "--post-quantum", "--queue", "-", stdin=b"x\n"
    )
    assert (mixed.exit, mixed.objects[-1]["code"]) == (5, "not-post-quantum")
    assert recipients(mixed)[RSA_CAROL.address]["code"] == "not-post-quantum"
    assert alice.run("outbox", "list").stdout == ""
    dry = alice.send("--to", RSA_CAROL.address, "--post-quantum", "--dry-run", "-", stdin=b"x\n")
    assert dry.exit == 5


def test_without_it_the_ordinary_key_is_used_where_there_is_one(alice: Sender) -> None:
    knows_both(alice, BOB, PQ_BOB)
    gets_ml_kem(alice)
    assert strength(written(alice, BOB))[1] == "ecdh-es-p256"
    Contacts(alice.home / "contacts").remove(BOB.address)
    alice.knows(PQ_BOB)
    assert strength(written(alice, PQ_BOB))[1] == "ml-kem-768"


def test_a_profile_may_demand_it(alice: Sender, tmp_path: Path) -> None:
    own = tmp_path / "pq.toml"
    own.write_text("post-quantum = true\n")
    configure(alice, str(own))
    alice.knows(BOB)
    done = alice.send("--to", BOB.address, "--queue", "-", stdin=b"x\n")
    assert (done.exit, done.objects[-1]["code"]) == (5, "not-post-quantum")

    # a first contact carries one's certificates in the clear, and hides nothing
    assert alice.run("contacts", "invite", BOB.address, "--queue").exit == 0


def test_a_key_of_one_s_own_is_no_other_letter_when_it_goes_out_stronger(alice: Sender) -> None:
    knows_both(alice, BOB, PQ_BOB)
    gets_ml_kem(alice)
    to = ("--to", BOB.address, "--id", "result-1", "--queue", "-")
    assert alice.send(*to, stdin=b"x\n").exit == 0
    assert alice.send("--post-quantum", *to, stdin=b"x\n").objects[-1]["code"] == "id-reused"


def test_correspondents_learn_of_ml_kem_and_answer_by_it(alice: Sender, tmp_path: Path) -> None:
    alice.knows(BOB)
    gets_ml_kem(alice)
    opened = written(alice, BOB)
    assert opened.proven is not None
    assert "ml-kem-768" in (opened.proven.info.capabilities or ())
    assert len(opened.proven.certificates) == 2
    (tmp_path / "bob").mkdir()
    bob = Sender(make_home(tmp_path / "bob", BOB), BOB)
    configure(bob)
    box = Mailbox(bob.home / "mail")
    letter = (alice.home.parent / "letter.eml").read_bytes()
    box.store("work", "INBOX", "1", [("1", letter)], dt.datetime.now(dt.UTC))
    assert bob.run("decrypt", "--unopened").exit == 0
    learned = Contacts(bob.home / "contacts").lookup(alice.person.address)
    assert learned is not None
    assert {is_ml_kem(known.certificate) for known in learned.certificates} == {True, False}


def test_it_excludes_signing_alone(alice: Sender) -> None:
    done = alice.send("--to", BOB.address, "--post-quantum", "--sign-only", "-", stdin=b"x\n")
    assert done.exit == 2
