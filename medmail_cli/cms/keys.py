"""Private keys held in memory, behind the protocol that cards implement too."""

from typing import TYPE_CHECKING, Any, cast

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x448, x25519

from medmail_cli.cms import algorithms
from medmail_cli.errors import MedmailError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

    from medmail_cli.model import KeyTransport, SignatureScheme

_OAEP_DIGESTS = frozenset({"sha1", "sha224", "sha256", "sha384", "sha512"})
"""Those that cryptography has for OAEP."""


class SoftwareKey:
    """A private key in memory; its repr shows the kind of key and nothing else."""

    __slots__ = ("_key",)

    def __init__(self, private_key: "PrivateKeyTypes") -> None:
        self._key = private_key

    def __repr__(self) -> str:
        return f"SoftwareKey({type(self._key).__name__})"

    @property
    def public_key(self) -> "PublicKeyTypes":
        """The public half."""
        return self._key.public_key()

    def sign(self, message: bytes, scheme: "SignatureScheme") -> bytes:
        """Sign ``message``; MedmailError("unsupported-algorithm") if the key cannot do ``scheme``."""
        key: Any = self._key
        kind, _, digest = scheme.rpartition("-") if "-" in scheme else (scheme, "", "")
        if kind == "rsa-pkcs1v15" and isinstance(key, rsa.RSAPrivateKey):
            return key.sign(message, padding.PKCS1v15(), algorithms.hash_of(digest))
        if kind == "rsa-pss" and isinstance(key, rsa.RSAPrivateKey):
            hashed = algorithms.hash_of(digest)
            return key.sign(message, padding.PSS(padding.MGF1(hashed), hashed.digest_size), hashed)
        if kind == "ecdsa" and isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(message, ec.ECDSA(algorithms.hash_of(digest)))
        if (
            (algorithms.ml_name(key) == scheme)
            or (scheme == "ed25519" and isinstance(key, ed25519.Ed25519PrivateKey))
            or (scheme == "ed448" and isinstance(key, ed448.Ed448PrivateKey))
        ):
            return cast("bytes", key.sign(message))
        raise MedmailError("unsupported-algorithm", algorithm=scheme)

    def decrypt(self, ciphertext: bytes, scheme: "KeyTransport") -> bytes:
        """Unwrap a content-encryption key with RSA (RFC 8017 7.1, 7.2).

        v1.5 never fails on padding: what is wrong gives random octets (implicit rejection, by OpenSSL).
        ValueError where OAEP fails or the ciphertext has the wrong length.
        """
        key = self._key
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError("not an RSA key")  # noqa: TRY004 - ValueError alone becomes the common failure
        if scheme == "rsa-pkcs1v15":
            return key.decrypt(ciphertext, padding.PKCS1v15())
        names = (scheme.digest, scheme.mgf_digest)
        if not _OAEP_DIGESTS.issuperset(names):
            from medmail_cli.cms import oaep

            return oaep.decrypt(key, ciphertext, scheme)
        digest, mgf_digest = map(algorithms.hash_of, names)
        return key.decrypt(ciphertext, padding.OAEP(padding.MGF1(mgf_digest), digest, scheme.label or None))

    def agree(self, peer_public_key: "PublicKeyTypes") -> bytes:
        """The raw shared secret (ECDH, X25519, X448); ValueError if the keys do not fit together."""
        key = self._key
        if isinstance(key, ec.EllipticCurvePrivateKey):
            if isinstance(peer_public_key, ec.EllipticCurvePublicKey):
                return key.exchange(ec.ECDH(), peer_public_key)
        elif isinstance(key, x25519.X25519PrivateKey):
            if isinstance(peer_public_key, x25519.X25519PublicKey):
                return key.exchange(peer_public_key)
        elif isinstance(key, x448.X448PrivateKey) and isinstance(peer_public_key, x448.X448PublicKey):
            return key.exchange(peer_public_key)
        raise ValueError("keys of different kinds")

    def decapsulate(self, ciphertext: bytes, /) -> bytes:
        """The shared secret (FIPS 203); a wrong ciphertext gives another one. ValueError where none fits."""
        from cryptography.hazmat.primitives.asymmetric import mlkem

        if isinstance(self._key, mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey):
            return self._key.decapsulate(ciphertext)
        raise ValueError("not a KEM key")
