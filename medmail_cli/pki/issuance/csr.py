"""Certificate requests (PKCS#10, RFC 2986) for keys that may live anywhere, and whether an answer fits.

cryptography's builder wants its own private keys; ours may be on a card, so the signature is made by
:class:`~medmail_cli.model.PrivateKey` and put into the structure here.
"""

import contextlib
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from medmail_cli.cms import der
from medmail_cli.cms.algorithms import ml_name
from medmail_cli.cms.identifiers import issuer_and_serial_of
from medmail_cli.cms.signed import default_scheme
from medmail_cli.errors import MedmailError
from medmail_cli.pki.x509.address import SMTP_UTF8_MAILBOX, exact, unicode_domain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from medmail_cli.model import PrivateKey, SignatureScheme
    from medmail_cli.pki.x509.usage import Purpose

_NULL = b"\x05\x00"
ALGORITHMS: "dict[SignatureScheme, tuple[str, bytes]]" = {
    "rsa-pkcs1v15-sha256": ("1.2.840.113549.1.1.11", _NULL),
    "rsa-pkcs1v15-sha384": ("1.2.840.113549.1.1.12", _NULL),
    "rsa-pkcs1v15-sha512": ("1.2.840.113549.1.1.13", _NULL),
    "ecdsa-sha256": ("1.2.840.10045.4.3.2", b""),
    "ecdsa-sha384": ("1.2.840.10045.4.3.3", b""),
    "ecdsa-sha512": ("1.2.840.10045.4.3.4", b""),
    "ed25519": ("1.3.101.112", b""),
    "ed448": ("1.3.101.113", b""),
}
"""Scheme to its identifier and parameters (RFC 4055, 5758, 8410)."""
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
STATEMENT_OF_POSSESSION = "1.3.6.1.4.1.22112.2.1"
"""privateKeyPossessionStatement (RFC 9883 §3)."""


def build_request(
    key: "PrivateKey",
    *,
    address: str,
    name: str | None = None,
    rpps: str | None = None,
    organisation: str | None = None,
    like: x509.Certificate | None = None,
    extra: "Sequence[x509.ExtensionType]" = (),
    vouched: "tuple[PublicKeyTypes, x509.Certificate] | None" = None,
) -> bytes:
    """A PKCS#10 request, DER, for ``address``, signed by ``key``.

    ``name`` becomes the common name (the address without one), ``rpps`` the subject's serialNumber; the
    address stands in subjectAltName, as SmtpUTF8Mailbox where its local part is not ASCII (RFC 9598).
    ``like`` is the certificate to be renewed, whose subject and subjectAltName are asked for again as they
    are (RFC 7030 §4.2.2). A key that cannot sign (X25519, ML-KEM) cannot prove itself: then ``vouched`` is
    that key, and the certificate of ``key``, whose holder states to possess it (RFC 9883). Raises
    ``unsupported-algorithm`` where ``key`` cannot sign, ``malformed`` for text too long for its attribute
    (64 characters, RFC 5280 appendix A).
    """
    subject = [(NameOID.COMMON_NAME, name or address), (NameOID.ORGANIZATION_NAME, organisation)]
    subject.append((NameOID.SERIAL_NUMBER, rpps))
    try:
        # a long address is no common name, and stands in subjectAltName anyway
        shown = x509.Name(
            [
                x509.NameAttribute(oid, value if name or oid != NameOID.COMMON_NAME else value[:64])
                for oid, value in subject
                if value
            ]
        )
        alternative = x509.SubjectAlternativeName([general_name(address)])
    except ValueError as error:
        raise MedmailError("malformed", what=address) from error
    if like is not None:
        shown = like.subject
        with contextlib.suppress(x509.ExtensionNotFound):
            alternative = like.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    extensions = [alternative, *extra]
    requested = der.sequence(*(_extension(extension) for extension in extensions))
    attributes = [der.sequence(der.oid(EXTENSION_REQUEST), der.set_of([requested]))]
    public = key.public_key
    if vouched is not None:
        public, certificate = vouched
        statement = der.sequence(issuer_and_serial_of(certificate), certificate.public_bytes(Encoding.DER))
        attributes.append(der.sequence(der.oid(STATEMENT_OF_POSSESSION), der.set_of([statement])))
    scheme = default_scheme(key)
    algorithm = signature_algorithm(scheme)
    body = der.sequence(
        der.integer(0),
        shown.public_bytes(),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        der.set_of(attributes, tag=0xA0),
    )
    return der.sequence(body, algorithm, der.bit_string(key.sign(body, scheme)))


def signature_algorithm(scheme: "SignatureScheme") -> bytes:
    """The AlgorithmIdentifier of a signature that stands for itself. Raises ``unsupported-algorithm``."""
    if scheme not in ALGORITHMS:
        raise MedmailError("unsupported-algorithm", algorithm=scheme)
    oid, parameters = ALGORITHMS[scheme]
    return der.sequence(der.oid(oid), parameters)


def usage_of(purpose: "Purpose", key: "PublicKeyTypes") -> "tuple[x509.KeyUsage, ...]":
    """The keyUsage to ask for where a key shall sign or encrypt alone; nothing where it may do both."""
    if purpose == "both":
        return ()
    signs = purpose == "sign"
    # RFC 4055 §1.2, RFC 9935 §5; keys that agree on one: RFC 5480 §3, RFC 9295
    transports = isinstance(key, rsa.RSAPublicKey) or ml_name(key).startswith("ml-kem")
    return (
        x509.KeyUsage(
            digital_signature=signs,
            content_commitment=signs,
            key_encipherment=not signs and transports,
            data_encipherment=False,
            key_agreement=not signs and not transports,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        ),
    )


def matches(certificate: x509.Certificate, key: "PrivateKey") -> bool:
    """Whether the certificate is for this key."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_key().public_bytes(*form) == key.public_key.public_bytes(*form)


def _extension(value: x509.ExtensionType) -> bytes:
    return der.sequence(der.oid(value.oid.dotted_string), der.octet_string(value.public_bytes()))


def general_name(address: str) -> x509.GeneralName:
    """rfc822Name with its domain as A-labels, or SmtpUTF8Mailbox, whose domain is U-labels (RFC 9598 §3)."""
    local, _, domain = address.rpartition("@")
    if not local or not domain:
        raise ValueError(address)
    if local.isascii():
        return x509.RFC822Name(exact(address))
    mailbox = f"{local}@{unicode_domain(domain)}".encode()
    return x509.OtherName(SMTP_UTF8_MAILBOX, der.tlv(0x0C, mailbox))
