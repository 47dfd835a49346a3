"""The frozen dataclasses and protocols that have no owner; other types live with the code that makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

SignatureScheme = Literal[
    "rsa-pkcs1v15-sha256",
    "rsa-pkcs1v15-sha384",
    "rsa-pkcs1v15-sha512",
    "rsa-pss-sha256",
    "rsa-pss-sha384",
    "rsa-pss-sha512",
    "ecdsa-sha256",
    "ecdsa-sha384",
    "ecdsa-sha512",
    "ed25519",
    "ed448",
    "ml-dsa-44",
    "ml-dsa-65",
    "ml-dsa-87",
]


ContentCipher = Literal["aes-256-gcm", "chacha20-poly1305", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc"]
"""What letters are encrypted by, the strongest first; identifiers and modes stand in ``cms.algorithms``."""


@dataclass(frozen=True)
class Oaep:
    """RSAES-OAEP's parameters (RFC 8017 7.1): digests by name ("sha1", "sha256" …) and the label."""

    digest: str
    mgf_digest: str
    label: bytes = b""


KeyTransport = Literal["rsa-pkcs1v15"] | Oaep


Primitive = Literal["ecdsa", "rsa-pkcs1v15", "rsa"]
"""How a key signs in TLS: ECDSA of a digest (in DER), PKCS #1 v1.5 of a DigestInfo, bare RSA of a block."""


class PrivateKey(Protocol):
    """A private key that signs or opens letters, wherever it lives: in software or on a card."""

    @property
    def public_key(self) -> "PublicKeyTypes":
        """The public half."""

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        """Sign ``message`` (hashed here); ECDSA signatures are DER. Raises MedmailError if a card refuses."""

    def decrypt(self, ciphertext: bytes, scheme: KeyTransport) -> bytes:
        """Unwrap an RSA-wrapped content-encryption key; v1.5 rejects implicitly (never tells bad padding).

        ValueError for whatever is wrong with the ciphertext; MedmailError if the key is unusable.
        """

    def agree(self, peer_public_key: "PublicKeyTypes") -> bytes:
        """The raw shared secret with a peer's ephemeral public key (ECDH, X25519, X448); errors as above."""

    def decapsulate(self, ciphertext: bytes, /) -> bytes:
        """The secret that a KEM ciphertext holds (ML-KEM); a wrong one gives another; errors as above."""


@dataclass(frozen=True)
class CardPlace:
    """Where a private key stands that cannot leave its card (PKCS#11): what the keystore holds of it.

    ``module`` is the path of the card's PKCS#11 module, empty where it came from a backup and any of this
    machine that shows the card will do; ``label`` and ``serial`` name the token, ``key_id``
    (CKA_ID in hex) the key.
    """

    module: str
    label: str
    serial: str
    key_id: str


@dataclass(frozen=True)
class Progress:
    """How far long work has come; ``total`` is 0 where it is unknown."""

    type: ClassVar[str] = "progress"
    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class Note:
    """Something worth telling that changes no outcome; its words stand in ``ui/i18n.py``."""

    type: ClassVar[str] = "note"
    code: str
    facts: dict[str, str | int]


class Memory(Protocol):
    """Where what a certificate request has come to is kept, as long as the request waits."""

    def load(self) -> bytes:
        """What was saved last, nothing where nothing was."""

    def save(self, state: bytes) -> None:
        """Keep ``state`` in place of what was there; on disk when this returns."""


class Phrase(str):
    """English that remembers what it was put together from, so that it can be said in another language."""

    template: str
    parts: tuple[str, ...]


def phrase(template: str, *parts: str) -> Phrase:
    """``template`` with ``parts``, phrases perhaps, at ``{0}``, ``{1}`` …; the view has every template."""
    text = Phrase(template.format(*parts))
    text.template, text.parts = template, parts
    return text


def listed(parts: Sequence[str]) -> str:
    """Phrases and other words in a row, with semicolons between them; empty for none."""
    if len(parts) < 2:
        return parts[0] if parts else ""
    # halved, as whoever translates a phrase goes down into it: a stranger's letter can bring a thousand parts
    middle = len(parts) // 2
    return phrase("{0}; {1}", listed(parts[:middle]), listed(parts[middle:]))


@dataclass(frozen=True)
class Problem:
    """A reason why not (or, among notes, a doubt): a registered code, and what it is about."""

    code: str
    detail: str = ""
