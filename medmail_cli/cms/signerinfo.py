"""SignedData and its signers as they were received (RFC 5652 §5.1, §5.3), not yet checked."""

import datetime as dt
from dataclasses import dataclass
from functools import cached_property

from cryptography import x509

from medmail_cli.cms import algorithms, ber, der, identifiers
from medmail_cli.errors import MedmailError


@dataclass(frozen=True)
class SignerInfo:
    """One signer of a SignedData, as received and not yet checked.

    ``signed_attributes`` and ``unsigned_attributes`` map an attribute's identifier to its values (a repeated
    attribute's values are in one tuple); ``signed_node`` is None where there are no signed attributes.
    """

    id: identifiers.CertificateId
    digest_algorithm: algorithms.Algorithm
    signature_algorithm: algorithms.Algorithm
    signature: bytes
    signed_node: ber.Node | None
    signed_attributes: dict[str, tuple[ber.Node, ...]]
    unsigned_attributes: dict[str, tuple[ber.Node, ...]]

    @property
    def digest(self) -> str:
        """The digest's name ("sha256"), or its dotted identifier if it is unknown."""
        try:
            return algorithms.digest_name(self.digest_algorithm)
        except MedmailError:
            return self.digest_algorithm.oid

    @property
    def signature_scheme(self) -> str:
        """The scheme's name ("rsa-pkcs1v15", "rsa-pss", "ecdsa", "ed25519"), else the dotted identifier."""
        oid = self.signature_algorithm.oid
        return algorithms.SIGNATURES.get(oid, (oid, ""))[0]

    @cached_property
    def signed_at(self) -> dt.datetime | None:
        """The signingTime the signer claims, aware, in UTC; None without one."""
        value = self._one(algorithms.SIGNING_TIME)
        return value.time() if value else None

    @cached_property
    def capabilities(self) -> tuple[str, ...] | None:
        """What the signer says it reads (sMIMECapabilities): our names, else dotted numbers."""
        value = self._one(algorithms.CAPABILITIES)
        if value is None:
            return None
        return tuple(capability_name(entry) for entry in value.elements(ber.SEQUENCE))

    @cached_property
    def encryption_key_preference(self) -> identifiers.CertificateId | None:
        """The certificate the signer wants used to answer (RFC 8551 2.5.3); None without one."""
        value = self._one(algorithms.ENCRYPTION_KEY_PREFERENCE)
        if value is None:
            return None
        if value.tag == 0x80:
            return identifiers.issuer_and_serial(value, 0x80)
        if value.tag == 0x81:
            octets = value.fields(0x81).take(ber.OCTET_STRING).octets()
            return identifiers.CertificateId(key_identifier=bytes(octets))
        return identifiers.CertificateId(key_identifier=bytes(value.octets(0x82)))

    def _one(self, oid: str) -> ber.Node | None:
        values = self.signed_attributes.get(oid)
        if values is None:
            return None
        if len(values) != 1:
            raise ber.malformed("attribute")
        return values[0]


@dataclass(frozen=True)
class SignedData:
    """A SignedData as received: ``content`` is None where the content stands elsewhere (detached)."""

    content_type: str
    content: memoryview | None
    certificates: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...]
    signers: tuple[SignerInfo, ...]
    ocsp: tuple[bytes, ...] = ()
    """OCSPResponses in DER that came along (RFC 5940, RFC 5126 6.3.4)."""
    unread: tuple[identifiers.CertificateId, ...] = ()
    """Whose certificates came along and cannot be read."""


def capability_name(entry: ber.Node) -> str:
    """Our name for an SMIMECapability (RFC 8551 §2.5.2), else its dotted number."""
    oid = entry.fields().take(ber.OID).oid()
    encoded = der.canonical(entry)
    return algorithms.CAPABILITY_NAMES.get(encoded) or algorithms.CAPABILITY_OIDS.get(oid, oid)
