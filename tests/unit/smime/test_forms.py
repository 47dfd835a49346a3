"""The forms in which other programs and gateways deliver signed and encrypted mail: all are opened."""

import base64
import binascii
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from medmail_cli.cms import algorithms, ber, der, enveloped, signed
from medmail_cli.smime import compose
from medmail_cli.smime.layers import MAX_LAYERS
from medmail_cli.smime.open import Opened
from tests.support.letters import NOW, OUTER, PLAIN, TEXT, codes, encrypt, entity, opened, person, sign


def signature(content: bytes = TEXT, *, detached: bool = False) -> bytes:
    """Alice's SignedData over some content, in DER."""
    alice = person("alice")
    return signed.sign(
        content, key=alice.key, certificate=alice.certificate, signed_at=NOW, detached=detached
    )


def body(data: bytes, content_type: str, *more: str) -> bytes:
    """A base64 body under a content type of one's own."""
    head = "".join(f"{line}\r\n" for line in (f"Content-Type: {content_type}", *more))
    return f"{head}Content-Transfer-Encoding: base64\r\n\r\n".encode() + compose.base64_lines(data)


def trusted(result: Opened, *layers: str) -> None:
    assert codes(result) == []
    assert result.verdict.trusted
    assert result.verdict.layers == layers
    assert result.verdict.text == "Hello\n"


@pytest.mark.parametrize(
    ("content_type", "more"),
    [
        ("application/pkcs7-mime; smime-type=signed-data; name=smime.p7m", ()),
        ("application/x-pkcs7-mime", ()),
        ("APPLICATION/PKCS7-MIME; SMIME-TYPE=SIGNED-DATA", ()),
        ("application/pkcs7-mime; smime-type=enveloped-data", ()),
        ("application/octet-stream; name=smime.p7m", ()),
        ("application/octet-stream; smime-type=signed-data", ()),
        ("application/octet-stream", ("Content-Disposition: attachment; filename=SMIME.P7M",)),
        ("application/x-whatever", ('Content-Disposition: attachment; filename="smime.p7m"',)),
    ],
)
def test_opaque_signatures_under_any_label(content_type: str, more: tuple[str, ...]) -> None:
    trusted(opened(OUTER + body(signature(), content_type, *more)), "signed")


@pytest.mark.parametrize("spelling", ["authEnveloped-data", "authenticated-enveloped-data", "enveloped-data"])
def test_either_spelling_of_authenticated_envelopes(spelling: str) -> None:
    data = enveloped.encrypt(sign(TEXT), [person("bob").certificate])
    raw = OUTER + body(data, f"application/pkcs7-mime; smime-type={spelling}")
    trusted(opened(raw), "encrypted", "signed")


@pytest.mark.parametrize("label", ["CMS", "PKCS7", "PKCS #7 SIGNED DATA"])
def test_pem_in_a_body_and_in_a_file(label: str) -> None:
    armoured = f"-----BEGIN {label}-----\r\n".encode() + compose.base64_lines(signature())
    armoured += f"-----END {label}-----\r\n".encode()
    raw = OUTER + b"Content-Type: application/pkcs7-mime\r\n\r\n" + armoured
    trusted(opened(raw), "signed")
    # a file without a mail header is nobody's letter
    assert codes(opened(armoured)) == ["signer-is-not-sender"]
    assert opened(armoured).verdict.text == "Hello\n"


@pytest.mark.parametrize("kind", ["application/pkcs7-signature", "application/octet-stream"])
@pytest.mark.parametrize("multipart", ["signed", "mixed"])
def test_a_detached_signature_sent_as_a_plain_attachment(multipart: str, kind: str) -> None:
    raw = OUTER + compose.multipart_signed(TEXT, signature(detached=True), micalg="sha-256")
    raw = raw.replace(b"multipart/signed", f"multipart/{multipart}".encode())
    raw = raw.replace(b"Content-Type: application/pkcs7-signature", f"Content-Type: {kind}".encode())
    trusted(opened(raw), "signed")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"Hello\r\n", "Hello\n"),
        (b"Note: do not pay\r\n\r\nHello\r\n", "Note: do not pay\n\nHello\n"),
        (b"Bonjour: voici\r\nla suite\r\n", "Bonjour: voici\nla suite\n"),
        (b"Subject: x\r\n", "Subject: x\n"),
        (b"\r\nHello\r\n", "Hello\n"),
        (b"Content-Language: fr\r\n\r\nHello\r\n", "Hello\n"),
        (b"MIME-Version: 1.0\r\n\r\nHello\r\n", "Hello\n"),
    ],
)
@pytest.mark.parametrize("form", ["opaque", "detached", "encrypted", "LF", "footer"])
def test_of_a_text_without_a_header_of_mime_no_line_is_lost(content: bytes, text: str, form: str) -> None:
    """As ``openssl cms -sign`` makes it of any text."""
    raw = sign(content, detached=form in ("detached", "LF", "footer"))
    if form == "footer":
        raw = (
            b"Content-Type: multipart/mixed; boundary=f\r\n\r\n--f\r\n"
            + raw
            + b"\r\n--f\r\n\r\nfooter\r\n--f--"
        )
    result = opened(OUTER + {"encrypted": encrypt(raw), "LF": raw.replace(b"\r\n", b"\n")}.get(form, raw))
    assert result.verdict.trusted == (form != "footer")
    if form != "footer":
        assert result.verdict.text == text
    elif ":" not in text:  # nobody signed the whole, so that fields may be fields
        assert result.verdict.text == text + "\nfooter"


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/pkcs7-mime"])
def test_a_signature_that_lost_its_label_and_name(kind: str) -> None:
    """What multipart/signed says of its second part is enough."""
    raw = OUTER + compose.multipart_signed(TEXT, signature(detached=True), micalg="sha-256")
    old = raw[raw.index(b"Content-Type: application/pkcs7-signature") : raw.index(b"Content-Transfer-Enc")]
    bare = raw.replace(old, f"Content-Type: {kind}\r\n".encode()).replace(b"smime.p7s", b"file")
    trusted(opened(bare), "signed")
    assert codes(opened(bare.replace(b"multipart/signed", b"multipart/mixed")))[0] != "bad-signature"


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("form", ["opaque", "detached", "encrypted"])
def test_a_layer_alone_in_a_multipart_is_the_whole(depth: int, form: str) -> None:
    """Some gateways put every message into a multipart/mixed, to append a notice or not."""
    raw = {
        "opaque": sign(TEXT),
        "detached": sign(TEXT, detached=True),
        "encrypted": encrypt(sign(TEXT, detached=True)),
    }[form]
    for number in range(depth):
        mark = b"--m%d" % number
        blank = mark + b"\r\nContent-Type: text/plain\r\n\r\n\r\n"
        raw = (
            b"Content-Type: multipart/mixed; boundary="
            + mark[2:]
            + b"\r\n\r\n"
            + blank
            + mark
            + b"\r\n"
            + raw
        )
        raw += b"\r\n" + mark + b"--\r\n"
    trusted(opened(OUTER + raw), *(("encrypted", "signed") if form == "encrypted" else ("signed",)))


@pytest.mark.parametrize("after", [b"", b"\0\0", b"\r\n"])
def test_what_follows_a_detached_signature_is_passed_over(after: bytes) -> None:
    data = signature(detached=True) + after
    trusted(opened(OUTER + compose.multipart_signed(TEXT, data, micalg="sha-256")), "signed")


def test_a_detached_signature_in_pem() -> None:
    data = b"-----BEGIN PKCS7-----\r\n" + compose.base64_lines(signature(detached=True))
    raw = OUTER + compose.multipart_signed(TEXT, data + b"-----END PKCS7-----\r\n", micalg="sha-256")
    trusted(opened(raw), "signed")


def test_data_around_a_letter_is_no_layer() -> None:
    data = der.sequence(der.oid(algorithms.DATA), der.tlv(0xA0, der.octet_string(sign(TEXT))))
    trusted(opened(OUTER + body(data, "application/pkcs7-mime")), "signed")
    trusted(opened(OUTER + encrypt(body(data, "application/pkcs7-mime"))), "encrypted", "signed")


@pytest.mark.parametrize("before", [b"", b"Content-Type: text/plain\r\n\r\n \r\n\r\n--m\r\n"])
def test_an_opaque_message_sent_as_the_only_attachment(before: bytes) -> None:
    raw = OUTER + b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + before
    trusted(opened(raw + encrypt(sign(TEXT)) + b"\r\n--m--\r\n"), "encrypted", "signed")


def test_beside_any_text_an_encrypted_part_stays_closed() -> None:
    """Direct exfiltration: what stands around it must never stand around the decrypted text."""
    for beside in (b"Content-Type: text/html\r\n\r\n<img src='http://x.test/", b"\r\nsee below"):
        raw = OUTER + b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + beside
        result = opened(raw + b"\r\n--m\r\n" + encrypt(sign(TEXT)) + b"\r\n--m--\r\n")
        assert (codes(result), result.verdict.layers) == (["no-signature"], ())
        assert "Hello" not in str(result.verdict)


def test_footers_that_lists_append_are_not_shown() -> None:
    footer = b"\r\n_____\r\nUnsubscribe here, and send money\r\n"
    for raw in (
        OUTER + sign(TEXT) + footer,
        OUTER + encrypt(sign(TEXT)) + footer,
        OUTER + sign(TEXT, detached=True) + footer,
    ):
        result = opened(raw)
        assert codes(result) == []
        assert "money" not in str(result.verdict)
        assert "Unsubscribe" not in result.eml().decode()


def test_nested_structures_without_mime_between_them() -> None:
    """PKCS#7 of old: the content type says what is inside, and there is no entity around it."""
    alice, bob = person("alice"), person("bob")
    inner = signature()
    (_, explicit) = list(_elements(inner))
    old = enveloped.encrypt(explicit, [bob.certificate], cipher="aes-256-cbc")
    data, signed_data = der.oid(algorithms.DATA), der.oid(algorithms.SIGNED_DATA)
    assert old.count(data) == 1
    raw = OUTER + entity(old.replace(data, signed_data), "enveloped-data")
    trusted(opened(raw), "encrypted", "signed")
    assert alice.certificate != bob.certificate


@pytest.mark.parametrize("kind", ["signed", "encrypted", "receipt"])
def test_compression_of_a_structure_without_mime_around_it(kind: str) -> None:
    """RFC 3274 1: what is compressed may be any content of CMS; the type says which."""
    made = signature() if kind == "signed" else enveloped.encrypt(sign(TEXT), [person("bob").certificate])
    oid, explicit = _elements(made)
    if kind == "receipt":
        oid = der.oid("1.2.840.113549.1.9.16.1.1")
    inner = der.sequence(oid, der.tlv(0xA0, der.octet_string(zlib.compress(explicit))))
    data = der.sequence(der.integer(0), algorithms.identifier(algorithms.ZLIB), inner)
    whole = der.sequence(der.oid(algorithms.COMPRESSED_DATA), der.tlv(0xA0, data))
    result = opened(OUTER + body(whole, "application/pkcs7-mime"))
    if kind == "receipt":
        assert (codes(result), result.verdict.text) == (["malformed"], None)
    else:
        trusted(result, "compressed", *(("encrypted", "signed") if kind == "encrypted" else ("signed",)))


def _elements(content_info: bytes) -> list[bytes]:
    oid, explicit = ber.parse(content_info).elements()
    return [bytes(oid.raw), bytes(explicit.content)]


def test_a_signature_over_something_else_than_a_letter_signs_no_letter() -> None:
    """A time stamp or a receipt whose octets happen to read like mail."""
    data, digested = (der.oid(f"1.2.840.113549.1.7.{number}") for number in (1, 5))
    result = opened(OUTER + body(signature().replace(data, digested), "application/pkcs7-mime"))
    assert (codes(result), result.verdict.text) == (["malformed"], None)


def test_a_letter_given_another_type_has_a_bad_signature() -> None:
    """The type stands outside of what is signed, which names it too (RFC 5652 11.1)."""
    for number in (3, 5):
        other = der.oid(f"1.2.840.113549.1.7.{number}")
        changed = signature().replace(der.oid(algorithms.DATA), other, 1)
        result = opened(OUTER + body(changed, "application/pkcs7-mime"))
        assert (codes(result), result.verdict.exit) == (["bad-signature"], 6)
        assert (result.verdict.signature.status, result.verdict.text) == ("invalid", None)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: b"From alice@medecin.test Mon Nov 23 02:00:00 2026\r\n" + raw,
        lambda raw: raw.replace(b"\r\n", b"\n"),
        lambda raw: raw.replace(b"\r\n", b"\r"),
        lambda raw: raw.replace(b"\r\n", b"\r\r\n"),
        lambda raw: raw + b"\r\n" * 50,
        lambda raw: b"\r\n\n" + raw,
    ],
    ids=["mark", "mbox", "LF", "CR", "CRCRLF", "blank lines", "blank lines before"],
)
@pytest.mark.parametrize("form", ["opaque", "detached", "encrypted"])
def test_what_gateways_do_to_line_ends(change: Callable[[bytes], bytes], form: str) -> None:
    made = {
        "opaque": sign(TEXT),
        "detached": sign(TEXT, detached=True),
        "encrypted": encrypt(sign(TEXT, detached=True)),
    }
    raw = OUTER + made[form]
    result = opened(change(raw))
    assert codes(result) == []
    assert result.verdict.text == "Hello\n"
    # CR alone must be repaired to read anything, other line ends only where a signature is over them
    needed = b"\n" not in change(raw) or (form == "detached" and b"\n\r\n" not in change(raw))
    assert ("line-endings-repaired" in [note.code for note in result.verdict.notes]) == needed


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "binary"])
def test_any_transfer_encoding(encoding: str) -> None:
    data = signature()
    written = {
        "base64": base64.b64encode(data),
        "quoted-printable": binascii.b2a_qp(data, istext=False),
        "binary": data,
    }
    head = f"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    trusted(opened(OUTER + head.encode() + written[encoding]), "signed")


@pytest.mark.parametrize("form", ["opaque", "detached", "encrypted"])
@pytest.mark.parametrize("label", [b"", b"Content-Transfer-Encoding: 7bit\r\n"])
def test_base64_that_lost_its_label(form: str, label: bytes) -> None:
    raw = {"opaque": sign(TEXT), "detached": sign(TEXT, detached=True), "encrypted": encrypt(sign(TEXT))}[
        form
    ]
    stripped = raw.replace(b"Content-Transfer-Encoding: base64\r\n", label)
    assert stripped != raw
    trusted(opened(OUTER + stripped), *(("encrypted", "signed") if form == "encrypted" else ("signed",)))


def test_triple_wrapping_and_deeper() -> None:
    triple = OUTER + sign(encrypt(sign(TEXT)), "carol", detached=True)
    trusted(opened(triple), "signed", "encrypted", "signed")
    trusted(opened(OUTER + sign(sign(TEXT))), "signed", "signed")
    trusted(opened(OUTER + encrypt(encrypt(sign(TEXT)))), "encrypted", "encrypted", "signed")
    outside = opened(OUTER + sign(encrypt(TEXT)))
    assert (codes(outside), outside.verdict.layers) == (["no-signature"], ("signed", "encrypted"))
    deep = TEXT
    for _ in range(MAX_LAYERS):
        deep = sign(deep)
    trusted(opened(OUTER + deep), *["signed"] * MAX_LAYERS)
    assert codes(opened(OUTER + sign(deep))) == ["malformed"]


@pytest.mark.parametrize("beginning", [b"\xef\xbb\xbf", b"\r\n", b"\r\n\r\n", b"\xef\xbb\xbf\r\n"])
@pytest.mark.parametrize("form", ["opaque", "detached", "encrypted"])
def test_an_entity_that_begins_oddly_below_a_signature_is_read(beginning: bytes, form: str) -> None:
    """What is signed stays as it is; its header is found all the same."""
    html = b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>x&lt;10<sup>9</sup>\r\n"
    raw = sign(beginning + html, detached=form == "detached")
    result = opened(OUTER + (encrypt(raw) if form == "encrypted" else raw))
    assert (codes(result), result.verdict.text) == ([], "x<10⁹\n")


@pytest.mark.parametrize("cipher", ["aes-256-gcm", "aes-256-cbc"])
@pytest.mark.parametrize(
    ("content", "text", "kind"),
    [
        (b"Na 140 mmol/l\nK 5.1 mmol/l\n", "Na 140 mmol/l\nK 5.1 mmol/l\n", None),
        ("Créatinine: 82 µmol/l".encode(), "Créatinine: 82 µmol/l", None),
        ("Créatinine élevée: 182 µmol/l\n".encode("cp1252"), "Créatinine élevée: 182 µmol/l\n", None),
        (b"\xef\xbb\xbfNa 140\r\n", "Na 140\n", None),
        (b'{"potassium": 5.1}', '{"potassium": 5.1}', None),
        (b"MSH|^~\\&|LAB|X\rPID|1\r", "MSH|^~\\&|LAB|X\nPID|1\n", None),
        (b"", "", None),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", None, "application/pdf"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None, "image/png"),
    ],
)
def test_content_that_is_no_entity_of_mime_is_a_text_or_a_file(
    content: bytes, text: str | None, kind: str | None, cipher: str
) -> None:
    """As ``openssl cms -encrypt -in report.txt`` makes it; nobody signed it: shown, not believed."""
    result = opened(OUTER + encrypt(content, cipher=cipher), policy=replace(PLAIN, show_unverified=True))
    assert result.verdict.encryption.status == "ok"
    assert codes(result) == ["no-signature"]
    assert (result.verdict.text or None) == (text or None)
    assert [one.type for one in result.verdict.attachments] == ([kind] if kind else [])


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\r\n"])
@pytest.mark.parametrize("form", ["base64", "one line", "PEM", "PEM of openssl smime"])
def test_a_structure_saved_as_text(form: str, mark: bytes) -> None:
    data = signature()
    armour = {"PEM": b"CMS", "PEM of openssl smime": b"PKCS7"}.get(form, b"")
    text = base64.b64encode(data) if form == "one line" else compose.base64_lines(data)
    if armour:
        text = b"-----BEGIN " + armour + b"-----\n" + text + b"-----END " + armour + b"-----\n"
    assert opened(mark + text).verdict.text == "Hello\n"


@pytest.mark.parametrize(
    "kind", ["pkcs7", "x-pkcs7", "cms", "pkcs7-mime; name=x.bin", "octet-stream; name=smime.p7m"]
)
def test_a_structure_under_any_of_its_labels(kind: str) -> None:
    trusted(opened(OUTER + body(signature(), f"application/{kind}")), "signed")


@pytest.mark.parametrize("wrapped", [b"", b"\x00\xffnoise", b"no header here, \x00 but text", b"\r\n\r\n"])
def test_a_forwarded_letter_without_readable_header_stays_a_file(wrapped: bytes) -> None:
    """Signature and encryption hold: nobody changed anything on the way."""
    head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    result = opened(OUTER + encrypt(sign(head + wrapped)))
    assert (codes(result), result.verdict.layers) == ([], ("encrypted", "signed"))
    assert [(one.type, one.size) for one in result.verdict.attachments] == [("message/rfc822", len(wrapped))]


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "Base64", "x-unknown"])
def test_a_multipart_is_read_whatever_transfer_encoding_it_claims(encoding: str) -> None:
    """RFC 2045 §6.4: a composite type has none; the label is wrong, and its parts stand there."""
    parts = b"--b\r\nContent-Type: text/plain\r\n\r\nHello=20\r\n--b\r\nContent-Type: application/pdf\r\n"
    head = f"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    result = opened(OUTER + sign(head.encode() + parts + b"\r\n%PDF-1.7\r\n--b--\r\n"))
    assert (codes(result), result.verdict.text) == ([], "Hello=20")
    assert [one.size for one in result.verdict.attachments] == [len(b"%PDF-1.7")]


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504, "outlook-msg"),
        (b"\x78\x9f\x3e\x22\1", "winmail-dat"),
    ],
)
def test_files_of_outlook_are_called_by_their_names(octets: bytes, reason: str) -> None:
    (problem,) = opened(octets).verdict.problems
    assert (problem.code, problem.detail) == ("malformed", reason)
