"""Correspondents: their certificates, what their software reads, and where each certificate came from.

One JSON file per address. Its name is made of the SHA-256 of the address compared caselessly and of the
address exactly, so that both ways of looking up need no index; ``sha256`` in it is over the rest, so that a
changed byte is ``store-damaged``. Writing is atomic and under a lock.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cryptography import x509

from medmail_cli.cms.identifiers import CertificateId
from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.fitness import fit
from medmail_cli.pki.x509.address import binds, canonical, exact, same_address
from medmail_cli.store import files
from medmail_cli.store.trust.contact import Contact, Known, Origin, Reads, address_in, dump, load_contact

if TYPE_CHECKING:
    from medmail_cli.store.trust.believed import Believed, Standing
    from medmail_cli.store.trust.contact_index import AddressIndex

Learned = Literal["learned", "waiting", "unchanged"]

Chains = Mapping[x509.Certificate, Sequence[x509.Certificate]]
_NO_CHAINS: Chains = {}
SignedBy = Callable[[x509.Certificate], str | None]
"""Finds the key that signed a certificate, as in :attr:`Known.signed_by`."""


def _unfound(_certificate: x509.Certificate) -> str | None:
    return None


SKEW = dt.timedelta(minutes=5)
_MOST = 16
"""Certificates kept for one address, the newest: nobody can fill the disk by signing letters."""


class Contacts:
    """The contacts in ``folder``, which need not exist.

    Of a home, ``believed`` is what its audit log says: a certificate taken by hand that the log knows
    nothing of makes its contact ``unlogged-trust``. Whoever takes one has written the intent into the log
    before.
    """

    def __init__(self, folder: Path, believed: "Believed | None" = None) -> None:
        self._folder, self._lock = folder, folder / ".lock"
        self._believed = believed

    def lookup(self, address: str) -> Contact | None:
        """The contact for an address one wants to write to.

        The exact address (the domain compared as A-labels); else the one that differs only in ASCII case,
        if there is just one. Raises ``store-damaged``, ``unlogged-trust``.
        """
        path = self._found(address)
        return None if path is None else self._checked(path)

    def stored(self, address: str) -> Contact | None:
        """Likewise, as its file has it, whatever the log says. Raises ``store-damaged``."""
        path = self._found(address)
        return None if path is None else load_contact(path)

    def existing(self, address: str) -> Contact:
        """Likewise. Raises ``not-found`` too."""
        contact = self.stored(address)
        if contact is None:
            raise MedmailError("not-found", what="contact", name=address)
        return contact

    def at(self, path: Path) -> Contact:
        """The contact of a file, whatever the log says. Raises ``store-damaged``."""
        contact = load_contact(path)
        if path.name != self._path(contact.address).name:
            raise MedmailError("store-damaged", path=str(path))
        return contact

    def unknown(self, contact: Contact) -> tuple[str, ...]:
        """The SHA-256 of what was taken by hand and the log knows nothing of."""
        return tuple(
            known.sha256 for known, standing in self._standings(contact).items() if standing == "unknown"
        )

    def unlogged(self) -> Iterator[Path]:
        """The files of contacts that are not believed."""
        for path in sorted(self._folder.glob("*.json")):
            if self.unknown(load_contact(path)):
                yield path

    def _found(self, address: str) -> Path | None:
        path = self._path(address)
        if path.exists():
            return path
        alike = self._index().named(_stem(canonical(address)))
        return self._folder / alike[0] if len(alike) == 1 else None

    def resembling(self, address: str) -> tuple[str, ...]:
        """The contacts' addresses that look like this one and are others. Raises ``store-damaged``."""
        alike = self._index().alike(address)
        return tuple(other for other in alike if not same_address(other, address))

    def _index(self) -> "AddressIndex":
        from medmail_cli.store.trust.contact_index import AddressIndex

        return AddressIndex(self._folder, self._lock, address_in)

    def _standings(self, contact: Contact) -> "dict[Known, Standing]":
        if self._believed is None:
            return {}
        return {known: self._believed.contact(contact.address, known.sha256) for known in contact.by_hand}

    def _checked(self, path: Path) -> Contact:
        contact = load_contact(path)
        standings = self._standings(contact)
        if "unknown" in standings.values():
            raise MedmailError("unlogged-trust", path=str(path))
        gone = [known for known, standing in standings.items() if standing == "going"]
        if not gone:
            return contact
        return replace(
            contact,
            certificates=tuple(
                certificate for certificate in contact.certificates if certificate not in gone
            ),
        )

    def all(self, *, believed: bool = True) -> tuple[Contact, ...]:
        """Every contact, by address; unless ``believed``, whatever the log says of it.

        Raises ``store-damaged``, ``unlogged-trust``.
        """
        contacts = (
            (self._checked if believed else load_contact)(path) for path in self._folder.glob("*.json")
        )
        return tuple(sorted(contacts, key=lambda contact: canonical(contact.address)))

    def add(
        self,
        address: str,
        certificates: Sequence[x509.Certificate],
        *,
        now: dt.datetime,
        chains: Chains = _NO_CHAINS,
        signed_by: SignedBy = _unfound,
    ) -> Contact:
        """Take certificates on the user's word; those that do not bear the address are pinned to it.

        ``chains`` gives the authorities' certificates above each.
        """

        def change(contact: Contact) -> Contact:
            for certificate in certificates:
                origin: Origin = "added" if binds(certificate, address) else "pinned"
                above = tuple(chains.get(certificate, ()))
                known = Known(certificate, origin, now, above, signed_by=signed_by(certificate))
                contact = _with(contact, known)
            return contact

        return self._change(address, change)

    def set_reads(self, address: str, reads: Reads) -> Contact:
        """Say what a contact's software reads; makes the contact if need be.

        ``modern`` also forgets what was advertised so far: the next letter may say it anew.
        """

        def change(contact: Contact) -> Contact:
            said = () if reads == "modern" else contact.capabilities
            return replace(contact, reads=reads, capabilities=said)

        return self._change(address, change)

    def accept(self, address: str, sha256: str = "") -> Contact:
        """Take the waiting certificates (that one, by a prefix of its SHA-256) into use.

        Raises ``not-found`` where none waits.
        """
        wanted = sha256.lower().replace(":", "")

        def change(contact: Contact) -> Contact:
            chosen = [known for known in contact.waiting if known.sha256.startswith(wanted)]
            if not chosen:
                raise MedmailError("not-found", what="waiting certificate", name=sha256 or address)
            rest = tuple(known for known in contact.waiting if known not in chosen)
            contact = replace(contact, waiting=rest)
            for known in chosen:
                contact = _with(contact, known)
            return contact

        return self._change(self.existing(address).address, change)

    def remove(self, address: str) -> Contact:
        """Forget a contact. Raises ``not-found``."""
        contact = self.existing(address)
        path = self._path(contact.address)
        with files.lock(self._lock), self._index().changing(path.name, None):
            path.unlink(missing_ok=True)
            files.sync_folder(self._folder)
        return contact

    def learn(
        self,
        address: str,
        certificates: Sequence[x509.Certificate],
        *,
        capabilities: Sequence[str] | None = None,
        preferred: CertificateId | None = None,
        signed_at: dt.datetime | None = None,
        now: dt.datetime,
        chains: Chains = _NO_CHAINS,
        signed_by: SignedBy = _unfound,
    ) -> Learned:
        """Learn from a letter of the mailbox whose signer is trusted now; ``address`` is the signer's.

        Certificates that do not bear the address, or cannot encrypt, are passed over. One that another key
        signed than those known (``signed_by``, asked of older ones too) waits for ``accept``, as does any
        beside a pinned one: what a certificate says of its issuer is anybody's to write. Capabilities, and
        which certificate is ``preferred``, count if they are newer than those stored and not from the
        future. The caller has judged every certificate; writes nothing where nothing is new.
        """
        bearing = [c for c in certificates if binds(c, address) and fit(c, "encrypt")]
        result: Learned = "unchanged"

        def change(contact: Contact) -> Contact:
            nonlocal result
            seen = {known.certificate for known in (*contact.certificates, *contact.waiting)}
            for certificate in bearing:
                if certificate in seen:
                    continue
                contact = _completed(contact, signed_by)
                above = tuple(chains.get(certificate, ()))
                known = Known(certificate, "learned", now, above, signed_by=signed_by(certificate))
                if _may_join(known, contact):
                    contact, result = _with(contact, known), "waiting" if result == "waiting" else "learned"
                else:
                    waiting = _newest((*contact.waiting, known))
                    contact, result = replace(contact, waiting=waiting), "waiting"
            if signed_at is None or signed_at > now + SKEW:
                return contact
            if capabilities is not None and _newer(signed_at, contact.capabilities_at):
                contact = replace(contact, capabilities=tuple(capabilities), capabilities_at=signed_at)
            if preferred is not None:
                contact = _preferring(contact, preferred, signed_at)
            return contact

        existing = self.lookup(address)
        if existing is not None and change(existing) == existing:
            return "unchanged"
        if existing is None and not bearing:
            return "unchanged"
        result = "unchanged"
        self._change(existing.address if existing else address, change)
        return result

    def _change(self, address: str, change: Callable[[Contact], Contact]) -> Contact:
        """Read, change and write one contact under the lock; an unchanged one is not written."""
        path = self._path(address)
        with files.lock(self._lock):
            old = load_contact(path) if path.exists() else None
            new = change(old or Contact(address.strip()))
            if new != old:
                with self._index().changing(path.name, new.address):
                    files.write_atomic(path, dump(new), swept=True)
        return new

    def _path(self, address: str) -> Path:
        return self._folder / f"{_stem(canonical(address))}.{_stem(exact(address))}.json"


def _stem(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _with(contact: Contact, known: Known) -> Contact:
    """The contact with a certificate more; one known already keeps its date and takes the new origin."""
    for earlier in contact.certificates:
        if earlier.certificate == known.certificate:
            above = tuple(dict.fromkeys((*earlier.above, *known.above)))
            known = replace(
                known,
                since=earlier.since,
                above=above,
                preferred_at=earlier.preferred_at,
                signed_by=known.signed_by or earlier.signed_by,
            )
    others = tuple(each for each in contact.certificates if each.certificate != known.certificate)
    waiting = tuple(each for each in contact.waiting if each.certificate != known.certificate)
    return replace(contact, certificates=_newest((*others, known)), waiting=waiting)


def _newest(known: Sequence[Known]) -> tuple[Known, ...]:
    return tuple(sorted(known, key=lambda each: (each.since, each.sha256)))[-_MOST:]


def _may_join(new: Known, contact: Contact) -> bool:
    if not contact.certificates:
        return True
    if any(known.origin == "pinned" for known in contact.certificates):
        return False
    return new.signed_by is not None and new.signed_by in {known.signed_by for known in contact.certificates}


def _completed(contact: Contact, signed_by: SignedBy) -> Contact:
    """The contact with the keys that signed its certificates, where they were not known so far."""
    certificates = tuple(
        known if known.signed_by else replace(known, signed_by=signed_by(known.certificate))
        for known in contact.certificates
    )
    return replace(contact, certificates=certificates)


def _newer(signed_at: dt.datetime, stored: dt.datetime | None) -> bool:
    return stored is None or signed_at > stored


def _preferring(contact: Contact, preferred: CertificateId, signed_at: dt.datetime) -> Contact:
    """The contact with a word about which of its certificates to use."""
    certificates = tuple(
        replace(known, preferred_at=signed_at)
        if preferred.names(known.certificate) and _newer(signed_at, known.preferred_at)
        else known
        for known in contact.certificates
    )
    return replace(contact, certificates=certificates)
