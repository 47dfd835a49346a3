"""The register of the kinds of keys that are made here: what each is for, and how one is made."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


@dataclass(frozen=True)
class KeyKind:
    """What a kind of key can do; ``beside`` is the kind that encrypts beside one that only signs."""

    make: "Callable[[], PrivateKeyTypes]"
    signs: bool = True
    encrypts: bool = True
    beside: str = ""
    post_quantum: bool = False


def _rsa(size: int) -> "PrivateKeyTypes":
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(65537, size)


def _p256() -> "PrivateKeyTypes":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _p384() -> "PrivateKeyTypes":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP384R1())


def _ed25519() -> "PrivateKeyTypes":
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return ed25519.Ed25519PrivateKey.generate()


def _x25519() -> "PrivateKeyTypes":
    from cryptography.hazmat.primitives.asymmetric import x25519

    return x25519.X25519PrivateKey.generate()


def _ml_kem_768() -> "PrivateKeyTypes":
    from cryptography.hazmat.primitives.asymmetric import mlkem

    return mlkem.MLKEM768PrivateKey.generate()


def _ml_kem_1024() -> "PrivateKeyTypes":
    from cryptography.hazmat.primitives.asymmetric import mlkem

    return mlkem.MLKEM1024PrivateKey.generate()


KEY_KINDS = {
    "rsa3072": KeyKind(lambda: _rsa(3072)),
    "rsa4096": KeyKind(lambda: _rsa(4096)),
    "p256": KeyKind(_p256),
    "p384": KeyKind(_p384),
    "ed25519": KeyKind(_ed25519, encrypts=False, beside="x25519"),
    "x25519": KeyKind(_x25519, signs=False),
    "ml-kem-768": KeyKind(_ml_kem_768, signs=False, post_quantum=True),
    "ml-kem-1024": KeyKind(_ml_kem_1024, signs=False, post_quantum=True),
}
"""What ``--key`` takes, the usual one first, by the names of :func:`medmail_cli.pki.x509.usage.key_type`."""
USUAL = next(iter(KEY_KINDS))
GENERAL = tuple(name for name, kind in KEY_KINDS.items() if kind.signs and kind.encrypts)
"""Kinds that both sign and encrypt."""
SIGNING = tuple(name for name, kind in KEY_KINDS.items() if kind.signs)
ENCRYPTION_ONLY = frozenset(name for name, kind in KEY_KINDS.items() if not kind.signs)


def is_post_quantum(name: str) -> bool:
    """Whether keys of a kind outlast a quantum computer: they stand beside others and replace none."""
    return name in KEY_KINDS and KEY_KINDS[name].post_quantum
