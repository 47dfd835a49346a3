"""SignedData (RFC 5652 5): writing it, and reading it as received. Checking is in ``verify``."""

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, cast, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import algorithms, ber, content, der, enclosed, identifiers, pss
from medmail_cli.cms.certificates import UNREADABLE
from medmail_cli.cms.publickey import pss_restriction
from medmail_cli.cms.signerinfo import SignedData, SignerInfo, capability_name
from medmail_cli.errors import MedmailError
from medmail_cli.model import SignatureScheme

if TYPE_CHECKING:
    from medmail_cli.model import PrivateKey

_MOST_SIGNERS = 32
_ED448_DIGEST = algorithms.identifier(algorithms.SHAKE256_LEN, der.integer(512))
"""RFC 8419 3.1."""
_ML_DSA_OIDS = {name: oid for oid, name in algorithms.ML_DSA.items()}


def parse_signed(node: ber.Node) -> SignedData:
    """Read a ContentInfo of type SignedData.

    Certificates and CRLs that cannot be read, and those of other kinds, are left out: they are helpers, and a
    signer whose certificate is missing is not believed. Raises MedmailError("malformed").
    """
    fields = content.content_of(node, algorithms.SIGNED_DATA).fields()
    fields.take(ber.INTEGER)
    fields.take(ber.SET)
    content_type, octets = content.encapsulated(fields.take())
    certificates, crls = fields.maybe(0x80), fields.maybe(0x81)
    signers = _signers(fields.take(ber.SET))
    fields.end()
    attributes = [
        each for signer in signers for each in (signer.unsigned_attributes, signer.signed_attributes)
    ]
    readable, unread = enclosed.certificates(certificates)
    return SignedData(
        content_type,
        octets,
        certificates=readable,
        crls=tuple(enclosed.crls(crls, attributes)),
        signers=signers,
        ocsp=tuple(enclosed.ocsp(crls, attributes)),
        unread=unread,
    )


def _signers(node: ber.Node) -> tuple[SignerInfo, ...]:
    """All that can be read; beside them those of a version yet unknown are left out (RFC 5652 5.1)."""
    infos = tuple(islice(node.elements(), _MOST_SIGNERS + 1))
    if len(infos) > _MOST_SIGNERS:
        raise ber.malformed("too-many-signers")
    signers, failure = [], None
    for info in infos:
        try:
            signers.append(_signer(info))
        except MedmailError as error:
            if info.fields().take(ber.INTEGER).integer() in (1, 3):
                raise
            failure = error
    if failure and not signers:
        raise failure
    return tuple(signers)


def _signer(node: ber.Node) -> SignerInfo:
    fields = node.fields()
    fields.take(ber.INTEGER)
    signer_id = identifiers.read(fields.take())
    digest_algorithm = algorithms.read(fields.take())
    signed = fields.maybe(0x80)
    signature_algorithm = algorithms.read(fields.take())
    signature = bytes(fields.take().octets())
    unsigned = fields.maybe(0x81)
    fields.end()
    return SignerInfo(
        signer_id,
        digest_algorithm,
        signature_algorithm,
        signature,
        signed,
        _attributes(signed),
        unsigned_attributes(unsigned),
    )


def _attributes(node: ber.Node | None) -> dict[str, tuple[ber.Node, ...]]:
    by_oid: dict[str, list[ber.Node]] = {}
    for attribute in node.elements() if node else ():
        oid, values = _attribute_of(attribute)
        by_oid.setdefault(oid, []).extend(values)
    return {oid: tuple(values) for oid, values in by_oid.items()}


def unsigned_attributes(node: ber.Node | None) -> dict[str, tuple[ber.Node, ...]]:
    """Nobody vouches for these (counter-signatures, time stamps): one that cannot be read is left out."""
    by_oid: dict[str, list[ber.Node]] = {}
    for attribute in enclosed.readable(node):
        with contextlib.suppress(MedmailError):
            oid, values = _attribute_of(attribute)
            by_oid.setdefault(oid, []).extend(values)
    return {oid: tuple(values) for oid, values in by_oid.items()}


def _attribute_of(node: ber.Node) -> tuple[str, list[ber.Node]]:
    fields = node.fields()
    oid, values = fields.take(ber.OID).oid(), list(fields.take(ber.SET).elements())
    fields.end()
    return oid, values


def certified_capabilities(certificate: x509.Certificate) -> tuple[str, ...]:
    """What the certificate itself says its holder reads (RFC 4262 2), as in a signature; () for nothing."""
    try:
        extension = certificate.extensions.get_extension_for_oid(
            x509.ObjectIdentifier(algorithms.CAPABILITIES)
        )
        entries = ber.parse(extension.value.public_bytes()).elements(ber.SEQUENCE)
        return tuple(map(capability_name, entries))
    except (x509.ExtensionNotFound, *UNREADABLE, MedmailError):
        return ()


def default_scheme(key: "PrivateKey") -> "SignatureScheme":
    """The scheme everybody reads for a key: RSA v1.5 with SHA-256, ECDSA with the curve's hash, Ed25519."""
    public = key.public_key
    if isinstance(public, rsa.RSAPublicKey):
        return "rsa-pkcs1v15-sha256"
    if isinstance(public, ec.EllipticCurvePublicKey):
        size = public.key_size
        return "ecdsa-sha256" if size <= 256 else "ecdsa-sha384" if size <= 384 else "ecdsa-sha512"
    if isinstance(public, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(public, ed448.Ed448PublicKey):
        return "ed448"
    for name in algorithms.ML_DSA.values():
        if name == algorithms.ml_name(public):
            return cast("SignatureScheme", name)
    raise MedmailError("unsupported-algorithm", algorithm=type(public).__name__)


def scheme_for(
    key: "PrivateKey", certificate: x509.Certificate, wanted: "SignatureScheme | None" = None
) -> "SignatureScheme":
    """What ``key`` signs by: ``wanted``, else its default; a key for PSS alone as it says: RFC 4055 1.2."""
    restriction = pss_restriction(certificate)
    if restriction is None:
        return wanted or default_scheme(key)
    digest = pss.read(restriction.parameters).digest if restriction.parameters else "sha256"
    scheme = f"rsa-pss-{digest}"
    if scheme not in get_args(SignatureScheme):
        raise MedmailError("unsupported-algorithm", algorithm=scheme)
    return cast("SignatureScheme", scheme)


def sign(
    octets: bytes | memoryview,
    *,
    key: "PrivateKey",
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate] = (),
    signed_at: dt.datetime,
    scheme: "SignatureScheme | None" = None,
    capabilities: Sequence[str] = algorithms.DEFAULT_CAPABILITIES,
    encryption_certificate: x509.Certificate | None = None,
    detached: bool = False,
    further: Mapping[str, Sequence[bytes]] = MappingProxyType({}),
) -> bytes:
    """A ContentInfo with one signer over ``octets`` (type Data), in DER; opaque unless ``detached``.

    Signed attributes: contentType, messageDigest, signingTime, signingCertificateV2 (RFC 5035),
    sMIMECapabilities (names of ``algorithms.CAPABILITY_BYTES``), smimeEncryptionKeyPreference if there is an
    ``encryption_certificate`` (which is included), CMSAlgorithmProtection (RFC 6211), and the values of
    ``further`` in DER by their attributes' identifiers. The certificate and ``chain`` are included. Raises
    MedmailError("unsupported-algorithm") if the key cannot do ``scheme``.
    """
    scheme = scheme_for(key, certificate, scheme)
    digest, signature_algorithm = _algorithms_of(scheme)
    digest_algorithm = (
        _ED448_DIGEST if scheme == "ed448" else algorithms.identifier(algorithms.DIGESTS[digest])
    )
    hasher = hashes.Hash(algorithms.hash_of(digest))
    hasher.update(octets)
    attributes = [
        attribute(algorithms.CONTENT_TYPE, der.oid(algorithms.DATA)),
        attribute(algorithms.MESSAGE_DIGEST, der.octet_string(hasher.finalize())),
        attribute(algorithms.SIGNING_TIME, der.time(signed_at)),
        attribute(algorithms.SIGNING_CERTIFICATE_V2, _signing_certificate(certificate)),
        attribute(
            algorithms.ALGORITHM_PROTECTION,
            der.sequence(
                digest_algorithm, der.tlv(0xA1, signature_algorithm[_header_size(signature_algorithm) :])
            ),
        ),
    ]
    if capabilities:
        known = (algorithms.CAPABILITY_BYTES[name] for name in capabilities)
        attributes.append(attribute(algorithms.CAPABILITIES, der.sequence(*known)))
    attributes += [attribute(oid, *values) for oid, values in further.items()]
    included = [certificate, *chain]
    if encryption_certificate:
        preference = identifiers.issuer_and_serial_of(encryption_certificate, 0xA0)
        attributes.append(attribute(algorithms.ENCRYPTION_KEY_PREFERENCE, preference))
        included.append(encryption_certificate)
    to_be_signed = der.set_of(attributes)
    signature = key.sign(to_be_signed, scheme)
    signer = der.sequence(
        der.integer(1),
        identifiers.issuer_and_serial_of(certificate),
        digest_algorithm,
        b"\xa0" + to_be_signed[1:],
        signature_algorithm,
        der.octet_string(signature),
    )
    encapsulated: list[der.Piece] = [der.oid(algorithms.DATA)]
    if not detached:
        encapsulated += der.pieces(0xA0, der.pieces(0x04, [octets]))
    unique = dict.fromkeys(each.public_bytes(Encoding.DER) for each in included)
    signed = der.pieces(
        der.SEQUENCE,
        [
            der.integer(1),
            der.set_of([digest_algorithm]),
            *der.pieces(der.SEQUENCE, encapsulated),
            der.set_of(unique, 0xA0),
            der.set_of([signer]),
        ],
    )
    return b"".join(der.pieces(der.SEQUENCE, [der.oid(algorithms.SIGNED_DATA), *der.pieces(0xA0, signed)]))


def attribute(oid: str, *values: bytes) -> bytes:
    """An Attribute (RFC 5652 5.3) with these values in DER."""
    return der.sequence(der.oid(oid), der.set_of(values))


def _header_size(encoded: bytes) -> int:
    return len(der.header(encoded[0], 0)) if encoded[1] < 0x80 else 2 + (encoded[1] & 0x7F)


def _signing_certificate(certificate: x509.Certificate) -> bytes:
    """SigningCertificateV2 with one ESSCertIDv2: SHA-256 (by default, not written), issuer, serial."""
    directory_name = der.tlv(0xA4, identifiers.issuer_octets(certificate))
    issuer_serial = der.sequence(
        der.sequence(directory_name), der.integer(identifiers.serial_number(certificate))
    )
    digest = certificate.fingerprint(hashes.SHA256())
    return der.sequence(der.sequence(der.sequence(der.octet_string(digest), issuer_serial)))


def _algorithms_of(scheme: "SignatureScheme") -> tuple[str, bytes]:
    """The digest's name and the signature's AlgorithmIdentifier: RFC 3370, 4056, 5754, 8419."""
    if scheme == "ed25519":
        return "sha512", algorithms.identifier(algorithms.ED25519)
    if scheme == "ed448":
        return "shake256", algorithms.identifier(algorithms.ED448)
    if scheme.startswith("ml-dsa"):  # RFC 9882 3.3: SHA-512 is for every parameter set
        return "sha512", algorithms.identifier(_ML_DSA_OIDS[scheme])
    kind, _, digest = scheme.rpartition("-")
    if kind == "ecdsa":
        return digest, algorithms.identifier(algorithms.ECDSA_WITH[digest])
    if kind == "rsa-pss":
        return digest, algorithms.identifier(algorithms.RSA_PSS, algorithms.pss_parameters(digest))
    return digest, algorithms.identifier(algorithms.RSA, der.NULL)
