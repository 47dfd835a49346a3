"""What leaves: who can open it, what stands outside, what it will weigh."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from medmail_cli.smime import mime
from medmail_cli.smime.compose import Attachment
from medmail_cli.smime.fields import Mailbox
from medmail_cli.smime.layers import unwrap
from medmail_cli.smime.protect import Style, estimate, protect, sign_only
from tests.support import letters, pki
from tests.support.letters import FILE, NOW, codes, letter, opened, person, sealed

SECRETS = (b"Durand", "Résultats".encode(), "Élodie".encode())


STYLES = [
    dict(zip(("signature", "wrapping", "cipher", "binary", "legacy_display"), choice, strict=True))
    for choice in itertools.product(
        ("opaque", "detached"),
        ("none", "message-rfc822"),
        ("aes-256-gcm", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc"),
        (False, True),
        (False, True),
    )
]


@pytest.mark.parametrize("style", STYLES, ids=lambda style: "-".join(map(str, style.values())))
def test_every_style_is_opened_and_believed(style: dict[str, Any]) -> None:
    result = opened(sealed(letter(attachments=(FILE,)), **style))
    verdict = result.verdict
    assert (codes(result), verdict.exit, verdict.trusted) == ([], 0, True)
    assert verdict.layers[:2] == ("encrypted", "signed")
    assert verdict.headers.protected
    assert verdict.headers.subject == "Résultats de Mme Durand"
    assert verdict.headers.message_id == "<1@medecin.test>"
    assert verdict.outer_headers.subject == "[...]"
    assert verdict.text == letter().body
    assert [a.name for a in verdict.attachments] == [FILE.name]
    assert result.parts == (FILE.data,)
    assert verdict.encryption.authenticated == style["cipher"].endswith("gcm")


@pytest.mark.parametrize("signer", ["p256", "p384", "rsa2048", "ed25519"])
@pytest.mark.parametrize("reader", ["p256", "p384", "p521", "rsa2048"])
def test_every_kind_of_key(signer: Any, reader: Any) -> None:
    alice, bob = person("alice", key_type=signer), person("bob", key_type=reader)
    # an Ed25519 key cannot decrypt: its owner has another certificate to be written to
    own = person("alice") if signer == "ed25519" else alice
    who = alice.signer.__class__(alice.key, alice.certificate, (), own.certificate)
    raw = protect(letter(), signer=who, recipients={bob.address: bob.certificate}, signed_at=NOW)[0].message
    assert opened(raw, keys=[(bob.certificate, bob.key)]).verdict.trusted
    assert opened(raw, keys=[(own.certificate, own.key)], own_addresses=[alice.address]).verdict.trusted


def test_nothing_of_the_letter_stands_outside() -> None:
    raw = sealed(letter(attachments=(FILE,), headers=(("Keywords", "Durand"), ("Comments", "Durand"))))
    assert not any(secret in raw for secret in SECRETS)
    outer = mime.parse(raw)
    assert outer.first("keywords") is None
    assert outer.first("subject") == "[...]"


def test_the_outer_header_is_recorded_inside() -> None:
    raw = sealed(letter())
    inside = opened(raw).content
    assert inside is not None
    recorded = [field.value for field in inside.all("hp-outer")]
    outer = [
        f"{field.raw.decode().partition(':')[0]}: {field.value}"
        for field in mime.parse(raw).fields
        if not field.name.startswith(("content-", "mime-"))
    ]
    assert recorded == outer
    assert inside.parameters["hp"] == "cipher"


def test_network_headers_stand_outside_and_inside() -> None:
    result = opened(sealed(letter(headers=(("X-MSS-NIL", "medmail"),))))
    assert result.content is not None
    assert result.content.first("x-mss-nil") == "medmail"


def test_each_bcc_recipient_gets_a_message_that_no_other_shares() -> None:
    names = ("bob", "carol", "dave")
    recipients = {person(name).address: person(name).certificate for name in names}
    written = letter(bcc=(person("carol").box, person("dave").box))
    submissions = protect(written, signer=person("alice").signer, recipients=recipients, signed_at=NOW)
    assert [s.recipients for s in submissions] == [(person(name).address,) for name in names]
    for submission, own in zip(submissions, names, strict=True):
        assert b"carol" not in submission.message
        for name in (*names, "alice"):
            result = opened(submission.message, name)
            assert result.verdict.trusted == (name in (own, "alice"))
            if name == own:
                assert result.verdict.notes == opened(sealed()).verdict.notes
            if not result.verdict.trusted:
                assert codes(result) == ["no-key"]
        seen = opened(submission.message, own).eml()
        assert [name for name in ("carol", "dave") if name.encode() in seen] == [
            n for n in (own,) if n != "bob"
        ]


def test_a_letter_with_blind_recipients_only_names_nobody() -> None:
    carol = person("carol")
    (only,) = protect(
        letter(to=(), bcc=(carol.box,)),
        signer=person("alice").signer,
        recipients={carol.address: carol.certificate},
        signed_at=NOW,
    )
    assert b"To: undisclosed-recipients:;" in only.message
    assert opened(only.message, "carol").verdict.trusted


def test_those_without_certificate_are_left_out() -> None:
    (only,) = protect(
        letter(cc=(person("carol").box,)),
        signer=person("alice").signer,
        recipients={person("bob").address: person("bob").certificate},
        signed_at=NOW,
    )
    assert only.recipients == (person("bob").address,)


@pytest.mark.parametrize("signature", ["opaque", "detached"])
def test_signed_only_is_believed_and_said_to_be_open(signature: Any) -> None:
    (only,) = sign_only(
        letter(attachments=(FILE,)),
        signer=person("alice").signer,
        signed_at=NOW,
        style=Style(signature=signature),
    )
    result = opened(only.message)
    assert result.verdict.trusted
    assert result.verdict.headers.protected
    assert "not-encrypted" in [note.code for note in result.verdict.notes]
    assert only.message.isascii()


@pytest.mark.parametrize("body", ["été\r\n".encode(), b"x" * 999 + b"\r\n", b"\0\r\n", b"ok\r\n"])
def test_what_seven_bits_cannot_carry_is_not_signed_detached(body: bytes) -> None:
    """RFC 8551 §3.1.3: a server on the way may refuse it, or change it and break the signature."""
    made = letter(entity=b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + body)
    detached = Style(signature="detached")
    message = sign_only(made, signer=person("alice").signer, signed_at=NOW, style=detached)[0].message
    assert message.isascii()
    assert (b"multipart/signed" in message) == (body == b"ok\r\n")
    assert opened(message).verdict.trusted
    # inside an encryption nothing has to carry it
    assert opened(sealed(made, signature="detached")).verdict.trusted


@pytest.mark.parametrize(
    ("kind", "micalg"),
    [("p256", "sha-256"), ("p384", "sha-384"), ("ed25519", "sha-512"), ("ed448", "shake256"),
     ("ml-dsa-44", "sha-512"), ("ml-dsa-87", "sha-512")],
)  # fmt: skip
def test_the_hash_of_a_detached_signature_is_named(kind: pki.KeyType, micalg: str) -> None:
    signer = person("alice", key_type=kind, purpose="sign").signer
    (only,) = sign_only(letter(), signer=signer, signed_at=NOW, style=Style(signature="detached"))
    assert mime.parse(only.message).parameters["micalg"] == micalg
    assert opened(only.message).verdict.trusted


@pytest.mark.parametrize("size", [0, 10_000, 3_000_000])
@pytest.mark.parametrize("style", [Style(), Style(binary=True), Style(signature="detached")])
def test_the_size_on_the_wire_is_known_beforehand(size: int, style: Style) -> None:
    written = letter(attachments=(Attachment("a.bin", "application/octet-stream", bytes(size)),))
    signer, reader = person("alice").signer, person("bob")
    raw = protect(
        written,
        signer=signer,
        recipients={reader.address: reader.certificate},
        signed_at=NOW,
        style=style,
    )[0].message
    guess = estimate(written, signer=signer, recipients=[reader.certificate], style=style)
    assert len(raw) <= guess <= len(raw) * 1.02 + 12_000


@pytest.mark.parametrize(("signs", "reads"), [("p256", "rsa4096"), ("ml-dsa-87", "ml-kem-1024")])
def test_long_keys_and_many_recipients_count(signs: pki.KeyType, reads: pki.KeyType) -> None:
    people = [
        person(f"reader{number}", key_type=reads, purpose="encrypt" if reads == "ml-kem-1024" else "both")
        for number in range(3)
    ] * 4
    boxes = [Mailbox(f"r{number}@medecin.test", "") for number in range(len(people))]
    certificates = [
        pki.issue(letters.authority("Health Root"), box.address, key=one.raw_key)[0]
        for box, one in zip(boxes, people, strict=True)
    ]
    signer = person("alice", key_type=signs, purpose="sign").signer
    signer = replace(signer, separate_encryption_certificate=person("bob").certificate)
    written = letter(to=tuple(boxes))
    recipients = {box.address: one for box, one in zip(boxes, certificates, strict=True)}
    raw = protect(written, signer=signer, recipients=recipients, signed_at=NOW)[0].message
    guess = estimate(written, signer=signer, recipients=certificates)
    assert len(raw) <= guess <= len(raw) * 1.1 + 12_000


@pytest.mark.parametrize("wrapping", ["none", "message-rfc822"])
def test_around_binary_parts_no_entity_is_called_seven_bit(wrapping: str) -> None:
    """RFC 2045 §6.4: a multipart and a wrapped message are as wide as the widest part."""
    raw = sealed(letter(attachments=(FILE,)), binary=True, wrapping=wrapping)
    bob = person("bob")
    whole = unwrap(raw, [(bob.certificate, bob.key)]).signature
    assert whole is not None
    entity = mime.parse_inner(bytes(whole.over))
    while True:
        assert entity.encoding == "binary"
        if entity.content_type != "message/rfc822":
            break
        entity = mime.parse(mime.decode_body(entity))
    assert [part.encoding for part in entity.children] == ["8bit", "binary"]
