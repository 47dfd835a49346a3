"""How CMS names a certificate: by issuer and serial number, or by key identifier (RFC 5652 10.2.4, 5.3)."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property, lru_cache

from cryptography import x509

from medmail_cli.cms import algorithms, ber, der
from medmail_cli.errors import MedmailError

_STRINGS = {
    0x0C: "utf-8",
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, as it is used
    0x16: "ascii",  # IA5String
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}


@dataclass(frozen=True)
class CertificateId:
    """A certificate's name: ``issuer`` (the Name as received) with ``serial``, else ``key_identifier``."""

    issuer: bytes | None = None
    serial: int | None = None
    key_identifier: bytes | None = None

    def names(self, certificate: x509.Certificate) -> bool:
        """Whether this names the certificate.

        Issuers are compared as RFC 5280 7.1 has it: software writes them out anew, with other kinds of
        strings. A certificate without a subjectKeyIdentifier is taken to have
        the SHA-1 of its public key (RFC 5280 4.2.1.2).
        """
        if self.key_identifier is not None:
            return self.key_identifier == key_identifier(certificate)
        if self.issuer is None or self.serial != serial_number(certificate):
            return False
        issuer = issuer_octets(certificate)
        return self.issuer == issuer or (self._said is not None and self._said == _said(issuer))

    @cached_property
    def _said(self) -> "_Name | None":
        """What the issuer says: a letter may have entries by the ten thousands, and we several keys."""
        return _said(self.issuer) if self.issuer is not None else None


def folded(text: str) -> str:
    """A string of a name as RFC 5280 7.1 compares it: no case, nothing unseen, spaces folded."""
    seen = text if text.isascii() and text.isprintable() else _UNSEEN.sub("", text)
    return " ".join(unicodedata.normalize("NFKC", seen).casefold().split())


_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u06dd\u070f\u1806\u180b-\u180e\u200b-\u200f"
    "\u202a-\u202e\u2060-\u2063\u206a-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffc"
    "\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)
"""What is mapped to nothing (RFC 4518 2.2)."""


_Name = list[frozenset[tuple[str, str | bytes]]]


@lru_cache(maxsize=256)
def _said(name: bytes) -> _Name | None:
    """A Name by what its attributes say, whatever kind of string says it; None if it is no Name at all."""
    try:
        return [
            frozenset(_attribute(pair) for pair in rdn.elements(ber.SET))
            for rdn in ber.parse(name).elements(ber.SEQUENCE)
        ]
    except MedmailError:
        return None


def _attribute(pair: ber.Node) -> tuple[str, str | bytes]:
    fields = pair.fields()
    oid, value = fields.take(ber.OID).oid(), fields.take()
    fields.end()
    charset = _STRINGS.get(value.tag)
    try:
        return oid, folded(bytes(value.content).decode(charset)) if charset else der.canonical(value)
    except UnicodeDecodeError:
        return oid, der.canonical(value)


def attributes(rdn: ber.Node) -> list[tuple[str, str]]:
    """The attributes of one RelativeDistinguishedName as text: what is not of its string type is Latin-1."""
    pairs = []
    for pair in rdn.elements(ber.SET):
        fields = pair.fields()
        oid, value = fields.take(ber.OID).oid(), fields.take()
        fields.end()
        octets, charset = bytes(value.content), _STRINGS.get(value.tag)
        if charset is None:
            raise ber.malformed("tag")
        try:
            pairs.append((oid, octets.decode(charset)))
        except UnicodeDecodeError:
            pairs.append((oid, octets.decode("latin-1")))
    return pairs


def read(node: ber.Node, key_identifier_tag: int = 0x80) -> CertificateId:
    """A CHOICE of IssuerAndSerialNumber and an IMPLICIT key identifier under the tag given."""
    if node.tag == key_identifier_tag:
        return CertificateId(key_identifier=bytes(node.octets(key_identifier_tag)))
    return issuer_and_serial(node)


def issuer_and_serial(node: ber.Node, tag: int = ber.SEQUENCE) -> CertificateId:
    """An IssuerAndSerialNumber, or one under an IMPLICIT ``tag``."""
    fields = node.fields(tag)
    issuer = fields.take(ber.SEQUENCE)
    serial = fields.take(ber.INTEGER).integer()
    fields.end()
    return CertificateId(issuer=bytes(issuer.raw), serial=serial)


def of_octets(certificate: ber.Node) -> CertificateId:
    """Issuer and serial number of what ought to be a certificate. Raises ``malformed``."""
    issuer, _, serial = _issuer_serial(certificate.fields().take(ber.SEQUENCE))
    return CertificateId(issuer=issuer, serial=serial)


def issuer_and_serial_of(certificate: x509.Certificate, tag: int = der.SEQUENCE) -> bytes:
    """The IssuerAndSerialNumber of a certificate in DER."""
    return der.tlv(tag, *_issuer_and_serial(certificate)[:2])


def issuer_octets(certificate: x509.Certificate) -> bytes:
    """The issuer's Name exactly as it stands in the certificate."""
    return _issuer_and_serial(certificate)[0]


def nameable(certificate: x509.Certificate) -> bool:
    """Whether a certificate can be asked for: cryptography loads some whose number or key makes no sense."""
    try:
        serial_number(certificate)
        subject_public_key(certificate)
    except MedmailError:
        return False
    return True


def serial_number(certificate: x509.Certificate) -> int:
    """The serial number; unlike cryptography's property it has no opinion on negative ones."""
    return _issuer_and_serial(certificate)[2]


def public_key_octets(certificate: x509.Certificate) -> bytes:
    """The subjectPublicKey's octets."""
    return subject_public_key(certificate)[1]


@lru_cache(maxsize=256)
def _issuer_and_serial(certificate: x509.Certificate) -> tuple[bytes, bytes, int]:
    """Both exactly as they stand in the certificate, whatever its software thinks of them; the number."""
    return _issuer_serial(ber.parse(certificate.tbs_certificate_bytes))


def _issuer_serial(body: ber.Node) -> tuple[bytes, bytes, int]:
    fields = body.fields()
    fields.maybe(0x80)
    serial = fields.take(ber.INTEGER)
    fields.take(ber.SEQUENCE)
    return bytes(fields.take(ber.SEQUENCE).raw), bytes(serial.raw), serial.integer()


def subject_octets(certificate: x509.Certificate) -> bytes:
    """The subject's Name exactly as it stands in the certificate."""
    fields = ber.parse(certificate.tbs_certificate_bytes).fields()
    fields.maybe(0x80)
    for _ in range(4):  # serial number, signature, issuer, validity
        fields.take()
    return bytes(fields.take(ber.SEQUENCE).raw)


def crl_issuer_octets(crl: x509.CertificateRevocationList) -> bytes:
    """The issuer's Name exactly as it stands in the CRL."""
    fields = ber.parse(crl.tbs_certlist_bytes).fields()
    fields.maybe(ber.INTEGER)
    fields.take(ber.SEQUENCE)
    return bytes(fields.take(ber.SEQUENCE).raw)


def subject_public_key(certificate: x509.Certificate) -> tuple[algorithms.Algorithm, bytes]:
    """The subjectPublicKeyInfo: its algorithm, and the key's octets (an EC point, an RSAPublicKey)."""
    key = _subject_public_key_info(certificate).fields()
    return algorithms.read(key.take()), bytes(key.take().bits())


def key_sha256(certificate: x509.Certificate) -> str:
    """SHA-256, in hex, of the certificate's SubjectPublicKeyInfo as it stands."""
    return hashlib.sha256(_subject_public_key_info(certificate).raw).hexdigest()


def _subject_public_key_info(certificate: x509.Certificate) -> ber.Node:
    fields = ber.parse(certificate.tbs_certificate_bytes).fields()
    fields.maybe(0x80)
    for _ in range(5):  # serial number, signature, issuer, validity, subject
        fields.take()
    return fields.take(ber.SEQUENCE)


def key_identifier(certificate: x509.Certificate) -> bytes:
    """The certificate's subjectKeyIdentifier, computed if it has none (or its extensions cannot be read)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return hashlib.sha1(public_key_octets(certificate), usedforsecurity=False).digest()
