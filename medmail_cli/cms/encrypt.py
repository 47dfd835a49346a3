"""Writing EnvelopedData (RFC 5652 6) and AuthEnvelopedData (RFC 5083, 5084)."""

import secrets
from collections.abc import Collection, Sequence
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x25519
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, GCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medmail_cli.cms import algorithms, der, identifiers
from medmail_cli.cms.agreement import derive
from medmail_cli.errors import MedmailError

ContentCipher = Literal["aes-256-gcm", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc"]

_KEK_SIZE = 32


def encrypt(
    octets: bytes | memoryview,
    recipients: Sequence[x509.Certificate],
    *,
    cipher: ContentCipher = "aes-256-gcm",
    oaep_for: Collection[str] = frozenset(),
) -> bytes:
    """A ContentInfo that only the recipients can open, in DER, around content of type Data.

    GCM makes AuthEnvelopedData, CBC EnvelopedData. RSA recipients get PKCS#1 v1.5, or OAEP with SHA-256 if
    their certificate's SHA-256 fingerprint (lower-case hex) is in ``oaep_for``; EC recipients ECDH with the
    X9.63 KDF, X25519 recipients with HKDF, both over SHA-256 with AES-256 key wrap. Raises
    MedmailError("unsupported-algorithm") for a recipient with any other key.
    """
    if not recipients:
        raise ValueError("no recipients")
    oid = algorithms.CIPHER_OIDS[cipher]
    chosen = algorithms.CIPHERS[oid]
    key = secrets.token_bytes(chosen.key_size)
    entries = der.set_of(_entry(each, key, oaep_for) for each in recipients)
    if chosen.mode == "gcm":
        nonce = secrets.token_bytes(12)
        encryptor = Cipher(AES(key), GCM(nonce)).encryptor()
        encrypted: list[der.Piece] = [encryptor.update(octets), encryptor.finalize()]
        parameters = der.sequence(der.octet_string(nonce), der.integer(16))
        tail = [der.octet_string(encryptor.tag)]
        content_type, version = algorithms.AUTH_ENVELOPED_DATA, 0
    else:
        vector = secrets.token_bytes(16)
        blocks = Cipher(AES(key), CBC(vector)).encryptor()
        pad = 16 - len(octets) % 16
        encrypted = [blocks.update(octets), blocks.update(bytes([pad]) * pad), blocks.finalize()]
        parameters, tail = der.octet_string(vector), []
        content_type = algorithms.ENVELOPED_DATA
        all_transport = all(isinstance(each.public_key(), rsa.RSAPublicKey) for each in recipients)
        version = 0 if all_transport else 2  # RFC 5652 6.1
    content = der.pieces(
        der.SEQUENCE,
        [der.oid(algorithms.DATA), algorithms.identifier(oid, parameters), *der.pieces(0x80, encrypted)],
    )
    enveloped = der.pieces(der.SEQUENCE, [der.integer(version), entries, *content, *tail])
    return b"".join(der.pieces(der.SEQUENCE, [der.oid(content_type), *der.pieces(0xA0, enveloped)]))


def _entry(certificate: x509.Certificate, key: bytes, oaep_for: Collection[str]) -> bytes:
    public_key = certificate.public_key()
    if isinstance(public_key, rsa.RSAPublicKey):
        oaep = bool(oaep_for) and certificate.fingerprint(hashes.SHA256()).hex() in oaep_for
        return _transport(certificate, public_key, key, oaep)
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        ephemeral = ec.generate_private_key(public_key.curve)
        secret = ephemeral.exchange(ec.ECDH(), public_key)
        point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return _agreement(certificate, key, algorithms.EC_PUBLIC_KEY, point, algorithms.STD_DH_SHA256, secret)
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
    raise MedmailError("unsupported-algorithm", algorithm=type(public_key).__name__)


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
    wrap = algorithms.identifier(algorithms.AES256_WRAP)
    kek = derive(scheme, secret, wrap, _KEK_SIZE, None)
    originator = der.tlv(0xA1, algorithms.identifier(key_oid), der.bit_string(point))
    recipient = der.sequence(
        identifiers.issuer_and_serial_of(certificate), der.octet_string(aes_key_wrap(kek, key))
    )
    return der.tlv(
        0xA1,
        der.integer(3),
        der.tlv(0xA0, originator),
        algorithms.identifier(scheme, wrap),
        der.sequence(recipient),
    )
