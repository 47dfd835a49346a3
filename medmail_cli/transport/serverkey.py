"""What an EST authority gives out where it makes the key (RFC 7030 §4.4): the key, and its certificate.

The key comes as PKCS#8, which TLS alone protects, or encrypted for a key of ours that the request named:
EnvelopedData around SignedData around an AsymmetricKeyPackage (RFC 5958). That the certificate is for it
shows that it is the right key, whoever signed the package.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key

from medmail_cli.cms import algorithms, ber, content, der
from medmail_cli.cms.enveloped import decrypt, parse_enveloped
from medmail_cli.cms.signed import parse_signed
from medmail_cli.errors import MedmailError
from medmail_cli.smime import mime

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from medmail_cli.model import PrivateKey

Keys = Sequence["tuple[x509.Certificate, PrivateKey]"]
DECRYPT_KEY_ID = "1.2.840.113549.1.9.16.2.54"
"""id-aa-asymmDecryptKeyID (RFC 7030 §4.4.1.2)."""
_MOST_NESTED = 4
"""Structures around a key that came encrypted; two are usual."""


def identifier(certificate: x509.Certificate) -> bytes | None:
    """What names a certificate in DECRYPT_KEY_ID: its key identifier, None where it says none."""
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return None
    return der.octet_string(identifier.digest)


def read(
    body: bytes, content_type: str, keys: Keys, decoded: Callable[[bytes], bytes]
) -> "tuple[PrivateKeyTypes, tuple[x509.Certificate, ...]]":
    """The key and the certificates of an answer; ``keys`` open an encrypted one, ``decoded`` undoes Base64.

    Raises ``malformed``, and ``bad-tag`` or ``no-key`` where a key that came encrypted does not open.
    """
    if not content_type.lower().startswith("multipart/mixed"):
        raise ber.malformed("not-multipart")
    whole = mime.parse(b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n" + body)
    key: bytes | None = None
    certificates: tuple[x509.Certificate, ...] = ()
    for part in whole.children:
        octets = decoded(part.source[part.body : part.end])
        if part.content_type == "application/pkcs8":
            key = octets
        elif part.content_type == "application/pkcs7-mime":
            node = ber.parse(octets)
            if content.content_type(node) == "signed-data":
                certificates = parse_signed(node).certificates
            else:
                key = _package(decrypt(parse_enveloped(node), keys).content)
    if key is None or not certificates:
        raise ber.malformed("no-key-or-certificate")
    return _loaded(key), certificates


def _package(octets: bytes, depth: int = _MOST_NESTED) -> bytes:
    """The first key (PKCS#8) of an AsymmetricKeyPackage, signed or not."""
    if not depth:
        raise ber.malformed("too-deep")
    node = ber.parse(octets)
    first = node.fields().take()
    if first.tag == ber.OID:  # a ContentInfo, as OpenSSL encrypts it
        signed = parse_signed(node)
    elif first.tag == ber.INTEGER:  # SignedData by itself, as RFC 5652 §6.1 has it; PKCS#8 begins so too
        if node.fields().take(ber.INTEGER).integer() in (0, 1) and not _is_signed_data(node):
            return octets
        signed = parse_signed(ber.parse(der.sequence(der.oid(algorithms.SIGNED_DATA), der.tlv(0xA0, octets))))
    else:
        return bytes(first.raw)
    if signed.content is None:
        raise ber.malformed("no-content")
    return _package(bytes(signed.content), depth - 1)


def _is_signed_data(node: ber.Node) -> bool:
    fields = node.fields()
    fields.take(ber.INTEGER)
    return fields.take().tag == ber.SET  # digestAlgorithms; PKCS#8 has an AlgorithmIdentifier here


def _loaded(octets: bytes) -> "PrivateKeyTypes":
    try:
        key = load_der_private_key(octets, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ber.malformed("private-key") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise MedmailError("unsupported-algorithm", algorithm=type(key).__name__)
    return key
