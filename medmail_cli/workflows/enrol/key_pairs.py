"""The key pairs of an identity: which there shall be, made, and each one's request for a certificate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance.csr import build_request, usage_of
from medmail_cli.store.keys.identity import Identity
from medmail_cli.workflows.enrol.key_kinds import (
    ENCRYPTION_ONLY,
    GENERAL,
    KEY_KINDS,
    SIGNING,
    USUAL,
    is_post_quantum,
)

if TYPE_CHECKING:
    import datetime as dt

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from medmail_cli.model import PrivateKey
    from medmail_cli.pki.x509.usage import Purpose
    from medmail_cli.store.keys.unlocked import Unlocked


@dataclass(frozen=True)
class Pair:
    """A key pair that there shall be."""

    kind: str
    purpose: "Purpose"

    @property
    def post_quantum(self) -> bool:
        """ML-KEM stands beside another encryption key, and replaces none."""
        return is_post_quantum(self.kind)

    def fits(self, waiting: Identity) -> bool:
        """Whether a key that waits for its certificate is one of this pair's."""
        alike = is_post_quantum(waiting.key_type) == self.post_quantum
        return alike and waiting.purpose == self.purpose

    def replaces(self, identity: Identity) -> bool:
        """Whether an identity is retired when this pair comes in its place."""
        alike = is_post_quantum(identity.key_type) == self.post_quantum
        return alike and (self.purpose == "both" or identity.purpose == self.purpose)


def pairs(choice: str | None, *, two: bool) -> tuple[Pair, ...]:
    """What ``--key`` (by default RSA, which everybody reads) means, with one certificate or with two."""
    kind = choice or USUAL
    if kind in ENCRYPTION_ONLY:
        return (Pair(kind, "encrypt"),)
    if beside := KEY_KINDS[kind].beside:
        return (Pair(kind, "sign"), Pair(beside, "encrypt"))
    return (Pair(kind, "sign"), Pair(kind, "encrypt")) if two else (Pair(kind, "both"),)


def preferred(kinds: Sequence[str], among: Sequence[str] = SIGNING, usual: str = USUAL) -> str:
    """The first of the ``kinds`` that an authority certifies which is of use, else the usual one."""
    return next((each for kind in kinds for each in among if each == kind), usual)


def check_kind(choice: str | None, kinds: Sequence[str], url: str) -> None:
    """Raises ``key-not-wanted`` where the authority certifies other ``kinds`` than the one chosen."""
    if choice is not None and not _certified(choice, kinds):
        raise MedmailError("key-not-wanted", url=url, key=choice, kinds=list(kinds))


def _certified(kind: str, kinds: Sequence[str]) -> bool:
    # who names Ed25519 alone has no other word for the key that encrypts beside it
    return (
        not kinds
        or kind in kinds
        or any(KEY_KINDS[each].beside == kind for each in kinds if each in KEY_KINDS)
    )


def kind_after(old: Identity, kinds: Sequence[str]) -> str:
    """The kind that follows an identity's key: the same, or what the authority certifies nowadays."""
    kind = kind_of(old)
    if is_post_quantum(kind) or _certified(kind, kinds):
        return kind
    among = {"both": GENERAL, "sign": SIGNING, "encrypt": (*GENERAL, "x25519")}
    return preferred(kinds, among[old.purpose], kind)


def kind_of(old: Identity) -> str:
    """The kind of an identity's key, or the default where that is not made any more."""
    return old.key_type if old.key_type in KEY_KINDS else USUAL


def make_key(kind: str) -> "PrivateKeyTypes":
    """A fresh private key; RSA takes a second or so."""
    return KEY_KINDS[kind].make()


def voucher(store: "Unlocked", address: str, kind: str) -> "tuple[PrivateKey, x509.Certificate] | None":
    """Who vouches for a key of that kind, which cannot sign: the one that signs for the address (RFC 9883).

    None where the key can prove itself. Raises ``no-signer`` where there is nobody to vouch.
    """
    if kind not in ENCRYPTION_ONLY:
        return None
    signer = signer_beside(store, address, kind)
    return store.private_key(signer), signer.certified


def signer_beside(store: "Unlocked", address: str, kind: str, at: "dt.datetime | None" = None) -> Identity:
    """Who signs for the address of a key of that kind, which does not sign. Raises ``no-signer``."""
    try:
        return store.signer(address, at=at)
    except MedmailError as error:
        if error.code != "no-identity":
            raise
        raise MedmailError("no-signer", address=address, key=kind) from None


def prover(store: "Unlocked", identity: Identity) -> "PrivateKey":
    """The key that signed a waiting identity's request."""
    vouching = voucher(store, identity.address, identity.key_type)
    return vouching[0] if vouching else store.private_key(identity)


def request(
    private_key: "PrivateKeyTypes",
    pair: Pair,
    *,
    address: str,
    name: str = "",
    rpps: str = "",
    organisation: str = "",
    like: x509.Certificate | None = None,
    signer: "tuple[PrivateKey, x509.Certificate] | None" = None,
    also: tuple[x509.ExtensionType, ...] = (),
) -> bytes:
    """A request (PKCS#10, DER) for a new key; ``signer`` vouches for one that cannot sign."""
    public = private_key.public_key()
    return build_request(
        signer[0] if signer else SoftwareKey(private_key),
        address=address,
        name=name or None,
        rpps=rpps or None,
        organisation=organisation or None,
        like=like,
        extra=(*usage_of(pair.purpose, public), *also),
        vouched=(public, signer[1]) if signer else None,
    )
