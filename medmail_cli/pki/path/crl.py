"""A certificate revocation list: its fields, its entries, what it may be used for (RFC 5280 §5).

What several of them say together of one certificate is :mod:`medmail_cli.pki.path.revocation`.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from medmail_cli.cms.certificates import UNREADABLE
from medmail_cli.cms.identifiers import crl_issuer_octets
from medmail_cli.pki.x509 import dn
from medmail_cli.pki.x509.certificate import WEAK_HASHES, verifies
from medmail_cli.pki.x509.critical import unknown_critical
from medmail_cli.pki.x509.names import NameKey, name_key

SKEW = dt.timedelta(minutes=5)
"""How far clocks may differ on a CRL's own times; compared with differences, as neither end of time moves."""

ALWAYS = dt.datetime.min.replace(tzinfo=dt.UTC)
"""Before anything was told."""
_HARMLESS_BEFORE = {
    x509.ReasonFlags.affiliation_changed,
    x509.ReasonFlags.superseded,
    x509.ReasonFlags.cessation_of_operation,
}
"""Reasons that say nothing against what was signed before the date."""
_KNOWN = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER, ExtensionOID.CRL_NUMBER, ExtensionOID.DELTA_CRL_INDICATOR,
    ExtensionOID.ISSUING_DISTRIBUTION_POINT, ExtensionOID.FRESHEST_CRL, ExtensionOID.ISSUER_ALTERNATIVE_NAME,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
}  # fmt: skip
_KNOWN_OF_ENTRIES = {
    CRLEntryExtensionOID.CERTIFICATE_ISSUER, CRLEntryExtensionOID.CRL_REASON,
    CRLEntryExtensionOID.INVALIDITY_DATE, x509.ObjectIdentifier("2.5.29.23"),  # holdInstructionCode
}  # fmt: skip


@dataclass(frozen=True)
class Revocation:
    """A certificate stands on a CRL: since when (the earlier of revocation and invalidity date) and why."""

    date: dt.datetime
    reason: x509.ReasonFlags

    @property
    def passing(self) -> bool:
        """Whether it may end."""
        return self.reason in (x509.ReasonFlags.certificate_hold, x509.ReasonFlags.remove_from_crl)

    def counts(self, at: dt.datetime, known_now: dt.datetime | None) -> bool:
        """Whether it tells against the certificate at ``at``; see :func:`.validation.judge`."""
        return self.date <= at or (known_now is not None and self.reason not in _HARMLESS_BEFORE)


LeftOut = Callable[[int, NameKey], tuple[Revocation, dt.datetime] | None]
"""What earlier issues said of a certificate by its number and issuer, and since when a list leaves it out."""


def _nothing(_serial: int, _issuer: NameKey) -> None:
    return None


@dataclass(eq=False)
class Crl:
    """A CRL with the fields that choosing among many needs; make it with :func:`read_crl`."""

    crl: x509.CertificateRevocationList
    issuer: NameKey
    this_update: dt.datetime
    next_update: dt.datetime | None
    number: int | None
    delta_base: int | None
    scope: x509.IssuingDistributionPoint | None
    key_id: bytes | None
    unknown: str | None
    """A critical extension of the whole list that nobody here knows."""
    earlier: LeftOut = _nothing
    believed: dict[x509.Certificate, bool] = field(default_factory=dict, repr=False)
    """Which signers' keys were found to have signed it, and which not."""
    _entries: dict[tuple[int, NameKey], Revocation | None] = field(default_factory=dict, repr=False)

    @cached_property
    def defect(self) -> str | None:
        """Why such a CRL can revoke but never clear (RFC 5280 §5.2, §5.3): a weak digest, by its name, or a
        critical extension, of the list or of any entry, by its identifier; None where there is nothing.
        """
        try:
            digest = self.crl.signature_hash_algorithm
        except UnsupportedAlgorithm:
            digest = None  # nor can it be verified
        if digest is not None and digest.name in WEAK_HASHES:
            return str(digest.name)
        if self.unknown is not None:
            return self.unknown
        if self.scope is not None and self.scope.indirect_crl and () in {who for who, _ in self.of_issuers}:
            return CRLEntryExtensionOID.CERTIFICATE_ISSUER.dotted_string
        # a hundred thousand entries are parsed one by one only where their octets give reason to
        return self._unknown_of_entries() if self._doubtful else None

    @cached_property
    def _doubtful(self) -> bool:
        return unknown_critical(self.crl.tbs_certlist_bytes, _KNOWN | _KNOWN_OF_ENTRIES)

    def signed_by(self, signer: x509.Certificate) -> bool:
        """Whether this key signed it, entitled to or not; found out once."""
        if signer not in self.believed:
            body = self.crl.tbs_certlist_bytes  # made anew each time, and slowly
            self._doubtful = unknown_critical(body, _KNOWN | _KNOWN_OF_ENTRIES)
            self.believed[signer] = verifies(self.crl, body, signer)
        return self.believed[signer]

    @property
    def usable(self) -> bool:
        """Whether its silence says anything."""
        return self.defect is None

    def _unknown_of_entries(self) -> str | None:
        for entry in self.crl:
            try:
                strange = [e.oid for e in entry.extensions if e.critical and e.oid not in _KNOWN_OF_ENTRIES]
            except UNREADABLE:
                return "?"
            if strange:
                return str(strange[0].dotted_string)
        return None

    def current(self, at: dt.datetime) -> bool:
        """Whether it speaks for the instant ``at``, or for a later one."""
        late = at - (self.this_update if self.next_update is None else self.next_update)
        return self.usable and late <= SKEW

    def entry(self, serial: int, issuer: NameKey) -> Revocation | None:
        """The entry for a certificate, None where it is not listed; a long list is searched for it once."""
        if (serial, issuer) not in self._entries:
            self._entries[serial, issuer] = self._found(serial, issuer)
        return self._entries[serial, issuer]

    def left_out(self, serial: int, issuer: NameKey, not_after: dt.datetime) -> Revocation | None:
        """A revocation that stood on earlier issues until after the certificate's end (RFC 5280 §3.3)."""
        remembered = self.earlier(serial, issuer)
        return remembered[0] if remembered is not None and remembered[1] > not_after else None

    def _found(self, serial: int, issuer: NameKey) -> Revocation | None:
        if self.scope is not None and self.scope.indirect_crl:
            entry = self.of_issuers.get((issuer, serial))
        elif issuer == self.issuer and serial < 0:  # forbidden by RFC 5280, and not looked up by cryptography
            entry = next((e for e in self.crl if e.serial_number == serial), None)
        elif issuer == self.issuer:
            entry = self.crl.get_revoked_certificate_by_serial_number(serial)
        else:
            entry = None
        return _revocation(entry) if entry is not None else None

    @cached_property
    def of_issuers(self) -> dict[tuple[NameKey, int], x509.RevokedCertificate]:
        """The entries; in an indirect CRL each belongs to the last issuer named (RFC 5280 §5.3.3).

        That is () where it cannot be read.
        """
        issuer, entries = self.issuer, {}
        for entry in self.crl:
            try:
                named = entry.extensions.get_extension_for_class(x509.CertificateIssuer).value
            except x509.ExtensionNotFound:
                pass
            except UNREADABLE:
                issuer = ()
            else:
                names = named.get_values_for_type(x509.DirectoryName)
                issuer = name_key(names[0]) if names else ()
            entries[issuer, entry.serial_number] = entry
        return entries


def read_crl(crl: x509.CertificateRevocationList, earlier: LeftOut = _nothing) -> Crl | None:
    """Read what choosing among CRLs needs; None for one that cannot be understood."""
    by_type: dict[type, x509.ExtensionType] = {}
    unknown = None
    try:
        for extension in crl.extensions:
            by_type[type(extension.value)] = extension.value
            if extension.critical and extension.oid not in _KNOWN:
                unknown = extension.oid.dotted_string
        issuer = name_key(dn.crl_issuer(crl))
        this_update, next_update = crl.last_update_utc, crl.next_update_utc
    except UNREADABLE:
        return None
    number, base = by_type.get(x509.CRLNumber), by_type.get(x509.DeltaCRLIndicator)
    scope, key = by_type.get(x509.IssuingDistributionPoint), by_type.get(x509.AuthorityKeyIdentifier)
    return Crl(
        crl,
        issuer,
        this_update,
        next_update,
        number.crl_number if isinstance(number, x509.CRLNumber) else None,
        base.crl_number if isinstance(base, x509.DeltaCRLIndicator) else None,
        scope if isinstance(scope, x509.IssuingDistributionPoint) else None,
        key.key_identifier if isinstance(key, x509.AuthorityKeyIdentifier) else None,
        unknown,
        earlier,
    )


def dropped_entries(old: Crl, new: Crl) -> Iterator[tuple[NameKey, int, Revocation]]:
    """The revocations of ``old`` that ``new``, a later issue of the list, leaves out; holds may end."""
    listed, kept = _listed(old), _listed(new).keys()
    for key in listed.keys() - kept:
        revoked = _revocation(listed[key])
        if not revoked.passing:
            yield *key, revoked


def _listed(crl: Crl) -> dict[tuple[NameKey, int], x509.RevokedCertificate]:
    if crl.scope is not None and crl.scope.indirect_crl:
        return crl.of_issuers
    return {(crl.issuer, entry.serial_number): entry for entry in crl.crl}


def age(crl: Crl) -> tuple[int, dt.datetime]:
    """What orders the issues of a list, the oldest first: number (0 where there is none) and date."""
    return crl.number or 0, crl.this_update


def later(issue: Crl, other: Crl) -> bool:
    """Whether number and date agree that one issue came after the other."""
    number, other_number = issue.number or 0, other.number or 0
    return age(issue) != age(other) and number >= other_number and issue.this_update >= other.this_update


def _revocation(entry: x509.RevokedCertificate) -> Revocation:
    date, reason = ALWAYS, x509.ReasonFlags.unspecified
    try:
        date = entry.revocation_date_utc
        for extension in entry.extensions:
            if isinstance(extension.value, x509.CRLReason):
                reason = extension.value.reason
            elif isinstance(extension.value, x509.InvalidityDate):
                date = min(date, extension.value.invalidity_date_utc)
    except UNREADABLE:
        pass  # listed is listed, whatever else the entry says
    return Revocation(date, reason)


def list_name(crl: x509.CertificateRevocationList) -> str:
    """A file-safe name (SHA-256, hex) shared by all issues of one list: same issuer, key, scope and kind.

    Issues that may clear nobody are a list of their own.
    """
    digest = hashlib.sha256(crl_issuer_octets(crl))
    for kind in (x509.AuthorityKeyIdentifier, x509.IssuingDistributionPoint):
        try:
            digest.update(crl.extensions.get_extension_for_class(kind).value.public_bytes())
        except (x509.ExtensionNotFound, *UNREADABLE):
            digest.update(b"\0")
    read = read_crl(crl)
    digest.update(b"delta" if read is not None and read.delta_base is not None else b"complete")
    if read is not None and not read.usable:  # it must not take the place of one that is
        digest.update(b"unusable")
    return digest.hexdigest()


def newer(crl: x509.CertificateRevocationList, than: x509.CertificateRevocationList) -> bool:
    """Whether ``crl`` is a later issue of the same list.

    By number and date; or by date alone where the other was out of date by then, for an authority that
    had to begin its numbers again.
    """
    new, old = read_crl(crl), read_crl(than)
    if new is None or old is None:
        return new is not None
    return later(new, old) or (old.next_update is not None and new.this_update >= old.next_update)
