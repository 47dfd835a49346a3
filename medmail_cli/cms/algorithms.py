"""Object identifiers and what they mean: digests, signatures, ciphers, key derivations, capabilities.

The one place where a dotted number stands next to its name; nothing here reads a message.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from cryptography.hazmat.primitives import hashes

from medmail_cli.cms import ber, der
from medmail_cli.errors import MedmailError

# Content types (RFC 5652, 3274, 5083)
DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"
ENVELOPED_DATA = "1.2.840.113549.1.7.3"
COMPRESSED_DATA = "1.2.840.113549.1.9.16.1.9"
AUTH_ENVELOPED_DATA = "1.2.840.113549.1.9.16.1.23"

# Attributes (RFC 5652 11, 5035, 6211, 8551)
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SIGNING_TIME = "1.2.840.113549.1.9.5"
CAPABILITIES = "1.2.840.113549.1.9.15"
SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12"
SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
ENCRYPTION_KEY_PREFERENCE = "1.2.840.113549.1.9.16.2.11"
ALGORITHM_PROTECTION = "1.2.840.113549.1.9.52"

# Keys, signatures and key transport
RSA = "1.2.840.113549.1.1.1"
RSA_OAEP = "1.2.840.113549.1.1.7"
MGF1 = "1.2.840.113549.1.1.8"
P_SPECIFIED = "1.2.840.113549.1.1.9"
RSA_PSS = "1.2.840.113549.1.1.10"
EC_PUBLIC_KEY = "1.2.840.10045.2.1"
X25519, X448, ED25519, ED448 = (f"1.3.101.{number}" for number in range(110, 114))
ML_KEM = {"2.16.840.1.101.3.4.4.2": "ml-kem-768", "2.16.840.1.101.3.4.4.3": "ml-kem-1024"}
ML_DSA = {f"2.16.840.1.101.3.4.3.{17 + i}": f"ml-dsa-{size}" for i, size in enumerate((44, 65, 87))}
ZLIB = "1.2.840.113549.1.9.16.3.8"

SHAKE256_LEN = "2.16.840.1.101.3.4.2.18"
_SHAKE_LENGTHS = {"2.16.840.1.101.3.4.2.17": ("shake128", 256), SHAKE256_LEN: ("shake256", 512)}
"""SHAKE with its output's bits in the parameters (RFC 8419 3.1), and the length that is a digest of ours."""

DIGESTS = {
    "md5": "1.2.840.113549.2.5",
    "sha1": "1.3.14.3.2.26",
    "sha224": "2.16.840.1.101.3.4.2.4",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
    "sha512-224": "2.16.840.1.101.3.4.2.5",
    "sha512-256": "2.16.840.1.101.3.4.2.6",
    "sha3-224": "2.16.840.1.101.3.4.2.7",
    "sha3-256": "2.16.840.1.101.3.4.2.8",
    "sha3-384": "2.16.840.1.101.3.4.2.9",
    "sha3-512": "2.16.840.1.101.3.4.2.10",
    "shake128": "2.16.840.1.101.3.4.2.11",
    "shake256": "2.16.840.1.101.3.4.2.12",
}
WEAK_DIGESTS = frozenset({"md5", "sha1"})

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "md5": hashes.MD5,
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
    "sha512-224": hashes.SHA512_224,
    "sha512-256": hashes.SHA512_256,
    "sha3-224": hashes.SHA3_224,
    "sha3-256": hashes.SHA3_256,
    "sha3-384": hashes.SHA3_384,
    "sha3-512": hashes.SHA3_512,
}

SIGNATURES = {
    RSA_PSS: ("rsa-pss", ""),
    "1.2.840.113549.1.1.4": ("rsa-pkcs1v15", "md5"),
    "1.2.840.113549.1.1.5": ("rsa-pkcs1v15", "sha1"),
    "1.3.14.3.2.29": ("rsa-pkcs1v15", "sha1"),
    "1.2.840.113549.1.1.14": ("rsa-pkcs1v15", "sha224"),
    "1.2.840.113549.1.1.11": ("rsa-pkcs1v15", "sha256"),
    "1.2.840.113549.1.1.12": ("rsa-pkcs1v15", "sha384"),
    "1.2.840.113549.1.1.13": ("rsa-pkcs1v15", "sha512"),
    "1.2.840.113549.1.1.15": ("rsa-pkcs1v15", "sha512-224"),
    "1.2.840.113549.1.1.16": ("rsa-pkcs1v15", "sha512-256"),
    "2.16.840.1.101.3.4.3.13": ("rsa-pkcs1v15", "sha3-224"),
    "2.16.840.1.101.3.4.3.14": ("rsa-pkcs1v15", "sha3-256"),
    "2.16.840.1.101.3.4.3.15": ("rsa-pkcs1v15", "sha3-384"),
    "2.16.840.1.101.3.4.3.16": ("rsa-pkcs1v15", "sha3-512"),
    "1.2.840.10045.4.1": ("ecdsa", "sha1"),
    "1.2.840.10045.4.3.1": ("ecdsa", "sha224"),
    "1.2.840.10045.4.3.2": ("ecdsa", "sha256"),
    "1.2.840.10045.4.3.3": ("ecdsa", "sha384"),
    "1.2.840.10045.4.3.4": ("ecdsa", "sha512"),
    "2.16.840.1.101.3.4.3.9": ("ecdsa", "sha3-224"),
    "2.16.840.1.101.3.4.3.10": ("ecdsa", "sha3-256"),
    "2.16.840.1.101.3.4.3.11": ("ecdsa", "sha3-384"),
    "2.16.840.1.101.3.4.3.12": ("ecdsa", "sha3-512"),
    "1.3.6.1.5.5.7.6.30": ("rsa-pss", "shake128"),
    "1.3.6.1.5.5.7.6.31": ("rsa-pss", "shake256"),
    "1.3.6.1.5.5.7.6.32": ("ecdsa", "shake128"),
    "1.3.6.1.5.5.7.6.33": ("ecdsa", "shake256"),
    "1.2.840.10040.4.3": ("dsa", "sha1"),
    "2.16.840.1.101.3.4.3.1": ("dsa", "sha224"),
    "2.16.840.1.101.3.4.3.2": ("dsa", "sha256"),
    ED25519: ("ed25519", ""),
    ED448: ("ed448", ""),
    **{oid: (name, "") for oid, name in ML_DSA.items()},
    # the key's identifier where the signature's belongs: the digest is the signer's digestAlgorithm
    RSA: ("rsa-pkcs1v15", ""),
    EC_PUBLIC_KEY: ("ecdsa", ""),
    "1.2.840.10040.4.1": ("dsa", ""),
}
"""Signature identifier → (scheme, digest), an empty digest where the identifier does not fix one."""
DIGEST_NAMES = {
    # signature identifiers that old software puts where the digest belongs
    **{oid: digest for oid, (_, digest) in SIGNATURES.items() if digest},
    **{oid: name for name, oid in DIGESTS.items()},
}

ECDSA_WITH = {
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}


class Cipher(NamedTuple):
    """A content cipher: its mode, its key's octets, and whether it is read only when that is asked for."""

    name: str
    mode: Literal["cbc", "gcm", "ccm", "chacha20"]
    key_size: int
    weak: bool = False


_AES = "2.16.840.1.101.3.4.1"
CIPHERS = {
    f"{_AES}.2": Cipher("aes-128-cbc", "cbc", 16),
    f"{_AES}.22": Cipher("aes-192-cbc", "cbc", 24),
    f"{_AES}.42": Cipher("aes-256-cbc", "cbc", 32),
    f"{_AES}.6": Cipher("aes-128-gcm", "gcm", 16),
    f"{_AES}.26": Cipher("aes-192-gcm", "gcm", 24),
    f"{_AES}.46": Cipher("aes-256-gcm", "gcm", 32),
    f"{_AES}.7": Cipher("aes-128-ccm", "ccm", 16),
    f"{_AES}.27": Cipher("aes-192-ccm", "ccm", 24),
    f"{_AES}.47": Cipher("aes-256-ccm", "ccm", 32),
    "1.2.840.113549.1.9.16.3.18": Cipher("chacha20-poly1305", "chacha20", 32),
    "1.2.840.113549.3.7": Cipher("3des-cbc", "cbc", 24, weak=True),
    "1.2.840.113549.3.2": Cipher("rc2-cbc", "cbc", 16, weak=True),
}
CIPHER_OIDS = {cipher.name: oid for oid, cipher in CIPHERS.items()}
CEK_HKDF_SHA256 = "1.2.840.113549.1.9.16.3.31"
"""A content cipher inside its parameters, used under a key derived for it alone (RFC 9709)."""

KEY_WRAPS = {f"{_AES}.5": 16, f"{_AES}.25": 24, f"{_AES}.45": 32}
"""AES key wrap identifier → octets of the key-encryption key (RFC 3394, 3565)."""
AES256_WRAP = f"{_AES}.45"
PADDED_KEY_WRAPS = {f"{_AES}.8": 16, f"{_AES}.28": 24, f"{_AES}.48": 32}
"""The same with padding (RFC 5649)."""
AES256_WRAP_PAD = f"{_AES}.48"
TRIPLE_DES_WRAP = "1.2.840.113549.1.9.16.3.6"
"""RFC 3217: weak, and read only where that is asked for."""

KEY_AGREEMENTS = {
    "1.3.133.16.840.63.0.2": ("x963", "sha1"),
    "1.3.132.1.11.0": ("x963", "sha224"),
    "1.3.132.1.11.1": ("x963", "sha256"),
    "1.3.132.1.11.2": ("x963", "sha384"),
    "1.3.132.1.11.3": ("x963", "sha512"),
    # the same numbered under X9.63, as RFC 8418 is also read
    "1.3.133.16.840.63.0.11.1": ("x963", "sha256"),
    "1.3.133.16.840.63.0.11.2": ("x963", "sha384"),
    "1.3.133.16.840.63.0.11.3": ("x963", "sha512"),
    # cofactor agreement: the same computation on the curves we read, whose cofactor is 1
    "1.3.133.16.840.63.0.3": ("x963", "sha1"),
    "1.3.132.1.14.0": ("x963", "sha224"),
    "1.3.132.1.14.1": ("x963", "sha256"),
    "1.3.132.1.14.2": ("x963", "sha384"),
    "1.3.132.1.14.3": ("x963", "sha512"),
    "1.2.840.113549.1.9.16.3.19": ("hkdf", "sha256"),
    "1.2.840.113549.1.9.16.3.20": ("hkdf", "sha384"),
    "1.2.840.113549.1.9.16.3.21": ("hkdf", "sha512"),
}
"""Key agreement identifier → (derivation, digest): RFC 5753 7.1.4, RFC 8418 2."""
ORI_KEM = "1.2.840.113549.1.9.16.13.3"
HKDF_SHA256 = "1.2.840.113549.1.9.16.3.28"
_KEY_DERIVATIONS = {
    HKDF_SHA256: ("hkdf", "sha256"),
    "1.2.840.113549.1.9.16.3.29": ("hkdf", "sha384"),
    "1.2.840.113549.1.9.16.3.30": ("hkdf", "sha512"),
    "1.2.840.113549.1.9.16.3.32": ("hkdf", "sha3-224"),
    "1.2.840.113549.1.9.16.3.33": ("hkdf", "sha3-256"),
    "1.2.840.113549.1.9.16.3.34": ("hkdf", "sha3-384"),
    "1.2.840.113549.1.9.16.3.35": ("hkdf", "sha3-512"),
    "1.3.133.16.840.9.44.1.1": ("x963", ""),
    "1.3.133.16.840.9.44.1.2": ("concatenation", ""),
}
"""HKDF (RFC 8619, 9688), and KDF2 and KDF3 of X9.44 (RFC 9690), whose digest stands in their parameters."""
STD_DH_SHA256, STD_DH_SHA384, STD_DH_SHA512 = (f"1.3.132.1.11.{number}" for number in (1, 2, 3))
STD_DH_HKDF_SHA256 = "1.2.840.113549.1.9.16.3.19"
STD_DH_HKDF_SHA512 = "1.2.840.113549.1.9.16.3.21"


@dataclass(frozen=True)
class Algorithm:
    """An AlgorithmIdentifier as received: identifier, parameters if any, and its octets."""

    oid: str
    parameters: ber.Node | None
    node: ber.Node

    def same_as(self, other: "Algorithm") -> bool:
        """Equal, where absent parameters and NULL are the same thing."""
        return self.oid == other.oid and _parameters(self) == _parameters(other)


def _parameters(algorithm: Algorithm) -> bytes:
    node = algorithm.parameters
    return b"" if node is None or node.tag == ber.NULL else der.canonical(node)


def read(node: ber.Node, tag: int = ber.SEQUENCE) -> Algorithm:
    """An AlgorithmIdentifier, or one under an IMPLICIT ``tag``."""
    fields = node.fields(tag)
    oid = fields.take(ber.OID).oid()
    parameters = fields.maybe()
    fields.end()
    return Algorithm(oid, parameters, node)


def std_dh(bits: int) -> str:
    """The key agreement we write for a curve of so many bits: a digest as strong as it (RFC 5753 8)."""
    return STD_DH_SHA256 if bits <= 256 else STD_DH_SHA384 if bits <= 384 else STD_DH_SHA512


def key_derivation(algorithm: Algorithm) -> tuple[str, str]:
    """The derivation that a KEMRecipientInfo names (RFC 9629 3): its kind and digest by our names."""
    if algorithm.oid not in _KEY_DERIVATIONS:
        raise unsupported(algorithm.oid)
    kind, digest = _KEY_DERIVATIONS[algorithm.oid]
    if digest:
        return kind, digest
    if algorithm.parameters is None:
        raise ber.malformed("key-derivation")
    return kind, digest_name(read(algorithm.parameters))


def unsupported(oid: str) -> MedmailError:
    """The error for an algorithm that we do not know or do not have."""
    return MedmailError("unsupported-algorithm", algorithm=oid)


@lru_cache(maxsize=256)
def identifier(oid: str, *parameters: bytes) -> bytes:
    """An AlgorithmIdentifier in DER; parameters are absent if none are given."""
    return der.sequence(der.oid(oid), *parameters)


def ml_name(key: object) -> str:
    """A post-quantum key's algorithm by our names (``ml-kem-768``), "" for any other key."""
    name = type(key).__name__.removesuffix("PublicKey").removesuffix("PrivateKey")
    return f"ml-{name[2:5].lower()}-{name[5:]}" if name.startswith(("MLKEM", "MLDSA")) else ""


def hash_of(name: str) -> hashes.HashAlgorithm:
    """The hash with one of our names; LookupError if there is none. SHAKE as long as RFC 8702 3.1 has it."""
    if name.startswith("shake"):
        return hashes.SHAKE256(64) if name == "shake256" else hashes.SHAKE128(32)
    return _HASHES[name]()


def digest_name(algorithm: Algorithm) -> str:
    """A digest by our names; "unsupported-algorithm" for one we do not know or have at no such length."""
    oid = algorithm.oid
    if oid in _SHAKE_LENGTHS and algorithm.parameters is not None:
        name, bits = _SHAKE_LENGTHS[oid]
        if algorithm.parameters.integer() == bits:
            return name
    if oid not in DIGEST_NAMES:
        raise unsupported(oid)
    return DIGEST_NAMES[oid]


_GCM_CAPABILITY_NAMES = (
    "aes-256-gcm",
    "aes-192-gcm",
    "aes-128-gcm",
    "aes-256-cbc",
    "aes-192-cbc",
    "aes-128-cbc",
)


def oaep_parameters(digest: str, null: bytes = der.NULL) -> bytes:
    """RSAES-OAEP-params with MGF1 over the same digest and no label (RFC 4055 4.1)."""
    if digest == "sha1":
        return der.sequence()
    hashed = identifier(DIGESTS[digest], null)
    return der.sequence(der.tlv(0xA0, hashed), der.tlv(0xA1, identifier(MGF1, hashed)))


def pss_parameters(digest: str, null: bytes = der.NULL) -> bytes:
    """RSASSA-PSS-params with MGF1 over the same digest and a salt as long as it (RFC 4056 3)."""
    hashed = identifier(DIGESTS[digest], null)
    salt = der.integer(hash_of(digest).digest_size)
    return der.sequence(der.tlv(0xA0, hashed), der.tlv(0xA1, identifier(MGF1, hashed)), der.tlv(0xA2, salt))


CAPABILITY_BYTES = {
    **{name: identifier(CIPHER_OIDS[name]) for name in _GCM_CAPABILITY_NAMES},
    "ecdh-x25519-hkdf-sha256": identifier(STD_DH_HKDF_SHA256, identifier(AES256_WRAP)),
    "ecdh-sha256": identifier(STD_DH_SHA256, identifier(AES256_WRAP)),
    "rsa-oaep-sha256": identifier(RSA_OAEP, oaep_parameters("sha256")),
    "rsa-oaep-sha1": identifier(RSA_OAEP, oaep_parameters("sha1")),
    "rsa-pss-sha256": identifier(RSA_PSS, pss_parameters("sha256")),
    "prefer-binary-inside": identifier("1.2.840.113549.1.9.16.11.1"),
    "chacha20-poly1305": identifier(CIPHER_OIDS["chacha20-poly1305"]),
    "cek-hkdf-sha256": identifier(CEK_HKDF_SHA256),
    **{name: identifier(oid) for oid, name in ML_KEM.items()},
}
"""What can be advertised in sMIMECapabilities (RFC 8551 2.5.2, RFC 4262), as written."""
_SHA256 = identifier(DIGESTS["sha256"], der.NULL)
CAPABILITY_NAMES = {encoded: name for name, encoded in CAPABILITY_BYTES.items()} | {
    # digests without NULL, which RFC 4055 2.1 wants accepted
    identifier(RSA_OAEP, oaep_parameters("sha256", b"")): "rsa-oaep-sha256",
    identifier(RSA_PSS, pss_parameters("sha256", b"")): "rsa-pss-sha256",
    # the octets that RFC 3560 5 demands, which lack the tags of its own syntax
    identifier(RSA_OAEP, der.sequence(_SHA256, identifier(MGF1, _SHA256))): "rsa-oaep-sha256",
}
CAPABILITY_OIDS = {oid: cipher.name for oid, cipher in CIPHERS.items() if not cipher.weak} | {
    "1.2.840.113549.1.9.16.11.1": "prefer-binary-inside"
}
_NO_CIPHERS = (
    "1.2.840.113549.1.1.", "1.2.840.10040.", "1.2.840.10045.", "1.3.101.", "1.3.132.", "1.3.133.16.840.",
    "1.2.840.113549.2.", "1.3.14.3.2.26", "1.3.14.3.2.29", "1.3.6.1.5.5.7.6.",
    "2.16.840.1.101.3.4.2.", "2.16.840.1.101.3.4.3.", "2.16.840.1.101.3.4.4.",
    "1.2.840.113549.1.9.15.", "1.2.840.113549.1.9.16.3.", "1.2.840.113549.1.9.16.11.",
)  # fmt: skip
"""Where keys, digests, signatures, KEMs and the other capabilities of S/MIME are numbered."""


def is_older_cipher(capability: str) -> bool:
    """Whether a capability is a cipher that we do not write, from before GCM: AES-192 in CBC, 3DES …

    As far as we can tell: of a number that stands in none of the known places it is assumed.
    """
    if capability == "aes-192-cbc":
        return True
    known = capability.startswith(_NO_CIPHERS) or capability in KEY_WRAPS or capability in PADDED_KEY_WRAPS
    return capability[0].isdigit() and not known


DEFAULT_CAPABILITIES = (
    "aes-256-gcm", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc",
    "chacha20-poly1305", "cek-hkdf-sha256", "ecdh-sha256", "ecdh-x25519-hkdf-sha256", "rsa-oaep-sha256",
    "rsa-pss-sha256", "prefer-binary-inside",
)  # fmt: skip
"""What medmail reads, in the order it prefers: what `sign` advertises unless told otherwise."""
