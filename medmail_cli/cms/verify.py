"""Checking one signer of a SignedData over the octets received (RFC 5652 5.4 to 5.6, RFC 5035, RFC 6211)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa

from medmail_cli.cms import algorithms, ber, der, identifiers, pss
from medmail_cli.cms.pss import Pss
from medmail_cli.cms.publickey import is_weak, pss_restriction
from medmail_cli.errors import MedmailError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from medmail_cli.cms.signerinfo import SignedData, SignerInfo

_PURE = frozenset({"ed25519", "ed448", *algorithms.ML_DSA.values()})
"""Schemes that sign the octets themselves, not a digest of them (RFC 8419, 9882)."""
_SIGNING_CERTIFICATES = {algorithms.SIGNING_CERTIFICATE: "sha1", algorithms.SIGNING_CERTIFICATE_V2: "sha256"}
"""Attributes that identify the signer's certificate, and the digest they do it by."""


class Content:
    """What signatures are over; each digest of it is made once, however many signers there are."""

    __slots__ = ("_digests", "octets")

    def __init__(self, octets: bytes | memoryview) -> None:
        self.octets = octets
        self._digests: dict[str, bytes] = {}

    def digest(self, name: str) -> bytes:
        """The digest with one of our names."""
        if name not in self._digests:
            hasher = hashes.Hash(algorithms.hash_of(name))
            hasher.update(self.octets)
            self._digests[name] = hasher.finalize()
        return self._digests[name]


def check_signer(
    signed: "SignedData",
    signer: "SignerInfo",
    certificate: "x509.Certificate",
    content: bytes | memoryview | Content | None = None,
) -> tuple[str, ...]:
    """What is wrong with one signature, as registered codes; nothing means it holds.

    ``content`` is what a detached signature is over; by default the content inside. Codes: "bad-signature"
    (also where messageDigest, contentType, signingCertificate or CMSAlgorithmProtection disagree, where they
    are missing or repeated, and where there are no signed attributes though the content is not Data),
    "weak-algorithm" (MD5, SHA-1, DSA), "unsupported-algorithm", "weak-key" (also where the key is too weak to
    be read at all). Whether the certificate is to be believed is not looked at.

    The signature is over the signed attributes as received, with the SET OF tag instead of the IMPLICIT one.
    Where they came in something other than DER, signers differ: RFC 5652 5.4 says that the signature is over
    their DER encoding, some sign what they send. Either is accepted: both say the same attributes.
    """
    over = signed.content if content is None else content
    if over is None:
        return ("bad-signature",)
    if not isinstance(over, Content):
        over = Content(over)
    key: CertificatePublicKeyTypes | None = None
    problems: tuple[str, ...] = ()
    try:
        key = certificate.public_key()
        scheme = _scheme_of(signer)
        if not _allowed(certificate, scheme) or not _holds(signed, signer, certificate, key, scheme, over):
            problems = ("bad-signature",)
        if scheme.kind == "dsa" or scheme.digests & algorithms.WEAK_DIGESTS:
            problems += ("weak-algorithm",)
    except UnsupportedAlgorithm:
        problems = ("unsupported-algorithm",)
    except ValueError:  # a key that cannot be read
        problems = ("bad-signature",)
    except MedmailError as error:  # or an attribute or parameter that is not what it should be
        problems = ("bad-signature" if error.code == "malformed" else error.code,)
    return (*problems, "weak-key") if is_weak(certificate, key) else problems


@dataclass(frozen=True)
class _Scheme:
    """A signature algorithm with all its parameters, digests by name."""

    kind: str
    digest: str
    digests: frozenset[str]  # all that security rests on: the message's, the signature's, MGF1's
    pss: Pss | None = None


def _scheme_of(signer: "SignerInfo") -> _Scheme:
    algorithm = signer.signature_algorithm
    if algorithm.oid not in algorithms.SIGNATURES:
        raise algorithms.unsupported(algorithm.oid)
    kind, digest = algorithms.SIGNATURES[algorithm.oid]
    if kind.startswith("ml-dsa") and algorithm.parameters is not None:  # RFC 9882 2
        raise ber.malformed("parameters")
    if kind in _PURE and signer.signed_node is None:  # RFC 9882 3.3: digestAlgorithm is to be ignored
        return _Scheme(kind, "", frozenset())
    message_digest = algorithms.digest_name(signer.digest_algorithm)
    if kind == "rsa-pss":
        parameters = pss.of(algorithm)
        return _Scheme(
            kind,
            parameters.digest,
            frozenset({parameters.digest, parameters.mgf_digest, message_digest}),
            parameters,
        )
    digest = digest or message_digest
    return _Scheme(kind, digest, frozenset({digest, message_digest}))


def check_plain(
    algorithm: algorithms.Algorithm, certificate: "x509.Certificate", signature: bytes, octets: bytes
) -> bool:
    """Whether a signature that stands for itself, outside of CMS, holds; what is weak in any way does not.

    The algorithm is a signature's that fixes its digest, as in a certificate (RFC 5280 4.1.1.2).
    """
    kind, digest = algorithms.SIGNATURES.get(algorithm.oid, ("", ""))
    try:
        key = certificate.public_key()
        if kind == "rsa-pss":
            parameters = pss.of(algorithm)
            scheme = _Scheme(
                kind, parameters.digest, frozenset({parameters.digest, parameters.mgf_digest}), parameters
            )
        elif digest or kind in _PURE:
            scheme = _Scheme(kind, digest, frozenset({digest}))
        else:
            return False
        strong = not (scheme.digests & algorithms.WEAK_DIGESTS or kind == "dsa" or is_weak(certificate, key))
        return strong and _allowed(certificate, scheme) and _verify(key, scheme, signature, octets)
    except (UnsupportedAlgorithm, ValueError, MedmailError):  # a key or parameters that cannot be read
        return False


def _allowed(certificate: "x509.Certificate", scheme: _Scheme) -> bool:
    """Whether a key for PSS alone, perhaps with parameters, may make the signature (RFC 4055 1.2, 3.3)."""
    restriction = pss_restriction(certificate)
    if restriction is None:
        return True
    if scheme.pss is None:
        return False
    if restriction.parameters is None:
        return True
    used, least = scheme.pss, pss.read(restriction.parameters)
    same = (used.digest, used.mgf_digest) == (least.digest, least.mgf_digest)
    return same and used.salt_length >= least.salt_length


def _holds(
    signed: "SignedData",
    signer: "SignerInfo",
    certificate: "x509.Certificate",
    key: "CertificatePublicKeyTypes",
    scheme: _Scheme,
    over: Content,
) -> bool:
    node = signer.signed_node
    if node is None:
        plain = signed.content_type == algorithms.DATA and not _looks_like_attributes(over.octets)
        return plain and _verify(key, scheme, signer.signature, over.octets)
    if not _attributes_agree(signed, signer, certificate, over):
        return False
    as_received = b"\x31" + bytes(node.raw[1:])
    if _verify(key, scheme, signer.signature, as_received):
        return True
    in_der = der.canonical(node, der.SET)
    return in_der != as_received and _verify(key, scheme, signer.signature, in_der)


def _looks_like_attributes(octets: bytes | memoryview) -> bool:
    """Whether content is somebody's signed attributes, to be passed off as content they had signed.

    A signature without signed attributes covers the content alone, one with them a SET OF attributes: moving
    the signature from the second kind to the first would make the attributes content (RFC 5652 5.4 does not
    tell the two apart).
    """
    if octets[:1] != b"\x31":
        return False
    try:
        attributes = ber.parse(octets).elements(ber.SET)
        oids = {attribute.fields().take(ber.OID).oid() for attribute in attributes}
    except MedmailError:
        return False
    return algorithms.MESSAGE_DIGEST in oids


def _attributes_agree(
    signed: "SignedData", signer: "SignerInfo", certificate: "x509.Certificate", over: Content
) -> bool:
    attributes = signer.signed_attributes
    if _single(attributes, algorithms.CONTENT_TYPE).oid() != signed.content_type:
        return False
    digest = over.digest(algorithms.digest_name(signer.digest_algorithm))
    if _single(attributes, algorithms.MESSAGE_DIGEST).octets() != digest:
        return False
    if not all(certificate_id.of(certificate) for certificate_id in _signing_certificates(attributes)):
        return False
    if algorithms.ALGORITHM_PROTECTION in attributes:
        fields = _single(attributes, algorithms.ALGORITHM_PROTECTION).fields()
        digest_algorithm = algorithms.read(fields.take(ber.SEQUENCE))
        signature_algorithm = algorithms.read(fields.take(0x81), 0x81)
        fields.end()
        return digest_algorithm.same_as(signer.digest_algorithm) and _same(
            signature_algorithm, signer.signature_algorithm
        )
    return True


def _same(protected: algorithms.Algorithm, used: algorithms.Algorithm) -> bool:
    """A parameter is what it is, left to its default or written out (RFC 6211 3)."""
    if protected.oid == used.oid == algorithms.RSA_PSS:
        return pss.read(protected.parameters) == pss.read(used.parameters)
    return protected.same_as(used)


def _single(attributes: dict[str, tuple[ber.Node, ...]], oid: str) -> ber.Node:
    values = attributes.get(oid, ())
    if len(values) != 1:
        raise ber.malformed("attribute")
    return values[0]


class _CertificateHash(NamedTuple):
    """What identifies the signer's own certificate (RFC 5035 4, 6); the hash covers its issuer's name too."""

    digest: str
    octets: bytes
    serial: int | None

    def of(self, certificate: "x509.Certificate") -> bool:
        same = self.octets == certificate.fingerprint(algorithms.hash_of(self.digest))
        return same and self.serial in (None, identifiers.serial_number(certificate))


def certificate_meant(
    signer: "SignerInfo", certificates: "Iterable[x509.Certificate]"
) -> "x509.Certificate | None":
    """The one that the signer's signingCertificate identifies (RFC 8550 4.2); None where there is none."""
    try:
        meant = _signing_certificates(signer.signed_attributes)
    except MedmailError:  # what the signature is worth is told elsewhere
        return None
    return next(
        (
            certificate
            for certificate in certificates
            if meant and all(each.of(certificate) for each in meant)
        ),
        None,
    )


def _signing_certificates(attributes: dict[str, tuple[ber.Node, ...]]) -> list[_CertificateHash]:
    return [
        _first_certificate(_single(attributes, oid), digest)
        for oid, digest in _SIGNING_CERTIFICATES.items()
        if oid in attributes
    ]


def _first_certificate(signing_certificate: ber.Node, digest: str) -> _CertificateHash:
    """The first ESSCertID or ESSCertIDv2, which names a digest where it is not SHA-256 (RFC 5035 3)."""
    fields = signing_certificate.fields().take(ber.SEQUENCE).fields().take(ber.SEQUENCE).fields()
    algorithm = fields.maybe(ber.SEQUENCE) if digest == "sha256" else None
    if algorithm:
        digest = algorithms.digest_name(algorithms.read(algorithm))
    octets = bytes(fields.take(ber.OCTET_STRING).octets())
    issuer_serial = fields.maybe(ber.SEQUENCE)
    if issuer_serial is None:
        return _CertificateHash(digest, octets, None)
    named = issuer_serial.fields()
    named.take(ber.SEQUENCE)
    return _CertificateHash(digest, octets, named.take(ber.INTEGER).integer())


def _verify(
    key: "CertificatePublicKeyTypes", scheme: _Scheme, signature: bytes, message: bytes | memoryview
) -> bool:
    """Whether the signature is over the message; a key of another kind than the scheme's is a no."""
    octets = bytes(message)  # copies only content that has no signed attributes
    try:
        if scheme.kind == "rsa-pkcs1v15" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, octets, padding.PKCS1v15(), algorithms.hash_of(scheme.digest))
        elif scheme.pss is not None and isinstance(key, rsa.RSAPublicKey):
            return pss.verify(key, signature, octets, scheme.pss)
        elif scheme.kind == "ecdsa" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, octets, ec.ECDSA(algorithms.hash_of(scheme.digest)))
        elif scheme.kind == "dsa" and isinstance(key, dsa.DSAPublicKey):
            key.verify(signature, octets, algorithms.hash_of(scheme.digest))
        elif scheme.kind.startswith("ml-dsa"):
            if algorithms.ml_name(key) != scheme.kind:
                return False
            cast("Any", key).verify(signature, octets)
        elif (scheme.kind == "ed25519" and isinstance(key, ed25519.Ed25519PublicKey)) or (
            scheme.kind == "ed448" and isinstance(key, ed448.Ed448PublicKey)
        ):
            key.verify(signature, octets)
        else:
            return False
    except (InvalidSignature, ValueError):  # ValueError: a digest or salt too long for the key
        return False
    return True
