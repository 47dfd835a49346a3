"""What a signature covers, and what stands beside it: only the whole content under one signature counts."""

import pytest

from medmail_cli.cms import ber, der
from medmail_cli.smime.policy import Policy
from tests.support.forged import together
from tests.support.letters import OUTER, TEXT, codes, encrypt, entity, opened, person, sign

FOOTER = b"Content-Type: text/plain\r\n\r\nfooter\r\n"
UNLABELLED = sign(TEXT).replace(b"smime-type=signed-data", b"x=y")
FILE = sign(TEXT).replace(b"application/pkcs7-mime", b"application/octet-stream")
SIGNED = b'Content-Type: multipart/signed; boundary=m; protocol="application/%b"\r\n\r\n'


def multipart(*parts: bytes, kind: str = "mixed", boundary: str = "m") -> bytes:
    head = f"Content-Type: multipart/{kind}; boundary={boundary}\r\n\r\n".encode()
    return (
        head
        + b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts)
        + (f"--{boundary}--\r\n".encode())
    )


@pytest.mark.parametrize("kind", ["mixed", "alternative", "related", "digest", "x-own"])
@pytest.mark.parametrize("part", [sign(TEXT, detached=True), sign(TEXT), UNLABELLED, FILE])
@pytest.mark.parametrize("before", [True, False])
def test_a_signed_part_among_others_is_partly_signed_under_any_label(
    kind: str, part: bytes, before: bool
) -> None:
    result = opened(OUTER + multipart(*((FOOTER, part) if before else (part, FOOTER)), kind=kind))
    assert codes(result) == ["partly-signed"]
    assert (result.verdict.signature.status, result.verdict.layers) == ("none", ())


@pytest.mark.parametrize("detached", [True, False])
def test_a_letter_to_a_list_is_read_beside_its_footer(detached: bool) -> None:
    """Marked as what it is: nobody vouches for the whole."""
    letter = multipart(TEXT, b"Content-Type: application/pdf; name=a.pdf\r\n\r\n%PDF")
    result = opened(OUTER + multipart(sign(letter, detached=detached), FOOTER, boundary="l"))
    assert (codes(result), result.verdict.layers) == (["partly-signed"], ())
    assert result.verdict.text == "Hello\n" + "\nfooter\n"
    assert [one.name for one in result.verdict.attachments if one.name != "smime.p7s"] == ["a.pdf"]


@pytest.mark.parametrize("inner", [sign(TEXT, "carol", detached=True), sign(TEXT, "carol"), encrypt(TEXT)])
def test_what_is_passed_on_alone_in_a_signed_letter_stays_a_part_of_it(inner: bytes) -> None:
    """The author vouches for the whole; nobody else's layer is taken off, and nothing decrypted."""
    result = opened(OUTER + encrypt(sign(multipart(b"\r\n\r\n", inner))))
    assert (codes(result), result.verdict.layers) == ([], ("encrypted", "signed"))
    assert len(result.verdict.attachments) == 1


def test_a_signature_of_a_document_is_a_file_in_a_signed_letter() -> None:
    """Text and a .p7s in a multipart/mixed are a renamed multipart/signed only where nobody signed both."""
    file = sign(b"%PDF-1.7", "carol", detached=True)
    file = file[file.index(b"Content-Type: application/pkcs7-signature") :].partition(b"\r\n--")[0]
    result = opened(OUTER + sign(multipart(TEXT, file.replace(b"smime.p7s", b"report.pdf.p7s"))))
    assert (codes(result), result.verdict.text) == ([], "Hello\n")
    assert [one.name for one in result.verdict.attachments] == ["report.pdf.p7s"]


@pytest.mark.parametrize(
    ("name", "letters"), [("report.pdf.p7s", False), ("signature.p7s", True), ("", True)]
)
def test_a_signature_of_a_document_says_nothing_of_the_letter_it_comes_with(name: str, letters: bool) -> None:
    """By its name: what is called after another file is not the letter's own: no reason to withhold it."""
    for content in (TEXT, b"%PDF-1.7"):
        file = sign(content, detached=True)
        file = file[file.index(b"Content-Type: application/pkcs7-signature") :].partition(b"\r\n--")[0]
        result = opened(OUTER + multipart(TEXT, file.replace(b"smime.p7s", name.encode())))
        if letters:
            assert codes(result) == ([] if content == TEXT else ["bad-signature"])
        else:
            assert (codes(result), result.verdict.text) == (["partly-signed"], "Hello\n")
            assert [one.name for one in result.verdict.attachments] == [name]


@pytest.mark.parametrize("kind", [b"pkcs7-mime", b"pkcs7-signature"])
def test_a_signature_without_what_it_was_over_signs_no_part_either(kind: bytes) -> None:
    lost = entity(together(person("alice"), detached=True), "signed-data").replace(b"pkcs7-mime", kind, 1)
    result = opened(OUTER + lost)
    assert (codes(result), result.verdict.signature.status) == (["no-signature"], "none")
    assert len(result.verdict.attachments) == 1


def test_signed_documents_and_what_others_sealed_stay_attached() -> None:
    document = sign(b"%PDF-1.7").replace(b"smime.p7m", b"report.pdf.p7m")
    nested = sign(multipart(sign(b"Content-Type: text/plain\r\n\r\ndeeper"), TEXT))
    for part, name in (
        (document, "report.pdf.p7m"),
        (encrypt(sign(TEXT)), "smime.p7m"),
        (nested, "smime.p7m"),
    ):
        result = opened(OUTER + multipart(part, sign(TEXT, detached=True), FOOTER, boundary="l"))
        assert codes(result) == ["partly-signed"]
        assert [one.name for one in result.verdict.attachments] == [name, "smime.p7s"]
        assert "deeper" not in (result.verdict.text or "")
    # in a letter that is signed as a whole somebody else's signature is no part of the text
    within = opened(OUTER + sign(multipart(FOOTER, sign(TEXT, "carol"))))
    assert (within.verdict.trusted, within.verdict.text) == (True, "footer\n")


def test_a_signed_part_deep_below_is_partly_signed() -> None:
    raw = OUTER + multipart(multipart(multipart(sign(TEXT), boundary="x"), FOOTER, boundary="y"), FOOTER)
    assert codes(opened(raw)) == ["partly-signed"]


def bundle() -> bytes:
    """Certificates alone, as they are sent for information."""
    oid, explicit = ber.parse(together(person("alice"), detached=True)).elements()
    (body,) = explicit.elements()
    kept = [bytes(node.raw) for node in list(body.elements())[:-1]]
    return der.sequence(bytes(oid.raw), der.tlv(0xA0, der.sequence(*kept, der.tlv(0x31))))


@pytest.mark.parametrize(
    "raw",
    [
        multipart(FOOTER, entity(bundle(), "certs-only")),
        multipart(FOOTER, entity(b"junk", "signed-data")),
        SIGNED % b"pkcs7-signature" + multipart(TEXT, FOOTER).partition(b"\r\n\r\n")[2],
        SIGNED % b"pgp-signature"
        + multipart(TEXT, b"Content-Type: application/pgp-signature\r\n\r\nx").partition(b"\r\n\r\n")[2],
    ],
    ids=["certificates", "junk", "no signature part", "OpenPGP"],
)
def test_what_only_looks_like_a_signature_is_none(raw: bytes) -> None:
    assert codes(opened(OUTER + raw)) == ["no-signature"]


def test_in_a_digest_parts_are_messages_that_are_not_opened() -> None:
    """RFC 2046 §5.1.5: without a Content-Type they are message/rfc822."""
    result = opened(OUTER + sign(multipart(b"\r\n" + OUTER + TEXT, kind="digest")))
    assert result.verdict.trusted
    assert (result.verdict.text, [one.type for one in result.verdict.attachments]) == (
        None,
        ["message/rfc822"],
    )


@pytest.mark.parametrize("outside", [b"%b", b"Content-Type: message/rfc822\r\n\r\n" + OUTER + b"%b"])
def test_somebody_else_s_ciphertext_in_a_signed_letter_stays_closed(outside: bytes) -> None:
    """Carol's signature is good, and Bob could decrypt what she stole: her letter must not show it."""
    stolen = outside.replace(b"%b", encrypt(sign(b"Content-Type: text/plain\r\n\r\nsecret\r\n")))
    raw = OUTER.replace(b"alice", b"carol")
    result = opened(raw + encrypt(sign(multipart(FOOTER, stolen), "carol")))
    assert result.verdict.trusted
    assert "secret" not in (result.verdict.text or "")
    assert b"secret" not in b"".join(result.parts)


@pytest.mark.parametrize("signer", ["carol", "alice"])
def test_a_signature_around_somebody_else_s_ciphertext_is_forgotten(signer: str) -> None:
    """Stripped and signed anew: the content is its author's or nobody's."""
    raw = OUTER.replace(b"alice", signer.encode())
    assert codes(opened(raw + sign(encrypt(TEXT), signer))) == ["no-signature"]
    assert codes(opened(raw + encrypt(sign(encrypt(TEXT), signer)))) == ["no-signature"]
    inner = opened(raw + encrypt(sign(encrypt(sign(TEXT)), signer)))
    assert codes(inner) == ([] if signer == "alice" else ["signer-is-not-sender"])


def test_two_content_type_fields_open_nothing() -> None:
    for first, expected in ((b"text/plain", ["no-signature"]), (b"application/pkcs7-mime", [])):
        raw = OUTER + b"Content-Type: " + first + b"\r\n" + sign(TEXT)
        assert codes(opened(raw)) == expected


def test_the_worst_of_several_encryptions_is_told() -> None:
    raw = OUTER + encrypt(encrypt(sign(TEXT)), cipher="aes-128-cbc")
    verdict = opened(raw).verdict
    assert (verdict.encryption.algorithm, verdict.encryption.authenticated) == ("aes-128-cbc", False)
    assert "unauthenticated-encryption" in [note.code for note in verdict.notes]


def test_a_structure_without_signers_inside_a_signature_is_signed_by_that() -> None:
    oid, explicit = ber.parse(together(person("carol"))).elements()
    (body,) = explicit.elements()
    kept = [bytes(node.raw) for node in list(body.elements())[:-1]]
    unsigned = der.sequence(bytes(oid.raw), der.tlv(0xA0, der.sequence(*kept, der.tlv(0x31))))
    result = opened(OUTER + sign(entity(unsigned, "signed-data")))
    assert (result.verdict.trusted, result.verdict.text) == (True, "Hello\n")
    assert codes(opened(OUTER + sign(encrypt(entity(unsigned, "signed-data"))))) == ["no-signature"]


def test_of_related_parts_the_root_is_read() -> None:
    """RFC 2387 §3.2: ``start`` may name another than the first."""
    first, root = (
        b"Content-ID: <%b>\r\nContent-Type: text/plain\r\n\r\n%b\r\n" % pair
        for pair in ((b"a", b"aside"), (b"b", b"read"))
    )
    plain = multipart(first, root, kind="related")
    for raw, text in ((plain, "aside\n"), (plain.replace(b"related;", b'related; start="<b>";'), "read\n")):
        assert opened(OUTER + sign(raw)).verdict.text == text


@pytest.mark.parametrize("cipher", ["aes-256-cbc", "aes-256-gcm"])
def test_of_what_is_withheld_no_word_is_told(cipher: str) -> None:
    """Not in the reasons either: under CBC somebody else may have chosen where a secret stands."""
    secret = b"From: secret@x.test, other@x.test\r\nContent-Type: text/plain; hp=cipher\r\n\r\nHello\r\n"
    content = sign(secret, "mallory", detached=True)
    if cipher == "aes-256-gcm":
        content = content.replace(b"Hello", b"Hallo")
    result = opened(OUTER + encrypt(content, cipher=cipher))
    assert result.verdict.withheld
    assert {"header-mismatch", "several-from", "signer-is-not-sender"} <= set(codes(result))
    assert "x.test" not in str(result.verdict)
    assert "x.test" in str(opened(OUTER + encrypt(content, cipher=cipher), policy=SHOWN).verdict)


SHOWN = Policy(show_unverified=True)


TWO = b"From: alice@medecin.test\r\nTo: bob@medecin.test\r\nSubject: inside\r\n" + multipart(
    b"Content-Type: text/plain\r\n\r\nDo not pay.",
    b"Content-Type: application/x-own\r\n\r\na\r\nb",
    boundary="p",
).replace(b"mixed;", b"mixed; hp=clear;")


@pytest.mark.parametrize(
    ("sent", "changed"),
    [
        (b"inside\r\nContent", b"inside\rContent"),
        (b"To: bob@medecin.test\r\nSubject: inside", b"To: bob@medecin.test\rSubject: inside"),
        (b"pay.\r\n--p", b"pay.\r--p"),
        (b"plain\r\n\r\nDo", b"plain\r\n\rDo"),
        (b"a\r\nb", b"a\nb"),
    ],
    ids=["no protection", "no subject", "no second part", "no text", "other octets"],
)
def test_what_is_shown_is_what_was_signed_whatever_became_of_line_ends(sent: bytes, changed: bytes) -> None:
    """A signature holds over CRLF again, but on the way somebody chose where fields and parts begin."""
    raw = OUTER + sign(TWO, detached=True)
    assert raw.count(sent) == 1
    whole, result = opened(raw), opened(raw.replace(sent, changed))
    assert result.verdict.trusted
    assert result.verdict.headers == whole.verdict.headers
    assert (result.verdict.text, result.parts) == (whole.verdict.text, (b"a\r\nb",))
    assert "line-endings-repaired" in [note.code for note in result.verdict.notes]


def test_a_layer_that_repaired_line_ends_bring_to_light_is_judged_too() -> None:
    """Its header was hidden by one CR: what was signed holds an encrypted letter, not a text."""
    content = sign(b"X-Own: y\r\n" + encrypt(TEXT), detached=True)
    assert codes(opened(OUTER + content.replace(b"y\r\nContent", b"y\rContent"))) == ["no-signature"]
