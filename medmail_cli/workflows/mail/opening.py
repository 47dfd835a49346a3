"""Reading letters with what is at hand: keys, trust, contacts, profile and the time of judgement."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, overload

from cryptography import x509

from medmail_cli.errors import MedmailError
from medmail_cli.model import Problem
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.validation import Judgement
from medmail_cli.pki.x509.address import binds, looks_mixed, unicode_domain
from medmail_cli.pki.x509.locations import issuer_urls
from medmail_cli.pki.x509.usage import is_ml_kem
from medmail_cli.smime.fields import parse_mailboxes
from medmail_cli.smime.layers import Keys
from medmail_cli.smime.open import Opened, open_message
from medmail_cli.smime.policy import Policy
from medmail_cli.smime.verdict import unique

if TYPE_CHECKING:
    from medmail_cli.model import PrivateKey
    from medmail_cli.profile import Profile
    from medmail_cli.store.trust.contact import Known
    from medmail_cli.store.trust.contacts import Contacts
    from medmail_cli.store.trust.incomplete_chains import Incomplete
    from medmail_cli.workflows.trust.validator import Validator

_MOST_JUDGEMENTS = 4096
_MOST_SENDERS = 8
"""Addresses in From that are compared with those known; one is the rule."""


class LazyKeys(Sequence["tuple[x509.Certificate, PrivateKey]"]):
    """Keys that are asked for only when an encrypted message needs one: a signed one needs no passphrase."""

    def __init__(self, load: Callable[[], Keys]) -> None:
        self._load = load
        self._keys: Keys | None = None

    def _all(self) -> Keys:
        if self._keys is None:
            self._keys = self._load()
        return self._keys

    @overload
    def __getitem__(self, index: int) -> "tuple[x509.Certificate, PrivateKey]": ...
    @overload
    def __getitem__(self, index: slice) -> Keys: ...
    def __getitem__(self, index: int | slice) -> "tuple[x509.Certificate, PrivateKey] | Keys":
        return self._all()[index]

    def __iter__(self) -> "Iterator[tuple[x509.Certificate, PrivateKey]]":
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


@dataclass
class MessageOpener:
    """Opens and judges messages; what it finds out about a certificate it remembers for the next message.

    ``at`` is ``--at``: None means when a message was first stored, else ``now``, and that revocations known
    today count. Signers without an anchor who name their issuer are left to ``incomplete``.
    """

    keys: Keys
    own_addresses: Sequence[str]
    validator: "Validator"
    contacts: "Contacts"
    profile: "Profile"
    now: datetime
    at: datetime | None = None
    delegates: Sequence[str] = ()
    show_unverified: bool = False
    allow_weak: bool = False
    incomplete: "Incomplete | None" = None
    _judged: dict[tuple[object, ...], Judgement] = field(default_factory=dict, repr=False)
    _learned: dict[tuple[object, ...], datetime | None] = field(default_factory=dict, repr=False)

    def open(
        self,
        raw: bytes,
        *,
        id: str,  # noqa: A002 - the word of the JSON
        source: str,
        stored_at: datetime | None = None,
    ) -> Opened:
        """Open and judge one message. Raises only for our own stores (``wrong-passphrase`` …)."""
        at = self.at or stored_at or self.now
        # handed over, so that a large message is freed as soon as it is decoded
        handed = [raw]
        del raw
        opened = open_message(
            handed.pop(),
            id=id,
            source=source,
            keys=self.keys,
            judge=lambda certificate, enclosed: self.judge(certificate, enclosed, at),
            at=at,
            own_addresses=self.own_addresses,
            policy=self._policy(),
            known=self._known,
            pinned=self._pinned,
        )
        senders = [box.address for f in opened.header if f.name == "from" for box in parse_mailboxes(f.value)]
        notes = [note for sender in senders[:_MOST_SENDERS] for note in self._look_alikes(sender)]
        if not notes:
            return opened
        return replace(opened, verdict=replace(opened.verdict, notes=(*opened.verdict.notes, *unique(notes))))

    def _look_alikes(self, address: str) -> Iterator[Problem]:
        """Doubts about an address that a good signature does not settle: it may be somebody's look-alike."""
        domain = address.rpartition("@")[2]
        if address.isascii() and unicode_domain(domain) == domain:
            return
        if looks_mixed(address):
            yield Problem("mixed-scripts", address)
        for other in self.contacts.resembling(address):
            yield Problem("address-resembles", f"{address} ≠ {other}")

    def judge(self, certificate: x509.Certificate, enclosed: Enclosed, at: datetime) -> Judgement:
        """Judge a signer's certificate by the profile's rules; the same question is worked out once."""
        lists = tuple(crl.signature for crl in enclosed.crls)
        key = (certificate, tuple(enclosed.certificates), lists, tuple(enclosed.ocsp), at)
        if key not in self._judged:
            if len(self._judged) >= _MOST_JUDGEMENTS:
                self._judged.clear()
            judged = self._judged[key] = self.validator.judge(
                certificate, enclosed, at=at, known_now=None if self.at else self.now, purpose="sign"
            )
            if self.incomplete is not None and judged.anchor is None and issuer_urls(judged.chain[-1]):
                self.incomplete.add(judged.chain)
        return self._judged[key]

    def learn(self, opened: Opened) -> None:
        """Learn the signer's certificates and capabilities from a mailbox letter that is trusted now too."""
        proven = opened.proven
        senders = [box for f in opened.header if f.name == "from" for box in parse_mailboxes(f.value)]
        if proven is None or len(senders) != 1:
            return
        address = senders[0].address
        try:
            signed_at, capabilities = proven.info.signed_at, proven.info.capabilities
            preferred = proven.info.encryption_key_preference
        except MedmailError:  # capabilities nobody can read teach nothing
            return
        key = (address, proven.certificates)
        if key in self._learned and (signed_at is None or self._learned[key] == signed_at):
            return
        self._learned[key] = signed_at
        extra, enclosed = proven.certificates, Enclosed((*self._known(address), *proven.certificates))
        if self.judge(proven.certificate, enclosed, self.now).problems:
            return
        chains, signers = {}, dict[x509.Certificate, str | None]()
        for certificate in extra:
            if not binds(certificate, address):
                continue
            judged = self.validator.judge(
                certificate, enclosed, at=self.now, known_now=self.now, purpose="encrypt"
            )
            if not judged.problems:
                chains[certificate] = [authority for authority in judged.chain[1:-1] if authority in extra]
                signers[certificate] = judged.signed_by
        if preferred is not None and any(preferred.names(certificate) for certificate in chains):
            # RFC 8551 §2.5.3; post-quantum keys stand beside the one that everybody can use
            chains = {c: above for c, above in chains.items() if preferred.names(c) or is_ml_kem(c)}

        def signed_by(certificate: x509.Certificate) -> str | None:
            if certificate not in signers:
                judged = self.validator.authorities.judge(certificate, enclosed=enclosed, at=self.now)
                signers[certificate] = judged.signed_by
            return signers[certificate]

        self.contacts.learn(
            address,
            tuple(chains),
            capabilities=capabilities,
            preferred=preferred,
            signed_at=signed_at,
            now=self.now,
            chains=chains,
            signed_by=signed_by,
        )

    def _policy(self) -> Policy:
        return Policy(
            not_addressed=self.profile.not_addressed,
            unauthenticated_encryption=self.profile.unauthenticated_encryption,
            domain_bound=self.profile.domain_bound_certificates,
            delegates=frozenset(self.delegates),
            show_unverified=self.show_unverified,
            allow_weak=self.allow_weak,
        )

    def _known(self, address: str) -> Sequence[x509.Certificate]:
        return [helper for entry in self._entries(address) for helper in (entry.certificate, *entry.above)]

    def _pinned(self, address: str) -> Sequence[x509.Certificate]:
        return [entry.certificate for entry in self._entries(address) if entry.origin == "pinned"]

    def _entries(self, address: str) -> "Sequence[Known]":
        contact = self.contacts.lookup(address) if address else None
        return contact.certificates if contact else ()
