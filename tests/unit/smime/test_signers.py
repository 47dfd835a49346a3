"""Several signers, signing times, odd addresses in certificates: who is believed to have written a letter."""

import datetime as dt
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import algorithms, ber, der, identifiers, signed
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.smime import compose
from medmail_cli.smime.open import Opened
from medmail_cli.smime.policy import Policy
from tests.support import pki
from tests.support.forged import signer_info, together
from tests.support.letters import NOW, OUTER, TEXT, Person, authority, codes, entity, opened, person


def letter_of(*signers: Person) -> Opened:
    return opened(OUTER + entity(together(*signers), "signed-data"))


# --- several signers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
def test_the_sender_s_signature_counts_beside_others(turned: bool) -> None:
    """Anybody may add a signature outside the encryption: what is learned must be the sender's own."""
    alice, carol, stranger = person("alice"), person("carol"), person("carol", "Nobody's Root")
    for other in (carol, stranger):
        result = letter_of(*((other, alice) if turned else (alice, other)))
        assert result.verdict.trusted
        assert result.proven is not None
        assert result.proven.certificate == alice.certificate


@pytest.mark.parametrize(
    ("alice", "reason"),
    [
        (person("alice", not_after=dt.datetime(2026, 2, 1, tzinfo=dt.UTC)), "expired"),
        (person("alice", "Nobody's Root"), "untrusted-issuer"),
    ],
)
def test_a_good_signature_of_another_does_not_hide_what_is_wrong_with_the_sender_s(
    alice: Person, reason: str
) -> None:
    result = letter_of(person("carol"), alice)
    assert codes(result) == ["signer-is-not-sender", reason]
    assert result.proven is None


@pytest.mark.parametrize("turned", [False, True])
def test_a_signer_of_a_version_yet_unknown_says_nothing_against_another(turned: bool) -> None:
    """RFC 5652 5.1: its SignerInfo may have another syntax, which is no reason to refuse the letter."""
    alice = person("alice")
    unknown = der.sequence(der.integer(7), der.tlv(0xA5, der.integer(1)), der.sequence())
    damaged = der.sequence(der.integer(1), der.tlv(0xA5, der.integer(1)), der.sequence())
    made = together(alice)
    known = signer_info(made)
    both = _with_infos(made, unknown, known) if turned else _with_infos(made, known, unknown)
    assert opened(OUTER + entity(both, "signed-data")).verdict.trusted
    for infos in ([unknown], [known, damaged]):
        refused = opened(OUTER + entity(_with_infos(made, *infos), "signed-data"))
        assert codes(refused) == ["malformed"]


def _with_infos(made: bytes, *infos: bytes) -> bytes:
    """The SignedData with these SignerInfos."""
    oid, explicit = ber.parse(made).elements()
    (body,) = explicit.elements()
    kept = [bytes(node.raw) for node in list(body.elements())[:-1]]
    return der.sequence(bytes(oid.raw), der.tlv(0xA0, der.sequence(*kept, der.tlv(0x31, *infos))))


def test_the_certificate_that_was_signed_names_the_signer_before_what_was_not() -> None:
    """RFC 8550 4.2: signingCertificate comes first; the name in a SignerInfo can be changed by anybody."""
    alice, carol = person("alice"), person("carol")
    own, made = identifiers.issuer_and_serial_of(alice.certificate), together(alice, carol)
    fields = [bytes(node.raw) for node in ber.parse(signer_info(made)).elements()]
    assert fields[1] == own
    unheard_of = der.octet_string(bytes(20), 0x80)
    for name in (own, identifiers.issuer_and_serial_of(carol.certificate), unheard_of):
        info = der.sequence(fields[0], name, *fields[2:])
        result = opened(OUTER + entity(_with_infos(made, info), "signed-data"))
        assert (codes(result), result.proven and result.proven.certificate) == ([], alice.certificate)


def test_many_signers_and_many_certificates_are_told_apart() -> None:
    alice = person("alice")
    others = [
        pki.issue(authority("Health Root"), f"{number}@x.test", key=alice.raw_key)[0] for number in range(300)
    ]
    made = signed.sign(TEXT, key=alice.key, certificate=alice.certificate, signed_at=NOW, chain=others)
    raw = OUTER + entity(_with_infos(made, *[signer_info(made)] * 32), "signed-data")
    assert opened(raw).verdict.trusted


@pytest.mark.parametrize("turned", [False, True])
def test_line_ends_are_repaired_for_one_signer_only(turned: bool) -> None:
    """One signed over LF, the other over CRLF, and neither came: what is shown can be what one signed."""
    alice, carol = person("alice"), person("carol")
    lf = TEXT.replace(b"\r\n", b"\n")
    signers, contents = ((carol, alice), (lf, TEXT)) if turned else ((alice, carol), (TEXT, lf))
    data = together(*signers, content=contents, detached=True)
    mixed = TEXT.replace(b"\r\n", b"\n", 1)
    result = opened(OUTER + compose.multipart_signed(mixed, data, micalg="sha-256"))
    assert sorted(one.problems for one in result.verdict.signature.signers) == [(), ("bad-signature",)]
    assert not result.verdict.trusted


def test_a_known_certificate_that_cannot_be_named_is_passed_over() -> None:
    """One with a serial number of a thousand octets, say, that somebody has added to the contacts."""
    alice = person("alice")
    body, *rest = ber.parse(alice.certificate.public_bytes(Encoding.DER)).elements()
    version, _, *fields = (bytes(each.raw) for each in body.elements())
    inner = der.sequence(version, der.tlv(0x02, b"\1" * 1025), *fields)
    odd = x509.load_der_x509_certificate(der.sequence(inner, *(bytes(each.raw) for each in rest)))
    result = opened(OUTER + entity(together(alice), "signed-data"), known=lambda _: [odd, alice.certificate])
    assert result.verdict.trusted


# --- signing times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "expected"), [(-6, ["implausible-time"]), (-4, []), (0, [])])
def test_nothing_was_signed_before_its_certificate_began(minutes: int, expected: list[str]) -> None:
    alice = person("alice")
    at = pki.EPOCH + dt.timedelta(minutes=minutes)
    data = signed.sign(TEXT, key=alice.key, certificate=alice.certificate, signed_at=at)
    assert codes(opened(OUTER + entity(data, "signed-data"))) == expected


ENDS = [dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC), dt.datetime(1, 1, 1, tzinfo=dt.UTC)]
"""Of time, as far as it can be written (RFC 5280 4.1.2.5.2)."""


@pytest.mark.parametrize("end", ENDS)
def test_no_signing_time_is_too_far(end: dt.datetime) -> None:
    alice = person("alice")
    data = signed.sign(TEXT, key=alice.key, certificate=alice.certificate, signed_at=end)
    assert codes(opened(OUTER + entity(data, "signed-data"))) == ["implausible-time"]


def test_of_a_certificate_that_is_not_yet_valid_nothing_more_is_said() -> None:
    alice = person("alice", not_before=NOW + dt.timedelta(days=1))
    assert codes(letter_of(alice)) == ["not-yet-valid"]


# --- what was signed ---------------------------------------------------------------------------------------


def test_a_detached_signature_over_something_else_than_a_letter_signs_no_letter() -> None:
    """A time stamp or a document whose octets happen to read like mail (RFC 8551 §3.5.3 wants id-data)."""
    alice = person("alice")
    data, other = der.oid(algorithms.DATA), der.oid("1.2.840.113549.1.7.5")
    made = together(alice, detached=True)
    info = ber.parse(signer_info(made))
    attributes = next(bytes(node.raw) for node in info.elements() if node.tag == 0x80)
    changed = attributes.replace(data, other)
    assert changed != attributes
    signature = alice.key.sign(b"\x31" + changed[1:], "ecdsa-sha256")
    fields = [changed if node.tag == 0x80 else bytes(node.raw) for node in info.elements()]
    fields[-1] = der.octet_string(signature)
    raw = OUTER + compose.multipart_signed(TEXT, _with_info(made, fields, data, other), micalg="sha-256")
    result = opened(raw)
    assert (codes(result), result.verdict.text) == (["bad-signature"], None)


def _with_info(made: bytes, fields: list[bytes], data: bytes, other: bytes) -> bytes:
    """The SignedData with one other SignerInfo, and another eContentType."""
    oid, explicit = ber.parse(made).elements()
    (body,) = explicit.elements()
    kept = [bytes(node.raw) for node in list(body.elements())[:-1]]
    kept[2] = kept[2].replace(data, other)
    info = der.tlv(0x31, der.sequence(*fields))
    return der.sequence(bytes(oid.raw), der.tlv(0xA0, der.sequence(*kept, info)))


# --- addresses in certificates -----------------------------------------------------------------------------


def bearing(names: Sequence[x509.GeneralName], **options: object) -> Person:
    extension = (x509.SubjectAlternativeName(names), False)
    certificate, key = pki.issue(
        authority("Health Root"),
        None,
        key_type="p256",
        extensions=[extension],
        **options,  # type: ignore[arg-type]
    )
    return Person("", certificate, key)


def mail(address: str) -> x509.RFC822Name:
    """An rfc822Name that holds anything at all."""
    return x509.RFC822Name._init_without_validation(address)


@pytest.mark.parametrize(
    "written",
    [
        "alice@medecin.test\0.evil.test",
        "Alice <alice@medecin.test>",
        "alice@medecin.test.",
        " alice@medecin.test",
        "alice@medecin.test\n",
        "alice@medecin.test\x1f",
        "*@medecin.test",
        "alice@medecin.test,carol@medecin.test",
        "mailto:alice@medecin.test",
        '"alice"@medecin.test',
        "alice@mеdecin.test",  # a Cyrillic е
    ],
)
def test_an_address_in_a_certificate_is_taken_as_it_stands(written: str) -> None:
    assert codes(letter_of(bearing([mail(written)]))) == ["signer-is-not-sender"]


@pytest.mark.parametrize(
    "name",
    [
        mail("medecin.test"),
        x509.DNSName("medecin.test"),
        x509.UniformResourceIdentifier("mailto:alice@medecin.test"),
    ],
)
def test_other_names_are_no_address(name: x509.GeneralName) -> None:
    assert codes(letter_of(bearing([name]))) == ["no-address-in-certificate"]


def test_a_common_name_is_no_address() -> None:
    certificate, key = pki.issue(authority("Health Root"), None, key_type="p256", name="alice@medecin.test")
    assert codes(letter_of(Person("", certificate, key))) == ["no-address-in-certificate"]


@pytest.mark.parametrize(
    ("excluded", "expected"), [("Alice@medecin.test", ["untrusted-issuer"]), ("bob@x", [])]
)
def test_what_an_authority_is_forbidden_it_is_forbidden_in_any_letter_case(
    excluded: str, expected: list[str]
) -> None:
    """From compares local parts without case, so an excluded one must not come back in capitals."""
    below = pki.make_ca(
        "Below",
        parent=authority("Health Root"),
        extensions=[(x509.NameConstraints(None, [mail(excluded)]), True)],
    )
    certificate, key = pki.issue(below, "alice@medecin.test", key_type="p256")
    one = Person("", certificate, key)
    data = signed.sign(TEXT, key=one.key, certificate=certificate, chain=[below.certificate], signed_at=NOW)
    assert codes(opened(OUTER + entity(data, "signed-data"))) == expected


@pytest.mark.parametrize(
    ("permitted", "trusted"), [("medecin.test", True), ("hopital.test", False), ("alice@medecin.test", True)]
)
def test_constraints_on_mailboxes_hold_for_those_of_a_whole_domain(permitted: str, trusted: bool) -> None:
    """Direct: an authority for one hospital's mail must not certify another's domain."""
    constraint = x509.NameConstraints([x509.RFC822Name(permitted)], None)
    ca = pki.make_ca("Order", parent=authority("Health Root"), extensions=[(constraint, True)])
    domain = [(x509.SubjectAlternativeName([x509.DNSName("medecin.test")]), False)]
    certificate, key = pki.issue(ca, None, key_type="p256", extensions=domain)
    made = signed.sign(
        TEXT, key=SoftwareKey(key), certificate=certificate, chain=[ca.certificate], signed_at=NOW
    )
    result = opened(OUTER + entity(made, "signed-data"), policy=Policy(domain_bound=True))
    assert codes(result) == ([] if trusted else ["no-address-in-certificate"])
