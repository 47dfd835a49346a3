"""What a certificate's key may be used for in mail (RFC 8550 §4.4.2), and what kind of key it is."""

from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x448, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from medmail_cli.cms import algorithms
from medmail_cli.cms.publickey import pss_restriction
from medmail_cli.pki.x509.certificate import public_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

Purpose = Literal["sign", "encrypt", "both"]

_CURVES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}
_MAIL_USAGES = (ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
_SIGN_ONLY = ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
_ENCRYPT_ONLY = x25519.X25519PublicKey | x448.X448PublicKey


def purpose(certificate: x509.Certificate) -> Purpose | None:
    """What the certificate is for: signing, encryption or both; None for neither (an authority's, say).

    Without a keyUsage extension everything its kind of key can do is allowed. Raises ValueError or
    ``cryptography.exceptions.UnsupportedAlgorithm`` where extensions or key cannot be read.
    """
    key = certificate.public_key()
    kind = algorithms.ml_name(key)
    signs = not isinstance(key, _ENCRYPT_ONLY) and not kind.startswith("ml-kem")
    encrypts = not (isinstance(key, _SIGN_ONLY) or kind.startswith("ml-dsa") or pss_restriction(certificate))
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        pass
    else:
        signs = signs and (usage.digital_signature or usage.content_commitment)
        transported = isinstance(key, rsa.RSAPublicKey) or kind.startswith("ml-kem")
        wraps = usage.key_encipherment if transported else usage.key_agreement
        encrypts = encrypts and wraps
    if signs and encrypts:
        return "both"
    if signs:
        return "sign"
    return "encrypt" if encrypts else None


def is_ml_kem(certificate: x509.Certificate) -> bool:
    """Whether letters to its holder are encrypted by ML-KEM (RFC 9936); not where the key cannot be read."""
    return algorithms.ml_name(public_key(certificate)).startswith("ml-kem")


def for_mail(certificate: x509.Certificate) -> bool:
    """Whether the extended key usage, where there is one, allows e-mail protection."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return any(usage in _MAIL_USAGES for usage in usages)


def key_type(key: "PublicKeyTypes") -> str:
    """The kind of a key as ``--key`` names it: ``rsa3072``, ``p256``, ``ed25519``, ``ml-kem-768`` …"""
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name, key.curve.name.lower())
    return algorithms.ml_name(key) or type(key).__name__.removesuffix("PublicKey").lower()
