"""What path validation needs to know of a certificate, read once and kept; signatures checked once and kept.

Nothing here raises for a certificate that is odd or hostile: what cannot be read is said in ``unreadable``,
``unknown_critical`` or ``weaknesses``, and such a certificate never helps a path to stand.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from medmail_cli.cms import ber
from medmail_cli.cms.algorithms import ML_DSA, ml_name
from medmail_cli.cms.certificates import UNREADABLE
from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509 import dn
from medmail_cli.pki.x509.names import NameKey, name_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

RSA_BITS, EC_BITS = 2048, 256
"""The smallest keys that are not weak (RFC 8551 §4.3 and 4.4 forbid less for RSA in signatures)."""
MOST_BITS, MOST_EXPONENT_BITS = 8192, 64
"""The largest RSA keys whose signatures are checked; DSA's are half as long."""
_EARLIEST, _LATEST = dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)
WEAK_HASHES = frozenset({"md5", "sha1"})

ANY_POLICY = "2.5.29.32.0"
_NO_REVOCATION = x509.ObjectIdentifier("2.5.29.56")  # id-ce-noRevAvail, RFC 9608
_OCSP = AuthorityInformationAccessOID.OCSP
_KNOWN = {
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS, ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.CERTIFICATE_POLICIES, ExtensionOID.CRL_DISTRIBUTION_POINTS,
    ExtensionOID.EXTENDED_KEY_USAGE, ExtensionOID.FRESHEST_CRL, ExtensionOID.INHIBIT_ANY_POLICY,
    ExtensionOID.KEY_USAGE, ExtensionOID.NAME_CONSTRAINTS, ExtensionOID.POLICY_CONSTRAINTS,
    ExtensionOID.POLICY_MAPPINGS, ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.ISSUER_ALTERNATIVE_NAME, ExtensionOID.SUBJECT_INFORMATION_ACCESS, ExtensionOID.OCSP_NO_CHECK,
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """A certificate's fields as path validation asks for them; absent extensions are None."""

    subject: NameKey
    issuer: NameKey
    not_before: dt.datetime
    not_after: dt.datetime
    ca: bool | None = None
    path_length: int | None = None
    usage: x509.KeyUsage | None = None
    extended: frozenset[str] | None = None
    policies: frozenset[str] | None = None
    mappings: tuple[tuple[str, str], ...] | None = None
    explicit_after: int | None = None
    no_mapping_after: int | None = None
    no_any_policy_after: int | None = None
    constraints: x509.NameConstraints | None = None
    names: tuple[x509.GeneralName, ...] = ()
    key_id: bytes | None = None
    issuer_key_id: bytes | None = None
    points: tuple[x509.DistributionPoint, ...] = ()
    never_revoked: bool = False
    """Nobody publishes word of its revocation (RFC 9608 §2)."""
    unknown_critical: tuple[str, ...] = ()
    weaknesses: tuple[tuple[str, str], ...] = ()
    """Pairs of ``weak-key`` or ``unsupported-algorithm`` (of its own key) and which."""
    weak_signature: tuple[str, str] | None = None
    """``weak-algorithm`` or ``unsupported-algorithm`` and which; of no matter in an anchor."""
    unreadable: str | None = None

    @property
    def self_issued(self) -> bool:
        """Subject and issuer are one name (RFC 5280 §6.1)."""
        return self.subject == self.issuer


@lru_cache(maxsize=512)
def facts(certificate: x509.Certificate) -> Facts:
    """Read a certificate; never raises."""
    try:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        subject, issuer = name_key(dn.subject(certificate)), name_key(dn.issuer(certificate))
    except UNREADABLE as error:
        return Facts((), (), _LATEST, _EARLIEST, unreadable=str(error))
    weak_key, weak_signature = _weak_key(certificate), _weak_signature(certificate)
    try:
        return Facts(
            subject, issuer, start, end,
            weaknesses=weak_key, weak_signature=weak_signature, **_extensions(certificate),
        )  # fmt: skip
    except (*UNREADABLE, MedmailError) as error:
        return Facts(
            subject, issuer, start, end,
            weaknesses=weak_key, weak_signature=weak_signature, unreadable=str(error),
        )  # fmt: skip


def _extensions(certificate: x509.Certificate) -> dict[str, Any]:
    read: dict[str, Any] = {}
    unknown = []
    asked_somewhere = False
    for extension in certificate.extensions:
        value = extension.value
        match value:
            case x509.BasicConstraints():
                read |= {"ca": value.ca, "path_length": value.path_length}
            case x509.KeyUsage():
                read["usage"] = value
            case x509.ExtendedKeyUsage():
                read["extended"] = frozenset(oid.dotted_string for oid in value)
            case x509.CertificatePolicies():
                read["policies"] = frozenset(p.policy_identifier.dotted_string for p in value)
            case x509.PolicyConstraints():
                read |= {
                    "explicit_after": value.require_explicit_policy,
                    "no_mapping_after": value.inhibit_policy_mapping,
                }
            case x509.InhibitAnyPolicy():
                read["no_any_policy_after"] = value.skip_certs
            case x509.NameConstraints():
                if _distances(certificate):
                    raise ValueError("nameConstraints: minimum, maximum")
                read["constraints"] = value
            case x509.SubjectAlternativeName():
                read["names"] = tuple(value)
            case x509.SubjectKeyIdentifier():
                read["key_id"] = value.digest
            case x509.AuthorityKeyIdentifier():
                read["issuer_key_id"] = value.key_identifier
            case x509.CRLDistributionPoints():
                read["points"] = tuple(value)
                asked_somewhere = True
            case x509.FreshestCRL():
                asked_somewhere = True
            case x509.AuthorityInformationAccess():
                asked_somewhere |= any(access.access_method == _OCSP for access in value)
            case x509.UnrecognizedExtension() if extension.oid == ExtensionOID.POLICY_MAPPINGS:
                read["mappings"] = _mappings(value.value)
        if extension.oid == _NO_REVOCATION:
            read["never_revoked"] = True
        elif extension.critical and extension.oid not in _KNOWN:
            unknown.append(extension.oid.dotted_string)
    if read.get("never_revoked") and (asked_somewhere or read.get("ca")):
        # in an authority's certificate, or beside a place to ask, it makes that invalid (RFC 9608 §3)
        read |= {"never_revoked": False, "unreadable": "noRevAvail"}
    return read | {"unknown_critical": tuple(unknown)}


def _distances(certificate: x509.Certificate) -> bool:
    """Whether nameConstraints begin or end below their bases, which nobody does here (RFC 5280 §4.2.1.10)."""
    *_, extensions = ber.parse(certificate.tbs_certificate_bytes).elements()
    for extension in extensions.explicit(0x83).elements():
        oid, *_, value = extension.elements()
        if oid.oid() == ExtensionOID.NAME_CONSTRAINTS.dotted_string:
            for trees in ber.parse(bytes(value.octets())).elements():
                for tree in trees.elements():
                    _base, *distances = tree.elements()
                    if any(distance.tag == 0x81 or any(distance.content) for distance in distances):
                        return True
    return False


def _mappings(der: bytes) -> tuple[tuple[str, str], ...]:
    """PolicyMappings (RFC 5280 §4.2.1.5) as pairs issuer's, subject's. Raises ValueError."""
    try:
        pairs = [tuple(_elements(_content(pair))) for pair in _elements(_content(der))]
    except IndexError as error:
        raise ValueError("policyMappings") from error
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("policyMappings")
    return tuple((_dotted(theirs), _dotted(ours)) for theirs, ours in pairs)


def _dotted(der: bytes) -> str:
    from cryptography.hazmat import asn1  # slow to import, and policies are seldom mapped

    return asn1.decode_der(x509.ObjectIdentifier, der).dotted_string


def subject_text(certificate: x509.Certificate) -> str:
    """The subject for people (RFC 4514); ``?`` where it cannot be read, which shows only on reading."""
    return _name_text(certificate, "subject")


def issuer_text(certificate: x509.Certificate) -> str:
    """The issuer for people (RFC 4514); ``?`` where it cannot be read."""
    return _name_text(certificate, "issuer")


def _name_text(certificate: x509.Certificate, which: Literal["subject", "issuer"]) -> str:
    try:
        name = dn.subject(certificate) if which == "subject" else dn.issuer(certificate)
        return name.rfc4514_string()
    except UNREADABLE:
        return "?"


def public_key(certificate: x509.Certificate) -> "CertificatePublicKeyTypes | None":
    """The certificate's key, None where it cannot be read."""
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _weak_key(certificate: x509.Certificate) -> tuple[tuple[str, str], ...]:
    key = public_key(certificate)
    if key is None:
        return (("unsupported-algorithm", certificate.public_key_algorithm_oid.dotted_string),)
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        if key.key_size < RSA_BITS or numbers.e < 3 or numbers.e % 2 == 0:
            return (("weak-key", f"rsa{key.key_size}"),)
    elif isinstance(key, dsa.DSAPublicKey):
        return (("weak-key", f"dsa{key.key_size}"),)
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < EC_BITS:
        return (("weak-key", key.curve.name),)
    elif isinstance(key, x25519.X25519PublicKey | x448.X448PublicKey) and _agrees_on_nothing(key):
        return (("weak-key", "x25519" if isinstance(key, x25519.X25519PublicKey) else "x448"),)
    return ()


def _agrees_on_nothing(key: x25519.X25519PublicKey | x448.X448PublicKey) -> bool:
    """Whether a key is of small order: every secret agreed with it is zero (RFC 7748 6, RFC 8418 2)."""
    try:
        if isinstance(key, x25519.X25519PublicKey):
            x25519.X25519PrivateKey.generate().exchange(key)
        else:
            x448.X448PrivateKey.generate().exchange(key)
    except ValueError:
        return True
    return False


def _weak_signature(certificate: x509.Certificate) -> tuple[str, str] | None:
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "unsupported-algorithm", certificate.signature_algorithm_oid.dotted_string
    return ("weak-algorithm", digest.name) if digest is not None and digest.name in WEAK_HASHES else None


@lru_cache(maxsize=1024)
def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's key made the certificate's signature; says nothing of names, dates or rights."""
    if not _well_formed(certificate):
        return False
    return verifies(certificate, certificate.tbs_certificate_bytes, issuer)


def verifies(
    signed: x509.Certificate | x509.CertificateRevocationList, body: bytes, issuer: x509.Certificate
) -> bool:
    """Whether ``issuer``'s key signed ``body``, weak algorithms included.

    False for unknown ones, and for keys so large that checking costs too much.
    """
    try:
        untyped: Any = signed  # its parameters and digest may be another kind of key's, or none: TypeError
        key, parameters = issuer.public_key(), untyped.signature_algorithm_parameters
        if _costs_too_much(key):
            return False
        if isinstance(key, rsa.RSAPublicKey):
            # of MD5, and of SHA-1 with ECDSA, cryptography names no parameters
            scheme = parameters or padding.PKCS1v15()
            key.verify(signed.signature, body, scheme, untyped.signature_hash_algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signed.signature, body, ec.ECDSA(untyped.signature_hash_algorithm))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signed.signature, body)
        elif isinstance(key, dsa.DSAPublicKey):
            key.verify(signed.signature, body, untyped.signature_hash_algorithm)
        else:
            # RFC 9881; a key of another kind is the algorithm's of no signature
            name = ML_DSA.get(signed.signature_algorithm_oid.dotted_string)
            if name is None or ml_name(key) != name:
                return False
            cast("Any", key).verify(signed.signature, body)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _costs_too_much(key: object) -> bool:
    """Whether one signature takes as long as a hundred others: a letter can bring hundreds of such keys."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size > MOST_BITS or key.public_numbers().e.bit_length() > MOST_EXPONENT_BITS
    return isinstance(key, dsa.DSAPublicKey) and key.key_size > MOST_BITS // 2


def _well_formed(certificate: x509.Certificate) -> bool:
    """What lies outside the signed part must not be free to change.

    The algorithms inside it and beside the signature are equal (RFC 5280 §4.1.1.2), and the signature is a
    BIT STRING of whole octets, which cryptography does not look at.
    """
    whole, body = certificate.public_bytes(Encoding.DER), certificate.tbs_certificate_bytes
    outer, signature = _elements(whole[whole.index(body) + len(body) :])
    inside = _elements(_content(body))
    first = next(inside)
    if first[0] == 0xA0:  # the version; then the serial number
        next(inside)
    return next(inside) == outer and _content(signature)[:1] == b"\0"


def _content(element: bytes) -> bytes:
    return element[2 + (element[1] & 0x7F if element[1] & 0x80 else 0) :]


def _elements(data: bytes) -> Iterator[bytes]:
    """The DER elements in ``data``, which has been parsed already."""
    while data:
        header, length = 2, data[1]
        if length & 0x80:
            header += length & 0x7F
            length = int.from_bytes(data[2:header], "big")
        yield data[: header + length]
        data = data[header + length :]
