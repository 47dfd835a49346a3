"""Keys derived from other secrets: RFC 5753 7.2 (X9.63), RFC 8418 2.2, RFC 9629 5 and RFC 9709 2 (HKDF)."""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

from medmail_cli.cms import algorithms, der

_CURVE_NAMES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}


def curve_name(curve: ec.EllipticCurve) -> str:
    """A curve by our name: ``p256``, ``brainpoolp256r1``."""
    return _CURVE_NAMES.get(curve.name, curve.name.lower())


def derive(
    scheme: str, secret: bytes, key_info: bytes, size: int, ukm: bytes | None, *, salted: bool = True
) -> bytes:
    """The key-encryption key of ``size`` octets.

    ``scheme`` is an identifier of ``algorithms.KEY_AGREEMENTS``, ``key_info`` the key wrap's
    AlgorithmIdentifier in DER. The ukm enters the shared info; with HKDF it is the salt as well, unless not
    ``salted``, as Bouncy Castle 1.86 has it.
    """
    entity = (der.tlv(0xA0, der.octet_string(ukm)),) if ukm is not None else ()
    bits = der.tlv(0xA2, der.octet_string((size * 8).to_bytes(4, "big")))
    shared_info = der.sequence(key_info, *entity, bits)
    kdf, digest = algorithms.KEY_AGREEMENTS[scheme]
    hashed = algorithms.hash_of(digest)
    if kdf == "hkdf":
        return HKDF(hashed, size, salt=ukm if salted else None, info=shared_info).derive(secret)
    return X963KDF(hashed, size, shared_info).derive(secret)


def derive_kem(
    derivation: tuple[str, str], secret: bytes, wrap: bytes, size: int, ukm: bytes | None
) -> bytes:
    """The key-encryption key of a KEM's shared secret, by a kind and digest of ``algorithms.key_derivation``.

    ``wrap`` is the key wrap's AlgorithmIdentifier in DER (CMSORIforKEMOtherInfo, RFC 9629 5).
    """
    material = (der.tlv(0xA0, der.octet_string(ukm)),) if ukm is not None else ()
    info = der.sequence(wrap, der.integer(size), *material)
    kind, digest = derivation
    hashed = algorithms.hash_of(digest)
    if kind == "hkdf":
        return HKDF(hashed, size, salt=None, info=info).derive(secret)
    if kind == "x963":
        return X963KDF(hashed, size, info).derive(secret)
    return ConcatKDFHash(hashed, size, info).derive(secret)


def derive_content_key(key: bytes, algorithm: bytes) -> bytes:
    """The key, as long as ``key``, under which ``algorithm`` (AlgorithmIdentifier) is used (RFC 9709 2)."""
    salt = b"The Cryptographic Message Syntax"
    return HKDF(algorithms.hash_of("sha256"), len(key), salt=salt, info=algorithm).derive(key)
