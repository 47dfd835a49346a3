"""Writing EnvelopedData (RFC 5652 6) and AuthEnvelopedData (RFC 5083, 5084)."""

import secrets
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, GCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.cms import algorithms, der, identifiers
from medmail_cli.cms.agreement import derive, derive_content_key, derive_kem
from medmail_cli.cms.certificates import fingerprint
from medmail_cli.cms.keywrap import wrap_for, wrap_key
from medmail_cli.cms.publickey import pss_restriction
from medmail_cli.errors import MedmailError
from medmail_cli.model import ContentCipher

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

_Sealed = tuple[list[der.Piece], tuple[bytes, ...]]
"""The ciphertext in pieces, and the encoded tag where there is one."""


def encrypt(
    octets: bytes | memoryview,
    recipients: Sequence[x509.Certificate],
    *,
    cipher: ContentCipher = "aes-256-gcm",
    oaep_for: Collection[str] = frozenset(),
    derive_key: bool = False,
    beside: Sequence[bytes] = (),
) -> bytes:
    """A ContentInfo that only the recipients can open, in DER, around content of type Data.

    GCM and ChaCha20-Poly1305 (RFC 8103) make AuthEnvelopedData, CBC EnvelopedData; with ``derive_key`` the
    cipher's key is derived for it alone, so that the one cannot be passed off as the other (RFC 9709). RSA
    recipients get PKCS#1 v1.5, or OAEP with SHA-256 if their certificate's SHA-256 fingerprint (lower-case
    hex) is in ``oaep_for``; EC recipients ECDH with the X9.63 KDF, X25519 and X448 recipients with HKDF, both
    with an AES key wrap as strong as the cipher; ML-KEM recipients a KEM entry (RFC 9629, 9936) with AES-256
    key wrap. ``beside`` are attributes in DER that nothing protects. Raises
    MedmailError("unsupported-algorithm") for a recipient with any other key.
    """
    if not recipients:
        raise ValueError("no recipients")
    oid = algorithms.CIPHER_OIDS[cipher]
    chosen = algorithms.CIPHERS[oid]
    key = secrets.token_bytes(chosen.key_size)
    entries = der.set_of(entry_for(each, key, oaep_for) for each in recipients)
    nonce = secrets.token_bytes(16 if chosen.mode == "cbc" else 12)
    length = (der.integer(16),) if chosen.mode == "gcm" else ()
    written = der.octet_string(nonce)
    algorithm = der.sequence(der.oid(oid), der.sequence(written, *length) if length else written)
    if derive_key:
        key = derive_content_key(key, algorithm)
        algorithm = der.sequence(der.oid(algorithms.CEK_HKDF_SHA256), algorithm)
    encrypted, tail = _SEAL[chosen.mode](key, nonce, octets)
    content_type = algorithms.AUTH_ENVELOPED_DATA if tail else algorithms.ENVELOPED_DATA
    version = 0 if tail else version_for(recipients)
    attributes: list[der.Piece] = []
    if beside:  # unauthAttrs [2] (RFC 5083 2.1), or unprotectedAttrs [1] (RFC 5652 6.1)
        version = version if tail else max(version, 2)
        attributes.append((b"\xa2" if tail else b"\xa1") + der.set_of(beside)[1:])
    content = der.pieces(der.SEQUENCE, [der.oid(algorithms.DATA), algorithm, *der.pieces(0x80, encrypted)])
    enveloped = der.pieces(der.SEQUENCE, [der.integer(version), entries, *content, *tail, *attributes])
    return b"".join(der.pieces(der.SEQUENCE, [der.oid(content_type), *der.pieces(0xA0, enveloped)]))


def _gcm(key: bytes, nonce: bytes, octets: bytes | memoryview) -> _Sealed:
    encryptor = Cipher(AES(key), GCM(nonce)).encryptor()
    encrypted: list[der.Piece] = [encryptor.update(octets), encryptor.finalize()]
    return encrypted, (der.octet_string(encryptor.tag),)


def _chacha20(key: bytes, nonce: bytes, octets: bytes | memoryview) -> _Sealed:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    sealed = memoryview(ChaCha20Poly1305(key).encrypt(nonce, octets, None))
    return [sealed[:-16]], (der.octet_string(sealed[-16:]),)


def _cbc(key: bytes, vector: bytes, octets: bytes | memoryview) -> _Sealed:
    blocks = Cipher(AES(key), CBC(vector)).encryptor()
    pad = 16 - len(octets) % 16
    return [blocks.update(octets), blocks.update(bytes([pad]) * pad), blocks.finalize()], ()


_SEAL: dict[str, Callable[[bytes, bytes, bytes | memoryview], _Sealed]] = {
    "gcm": _gcm,
    "chacha20": _chacha20,
    "cbc": _cbc,
}


def version_for(recipients: Sequence[x509.Certificate]) -> int:
    """EnvelopedData's version (RFC 5652 6.1): 3 where there are KEM entries, 2 for key agreement, else 0."""
    keys = [_public_key(each) for each in recipients]
    if any(map(algorithms.ml_name, keys)):
        return 3
    return 0 if all(isinstance(key, rsa.RSAPublicKey) for key in keys) else 2


def _public_key(certificate: x509.Certificate) -> "CertificatePublicKeyTypes":
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if key is None or pss_restriction(certificate):
        raise algorithms.unsupported(certificate.public_key_algorithm_oid.dotted_string)
    return key


def entry_for(certificate: x509.Certificate, key: bytes, oaep_for: Collection[str] = frozenset()) -> bytes:
    """The RecipientInfo (RFC 5652 6.2) that wraps ``key`` for one recipient, as :func:`encrypt` says."""
    public_key = _public_key(certificate)
    if isinstance(public_key, rsa.RSAPublicKey):
        oaep = bool(oaep_for) and fingerprint(certificate) in oaep_for
        return _transport(certificate, public_key, key, oaep)
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        ephemeral = ec.generate_private_key(public_key.curve)
        secret = ephemeral.exchange(ec.ECDH(), public_key)
        point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        scheme = algorithms.std_dh(public_key.key_size)
        return _agreement(certificate, key, algorithms.EC_PUBLIC_KEY, point, scheme, secret)
    if isinstance(public_key, x25519.X25519PublicKey):
        own = x25519.X25519PrivateKey.generate()
        return _agreement(
            certificate,
            key,
            algorithms.X25519,
            own.public_key().public_bytes_raw(),
            algorithms.STD_DH_HKDF_SHA256,
            own.exchange(public_key),
        )
    if isinstance(public_key, x448.X448PublicKey):
        mine = x448.X448PrivateKey.generate()
        point = mine.public_key().public_bytes_raw()
        secret = mine.exchange(public_key)
        return _agreement(certificate, key, algorithms.X448, point, algorithms.STD_DH_HKDF_SHA512, secret)
    if algorithms.ml_name(public_key) in _ML_KEM_OIDS:
        return _encapsulation(certificate, key, public_key)
    raise MedmailError("unsupported-algorithm", algorithm=type(public_key).__name__)


_ML_KEM_OIDS = {name: oid for oid, name in algorithms.ML_KEM.items()}


def _encapsulation(certificate: x509.Certificate, key: bytes, public_key: Any) -> bytes:
    """OtherRecipientInfo with a KEMRecipientInfo (RFC 9629 3): ML-KEM, HKDF with SHA-256, AES-256 wrap."""
    secret, ciphertext = public_key.encapsulate()
    oid, size = wrap_for(key, least=32)
    wrap = algorithms.identifier(oid)
    kek = derive_kem(("hkdf", "sha256"), secret, wrap, size, None)
    entry = der.sequence(
        der.integer(0),
        identifiers.issuer_and_serial_of(certificate),
        algorithms.identifier(_ML_KEM_OIDS[algorithms.ml_name(public_key)]),
        der.octet_string(ciphertext),
        algorithms.identifier(algorithms.HKDF_SHA256),
        der.integer(size),
        wrap,
        der.octet_string(wrap_key(oid, kek, key)),
    )
    return der.tlv(0xA4, der.oid(algorithms.ORI_KEM), entry)


def _transport(certificate: x509.Certificate, public_key: rsa.RSAPublicKey, key: bytes, oaep: bool) -> bytes:
    """KeyTransRecipientInfo (RFC 5652 6.2.1, RFC 3370 4.2.1, RFC 3560)."""
    if oaep:
        sha256 = hashes.SHA256()
        wrapped = public_key.encrypt(key, padding.OAEP(padding.MGF1(sha256), sha256, None))
        algorithm = algorithms.identifier(algorithms.RSA_OAEP, algorithms.oaep_parameters("sha256"))
    else:
        wrapped = public_key.encrypt(key, padding.PKCS1v15())
        algorithm = algorithms.identifier(algorithms.RSA, der.NULL)
    identifier = identifiers.issuer_and_serial_of(certificate)
    return der.sequence(der.integer(0), identifier, algorithm, der.octet_string(wrapped))


def _agreement(
    certificate: x509.Certificate, key: bytes, key_oid: str, point: bytes, scheme: str, secret: bytes
) -> bytes:
    """KeyAgreeRecipientInfo with one recipient and an ephemeral key (RFC 5753 3.1.1, RFC 8418 3)."""
    oid, size = wrap_for(key)
    wrap = algorithms.identifier(oid)
    kek = derive(scheme, secret, wrap, size, None)
    originator = der.tlv(0xA1, algorithms.identifier(key_oid), der.bit_string(point))
    recipient = der.sequence(
        identifiers.issuer_and_serial_of(certificate), der.octet_string(wrap_key(oid, kek, key))
    )
    return der.tlv(
        0xA1,
        der.integer(3),
        der.tlv(0xA0, originator),
        algorithms.identifier(scheme, wrap),
        der.sequence(recipient),
    )
