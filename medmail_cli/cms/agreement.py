"""Deriving the key-encryption key of a key agreement: RFC 5753 7.2 (X9.63), RFC 8418 2.2 (HKDF)."""

from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

from medmail_cli.cms import algorithms, der

CURVE_NAMES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}


def derive(scheme: str, secret: bytes, key_info: bytes, size: int, ukm: bytes | None) -> bytes:
    """The key-encryption key of ``size`` octets.

    ``scheme`` is an identifier of ``algorithms.KEY_AGREEMENTS``, ``key_info`` the key wrap's
    AlgorithmIdentifier in DER. The ukm enters the shared info; with HKDF it is the salt as well.
    """
    entity = (der.tlv(0xA0, der.octet_string(ukm)),) if ukm is not None else ()
    bits = der.tlv(0xA2, der.octet_string((size * 8).to_bytes(4, "big")))
    shared_info = der.sequence(key_info, *entity, bits)
    kdf, digest = algorithms.KEY_AGREEMENTS[scheme]
    hashed = algorithms.hash_of(digest)
    if kdf == "hkdf":
        return HKDF(hashed, size, salt=ukm, info=shared_info).derive(secret)
    return X963KDF(hashed, size, shared_info).derive(secret)
