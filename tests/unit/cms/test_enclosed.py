"""What comes along with signatures: read where it helps, passed over where it is odd or garbage."""

import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.cms import algorithms, ber, der, enveloped, identifiers, signed, signerinfo, verify
from medmail_cli.errors import MedmailError
from tests.support import pki
from tests.support.people import AT, LETTER, Person, authority, person

CRL = pki.make_crl(authority(), [person("p256", "gone").certificate])


def answer() -> ocsp.OCSPResponse:
    """The authority's own OCSP response about somebody."""
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=person("p256").certificate, issuer=authority().certificate, algorithm=hashes.SHA256(),
        cert_status=ocsp.OCSPCertStatus.GOOD, this_update=AT, next_update=None, revocation_time=None,
        revocation_reason=None,
    )  # fmt: skip
    named = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, authority().certificate)
    return named.sign(authority().key, hashes.SHA256())  # type: ignore[arg-type]


OCSP = answer().public_bytes(Encoding.DER)
BASIC = bytes(list(list(ber.parse(OCSP).elements())[1].explicit(0x80).elements())[1].octets())
COUNTER_SIGNATURE, TIME_STAMP = "1.2.840.113549.1.9.6", "1.2.840.113549.1.9.16.2.14"
REVOCATION_VALUES, ARCHIVAL = "1.2.840.113549.1.9.16.2.24", "1.2.840.113583.1.1.8"


def message(
    who: Person,
    *,
    unsigned: bytes | None = None,
    certificates: bytes = b"",
    crls: bytes = b"",
    version: int = 1,
) -> bytes:
    """A signed message with something else in its open places, as encoded."""
    node = ber.parse(signed.sign(LETTER, key=who.key, certificate=who.certificate, signed_at=AT))
    _, wrapped = node.elements()
    fields = [bytes(each.raw) for each in wrapped.explicit(0x80).elements()]
    signer = ber.parse(fields[4]).content
    if unsigned is not None:
        (info,) = ber.parse(fields[4]).elements()
        signer = memoryview(der.sequence(bytes(info.content), unsigned))
    inner = der.sequence(
        der.integer(version), *fields[1:3], certificates or fields[3], crls, der.tlv(0x31, bytes(signer))
    )
    return der.sequence(der.oid(algorithms.SIGNED_DATA), der.tlv(0xA0, inner))


def read(encoded: bytes, who: Person) -> signerinfo.SignedData:
    """The message, whose only signature must hold."""
    found = signed.parse_signed(ber.parse(encoded))
    assert verify.check_signer(found, found.signers[0], who.certificate) == ()
    assert found.content is not None
    assert bytes(found.content) == LETTER
    return found


def attribute(oid: str, *values: bytes) -> bytes:
    """An attribute, as encoded."""
    return der.sequence(der.oid(oid), der.set_of(values))


def test_ocsp_responses_come_along_in_every_place() -> None:
    who, crl = person("p256"), CRL.public_bytes(Encoding.DER)
    other = der.tlv(0xA1, der.oid("1.3.6.1.5.5.7.16.2"), OCSP)
    unknown = der.tlv(0xA1, der.oid("1.2.3.4"), der.NULL)
    beside = read(message(who, crls=der.tlv(0xA1, unknown, other, crl)), who)
    assert (beside.ocsp, beside.crls) == ((OCSP,), (CRL,))
    values = der.sequence(der.tlv(0xA0, der.sequence(crl)), der.tlv(0xA1, der.sequence(BASIC)))
    attached = read(message(who, unsigned=der.set_of([attribute(REVOCATION_VALUES, values)], 0xA1)), who)
    assert (attached.ocsp, attached.crls) == ((OCSP,), (CRL,))
    archive = der.sequence(der.tlv(0xA1, der.sequence(OCSP)), der.tlv(0xA2, der.sequence(der.NULL)))
    archived = read(message(who, unsigned=der.set_of([attribute(ARCHIVAL, archive)], 0xA1)), who)
    assert (archived.ocsp, archived.crls) == ((OCSP,), ())


@given(st.binary(max_size=60))
def test_garbage_in_open_places_changes_nothing(garbage: bytes) -> None:
    who = person("p256")
    for unsigned in (
        der.tlv(0xA1, garbage),
        der.tlv(0xA1, attribute(COUNTER_SIGNATURE, der.sequence(garbage)), garbage),
        der.tlv(0xA1, attribute(REVOCATION_VALUES, der.tlv(0x30, garbage), garbage)),
        der.tlv(0xA1, attribute(TIME_STAMP, der.NULL), der.tlv(0x30, garbage)),
        der.tlv(0x81, garbage),
    ):
        read(message(who, unsigned=unsigned), who)
    for tag in (0x30, 0xA0, 0xA1, 0xA2, 0xA3, 0xBF):
        choice = (
            der.tlv(tag, garbage)
            if tag != 0xBF
            else b"\xbf\x81\x01" + der.header(0, len(garbage))[1:] + garbage
        )
        own = who.certificate.public_bytes(Encoding.DER)
        kept = read(message(who, certificates=der.tlv(0xA0, own, choice), crls=der.tlv(0xA1, choice)), who)
        assert kept.certificates == (who.certificate,)
        assert kept.crls == kept.ocsp == ()


def test_certificates_that_cannot_be_named_are_left_out() -> None:
    """cryptography reads them: a serial number of a thousand octets, a key that ends within an octet."""
    who = person("p256")
    own = who.certificate.public_bytes(Encoding.DER)
    body, *rest = (bytes(each.raw) for each in ber.parse(own).elements())
    fields = [bytes(each.raw) for each in ber.parse(body).elements()]
    algorithm, key = (bytes(each.raw) for each in ber.parse(fields[6]).elements())
    bits = der.tlv(ber.BIT_STRING, b"\1", key[3:-1], bytes([key[-1] & 0xFE]))
    odd = {1: der.tlv(0x02, b"\1" * 1025), 6: der.sequence(algorithm, bits)}
    for at, field in odd.items():
        certificate = der.sequence(der.sequence(*fields[:at], field, *fields[at + 1 :]), *rest)
        x509.load_der_x509_certificate(certificate)
        kept = read(message(who, certificates=der.tlv(0xA0, certificate, own)), who)
        assert kept.certificates == (who.certificate,)


@pytest.mark.parametrize("version", [0, 1, 3, 4, 5, 99])
def test_versions_are_not_policed(version: int) -> None:
    read(message(person("p256"), version=version), person("p256"))


def test_one_readable_attribute_is_kept_beside_garbage() -> None:
    who = person("p256")
    unsigned = der.tlv(0xA1, der.sequence(der.NULL), attribute("1.2.3", der.NULL), b"\x30\x7f")
    assert set(read(message(who, unsigned=unsigned), who).signers[0].unsigned_attributes) == {"1.2.3"}


def test_many_attributes_are_read_in_time() -> None:
    who = person("p256")
    many = der.tlv(0xA1, attribute("1.2.3", der.NULL) * 200_000)
    started = time.process_time()
    signed.parse_signed(ber.parse(message(who, unsigned=many)))
    assert time.process_time() - started < 4


@given(st.binary(max_size=40))
def test_unknown_recipients_and_originators_are_passed_over(garbage: bytes) -> None:
    """KEKRecipientInfo, PasswordRecipientInfo, OtherRecipientInfo; certificates of the sender; attributes."""
    reader = person("p256")
    encoded = enveloped.encrypt(LETTER, [reader.certificate], cipher="aes-256-cbc")
    _, wrapped = ber.parse(encoded).elements()
    fields = [bytes(each.raw) for each in wrapped.explicit(0x80).elements()]
    mine = bytes(ber.parse(fields[1]).content)
    unknown = der.tlv(0xA4, der.oid("1.2.3.4"), garbage)
    for others in (der.tlv(0xA2, garbage), der.tlv(0xA3, garbage), der.tlv(0xA9, garbage), unknown):
        for entries in (mine + others, others + mine):
            data = der.sequence(
                der.integer(4),
                der.tlv(0xA0, garbage),
                der.tlv(0x31, entries),
                fields[2],
                der.tlv(0xA1, garbage),
            )
            form = der.sequence(der.oid(algorithms.ENVELOPED_DATA), der.tlv(0xA0, data))
            envelope = enveloped.parse_enveloped(ber.parse(form))
            assert enveloped.decrypt(envelope, [(reader.certificate, reader.key)]).content == LETTER


def test_an_entry_that_cannot_be_read_after_its_name_is_one_that_does_not_open() -> None:
    reader = person("rsa2048")
    name = identifiers.issuer_and_serial_of(reader.certificate)
    algorithm = algorithms.identifier(algorithms.RSA, der.NULL)
    _, wrapped = ber.parse(enveloped.encrypt(LETTER, [reader.certificate])).elements()
    fields = [bytes(each.raw) for each in wrapped.explicit(0x80).elements()]
    mine = bytes(ber.parse(fields[1]).content)
    spoiled = (
        der.sequence(der.integer(0), name),
        der.sequence(der.integer(0), name, der.NULL, der.NULL),
        der.sequence(der.integer(0), name, algorithm, der.octet_string(b"key"), der.NULL),
        der.tlv(
            0xA1,
            der.integer(3),
            der.tlv(0xA0, der.NULL),
            der.NULL,
            der.sequence(der.sequence(name, der.NULL)),
        ),
        der.tlv(0xA1, der.integer(3), der.tlv(0xA0), algorithm, der.sequence(der.sequence(name))),
        der.tlv(0xA4, der.oid(algorithms.ORI_KEM), der.sequence(der.integer(0), name, der.NULL)),
    )
    for entry in spoiled:
        for entries, opens in ((entry, False), (entry + mine, True)):
            data = der.sequence(fields[0], der.tlv(0x31, entries), *fields[2:])
            form = der.sequence(der.oid(algorithms.AUTH_ENVELOPED_DATA), der.tlv(0xA0, data))
            envelope = enveloped.parse_enveloped(ber.parse(form))
            keys = [(reader.certificate, reader.key)]
            if opens:
                assert enveloped.decrypt(envelope, keys).content == LETTER
            else:
                with pytest.raises(MedmailError) as error:
                    enveloped.decrypt(envelope, keys)
                assert (error.value.code, error.value.facts) == ("bad-tag", {})
