"""Forgeries that real mail programs showed as valid: each is named by its code, none is ever trusted."""

import datetime as dt
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import ber, der, signed
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.pki.path.validation import Authorities
from medmail_cli.smime import compose
from medmail_cli.smime.open import Opened
from medmail_cli.smime.policy import Policy
from medmail_cli.smime.protect import Signer, protect, sign_only
from tests.support import pki
from tests.support.forged import by_key_identifier, infos, made, resigned
from tests.support.letters import (
    NOW,
    OUTER,
    TEXT,
    authority,
    codes,
    encrypt,
    entity,
    letter,
    opened,
    person,
    sealed,
    sign,
)
from tests.support.tools import run


def distrusted(result: Opened, *expected: str, exit: int = 5) -> None:  # noqa: A002 - the word of the JSON
    assert codes(result) == list(expected)
    assert not result.verdict.trusted
    assert result.verdict.exit == exit


def test_a_signer_who_is_not_the_sender() -> None:
    result = opened(sealed(signer="carol"))
    distrusted(result, "signer-is-not-sender")
    assert result.verdict.signature.status == "valid"


def test_a_signer_of_nobodys_authority() -> None:
    mallory = person("alice", "Mallory Root")
    raw = protect(
        letter(),
        signer=mallory.signer,
        recipients={person("bob").address: person("bob").certificate},
        signed_at=NOW,
    )[0].message
    distrusted(opened(raw), "untrusted-issuer")


def test_several_from_fields() -> None:
    raw = OUTER.replace(b"To:", b"From: carol@medecin.test\r\nTo:") + encrypt(sign(TEXT))
    result = opened(raw)
    distrusted(result, "several-from", "signer-is-not-sender")
    assert result.verdict.headers.from_ == "alice@medecin.test, carol@medecin.test"


def test_several_addresses_in_one_from() -> None:
    raw = OUTER.replace(b"From: ", b"From: carol@medecin.test, ") + sign(TEXT)
    distrusted(opened(raw), "several-from", "signer-is-not-sender")


def test_a_second_from_added_outside_a_protected_header() -> None:
    raw = b"From: carol@medecin.test\r\n" + sealed()
    distrusted(opened(raw), "header-mismatch", "several-from")


@pytest.mark.parametrize("sender", ["carol@medecin.test", "", "Alice"])
def test_a_sender_whom_the_signer_does_not_speak_for(sender: str) -> None:
    raw = b"Sender: " + sender.encode() + b"\r\n" + OUTER + sign(TEXT)
    result = opened(raw)
    if sender:
        distrusted(result, "signer-is-not-sender")
    else:
        assert result.verdict.trusted


def test_a_delegate_may_stand_in_sender() -> None:
    raw = b"Sender: carol@medecin.test\r\n" + OUTER + sign(TEXT)
    assert opened(raw, policy=Policy(delegates=frozenset({"Carol@medecin.test"}))).verdict.trusted


def test_a_delegate_may_not_sign_for_another() -> None:
    raw = b"Sender: carol@medecin.test\r\n" + OUTER + sign(TEXT, "carol")
    distrusted(
        opened(raw, policy=Policy(delegates=frozenset({"carol@medecin.test"}))), "signer-is-not-sender"
    )


def test_a_sender_added_outside_a_protected_header() -> None:
    distrusted(opened(b"Sender: carol@medecin.test\r\n" + sealed()), "header-mismatch")


@pytest.mark.parametrize(
    "name",
    [
        '"boss@medecin.test"',
        "=?utf-8?b?Ym9zc0BtZWRlY2luLnRlc3Q=?=",
        "boss@medecin.test",
        '"Boss <boss@medecin.test>"',
    ],
)
def test_a_display_name_that_holds_an_address(name: str) -> None:
    raw = OUTER.replace(b"From: alice@medecin.test", f"From: {name} <alice@medecin.test>".encode()) + sign(
        TEXT
    )
    distrusted(opened(raw), "signer-is-not-sender")


def test_a_display_name_that_repeats_the_address_is_no_lie() -> None:
    raw = OUTER.replace(b"From: ", b'From: "Alice@medecin.test" <').replace(
        b"test\r\nTo", b"test>\r\nTo"
    ) + sign(TEXT)
    assert opened(raw).verdict.trusted


@pytest.mark.parametrize(
    "written",
    [
        "Alice",
        "",
        "=?utf-8?q?alice=40medecin.test?=",
        "alice@medecin.test\0@evil.test",
        "alice@medecin.test@evil.test",
    ],
)
def test_a_from_without_an_address(written: str) -> None:
    raw = OUTER.replace(b"From: alice@medecin.test", b"From: " + written.encode()) + sign(TEXT)
    distrusted(opened(raw), "signer-is-not-sender")


@pytest.mark.parametrize("address", ["Alice@MEDECIN.test", "alice@medecin.test"])
def test_letter_case_makes_no_other_sender(address: str) -> None:
    assert opened(OUTER.replace(b"alice@medecin.test", address.encode()) + sign(TEXT)).verdict.trusted


def test_a_look_alike_domain_is_another_sender() -> None:
    raw = OUTER.replace(b"alice@medecin.test", "alice@mеdecin.test".encode()) + sign(TEXT)  # a Cyrillic е
    distrusted(opened(raw), "signer-is-not-sender")


def test_from_outside_and_inside_apart() -> None:
    raw = sealed().replace(b"From: Alice <alice@medecin.test>", b"From: carol@medecin.test", 1)
    result = opened(raw)
    distrusted(result, "header-mismatch")
    assert result.verdict.headers.from_ == "Alice <alice@medecin.test>"
    assert result.verdict.outer_headers.from_ == "carol@medecin.test"


def test_a_wrapped_message_of_another_sender_supplies_no_headers() -> None:
    raw = sealed(wrapping="message-rfc822").replace(
        b"From: Alice <alice@medecin.test>", b"From: carol@medecin.test", 1
    )
    result = opened(raw)
    distrusted(result, "header-mismatch", "signer-is-not-sender")
    assert (result.verdict.headers.subject, result.verdict.headers.protected) == ("[...]", False)


MIXED = (
    b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n%b\r\n"
    b"--m\r\nContent-Type: text/plain\r\n\r\nfooter\r\n--m--\r\n"
)


@pytest.mark.parametrize("detached", [True, False])
def test_content_beside_the_signed_part(detached: bool) -> None:
    result = opened(OUTER + MIXED % sign(TEXT, detached=detached))
    distrusted(result, "partly-signed")
    assert result.verdict.signature.status == "none"
    assert result.verdict.layers == ()


def test_a_third_part_in_multipart_signed() -> None:
    raw = OUTER + sign(TEXT, detached=True)
    boundary = raw[raw.index(b'boundary="') + 10 :][:34]
    third = b"--" + boundary + b"\r\nContent-Type: text/plain\r\n\r\nalso\r\n--" + boundary + b"--"
    distrusted(opened(raw.replace(b"--" + boundary + b"--", third)), "partly-signed")


def test_a_signed_letter_as_attachment_or_reference() -> None:
    forwarded = b"Content-Type: message/rfc822\r\n\r\n" + OUTER + sign(TEXT, detached=True)
    for kind in (b"mixed", b"related", b"alternative"):
        raw = MIXED.replace(b"mixed", kind) % (TEXT + b"\r\n--m\r\n" + forwarded)
        result = opened(OUTER + raw)
        distrusted(result, "no-signature")


def test_a_signed_part_hidden_beside_html() -> None:
    html = b"Content-Type: text/html\r\n\r\n<p>pay me<img src='cid:signed'>"
    raw = MIXED.replace(b"mixed", b"related") % (html + b"\r\n--m\r\n" + sign(TEXT, detached=True))
    distrusted(opened(OUTER + raw), "partly-signed")


def test_content_attached_and_detached() -> None:
    alice = person("alice")
    data = signed.sign(TEXT, key=alice.key, certificate=alice.certificate, signed_at=NOW)
    raw = compose.multipart_signed(TEXT, data, micalg="sha-256")
    distrusted(opened(OUTER + raw), "content-twice")
    other = compose.multipart_signed(TEXT.replace(b"Hello", b"Pay"), data, micalg="sha-256")
    distrusted(opened(OUTER + other), "content-twice", "bad-signature", exit=6)


def test_signed_data_without_a_signer() -> None:
    result = opened(OUTER + entity(resigned(made("alice"), []), "signed-data"))
    distrusted(result, "no-signature")
    assert result.verdict.signature.signers == ()


def test_a_certificates_only_message_is_no_signature() -> None:
    alice = person("alice")
    data = signed.sign(TEXT, key=alice.key, certificate=alice.certificate, signed_at=NOW, detached=True)
    distrusted(opened(OUTER + entity(resigned(data, []), "certs-only")), "no-signature")


def test_the_same_signer_twice_counts_as_once() -> None:
    (info,) = infos(made("alice"))
    assert opened(OUTER + entity(resigned(made("alice"), [info, info]), "signed-data")).verdict.trusted


def test_a_forged_second_signature_is_told() -> None:
    (info,) = infos(made("alice"))
    (other,) = infos(made("alice", b"other"))
    distrusted(
        opened(OUTER + entity(resigned(made("alice"), [info, other]), "signed-data")), "bad-signature", exit=6
    )


def test_a_signature_over_other_content() -> None:
    (other,) = infos(made("alice", b"other"))
    distrusted(
        opened(OUTER + entity(resigned(made("alice"), [other]), "signed-data")), "bad-signature", exit=6
    )


def test_a_signature_that_cannot_be_read() -> None:
    raw = compose.multipart_signed(TEXT, b"junk", micalg="sha-256")
    result = opened(OUTER + raw)
    distrusted(result, "bad-signature", exit=6)
    assert result.verdict.text is None


def test_a_signature_without_its_certificate() -> None:
    alice = person("alice")
    outer = ber.parse(made("alice")).fields()
    oid, explicit = outer.take(), outer.take()
    kept = [bytes(node.raw) for node in next(explicit.elements()).elements() if node.tag != 0x80]
    data = der.sequence(bytes(oid.raw), der.tlv(0xA0, der.sequence(*kept)))
    raw = OUTER + entity(data, "signed-data")
    distrusted(opened(raw), "untrusted-issuer")
    assert opened(
        raw, known=lambda address: [alice.certificate] if address == alice.address else []
    ).verdict.trusted


def test_a_letter_re_encrypted_to_another_person() -> None:
    """Carol may be shown what Alice wrote to Bob, but not as if it had been written to her."""
    inner = opened(sealed()).content
    assert inner is not None
    content = sign(bytes(inner.raw))
    raw = OUTER.replace(b"bob", b"carol") + encrypt(content, "carol")
    strict = opened(raw, "carol", policy=Policy(not_addressed="problem"))
    distrusted(strict, "not-addressed-to-you")
    lenient = opened(raw, "carol")
    assert lenient.verdict.trusted
    assert "not-addressed-to-you" in [note.code for note in lenient.verdict.notes]


def test_a_signing_time_in_the_future() -> None:
    recipients = {person("bob").address: person("bob").certificate}
    for minutes, expected in ((4, []), (6, ["implausible-time"])):
        raw = protect(
            letter(),
            signer=person("alice").signer,
            recipients=recipients,
            signed_at=NOW + dt.timedelta(minutes=minutes),
        )[0].message
        assert codes(opened(raw)) == expected


def test_a_certificate_without_address_is_believed_only_where_pinned() -> None:
    certificate, key = pki.issue(authority("Health Root"), None, key_type="p256")
    signer = Signer(SoftwareKey(key), certificate)
    (only,) = sign_only(letter(), signer=signer, signed_at=NOW)
    distrusted(opened(only.message), "no-address-in-certificate")

    def pinned(address: str) -> Sequence[x509.Certificate]:
        return [certificate] if address == "alice@medecin.test" else []

    assert opened(only.message, pinned=pinned).verdict.trusted


def test_every_reason_is_given() -> None:
    old = person("carol", not_after=dt.datetime(2026, 2, 1, tzinfo=dt.UTC))
    (only,) = sign_only(letter(), signer=old.signer, signed_at=NOW)
    distrusted(opened(only.message), "signer-is-not-sender", "expired")


def test_a_revoked_signer() -> None:
    crl = pki.make_crl(authority("Health Root"), [person("alice").certificate])
    authorities = Authorities([authority("Health Root").certificate], crls=[crl])
    result = opened(
        sealed(), judge=lambda c, came: authorities.judge(c, enclosed=came, at=NOW, known_now=NOW)
    )
    distrusted(result, "revoked")
    assert result.verdict.text is not None


def test_a_header_that_only_looks_protected() -> None:
    """Without any layer the parameter means nothing."""
    raw = OUTER + b'Content-Type: text/plain; hp="clear"\r\n\r\nHello'
    result = opened(raw)
    assert not result.verdict.headers.protected


def test_a_certificate_of_the_same_name_and_number_confuses_nobody() -> None:
    """Somebody in the middle puts an impostor's certificate before the real one."""
    alice = person("alice")
    impostor_root = pki.make_ca("Health Root")
    impostor, _ = pki.issue(
        impostor_root, alice.address, key_type="p256", serial=alice.certificate.serial_number, name="alice"
    )
    data = signed.sign(TEXT, key=alice.key, certificate=alice.certificate, signed_at=NOW, chain=[impostor])
    real, fake = (c.public_bytes(Encoding.DER) for c in (alice.certificate, impostor))
    assert real in data
    assert fake in data
    for first, second in ((real, fake), (fake, real)):
        both = der.tlv(0xA0, first, second)
        swapped = _with_certificates(data, both)
        assert opened(OUTER + entity(swapped, "signed-data")).verdict.trusted


def _with_certificates(data: bytes, certificates: bytes) -> bytes:
    oid, explicit = ber.parse(data).elements()
    (body,) = explicit.elements()
    kept = [certificates if node.tag == 0x80 else bytes(node.raw) for node in body.elements()]
    return der.sequence(bytes(oid.raw), der.tlv(0xA0, der.sequence(*kept)))


def test_of_two_certificates_for_one_key_the_one_that_holds_counts() -> None:
    """Renewed with the same key and named by key identifier: the expired one says nothing against it."""
    alice = person("alice")
    old, _ = pki.issue(
        authority("Health Root"),
        alice.address,
        key=alice.raw_key,
        not_after=dt.datetime(2026, 2, 1, tzinfo=dt.UTC),
    )
    data = resigned(made("alice"), [by_key_identifier("alice")])
    certificates = [c.public_bytes(Encoding.DER) for c in (old, alice.certificate)]
    for listed in (certificates, certificates[::-1]):
        raw = OUTER + entity(_with_certificates(data, der.tlv(0xA0, *listed)), "signed-data")
        assert opened(raw).verdict.trusted
    only_old = OUTER + entity(_with_certificates(data, der.tlv(0xA0, certificates[0])), "signed-data")
    distrusted(opened(only_old), "expired")


def test_weak_encryption_is_opened_only_when_asked_and_never_trusted() -> None:
    bob = person("bob")
    raw = OUTER + entity(_triple_des(sign(TEXT), bob.certificate), "enveloped-data")
    refused = opened(raw)
    assert (codes(refused), refused.verdict.text) == (["weak-algorithm"], None)
    assert refused.verdict.problems[0].detail == "3des-cbc"
    shown = opened(raw, policy=Policy(allow_weak=True))
    distrusted(shown, "weak-algorithm")
    assert shown.verdict.text == "Hello\n"


def _triple_des(content: bytes, certificate: x509.Certificate) -> bytes:
    """An EnvelopedData as old programs write it, by OpenSSL."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bob.pem"
        path.write_bytes(pki.pem(certificate))
        return run(
            "openssl", "cms", "-encrypt", "-des3", "-binary", "-outform", "DER", path, stdin=content
        ).stdout
