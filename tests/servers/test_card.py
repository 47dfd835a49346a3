"""Cards: SoftHSM2 tokens, filled by OpenSC's tools and watched by its spy; OpenSSL judges the letters."""

import datetime as dt
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from medmail_cli.cms import enveloped
from medmail_cli.cms.certificates import fingerprint
from medmail_cli.devices.cardkey import key_at
from medmail_cli.devices.cards import Cards
from medmail_cli.errors import MedmailError
from medmail_cli.model import CardPlace
from medmail_cli.store.keys.refused_pins import RefusedPins
from tests.support import letters, pki, tokens
from tests.support.cli import MEDMAIL, PASSPHRASE, Done, medmail
from tests.support.damaged import ways_to_fail
from tests.support.homes import knowing, make_home
from tests.support.letters import OUTER, TEXT, Person, authority, entity, person
from tests.support.tokens import PIN, SOFTHSM, SPY, WRONG_PIN, Reader
from tests.support.tools import run

ALICE = "alice@medecin.test"


@dataclass
class Desk:
    """A home beside a card reader, the PIN in a file."""

    home: Path
    reader: Reader

    def run(self, *argv: str | Path, pin: str | None = PIN, env: dict[str, str] | None = None) -> Done:
        given: dict[str, str] = {}
        if pin is not None:
            path = self.home.parent / "pin"
            path.write_text(pin + "\n")
            given["MEDMAIL_PIN_FILE"] = str(path)
        return medmail(self.home, *argv, env=self.reader.env | given | (env or {}))

    def enrol(self, *argv: str | Path, pin: str | None = PIN) -> Done:
        return self.run("enrol", "card", *argv, "--json", pin=pin)

    def letter(self, name: str, data: bytes) -> Path:
        path = self.home.parent / name
        path.write_bytes(data)
        return path


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    reader = tokens.reader(tmp_path / "reader")
    home = make_home(tmp_path)
    (home / "config.toml").write_text(f'[accounts.work]\naddress = "{ALICE}"\n')
    return Desk(home, reader)


def error(done: Done) -> tuple[int, str]:
    last = done.objects[-1]
    return done.exit, str(last["code"] if last["type"] == "error" else last["error"]["code"])


def enrolled(done: Done) -> list[tuple[str, str, str]]:
    return [(o["status"], o["address"], o["purpose"]) for o in done.objects if o["type"] == "enrolment"]


def sent(desk: Desk, to: str, *argv: str, env: dict[str, str] | None = None) -> bytes:
    text, out = desk.letter("letter.txt", b"Bonjour\n"), desk.home.parent / "sent.eml"
    done = desk.run(
        "send", "--from", ALICE, "--to", to, "--subject", "x", "-o", out, "--force", *argv, text, env=env
    )
    assert done.exit == 0, done
    return out.read_bytes()


# --- the whole way -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_a_card_signs_what_openssl_verifies_and_opens_what_was_sent_to_it(
    desk: Desk, kind: pki.KeyType
) -> None:
    alice, bob = person("alice", key_type=kind), person("bob")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key)
    done = desk.enrol()
    assert enrolled(done) == [("enrolled", ALICE, "both")], done
    (listed,) = [o for o in desk.run("keys", "list", "--json").objects if o["type"] == "identity"]
    assert (listed["method"], listed["key"]) == ("card", kind)
    knowing(desk.home, bob.address, bob.certificate)

    signed = desk.letter("signed.eml", sent(desk, bob.address, "--sign-only"))
    root = desk.letter("root.pem", pki.pem(authority("Health Root").certificate))
    found = run("openssl", "cms", "-verify", "-in", signed, "-CAfile", root)
    assert b"Bonjour" in found.stdout

    now = dt.datetime.now(dt.UTC)
    opened = letters.opened(sent(desk, bob.address), at=now)
    assert (letters.codes(opened), opened.verdict.text) == ([], "Bonjour\n")

    own = desk.letter("own.eml", sent(desk, ALICE))
    from_bob = desk.letter("bob.eml", _from_bob(alice))
    both = desk.run("decrypt", own, from_bob, "--json")
    assert both.exit == 0, both
    ways = {"rsa2048": "rsa-pkcs1v15", "p256": "ecdh-es-p256"}
    texts = [(o["text"], o["encryption"]["key_management"]) for o in both.objects if o["type"] == "message"]
    assert texts == [("Bonjour\n", ways[kind]), ("Chère consœur,\n\nvoici les résultats.\n", ways[kind])]


def _from_bob(alice: Person) -> bytes:
    from medmail_cli.smime.protect import protect

    bob, recipients = person("bob"), {alice.address: alice.certificate}
    letter = letters.letter(from_=bob.box, to=(alice.box,))
    return protect(letter, signer=bob.signer, recipients=recipients, signed_at=letters.NOW)[0].message


def test_a_key_made_on_the_card_signs_and_agrees_without_leaving_it(desk: Desk) -> None:
    token = desk.reader.insert()
    for number, kind in enumerate(("EC:secp256r1", "EC:secp384r1", "rsa:2048", "EC:edwards25519"), 1):
        template, _ = pki.issue(authority("Health Root"), f"{number}@a.test", key_type="ed25519")
        builder = (
            x509.CertificateBuilder(extensions=[e for e in template.extensions if e.oid != _KEY_USAGE])
            .subject_name(template.subject)
            .issuer_name(template.issuer)
            .serial_number(number)
            .not_valid_before(pki.EPOCH)
            .not_valid_after(pki.FAR)
            .public_key(token.make_key(kind, f"0{number}"))  # type: ignore[arg-type]
        )
        certificate = builder.sign(authority("Health Root").key, hashes.SHA256())  # type: ignore[arg-type]
        token.put(certificate, f"0{number}")
    purposes = {address: purpose for _, address, purpose in enrolled(desk.enrol())}
    assert purposes == {"1@a.test": "both", "2@a.test": "both", "3@a.test": "both", "4@a.test": "sign"}


_KEY_USAGE = x509.KeyUsage.oid


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512", "sha512-256", "sha3-256"])
def test_oaep_opens_with_digests_that_the_card_does_not_know(desk: Desk, digest: str) -> None:
    alice = person("alice", key_type="rsa2048")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key)
    assert desk.enrol().exit == 0
    certificate = desk.letter("alice.pem", pki.pem(alice.certificate))
    content = desk.letter("content", letters.sign(TEXT, "bob"))
    how = ("-keyopt", "rsa_padding_mode:oaep", "-keyopt", f"rsa_oaep_md:{digest}")
    words = ("-encrypt", "-aes-256-gcm", "-in", content, "-recip", certificate, *how)
    encrypted = run("openssl", "cms", *words, "-from", "bob@medecin.test", "-to", ALICE).stdout
    done = desk.run("decrypt", desk.letter("oaep.eml", encrypted), "--json")
    (message,) = [o for o in done.objects if o["type"] == "message"]
    assert (message["encryption"]["key_management"], message["text"]) == (f"rsa-oaep-{digest}", "Hello\n")


def test_oaep_is_not_offered_to_those_who_write_to_a_card(desk: Desk) -> None:
    alice = person("alice", key_type="rsa2048")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key)
    desk.enrol()
    raw = sent(desk, "bob@medecin.test", "--sign-only")
    opened = letters.opened(raw, reader=None, at=dt.datetime.now(dt.UTC))
    assert opened.proven is not None
    capabilities = opened.proven.info.capabilities or ()
    assert "aes-256-gcm" in capabilities
    assert "rsa-oaep-sha256" not in capabilities


def test_a_key_that_wants_its_pin_at_each_use_gets_it(desk: Desk) -> None:
    alice = person("alice", key_type="rsa2048")
    usage = (*tokens.BOTH, "--always-auth")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key, usage=usage)
    done = desk.run("enrol", "card", "--module", SPY, "--json", env=desk.reader.spied())
    assert enrolled(done) == [("enrolled", ALICE, "both")], done
    assert desk.reader.calls().count("C_Login") == 3  # once for the run, once for each trial
    assert desk.run("decrypt", desk.letter("l.eml", _from_bob(alice)), env=desk.reader.spied()).exit == 0


# --- PINs --------------------------------------------------------------------------------------------------


@pytest.fixture
def enrolled_desk(desk: Desk) -> Desk:
    """A desk whose card is enrolled through the spy."""
    alice = person("alice", key_type="rsa2048")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key)
    assert desk.run("enrol", "card", "--module", SPY, env=desk.reader.spied()).exit == 0
    return desk


def test_a_wrong_pin_is_tried_once_in_a_run_and_never_again(enrolled_desk: Desk) -> None:
    desk = enrolled_desk
    letter = desk.letter("l.eml", _from_bob(person("alice", key_type="rsa2048")))
    done = desk.run("decrypt", letter, letter, "--json", pin=WRONG_PIN, env=desk.reader.spied())
    assert error(done) == (4, "wrong-pin")
    assert desk.reader.calls().count("C_Login") == 1
    again = desk.run("decrypt", letter, "--json", pin=WRONG_PIN, env=desk.reader.spied())
    assert error(again) == (4, "pin-refused-before")
    assert "C_Login" not in desk.reader.calls()
    kept = (desk.home / "keystore" / "refused-pins").read_text()
    assert WRONG_PIN not in kept
    assert desk.run("decrypt", letter, env=desk.reader.spied()).exit == 0
    # the token has taken another PIN since: what it refused may be right one day
    assert (
        error(desk.run("decrypt", letter, "--json", pin=WRONG_PIN, env=desk.reader.spied()))[1] == "wrong-pin"
    )


def test_runs_side_by_side_do_not_try_the_same_pin(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs with a wrong PIN, started at once, would lock the card."""
    alice = person("alice", key_type="rsa2048")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key)
    monkeypatch.setenv("SOFTHSM2_CONF", desk.reader.env["SOFTHSM2_CONF"])
    pins = RefusedPins(desk.home / "keystore", bytes(32))
    cards = Cards(lambda _label: WRONG_PIN.encode(), lambda: pins)
    card = cards.choose(SOFTHSM, None)
    codes: list[str] = []

    def try_it() -> None:
        try:
            card.session()
        except MedmailError as refused:
            codes.append(refused.code)

    other = threading.Thread(target=try_it)
    with pins.held():
        other.start()
        other.join(0.5)
        assert codes == []
        pins.remember(f"{card.serial}\0{card.label}", WRONG_PIN.encode())
    other.join(30)
    cards.close()
    assert codes == ["pin-refused-before"]


def test_a_pin_that_can_be_none_is_not_tried(enrolled_desk: Desk) -> None:
    letter = enrolled_desk.letter("l.eml", _from_bob(person("alice", key_type="rsa2048")))
    done = enrolled_desk.run("decrypt", letter, "--json", pin="", env=enrolled_desk.reader.spied())
    assert error(done) == (4, "wrong-pin")
    assert "C_Login" not in enrolled_desk.reader.calls()


def test_without_a_pin_a_script_is_told_how_to_give_it(desk: Desk) -> None:
    alice = person("alice")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key)
    done = desk.enrol("--no-input", pin=None)
    assert error(done) == (4, "no-secret")
    assert "--pin-file" in done.stderr
    assert enrolled(desk.enrol("--pin-file", desk.letter("p", PIN.encode()), pin=None))


@pytest.mark.parametrize("ending", ["well", "badly"])
def test_the_card_is_logged_out_of_however_a_run_ends(desk: Desk, ending: str) -> None:
    bob = person("bob", key_type="rsa2048", purpose="both")
    desk.reader.insert().put_pair(bob.certificate, bob.raw_key)
    assert desk.run("enrol", "card", "--module", SPY, env=desk.reader.spied()).exit == 0
    good = enveloped.encrypt(letters.sign(TEXT), [bob.certificate])
    data = good if ending == "well" else ways_to_fail("rsa2048", "aes-256-gcm")["tag"]
    letter = desk.letter("l.eml", OUTER + entity(data, "enveloped-data"))
    done = desk.run("decrypt", letter, env=desk.reader.spied())
    assert done.exit == (0 if ending == "well" else 6), done
    assert desk.reader.calls()[-3:] == ["C_Logout", "C_CloseSession", "C_Finalize"]


def test_ctrl_c_logs_out(enrolled_desk: Desk) -> None:
    desk = enrolled_desk
    letter = desk.letter("l.eml", _from_bob(person("alice", key_type="rsa2048")))
    copies = [desk.letter(f"{number}.eml", letter.read_bytes() + b"\n" * number) for number in range(400)]
    with _started(desk, copies, desk.reader.spied()) as process:
        while "C_Decrypt" not in desk.reader.calls():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert desk.reader.calls()[-3:] == ["C_Logout", "C_CloseSession", "C_Finalize"]


def _started(desk: Desk, sources: list[Path], env: dict[str, str]) -> "subprocess.Popen[bytes]":
    """``medmail decrypt --json`` in the background."""
    pin = desk.letter("pin", PIN.encode())
    around = {name: value for name, value in os.environ.items() if not name.startswith("MEDMAIL_")}
    around |= {"MEDMAIL_HOME": str(desk.home), "MEDMAIL_PIN_FILE": str(pin)}
    around["MEDMAIL_PASSPHRASE_FILE"] = str(desk.home.parent / "home.passphrase")
    return subprocess.Popen(
        [MEDMAIL, "decrypt", "--json", *map(str, sources)],
        env=around | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


# --- cards that are not there, or not alone ----------------------------------------------------------------


def test_a_card_pulled_out_is_absent_and_nothing_else(desk: Desk) -> None:
    alice = person("alice", key_type="rsa2048")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key)
    assert desk.enrol("--module", SOFTHSM).exit == 0
    letter = desk.letter("l.eml", _from_bob(alice))
    copies = [desk.letter(f"{number}.eml", letter.read_bytes() + b"\n" * number) for number in range(600)]
    with _started(desk, copies, desk.reader.env) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["exit"] == 0
        desk.reader.pull()
        rest, _ = process.communicate(timeout=60)
    last = json.loads(rest.splitlines()[-1])
    assert (process.returncode, last["error"]["code"]) == (4, "card-absent")
    later = desk.run("decrypt", letter, "--json")
    assert error(later) == (4, "card-absent")
    entry = desk.run("audit", "log", "--last", "1", "--json").objects[0]
    assert entry["facts"] == {"error": "card-absent"}


def test_after_the_card_has_gone_good_and_bad_letters_fail_alike(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = person("alice", key_type="rsa2048")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key)
    for cards in _cards(desk, monkeypatch):
        card = cards.choose(SOFTHSM, None)
        place = CardPlace(card.module, card.label, card.serial, "01")
        key = key_at(cards, place, alice.certificate.public_key())
        assert key.can_sign()
        assert key.can_decrypt()
        desk.reader.pull()
        for ciphertext in (bytes(256), b"\1" * 256, b"short"):
            with pytest.raises(MedmailError) as caught:
                key.decrypt(ciphertext, "rsa-pkcs1v15")
            assert caught.value.code == "card-absent"
        with pytest.raises(MedmailError) as caught:
            key.sign(b"x", "rsa-pss-sha256")
        assert caught.value.code == "card-absent"


def _cards(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cards]:
    """The cards of this very process."""
    monkeypatch.setenv("SOFTHSM2_CONF", desk.reader.env["SOFTHSM2_CONF"])
    cards = Cards(lambda _label: PIN.encode(), lambda: RefusedPins(desk.home / "keystore", bytes(32)))
    try:
        yield cards
    finally:
        cards.close()


def test_two_cards_are_told_apart_by_their_labels(desk: Desk) -> None:
    alice, bob = person("alice"), person("bob")
    desk.reader.insert("CPS").put_pair(alice.certificate, alice.raw_key)
    desk.reader.insert("CPE", pin="4321").put_pair(bob.certificate, bob.raw_key)
    done = desk.enrol()
    assert error(done) == (4, "several-cards")
    assert "CPS" in done.stderr
    assert "CPE" in done.stderr
    assert enrolled(desk.enrol("--token", "CPE", pin="4321")) == [("enrolled", "bob@medecin.test", "both")]
    assert enrolled(desk.enrol("--token", "CPS")) == [("enrolled", ALICE, "both")]
    assert error(desk.enrol("--token", "nobody's")) == (4, "card-absent")


@pytest.mark.parametrize("key_id", ["02", ""], ids=["another id", "no id"])
@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p521"])
def test_a_certificate_finds_its_key_where_their_ids_differ(
    desk: Desk, kind: pki.KeyType, key_id: str
) -> None:
    alice, other = person("alice", key_type=kind), person("carol", key_type=kind)
    token = desk.reader.insert()
    token.put_key(other.raw_key, "02")
    token.put_key(alice.raw_key, "01")
    token.put(alice.certificate, key_id)
    done = desk.enrol()
    assert enrolled(done) == [("enrolled", ALICE, "both")], done
    own = desk.letter("own.eml", sent(desk, ALICE))
    assert desk.run("decrypt", own, "--json").exit == 0


def test_the_only_key_of_its_kind_is_tried_where_the_card_shows_no_public_half(desk: Desk) -> None:
    alice, other = person("alice", key_type="p256"), person("carol", key_type="p256")
    token = desk.reader.insert()
    token.put_key(alice.raw_key, "01", public=False)
    token.put(alice.certificate, "02")
    assert enrolled(desk.enrol()) == [("enrolled", ALICE, "both")]
    strange = desk.reader.insert("STRANGE")
    strange.put_key(other.raw_key, "01", public=False)
    strange.put(alice.certificate, "02")
    assert error(desk.enrol("--token", "STRANGE")) == (1, "card-empty")


def test_a_key_named_by_its_certificate_serves_though_another_s_public_half_has_its_label(desk: Desk) -> None:
    alice, other = person("alice", key_type="p256"), person("carol", key_type="p256")
    token = desk.reader.insert()
    token.put_key(other.raw_key, "02")
    token.put_key(alice.raw_key, "01", public=False)
    token.put(alice.certificate, "01")
    assert enrolled(desk.enrol()) == [("enrolled", ALICE, "both")]


def test_two_cards_of_one_label_are_told_apart_by_their_serial_numbers(desk: Desk) -> None:
    for name in ("alice", "bob"):
        own = person(name)
        # pkcs11-tool would take the first of one label: each is filled before the next is there
        token = desk.reader.insert("SAME" if name == "bob" else "FIRST")
        token.put_pair(own.certificate, own.raw_key)
    first = desk.enrol("--token", "FIRST")
    assert enrolled(first) == [("enrolled", ALICE, "both")]
    desk.reader.insert("SAME")
    done = desk.enrol("--token", "SAME")
    assert error(done) == (4, "several-cards")
    serials = re.findall(r"SAME \((\w+)\)", done.stderr)
    assert len(set(serials)) == 2
    codes = {serial: desk.enrol("--token", serial) for serial in serials}
    assert sorted(one.exit for one in codes.values()) == [0, 1]


def test_no_card_and_no_module_are_told_apart(desk: Desk) -> None:
    assert error(desk.enrol()) == (4, "card-absent")
    text = desk.letter("text.so", b"no module at all")
    for module in (desk.home / "missing.so", text, Path(os.__file__)):
        assert error(desk.enrol("--module", module)) == (4, "no-card-module")


def test_a_module_of_the_configuration_is_used(desk: Desk) -> None:
    alice = person("alice")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key)
    (desk.home / "config.toml").write_text(f'card-module = "{SPY}"\n')
    done = desk.run("enrol", "card", env=desk.reader.spied())
    assert done.exit == 0
    assert "C_Sign" in desk.reader.calls()


def test_a_hostile_label_is_shown_harmless(desk: Desk) -> None:
    alice = person("alice")
    label = "\x1b[2J\x9b31m‮CPS\r{x}%n"
    desk.reader.insert(label).put_pair(alice.certificate, alice.raw_key)
    for done in (desk.run("enrol", "card"), desk.run("enrol", "card", pin=WRONG_PIN)):
        for bad in ("\x1b", "\x9b", "‮", "\r"):
            assert bad not in done.stdout + done.stderr
    assert desk.run("keys", "list").exit == 0


# --- what is on the card -----------------------------------------------------------------------------------


def test_a_card_that_cannot_decrypt_is_paired_with_a_software_key(desk: Desk) -> None:
    card = person("alice", key_type="rsa2048")
    software, key = pki.issue(authority("Health Root"), ALICE, "encrypt", "p256", name="alice")
    token = desk.reader.insert()
    token.put_pair(card.certificate, card.raw_key)
    token.forbid("DECRYPT")
    assert enrolled(desk.enrol("--module", SOFTHSM)) == [("enrolled", ALICE, "sign")]
    assert desk.run("enrol", "import", desk.letter("a.pem", pki.pem(software, key))).exit == 0
    own = desk.letter("own.eml", sent(desk, ALICE))
    done = desk.run("decrypt", own, "--json", pin=None)  # without the card's PIN
    (message,) = [o for o in done.objects if o["type"] == "message"]
    assert (done.exit, message["encryption"]["key_management"]) == (0, "ecdh-es-p256")
    assert message["signature"]["signers"][0]["sha256"] == fingerprint(card.certificate)
    # whoever encrypts for the card's certificate all the same makes nobody enter a PIN
    foreign = desk.run("decrypt", desk.letter("f.eml", _from_bob(card)), "--json", pin=WRONG_PIN)
    assert [p["code"] for p in foreign.objects[0]["problems"]] == ["no-key"]
    assert not (desk.home / "keystore" / "refused-pins").exists()


def test_the_card_signs_where_a_software_key_could(desk: Desk) -> None:
    card = person("alice", key_type="rsa2048")
    software, key = pki.issue(authority("Health Root"), ALICE, "both", "p256", not_before=letters.NOW)
    desk.run("enrol", "import", desk.letter("a.pem", pki.pem(software, key)))
    token = desk.reader.insert()
    token.put_pair(card.certificate, card.raw_key)
    token.forbid("DECRYPT")
    desk.enrol()
    done = desk.run("decrypt", desk.letter("own.eml", sent(desk, ALICE)), "--json")
    assert done.objects[0]["signature"]["signers"][0]["sha256"] == fingerprint(card.certificate)
    assert done.objects[0]["encryption"]["recipient"] == ALICE


def test_a_certificate_without_address_is_pinned_and_warned_of(desk: Desk) -> None:
    nameless, key = pki.issue(authority("Health Root"), None, "sign", "rsa2048", name="MARTIN")
    desk.reader.insert().put_pair(nameless, key)
    done = desk.enrol()
    assert error(done) == (2, "needs-address")
    pinned = desk.enrol("--address", ALICE)
    assert enrolled(pinned) == [("enrolled", ALICE, "sign")]
    assert [o["code"] for o in pinned.objects if o["type"] == "note"] == ["address-pinned"]
    assert enrolled(desk.enrol("--address", ALICE)) == [("unchanged", ALICE, "sign")]


def test_a_shared_card_gives_the_certificate_of_the_address_that_is_asked_for(desk: Desk) -> None:
    """Bob's is left alone, and the newer one without an address takes no precedence over Alice's own."""
    token, root = desk.reader.insert(), authority("Health Root")
    nameless = pki.issue(root, None, "sign", "rsa2048", name="login", not_before=letters.NOW)
    for number, name in enumerate(("bob", "alice")):
        one = person(name, key_type="rsa2048")
        token.put_pair(one.certificate, one.raw_key, f"0{number}")
    token.put_pair(*nameless, "02")
    done = desk.enrol("--address", "Alice@MEDECIN.test")
    assert enrolled(done) == [("enrolled", ALICE, "both")]
    shown = {o["subject"]: o["code"] for o in done.objects if o["type"] == "card-certificate"}
    assert shown == {"CN=bob": "other-address", "CN=alice": None, "CN=login": "other-preferred"}
    hers = desk.enrol("--address", "carol@medecin.test")
    assert enrolled(hers) == [("enrolled", "carol@medecin.test", "sign")]


def test_a_card_without_a_certificate_for_the_address_says_so(desk: Desk) -> None:
    bob = person("bob", key_type="rsa2048")
    desk.reader.insert().put_pair(bob.certificate, bob.raw_key)
    assert error(desk.enrol("--address", ALICE)) == (2, "address-not-on-card")


def test_the_certificate_meant_for_mail_signs_and_old_ones_still_open(desk: Desk) -> None:
    token = desk.reader.insert()
    root = authority("Health Root")
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    digital = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    named = x509.SubjectAlternativeName([x509.RFC822Name(ALICE)])
    extensions = [(usage, False), (digital, True), (named, False)]
    login, login_key = pki.issue(
        root, None, "none", "p256", name="login", not_before=letters.NOW, extensions=extensions
    )
    old, old_key = pki.issue(root, ALICE, "both", "rsa2048", name="old", not_after=letters.NOW)
    mail, mail_key = pki.issue(root, ALICE, "sign", "p256", name="mail")
    token.put_pair(login, login_key, "01")
    token.put_pair(old, old_key, "02")
    token.put_pair(mail, mail_key, "03")
    lonely, _ = pki.issue(root, ALICE, "both", "p256", name="lonely")
    token.put(lonely, "04")
    token.put(root.certificate, "05")
    done = desk.enrol("--ca-fingerprint", fingerprint(root.certificate))
    shown = {
        o["subject"]: (o["status"], o["purpose"], o["code"])
        for o in done.objects
        if o["type"] == "card-certificate"
    }
    assert shown == {
        "CN=login": ("left-out", None, "other-preferred"),
        "CN=old": ("taken", "encrypt", None),
        "CN=mail": ("taken", "sign", None),
        "CN=lonely": ("left-out", None, "certificate-without-key"),
    }
    assert [o["status"] for o in done.objects if o["type"] == "anchor"] == ["unchanged"]


def test_a_card_without_a_usable_certificate_says_so(desk: Desk) -> None:
    token = desk.reader.insert()
    assert error(desk.enrol()) == (1, "card-empty")
    token.put(person("alice").certificate)
    assert error(desk.enrol()) == (1, "card-empty")


# --- keys that cannot leave --------------------------------------------------------------------------------


def test_a_card_key_is_not_exported_but_its_place_is_backed_up(desk: Desk, tmp_path: Path) -> None:
    alice = person("alice", key_type="rsa2048")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key)
    desk.enrol()
    password = desk.letter("password", b"p12\n")
    private = desk.run("keys", "export", ALICE, "--private", "--p12-password-file", password, "--json")
    assert error(private) == (1, "key-on-card")
    assert desk.run("keys", "export", ALICE).stdout.startswith("-----BEGIN CERTIFICATE")
    saved, secret = tmp_path / "saved", desk.letter("b", PASSPHRASE.encode())
    assert desk.run("keys", "backup", "-o", saved, "--backup-passphrase-file", secret).exit == 0
    other = Desk(tmp_path / "other" / "home", desk.reader)
    other.home.parent.mkdir()
    words = ("keys", "restore", saved, "--backup-passphrase-file", secret, "--passphrase-file", secret)
    assert other.run(*words).exit == 0
    letter = desk.letter("l.eml", _from_bob(alice))
    opened = other.run("decrypt", letter, "--accept-untrusted", "--json", "--passphrase-file", secret)
    assert opened.objects[0]["encryption"]["status"] == "ok"


def test_a_card_that_moved_to_another_module_is_enrolled_again(desk: Desk) -> None:
    alice = person("alice", key_type="rsa2048")
    desk.reader.insert().put_pair(alice.certificate, alice.raw_key)
    assert desk.run("enrol", "card", "--module", SPY, env=desk.reader.spied()).exit == 0
    moved = desk.enrol("--module", SOFTHSM)
    assert enrolled(moved) == [("enrolled", ALICE, "both")]
    assert enrolled(desk.enrol("--module", SOFTHSM)) == [("unchanged", ALICE, "both")]


# --- nothing tells why a letter did not open ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_every_failure_with_a_card_says_and_logs_the_same(desk: Desk, kind: pki.KeyType) -> None:
    bob = person("bob", key_type=kind, purpose="both")
    desk.reader.insert().put_pair(bob.certificate, bob.raw_key)
    assert desk.enrol().exit == 0
    seen: dict[str, list[str]] = {}
    for way, data in ways_to_fail(kind, "aes-256-gcm").items():
        path = desk.letter(f"{way}.eml", OUTER + entity(data, "enveloped-data"))
        done = desk.run("decrypt", path, "--json", "--show-unverified", "--accept-untrusted")
        entry = desk.run("audit", "log", "--last", "1", "--json").objects[0]
        verdict = {**done.objects[0], "id": "", "source": ""}
        facts = {name: entry[name] for name in ("kind", "action", "outcome", "facts")}
        seen.setdefault(json.dumps([verdict, done.stderr, done.exit, facts], sort_keys=True), []).append(way)
    assert len(seen) == 1, seen
    assert '"bad-tag"' in next(iter(seen))
