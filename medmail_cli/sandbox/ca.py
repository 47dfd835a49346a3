"""The sandbox's certificate authorities: one for its servers, one (root and issuing) for physicians."""

import base64
import datetime as dt
import threading
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mlkem, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.pki.issuance.csr import general_name
from medmail_cli.pki.issuance.issued import requested_addresses
from medmail_cli.pki.x509.address import addresses, same_address
from medmail_cli.sandbox.possession import voucher

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

_BACKDATED = dt.timedelta(minutes=5)
_CMC_CA = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.27")


class RequestRefused(Exception):  # noqa: N818 - named for what happened
    """A request the authority does not certify; the argument says why."""


@dataclass(frozen=True)
class Issuer:
    """A certificate that signs others, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass
class ServerAuthority:
    """The anchor of the operator's own servers, which issues their TLS certificates."""

    issuer: Issuer

    @classmethod
    def create(cls, now: dt.datetime) -> "ServerAuthority":
        """Make the anchor."""
        return cls(_root("Sandbox Operator CA", now))

    @property
    def pem(self) -> bytes:
        """The anchor."""
        return self.issuer.certificate.public_bytes(Encoding.PEM)

    def server(self, now: dt.datetime) -> bytes:
        """Certificate and key for ``localhost`` and ``127.0.0.1``, as one PEM text."""
        return _server_certificate(self.issuer, now)


@dataclass
class IdentityAuthority:
    """Root and issuing authority of physicians' certificates, with the list of those revoked."""

    root: Issuer
    issuing: Issuer
    web: str
    issued: list[x509.Certificate] = field(default_factory=list)
    revoked: dict[int, tuple[dt.datetime, x509.ReasonFlags]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def create(cls, now: dt.datetime, web: str) -> "IdentityAuthority":
        """Make both authorities; ``web`` is where their CRLs will be, without a slash at the end."""
        root = _root("Sandbox Order Root CA", now)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(_called("Sandbox Order Issuing CA"))
        builder = _builder(name, root.certificate.subject, key.public_key(), now, 5 * 365)
        builder = (
            _as_authority(builder, path_length=0)
            .add_extension(_authority_key(root), critical=False)
            .add_extension(_points(f"{web}/root-crl"), critical=False)
        )
        return cls(root, Issuer(builder.sign(root.key, hashes.SHA256()), key), web)

    @property
    def pem(self) -> bytes:
        """The root, to be trusted."""
        return self.root.certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the root, in lower-case hex."""
        return fingerprint(self.root.certificate)

    def server(self, now: dt.datetime) -> bytes:
        """Certificate and key for the authority's own server, under the root, as one PEM text."""
        return _server_certificate(self.root, now)

    def cacerts(self) -> bytes:
        """Root and issuing certificate as the body of ``/cacerts`` (RFC 7030 §4.1.3)."""
        return certs_only([self.root.certificate, self.issuing.certificate])

    def issue(self, der: bytes, holder: str, now: dt.datetime, *, proven: bool = False) -> x509.Certificate:
        """Certify a request (DER) that ``holder`` sent, for ``holder``'s address only.

        The registrar, any address whose local part is ``registrar``, asks for others, one at a time.

        ``proven`` if possession of the key has been shown otherwise. Raises :class:`RequestRefused`.
        """
        try:
            csr = x509.load_der_x509_csr(der)
            key = csr.public_key()
            extensions = csr.extensions
            if _signs(key):
                proven = proven or csr.is_signature_valid
        except (ValueError, x509.DuplicateExtension) as error:
            raise RequestRefused(f"unreadable request: {error}") from None
        if not _signs(key):
            by = voucher(der, self.issued)
            certified = [] if by is None or by.serial_number in self.revoked else addresses(by)
            proven = bool(certified) and all(
                same_address(certified[0], requested) for requested in requested_addresses(csr)
            )
        if not proven:
            raise RequestRefused("the request does not prove possession of the key")
        if isinstance(key, dsa.DSAPublicKey) or (isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048):
            raise RequestRefused("the key is too weak")
        asked = requested_addresses(csr) or [holder]
        registrar = holder.partition("@")[0] == "registrar" and len(asked) == 1
        if not registrar and any(not same_address(address, holder) for address in asked):
            raise RequestRefused(f"{holder} may ask for certificates of that address only")
        builder = _builder(_subject(csr, asked[0]), self.issuing.certificate.subject, key, now, 365)
        above = x509.UniformResourceIdentifier(f"{self.web}/issuing-ca")
        purposes = [ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.CLIENT_AUTH]
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(key, extensions), True),
            (x509.ExtendedKeyUsage(purposes), False),
            (x509.SubjectAlternativeName([general_name(asked[0])]), False),
            (_authority_key(self.issuing), False),
            (_points(f"{self.web}/crl"), False),
            (
                x509.AuthorityInformationAccess(
                    [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, above)]
                ),
                False,
            ),
        ):
            builder = builder.add_extension(extension, critical=critical)
        certificate = builder.sign(self.issuing.key, hashes.SHA256())
        with self._lock:
            self.issued.append(certificate)
        return certificate

    def holder(self, der: bytes) -> str | None:
        """Whose certificate that is, of those issued and not revoked; the handshake has proven the key."""
        with self._lock:
            for certificate in self.issued:
                if certificate.public_bytes(Encoding.DER) == der:
                    known = addresses(certificate)
                    return known[0] if certificate.serial_number not in self.revoked else None
        return None

    def belongs(self, serial: int, holder: str) -> bool:
        """Whether a certificate was issued to that address."""
        with self._lock:
            matching = [certificate for certificate in self.issued if certificate.serial_number == serial]
        return any(
            same_address(address, holder) for certificate in matching for address in addresses(certificate)
        )

    def responder(self, now: dt.datetime) -> Issuer:
        """A certificate and key that sign what the authority says (id-kp-cmcCA, RFC 9810 §4.5)."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(_called("Sandbox Order CMP"))
        builder = _builder(name, self.issuing.certificate.subject, key.public_key(), now, 365)
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage("digital_signature"), True),
            (x509.ExtendedKeyUsage([_CMC_CA]), False),
            (_authority_key(self.issuing), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        return Issuer(builder.sign(self.issuing.key, hashes.SHA256()), key)

    def revoke(
        self, serial: int, at: dt.datetime, reason: x509.ReasonFlags = x509.ReasonFlags.unspecified
    ) -> None:
        """Put a certificate on the next CRL."""
        with self._lock:
            self.revoked[serial] = at, reason

    def crl(self, now: dt.datetime) -> bytes:
        """The issuing authority's CRL (DER), good for a week."""
        with self._lock:
            revoked = dict(self.revoked)
        return _crl(self.issuing, revoked, now)

    def root_crl(self, now: dt.datetime) -> bytes:
        """The root's CRL (DER): it has revoked nothing."""
        return _crl(self.root, {}, now)


def certs_only(certificates: list[x509.Certificate]) -> bytes:
    """A certs-only CMC answer in base64 (RFC 7030 §4.1.3, RFC 8951 §3.1)."""
    return base64.encodebytes(pkcs7.serialize_certificates(certificates, Encoding.DER))


def _name(*attributes: x509.NameAttribute[str]) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "FR"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "medmail sandbox"),
            *attributes,
        ]
    )


def _called(common_name: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.COMMON_NAME, common_name)


def _subject(csr: x509.CertificateSigningRequest, holder: str) -> x509.Name:
    """What the request says of its holder; the sandbox, unlike a real authority, believes it."""
    kept = (NameOID.COMMON_NAME, NameOID.GIVEN_NAME, NameOID.SURNAME, NameOID.SERIAL_NUMBER, NameOID.TITLE)
    attributes = [x509.NameAttribute(a.oid, str(a.value)) for a in csr.subject if a.oid in kept]
    if not any(attribute.oid == NameOID.COMMON_NAME for attribute in attributes):
        attributes.append(_called(holder[:64]))
    return _name(*attributes)


def _root(common_name: str, now: dt.datetime) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(_called(common_name))
    builder = _builder(name, name, key.public_key(), now, 10 * 365)
    return Issuer(_as_authority(builder, path_length=None).sign(key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: "CertificatePublicKeyTypes", now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _as_authority(builder: x509.CertificateBuilder, path_length: int | None) -> x509.CertificateBuilder:
    return builder.add_extension(
        x509.BasicConstraints(ca=True, path_length=path_length), critical=True
    ).add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)


def _authority_key(issuer: Issuer) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def _points(url: str) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints(
        [x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)]
    )


_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def _key_usage(*usages: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in usages for usage in _USAGES})


def _signs(key: object) -> bool:
    return not isinstance(key, x25519.X25519PublicKey | mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey)


def _usage(key: object, extensions: x509.Extensions) -> x509.KeyUsage:
    """What the key can do, as far as the request does not ask for less (a key for signing only, say)."""
    if isinstance(key, rsa.RSAPublicKey):
        able = {"digital_signature", "content_commitment", "key_encipherment"}
    elif isinstance(key, ec.EllipticCurvePublicKey):
        able = {"digital_signature", "content_commitment", "key_agreement"}
    elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        able = {"digital_signature", "content_commitment"}
    elif isinstance(key, x25519.X25519PublicKey):
        able = {"key_agreement"}
    elif isinstance(key, mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey):
        able = {"key_encipherment"}
    else:
        raise RequestRefused("keys of this type are not certified here")
    try:
        asked = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return _key_usage(*able)
    # encipher_only and decipher_only cannot be read where key_agreement is not set
    wanted = {usage for usage in _USAGES[:-2] if getattr(asked, usage)}
    if not able & wanted:
        raise RequestRefused("the key cannot do what the request wants it for")
    return _key_usage(*(able & wanted))


def _server_certificate(issuer: Issuer, now: dt.datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))])
    subject = _name(_called("localhost"))
    builder = _builder(subject, issuer.certificate.subject, key.public_key(), now, 365)
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage("digital_signature"), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (names, False),
        (_authority_key(issuer), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(issuer.key, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM) + key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def _crl(issuer: Issuer, revoked: dict[int, tuple[dt.datetime, x509.ReasonFlags]], now: dt.datetime) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - _BACKDATED)
        .next_update(now + dt.timedelta(days=7))
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
        .add_extension(_authority_key(issuer), critical=False)
    )
    for serial, (at, reason) in revoked.items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
        if reason != x509.ReasonFlags.unspecified:  # which is not written (RFC 5280 §5.3.1)
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)
