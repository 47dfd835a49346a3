"""Look-up of certificates: which directories know an address, what they list, and which certificate is used.

A directory only says what it has; whether it may be used is judged here, alike for all of them. The first one
that knows an address is the one that counts: another never replaces what is known in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from cryptography import x509

from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.fitness import dates, fit, unfit
from medmail_cli.pki.x509.address import exact
from medmail_cli.pki.x509.usage import is_ml_kem

if TYPE_CHECKING:
    from medmail_cli.profile import Profile
    from medmail_cli.smime.fields import Mailbox
    from medmail_cli.store.trust.contact import Contact
    from medmail_cli.store.trust.contacts import Contacts
    from medmail_cli.workflows.trust.validator import Validator


@dataclass(frozen=True)
class Listing:
    """What a directory has for an address: certificates, the one to be preferred first.

    ``above`` holds what may stand above each. ``reason`` says why there is none that could be used where the
    directory knows, ``contact`` what the recipient has said of what they read. ``own``: the certificates are
    one's own, and what is on disk decides about them.
    """

    certificates: tuple[x509.Certificate, ...] = ()
    above: tuple[tuple[x509.Certificate, ...], ...] = ()
    reason: str = ""
    contact: "Contact | None" = None
    own: bool = False


class Directory(Protocol):
    """Where certificates are looked up."""

    def listing(self, address: str, at: datetime) -> Listing | None:
        """What it has for an address to be written to then; None where it has never heard of it."""


@dataclass(frozen=True)
class KnownContacts:
    """One's contacts as a directory."""

    contacts: "Contacts"

    def listing(self, address: str, at: datetime) -> Listing | None:
        """See :class:`Directory`. Raises ``store-damaged``."""
        contact = self.contacts.lookup(address)
        if contact is None:
            return None
        usable = contact.encryption(at)
        return Listing(
            tuple(known.certificate for known in usable),
            tuple(known.above for known in usable),
            _why_none(contact, at),
            contact,
        )


@dataclass(frozen=True)
class OwnAddresses:
    """One's own addresses and encryption certificates: a letter may go to oneself."""

    certificates: Sequence[tuple[str, x509.Certificate]]

    def listing(self, address: str, at: datetime) -> Listing | None:  # noqa: ARG002 - a revoked one is judged, too
        """See :class:`Directory`."""
        mine = tuple(certificate for own, certificate in self.certificates if exact(own) == exact(address))
        return Listing(mine, ((),) * len(mine), own=True) if mine else None


@dataclass(frozen=True)
class Addressee:
    """A recipient and the certificate to encrypt to; without one, ``reason`` says what is wrong."""

    address: str
    certificate: x509.Certificate | None
    contact: "Contact | None" = None
    reason: str = ""
    """``unknown``: none was ever heard of. All else speaks of one that is there and must not be used."""


@dataclass
class RecipientResolver:
    """Finds recipients' certificates in directories, asked in order; each certificate is judged once."""

    directories: Sequence[Directory]
    validator: "Validator"
    profile: "Profile"
    now: datetime
    post_quantum: bool = False
    """Only recipients with an ML-KEM key will do; else such a key is used only where there is no other."""
    _addressees: dict[str, Addressee] = field(default_factory=dict)
    _problems: dict[x509.Certificate, str] = field(default_factory=dict)
    _own_problems: dict[x509.Certificate, str] = field(default_factory=dict)

    def find(self, box: "Mailbox") -> Addressee:
        """The addressee for a mailbox. Raises what looking up in a directory raises."""
        key = exact(box.address)
        if key not in self._addressees:
            self._addressees[key] = self._find(box.address)
        return replace(self._addressees[key], address=box.address)

    def _find(self, address: str) -> Addressee:
        for directory in self.directories:
            if (listing := directory.listing(address, self.now)) is not None:
                return self._chosen(address, listing)
        return Addressee(address, None, reason="unknown")

    def _chosen(self, address: str, listing: Listing) -> Addressee:
        reason = listing.reason
        above = dict(zip(listing.certificates, listing.above, strict=True))
        fitting = self._fitting(listing.certificates)
        if above and not fitting:
            reason = "not-post-quantum"
        for certificate in fitting:
            if listing.own:
                problem = self.own_problem(certificate)
            else:
                problem = self._problem(certificate, above[certificate])
            if not problem:
                return Addressee(address, certificate, listing.contact)
            reason = reason or problem
        return Addressee(address, None, listing.contact, reason)

    def own_problem(self, certificate: x509.Certificate) -> str:
        """Why a certificate of one's own serves no more (``expired``, ``not-yet-valid``, ``revoked``), or "".

        What is on disk decides; whether others trust its authority is theirs to say.
        """
        if problems := dates(certificate, self.now):
            return problems[0].code
        if certificate not in self._own_problems:
            judged = self.validator.authorities.judge(
                certificate, at=self.now, known_now=self.now, purpose="any", revocation="soft"
            )
            revoked = any(problem.code == "revoked" for problem in judged.problems)
            self._own_problems[certificate] = "revoked" if revoked else ""
        return self._own_problems[certificate]

    def _fitting(self, certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        """Those with the kind of key that is wanted, the ordinary ones first, else in the order given."""
        kem = [certificate for certificate in certificates if is_ml_kem(certificate)]
        if self.post_quantum:
            return kem
        return [certificate for certificate in certificates if certificate not in kem] + kem

    def _problem(self, certificate: x509.Certificate, above: Sequence[x509.Certificate]) -> str:
        """Why a certificate must not be encrypted to, or ""."""
        if certificate not in self._problems:
            judged = self.validator.judge(
                certificate, Enclosed(tuple(above)), at=self.now, known_now=self.now, purpose="encrypt"
            )
            self._problems[certificate] = judged.problems[0].code if judged.problems else ""
        return self._problems[certificate]


def _why_none(contact: "Contact", at: datetime) -> str:
    """Why nothing of a contact's can be encrypted to at a time; "" where something can."""
    if not contact.certificates:
        return "waiting" if contact.waiting else "unknown"
    if contact.encryption(at):
        return ""
    newest = max(
        contact.certificates, key=lambda known: (fit(known.certificate, "encrypt"), known.since)
    ).certificate
    return [*unfit(newest, "encrypt"), *dates(newest, at)][0].code
