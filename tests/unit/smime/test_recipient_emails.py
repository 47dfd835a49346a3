"""KIM's recipient-emails: whom a letter was sealed for, in its signer's words and beside the envelope."""

import pytest

from medmail_cli.cms import der, enveloped, signed
from medmail_cli.smime import recipient_emails
from tests.support.letters import (
    NOW,
    OUTER,
    TEXT,
    Person,
    codes,
    encrypt,
    entity,
    letter,
    opened,
    person,
    sealed,
)

ALICE, BOB, CAROL = person("alice"), person("bob"), person("carol")


def named(*people: Person) -> tuple[bytes, ...]:
    return recipient_emails.values((one.address, one.certificate) for one in people)


def by_alice(*people: Person) -> bytes:
    """Signed by Alice, who names these under her signature."""
    further = {recipient_emails.OID: named(*people)} if people else {}
    data = signed.sign(TEXT, key=ALICE.key, certificate=ALICE.certificate, signed_at=NOW, further=further)
    return entity(data, "signed-data")


def for_bob(content: bytes, *values: bytes) -> bytes:
    """In an envelope for Bob, with these values beside it, whoever writes them there."""
    beside = [signed.attribute(recipient_emails.OID, *values)] if values else []
    data = enveloped.encrypt(content, [BOB.certificate], beside=beside)
    return OUTER + entity(data, "authEnveloped-data")


@pytest.mark.parametrize("cipher", ["aes-256-gcm", "aes-256-cbc", "chacha20-poly1305"])
def test_what_is_sent_names_everybody_twice_and_is_believed(cipher: str) -> None:
    raw = sealed(letter(), cipher=cipher, recipient_emails=True, wrapping="message-rfc822")
    result = opened(raw)
    assert codes(result) == []
    (info,) = (one.info for one in result.judged)
    assert info.signed_attributes[recipient_emails.OID]
    own = [(ALICE.certificate, ALICE.key)]
    assert codes(opened(raw, keys=own, own_addresses=[ALICE.address])) == []


def test_a_letter_sealed_anew_for_somebody_else_gives_itself_away() -> None:
    for_carol = by_alice(CAROL, ALICE)
    assert codes(opened(for_bob(for_carol))) == ["not-addressed-to-you"]
    assert codes(opened(for_bob(for_carol, *named(BOB)))) == ["header-mismatch", "not-addressed-to-you"]


def test_both_must_say_the_same() -> None:
    assert codes(opened(for_bob(by_alice(ALICE, BOB), *named(BOB, ALICE)))) == []
    assert codes(opened(for_bob(by_alice(BOB), *named(BOB, CAROL)))) == ["header-mismatch"]
    other = person("bob", key_type="rsa2048")
    assert codes(opened(for_bob(by_alice(BOB), *named(other)))) == ["header-mismatch"]
    # one alone, as senders that know less of it write: nothing to compare
    assert codes(opened(for_bob(by_alice(BOB)))) == []
    assert codes(opened(for_bob(by_alice(), *named(CAROL)))) == []


def test_a_set_within_the_set_is_the_same() -> None:
    assert codes(opened(for_bob(by_alice(BOB, ALICE), der.set_of(named(BOB, ALICE))))) == []


@pytest.mark.parametrize("value", [b"\x05\x00", b"\x30\x00", der.sequence(b"\x16\x01a"), b"\x31\x02\x30\x00"])
def test_what_cannot_be_read_names_nobody(value: bytes) -> None:
    assert codes(opened(for_bob(by_alice(BOB), value))) == ["header-mismatch"]


def test_only_an_encrypted_letter_was_sealed_for_somebody() -> None:
    assert codes(opened(OUTER + by_alice(CAROL))) == []
    assert codes(opened(OUTER + encrypt(by_alice()))) == []
