"""Certificates with slips in their encoding, as authorities have issued them."""

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import ber, der
from tests.support import pki
from tests.support.letters import NOW

ROOT = pki.make_ca("Root")
ADDRESS = "alice@medecin.test"
PLAIN, KEY = pki.issue(ROOT, ADDRESS, "sign", "p256", name="Alice")
AT = NOW
Fields = list[bytes]


def written(change: Callable[[Fields], None], certificate: x509.Certificate = PLAIN) -> bytes:
    """The certificate with other fields (version, serial, algorithm, issuer, validity, subject …), signed."""
    body, algorithm, _ = ber.parse(certificate.public_bytes(Encoding.DER)).elements()
    fields = [bytes(one.raw) for one in body.elements()]
    change(fields)
    changed = der.sequence(*fields)
    assert isinstance(ROOT.key, ec.EllipticCurvePrivateKey)
    signature = ROOT.key.sign(changed, ec.ECDSA(hashes.SHA256()))
    return der.sequence(changed, bytes(algorithm.raw), der.bit_string(signature))


def common_name(tag: int, octets: bytes) -> Callable[[Fields], None]:
    name = der.sequence(der.tlv(0x31, der.sequence(der.oid("2.5.4.3"), der.tlv(tag, octets))))
    return lambda fields: fields.__setitem__(5, name)


def extension(oid: str, value: bytes, critical: bytes = b"") -> Callable[[Fields], None]:
    """Another extension first; of the same kind none remains."""

    def change(fields: Fields) -> None:
        (old,) = ber.parse(fields[7]).elements()
        kept = [bytes(one.raw) for one in old.elements() if der.oid(oid) not in bytes(one.raw)]
        added = der.sequence(der.oid(oid), critical, der.octet_string(value))
        fields[7] = der.tlv(0xA3, der.sequence(added, *kept))

    return change


def at(index: int, value: bytes) -> Callable[[Fields], None]:
    return lambda fields: fields.__setitem__(index, value)


NAMES = der.sequence(der.tlv(0x81, ADDRESS.encode()))
_QUALIFIER = der.sequence(der.oid("1.3.6.1.5.5.7.2.2"), der.sequence(der.tlv(0x0C, b"\xe9")))
NOTICE = der.sequence(der.sequence(der.oid("1.2.3"), der.sequence(_QUALIFIER)))
LATIN_1 = der.tlv(
    0xA4,
    der.sequence(
        der.tlv(0x31, der.sequence(der.oid("2.5.4.10"), der.tlv(0x14, "Hôpital".encode("latin-1"))))
    ),
)
AUTHORITY_KEY = der.sequence(der.tlv(0xA1, LATIN_1), der.tlv(0x82, b"\x05"))
SLIPS = {
    "@ in a PrintableString": common_name(0x13, b"alice@medecin.test"),
    "_ and * in a PrintableString": common_name(0x13, b"alice_*&"),
    "Latin-1 in a PrintableString": common_name(0x13, "Hélène".encode("latin-1")),
    "number with zeros": at(1, b"\x02\x03\x00\x00\x05"),
    "negative number with ones": at(1, b"\x02\x03\xff\xff\x85"),
    "version 2": at(0, der.tlv(0xA0, der.integer(1))),
    "FALSE written": extension("2.5.29.17", NAMES, b"\x01\x01\x00"),
    "TRUE as 1": extension("2.5.29.17", NAMES, b"\x01\x01\x01"),
    "no authority, written": extension("2.5.29.19", der.sequence(b"\x01\x01\x00")),
    "path length without authority": extension("2.5.29.19", der.sequence(der.integer(0))),
    "a notice in Latin-1": extension("2.5.29.32", NOTICE),
    "an issuer without a number": extension(
        "2.5.29.35", der.sequence(der.tlv(0xA1, der.tlv(0x82, b"a.test")))
    ),
    "an issuer in Latin-1": extension("2.5.29.35", AUTHORITY_KEY),
    "lists in a directory in Latin-1": extension(
        "2.5.29.31", der.sequence(der.sequence(der.tlv(0xA0, der.tlv(0xA0, LATIN_1))))
    ),
    "an authority in a directory in Latin-1": extension(
        "1.3.6.1.5.5.7.1.1", der.sequence(der.sequence(der.oid("1.3.6.1.5.5.7.48.2"), LATIN_1))
    ),
    "another name in Latin-1": extension(
        "2.5.29.17", der.sequence(LATIN_1, der.tlv(0x81, ADDRESS.encode()))
    ),
    "for enciphering alone, and no agreement": extension("2.5.29.15", b"\x03\x02\x00\x81", b"\x01\x01\xff"),
    "an admission that nobody can read": extension("1.3.36.8.3.3", b"\x0c\x01\xe9"),
    "an X.400 address": extension(
        "2.5.29.17", der.sequence(der.tlv(0xA3, der.sequence()), der.tlv(0x81, ADDRESS.encode()))
    ),
    "times without seconds": at(
        4, der.sequence(der.tlv(0x17, b"2601010000Z"), der.tlv(0x17, b"4601010000Z"))
    ),
    "times in a zone": at(
        4, der.sequence(der.tlv(0x17, b"260101000000+0100"), der.tlv(0x17, b"460101000000+0100"))
    ),
}  # fmt: skip
