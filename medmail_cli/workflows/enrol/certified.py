"""What every way of enrolling shares: who a certificate is for, keeping it, and telling about it."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError
from medmail_cli.model import Note
from medmail_cli.pki.path.chain import is_root
from medmail_cli.pki.x509 import dn
from medmail_cli.pki.x509.address import addresses as addresses_of
from medmail_cli.pki.x509.address import same_address
from medmail_cli.pki.x509.certificate import facts
from medmail_cli.pki.x509.usage import Purpose, for_mail, purpose
from medmail_cli.store.keys.identity import Identity

if TYPE_CHECKING:
    from medmail_cli.store.keys.unlocked import Unlocked
    from medmail_cli.workflows.enrol.escrow import Escrow


REGISTRAR_HELD = "registrar-held"
"""The method of an identity whose key somebody else made: its holder is not the only one who has had it."""

EnrolmentStatus = Literal[
    "enrolled", "renewed", "imported", "revoked", "waiting", "unchanged", "possible-duplicate", "failed"
]


@dataclass(frozen=True)
class Enrolment:
    """An identity of the keystore and what has just become of it.

    ``possible-duplicate``: enrolled, but a request before may have got another key and certificate, lost.

    ``request`` is the PEM of the request that a waiting one needs a certificate for, ``saved_as`` where it
    was written; ``code`` says what ``failed``.
    """

    type: ClassVar[str] = "enrolment"
    status: EnrolmentStatus
    id: str
    address: str
    addresses: tuple[str, ...]
    name: str
    purpose: Purpose
    method: str
    key: str
    sha256: str | None
    not_after: dt.datetime | None
    request: str | None = None
    saved_as: Path | None = None
    code: str | None = None
    exit: int = OK


def certify(
    store: "Unlocked",
    waiting: Identity,
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    *,
    method: str,
    now: dt.datetime,
    address: str | None = None,
    escrow: "Escrow | None" = None,
) -> Identity:
    """Make a waiting key an identity with the certificate that came for it.

    One that only encrypts is copied for whom the profile wants to have it (``escrow``). Raises
    ``wrong-key-usage`` for one that serves neither signing nor encryption, ``needs-address``.
    """
    bears, pinned = whom(certificate, address or waiting.address)
    if escrow is not None and serves_for(certificate) == "encrypt":
        from medmail_cli.workflows.enrol.escrow import lay_down, signer_of

        signer = signer_of(store, waiting.address, certificate, now)
        lay_down(escrow, signer, waiting.address, store.unseal(waiting), (certificate, *chain), now)
    return store.add(
        store.unseal(waiting),
        certificate,
        chain,
        addresses=bears,
        pinned=pinned,
        name=waiting.name or common_name(certificate),
        purpose=serves_for(certificate),
        method=method,
        now=now,
        replaces=waiting.replaces,
        authority=waiting.authority,
    )


def serves_for(certificate: x509.Certificate) -> Purpose:
    """What the certificate is for. Raises ``wrong-key-usage`` where that is nothing, ``malformed``."""
    try:
        serves = purpose(certificate)
    except (ValueError, UnsupportedAlgorithm):
        raise MedmailError("malformed", what=common_name(certificate)) from None
    if serves is None:
        raise MedmailError("wrong-key-usage", sha256=fingerprint(certificate))
    return serves


def whom(certificate: x509.Certificate, address: str | None) -> tuple[tuple[str, ...], bool]:
    """Whom an identity speaks for, a pinned address first, and whether it is pinned beyond what is borne.

    Raises ``needs-address`` where the certificate bears none and none is given.
    """
    bears = addresses_of(certificate)
    if address is None or any(same_address(address, borne) for borne in bears):
        if not bears:
            raise MedmailError("needs-address", subject=common_name(certificate))
        return bears, False
    return (address, *bears), True


def warnings(identity: Identity, now: dt.datetime, asked: Purpose | None = None) -> Iterator[Note]:
    """What is odd about a new identity, ``asked`` for, and will trouble those it writes to."""
    certificate = identity.certificate
    if certificate is None:
        return
    if certificate.not_valid_after_utc < now:
        yield Note(
            "identity-expired",
            {"address": identity.address, "date": f"{certificate.not_valid_after_utc:%Y-%m-%d}"},
        )
    if certificate.not_valid_before_utc > now:
        yield Note(
            "identity-not-yet-valid",
            {"address": identity.address, "date": f"{certificate.not_valid_before_utc:%Y-%m-%d}"},
        )
    if identity.pinned:
        yield Note("address-pinned", {"address": identity.address})
    if not for_mail(certificate):
        yield Note("not-for-mail", {"address": identity.address})
    if any(code == "weak-key" for code, _ in facts(certificate).weaknesses):
        yield Note("weak-identity", {"address": identity.address, "key": identity.key_type})
    if (asked, identity.purpose) == ("both", "sign"):
        yield Note("signs-only", {"address": identity.address})


def enrolment(
    what: EnrolmentStatus,
    identity: Identity,
    request: str | None = None,
    saved_as: Path | None = None,
) -> Enrolment:
    """The event that tells of an identity."""
    return Enrolment(
        what, identity.id, identity.address, identity.addresses, identity.name, identity.purpose,
        identity.method, identity.key_type, identity.sha256, identity.expires, request, saved_as,
    )  # fmt: skip


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name, nothing where there is none."""
    names = dn.subject(certificate).get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def roots_of(identities: Sequence[Identity]) -> tuple[x509.Certificate, ...]:
    """The roots at the end of the identities' chains, where they came along."""
    return tuple(
        identity.chain[-1] for identity in identities if identity.chain and is_root(identity.chain[-1])
    )


def speaks_for(identity: Identity, address: str) -> bool:
    """Whether the identity is one of that address."""
    return any(same_address(mine, address) for mine in identity.addresses)


def covers(other: Identity, identity: Identity) -> bool:
    """Whether ``other`` does all the work of ``identity``.

    ML-KEM stands beside other keys, for none of them.
    """
    alike = other.key_type.startswith("ml-kem") == identity.key_type.startswith("ml-kem")
    does = other.purpose in (identity.purpose, "both")
    return alike and does and all(speaks_for(other, mine) for mine in identity.addresses)
