"""What is asked of an authority by CMP: bodies of requests (RFC 9810 §5.3, CRMF RFC 4211)."""

from typing import TYPE_CHECKING, Literal, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.cms import der, identifiers
from medmail_cli.cms.signed import default_scheme
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import cmp
from medmail_cli.pki.issuance.csr import signature_algorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmail_cli.model import PrivateKey

REQUEST = 0
"""The certReqId: one certificate is asked for at a time (RFC 9483 §4.1.1); a PKCS#10 has -1 (§4.1.4)."""
PKCS10_REQUEST = -1
_OLD_CERTIFICATE = "1.3.6.1.5.5.7.5.1.5"
Reason = Literal[
    "unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded",
    "cessationOfOperation", "certificateHold",
]  # fmt: skip
"""CRLReason (RFC 5280 §5.3.1), as far as a holder may say it."""
_CRL_REASON = "2.5.29.21"


def certificate_request(
    csr: x509.CertificateSigningRequest, key: "PrivateKey", old: x509.Certificate | None = None
) -> bytes:
    """CertReqMessages for ir, cr or, with the certificate to be replaced, kur: what ``csr`` asks for.

    ``key`` proves possession by signing the CertRequest (RFC 4211 §4.1): subject and key stand in the
    template, so poposkInput is absent. Raises ``unsupported-algorithm`` for a key that cannot sign.
    """
    content = [der.integer(REQUEST), _template(csr)]
    if old is not None:
        content.append(der.sequence(der.sequence(der.oid(_OLD_CERTIFICATE), _certificate_id(old))))
    request = der.sequence(*content)
    scheme = default_scheme(key)
    proof = der.tlv(0xA1, signature_algorithm(scheme), der.bit_string(key.sign(request, scheme)))
    return der.sequence(der.sequence(request, proof))


def _template(csr: x509.CertificateSigningRequest) -> bytes:
    """CertTemplate (RFC 4211 §5) with the names and extensions of a PKCS#10 request."""
    key = csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    content = [der.tlv(0xA5, csr.subject.public_bytes()), b"\xa6" + key[1:]]
    if extensions := [_extension(extension) for extension in csr.extensions]:
        content.append(der.tlv(0xA9, *extensions))
    return der.sequence(*content)


def _extension(extension: "x509.Extension[x509.ExtensionType]") -> bytes:
    critical = b"\x01\x01\xff" if extension.critical else b""
    value = der.octet_string(extension.value.public_bytes())
    return der.sequence(der.oid(extension.oid.dotted_string), critical, value)


def _certificate_id(certificate: x509.Certificate) -> bytes:
    issuer = der.tlv(0xA4, identifiers.issuer_octets(certificate))
    return der.sequence(issuer, der.integer(identifiers.serial_number(certificate)))


def confirmation(certificate: x509.Certificate, request: int, refused: str = "") -> tuple[bytes, int]:
    """CertConfirmContent, and the version of the message that may carry it (RFC 9810 §5.3.18).

    ``refused`` says why the certificate is not taken; then the authority revokes it. The hash is the one of
    the certificate's signature; where that has none (Ed25519, Ed448), one is named, as version 3 can.
    """
    octets = certificate.public_bytes(Encoding.DER)
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:  # refused, for that reason
        algorithm = None
    content = [der.octet_string(_digest(octets, algorithm or hashes.SHA512())), der.integer(request)]
    if refused:
        content.append(cmp.status_info(cmp.STATUSES.index("rejection"), refused, ["incorrectData"]))
    if algorithm is None:
        content.append(der.tlv(0xA0, der.sequence(der.oid("2.16.840.1.101.3.4.2.3"))))
    return der.sequence(der.sequence(*content)), 3 if algorithm is None else 2


def _digest(octets: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    hasher = hashes.Hash(algorithm)
    hasher.update(octets)
    return hasher.finalize()


def poll(request: int) -> bytes:
    """PollReqContent (RFC 9810 §5.3.22)."""
    return der.sequence(der.sequence(der.integer(request)))


def revocation(certificate: x509.Certificate, reason: Reason) -> bytes:
    """RevReqContent for one certificate (RFC 9810 §5.3.9, RFC 9483 §4.2). Raises ``malformed``."""
    numbers: Sequence[str] = get_args(Reason)
    if reason not in numbers:
        raise MedmailError("malformed", what=reason)
    template = der.sequence(
        der.tlv(0x81, der.integer(identifiers.serial_number(certificate))[2:]),
        der.tlv(0xA3, identifiers.issuer_octets(certificate)),
    )
    code = der.octet_string(der.tlv(0x0A, bytes([numbers.index(reason)])))
    why = der.sequence(der.sequence(der.oid(_CRL_REASON), code))
    return der.sequence(der.sequence(template, why))
