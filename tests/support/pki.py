"""A small certificate authority for tests: real keys, real certificates, no files."""

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed448,
    ed25519,
    mldsa,
    mlkem,
    padding,
    rsa,
    x448,
    x25519,
)
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from medmail_cli.cms import ber, der
from medmail_cli.cms.signerinfo import SignerInfo

KeyType = Literal[
    "rsa1024", "rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521",
    "brainpoolp256r1", "brainpoolp384r1", "brainpoolp512r1", "p192",
    "ed25519", "ed448", "x25519", "x448",
    "ml-kem-768", "ml-kem-1024", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87",
]  # fmt: skip
Purpose = Literal["sign", "encrypt", "both", "server", "none"]
Key = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | x25519.X25519PrivateKey
    | x448.X448PrivateKey
    | mlkem.MLKEM768PrivateKey
    | mlkem.MLKEM1024PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
_CURVES: dict[str, ec.EllipticCurve] = {
    "p192": ec.SECP192R1(),
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
    "brainpoolp256r1": ec.BrainpoolP256R1(),
    "brainpoolp384r1": ec.BrainpoolP384R1(),
    "brainpoolp512r1": ec.BrainpoolP512R1(),
}
_OTHERS: dict[str, Callable[[], "Key"]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "x25519": x25519.X25519PrivateKey.generate,
    "x448": x448.X448PrivateKey.generate,
    "ml-kem-768": mlkem.MLKEM768PrivateKey.generate,
    "ml-kem-1024": mlkem.MLKEM1024PrivateKey.generate,
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
}
_SIGN_ONLY = (
    ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
)  # fmt: skip
_KEM = mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey
EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
FAR = dt.datetime(2046, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Authority:
    """A certification authority: what signs, and the certificates from itself up to its root."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...]


def make_key(key_type: KeyType) -> Key:
    """A fresh private key; RSA takes a tenth of a second to a second."""
    if key_type.startswith("rsa"):
        return rsa.generate_private_key(65537, int(key_type[3:]))
    if key_type in _CURVES:
        return ec.generate_private_key(_CURVES[key_type])
    return _OTHERS[key_type]()


def make_ca(
    name: str = "Test Root",
    *,
    parent: Authority | None = None,
    key_type: KeyType = "p256",
    not_before: dt.datetime = EPOCH,
    not_after: dt.datetime = FAR,
    path_length: int | None = None,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    key_identifier_of: "Authority | None" = None,
) -> Authority:
    """A root, or below ``parent`` an intermediate; ``extensions`` are (value, critical) pairs added last.

    With ``key_identifier_of`` it claims another authority's key identifier.
    """
    key = make_key(key_type)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = _key_usage(key_cert_sign=True, crl_sign=True, digital_signature=True)
    if key_identifier_of is not None:
        claimed = key_identifier_of.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        extensions = (*extensions, (claimed.value, False))
    certificate = _certify(
        parent,
        key,
        subject,
        not_before,
        not_after,
        [(x509.BasicConstraints(ca=True, path_length=path_length), True), (usage, True), *extensions],
        subject_key_identifier=key_identifier_of is None,
    )
    return Authority(certificate, key, (certificate, *(parent.chain if parent else ())))


def issue(
    ca: Authority,
    address: str | None,
    purpose: Purpose = "both",
    key_type: KeyType = "rsa2048",
    *,
    name: str | None = None,
    not_before: dt.datetime = EPOCH,
    not_after: dt.datetime = FAR,
    key: Key | None = None,
    email_in_subject: bool = False,
    serial: int | None = None,
    crl_url: str | None = None,
    subject_key_identifier: bool = True,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
) -> tuple[x509.Certificate, Key]:
    """An end entity certificate and its key; for ``server`` the address is the DNS name."""
    key = key or make_key(key_type)
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name or address or "Nobody")]
    if email_in_subject and address:
        names.append(x509.NameAttribute(NameOID.EMAIL_ADDRESS, address))
    added: list[tuple[x509.ExtensionType, bool]] = [(x509.BasicConstraints(ca=False, path_length=None), True)]
    if purpose != "none":
        added.append((_usage_of(purpose, key), True))
        eku = ExtendedKeyUsageOID.SERVER_AUTH if purpose == "server" else ExtendedKeyUsageOID.EMAIL_PROTECTION
        added.append((x509.ExtendedKeyUsage([eku]), False))
    if address and not email_in_subject:
        general: x509.GeneralName = x509.DNSName(address) if purpose == "server" else x509.RFC822Name(address)
        added.append((x509.SubjectAlternativeName([general]), False))
    if crl_url:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
        added.append((x509.CRLDistributionPoints([point]), False))
    certificate = _certify(
        ca,
        key,
        x509.Name(names),
        not_before,
        not_after,
        [*added, *extensions],
        serial,
        subject_key_identifier,
    )
    return certificate, key


def cross(issuer: Authority, subject: Authority) -> x509.Certificate:
    """A certificate of one authority for another."""
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    return _certify(
        issuer,
        subject.key,
        subject.certificate.subject,
        EPOCH,
        FAR,
        [(x509.BasicConstraints(ca=True, path_length=None), True), (usage, True)],
    )


def make_crl(
    ca: Authority,
    revoked: Iterable[x509.Certificate] = (),
    *,
    at: dt.datetime = EPOCH,
    next_update: dt.datetime = FAR,
    revoked_at: dt.datetime = EPOCH,
    reason: x509.ReasonFlags | None = None,
    number: int = 1,
) -> x509.CertificateRevocationList:
    """A CRL of ``ca`` that lists the certificates given, all with the same date and reason."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(at)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.certificate.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
    )
    for certificate in revoked:
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(certificate.serial_number)
            .revocation_date(revoked_at)
        )
        if reason:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(ca.key, _digest_for(ca.key))  # type: ignore[arg-type]


def make_ocsp(
    ca: Authority,
    certificate: x509.Certificate,
    *,
    at: dt.datetime = EPOCH,
    next_update: dt.datetime | None = FAR,
    revoked_at: dt.datetime | None = None,
    reason: x509.ReasonFlags | None = None,
) -> bytes:
    """An OCSP response (DER) of ``ca`` itself about one certificate: good, or revoked."""
    status = ocsp.OCSPCertStatus.REVOKED if revoked_at else ocsp.OCSPCertStatus.GOOD
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=certificate,
            issuer=ca.certificate,
            algorithm=hashes.SHA1(),  # noqa: S303 - names, nothing rests on them
            cert_status=status,
            this_update=at,
            next_update=next_update,
            revocation_time=revoked_at,
            revocation_reason=reason,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, ca.certificate)
    )
    return builder.sign(ca.key, _digest_for(ca.key)).public_bytes(serialization.Encoding.DER)  # type: ignore[arg-type]


def pem(*things: x509.Certificate | x509.CertificateRevocationList | Key) -> bytes:
    """Certificates, CRLs and (unencrypted PKCS#8) keys as one PEM text."""
    parts = []
    for thing in things:
        if isinstance(thing, x509.Certificate | x509.CertificateRevocationList):
            parts.append(thing.public_bytes(serialization.Encoding.PEM))
        else:
            parts.append(
                thing.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
    return b"".join(parts)


def p12(
    certificate: x509.Certificate,
    key: Key,
    chain: Iterable[x509.Certificate] = (),
    password: bytes = b"secret",
    *,
    legacy: bool = False,
    name: str = "identity",
) -> bytes:
    """A PKCS#12 file; ``legacy`` writes 3DES and SHA-1 as old tools do."""
    encryption: serialization.KeySerializationEncryption = serialization.BestAvailableEncryption(password)
    if legacy:
        encryption = (
            serialization.PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(2048)
            .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
            .hmac_hash(hashes.SHA1())  # noqa: S303 - what old tools write
            .build(password)
        )
    return pkcs12.serialize_key_and_certificates(
        name.encode(),
        key,  # type: ignore[arg-type]
        certificate,
        list(chain),
        encryption,
    )


def _certify(
    issuer: Authority | None,
    key: Key,
    subject: x509.Name,
    not_before: dt.datetime,
    not_after: dt.datetime,
    extensions: Iterable[tuple[x509.ExtensionType, bool]],
    serial: int | None = None,
    subject_key_identifier: bool = True,
) -> x509.Certificate:
    signing_key = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if subject_key_identifier:
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
    if issuer:
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.certificate.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(signing_key, _digest_for(signing_key))  # type: ignore[arg-type]


def _digest_for(key: Key) -> hashes.HashAlgorithm | None:
    return None if isinstance(key, _SIGN_ONLY) else hashes.SHA256()


def _usage_of(purpose: Purpose, key: Key) -> x509.KeyUsage:
    signs = purpose in ("sign", "both", "server") and not isinstance(
        key, x25519.X25519PrivateKey | x448.X448PrivateKey | _KEM
    )
    encrypts = purpose in ("encrypt", "both", "server") and not isinstance(key, _SIGN_ONLY)
    rsa_key = isinstance(key, rsa.RSAPrivateKey | _KEM)  # what transports a key rather than agreeing on one
    return _key_usage(
        digital_signature=signs,
        content_commitment=signs and purpose != "server",
        key_encipherment=encrypts and rsa_key,
        key_agreement=encrypts and not rsa_key,
    )


def _key_usage(
    *,
    digital_signature: bool = False,
    content_commitment: bool = False,
    key_encipherment: bool = False,
    key_agreement: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=content_commitment,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=key_agreement,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def named(signer: SignerInfo, candidates: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """The first candidate that the signer's identifier names."""
    return next((certificate for certificate in candidates if signer.id.names(certificate)), None)


def weakly_signed(signed: bytes, key: Key, digest: Literal["md5", "sha1"] = "sha1") -> bytes:
    """A certificate, CRL or BasicOCSPResponse (DER) signed anew as nobody should, so that it is refused."""
    weak_hash = hashes.MD5() if digest == "md5" else hashes.SHA1()  # noqa: S303
    body, algorithm, *after = (bytes(node.raw) for node in ber.parse(signed).elements())
    if isinstance(key, rsa.RSAPrivateKey):
        number = 4 if digest == "md5" else 5
        weak = der.sequence(der.oid(f"1.2.840.113549.1.1.{number}"), b"\x05\x00")
    else:
        weak = der.sequence(der.oid("1.2.840.10045.4.1"))
    inside = (weak if bytes(one.raw) == algorithm else bytes(one.raw) for one in ber.parse(body).elements())
    body = der.sequence(*inside)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(body, padding.PKCS1v15(), weak_hash)
    else:
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signature = key.sign(body, ec.ECDSA(weak_hash))
    return der.sequence(body, weak, der.bit_string(signature), *after[1:])


def of_response(response: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """An OCSPResponse (DER) whose BasicOCSPResponse was changed."""
    status, explicit = ber.parse(response).elements()
    (basic,) = explicit.elements()
    kind, octets = basic.elements()
    inner = der.sequence(bytes(kind.raw), der.tlv(0x04, change(bytes(octets.octets()))))
    return der.sequence(bytes(status.raw), der.tlv(0xA0, inner))
