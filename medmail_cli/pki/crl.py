"""Certificate revocation lists: what they say of one certificate (RFC 5280 §5 and §6.3).

Complete, delta and indirect CRLs, split by distribution point, reason or kind of certificate. Whether a
CRL may be believed (its signer, and that signer's own path) is asked of the caller, who knows the paths.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from medmail_cli.cms.certificates import UNREADABLE
from medmail_cli.cms.identifiers import crl_issuer_octets
from medmail_cli.pki import dn
from medmail_cli.pki.certificate import WEAK_HASHES, Facts, verifies
from medmail_cli.pki.critical import unknown_critical
from medmail_cli.pki.names import NameKey, name_key

SKEW = dt.timedelta(minutes=5)
"""How far clocks may differ on a CRL's own times."""

_ALWAYS = dt.datetime.min.replace(tzinfo=dt.UTC)
ALL_REASONS = frozenset(x509.ReasonFlags) - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}
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

    def counts(self, at: dt.datetime, known_now: dt.datetime | None) -> bool:
        """Whether it tells against the certificate at ``at``; see :func:`medmail_cli.pki.path.judge`."""
        return self.date <= at or (known_now is not None and self.reason not in _HARMLESS_BEFORE)


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
        return (
            self.usable and (self.this_update if self.next_update is None else self.next_update) >= at - SKEW
        )

    def entry(self, serial: int, issuer: NameKey) -> Revocation | None:
        """The entry for a certificate, None where it is not listed; a long list is searched for it once."""
        if (serial, issuer) not in self._entries:
            self._entries[serial, issuer] = self._found(serial, issuer)
        return self._entries[serial, issuer]

    def _found(self, serial: int, issuer: NameKey) -> Revocation | None:
        if self.scope is not None and self.scope.indirect_crl:
            found = self._by_issuer.get((issuer, serial))
        elif issuer == self.issuer and serial < 0:  # forbidden by RFC 5280, and not looked up by cryptography
            found = next((e for e in self.crl if e.serial_number == serial), None)
        elif issuer == self.issuer:
            found = self.crl.get_revoked_certificate_by_serial_number(serial)
        else:
            found = None
        return _revocation(found) if found is not None else None

    @cached_property
    def _by_issuer(self) -> dict[tuple[NameKey, int], x509.RevokedCertificate]:
        """In an indirect CRL each entry belongs to the last issuer named (RFC 5280 §5.3.3)."""
        issuer, entries = self.issuer, {}
        for entry in self.crl:
            try:
                named = entry.extensions.get_extension_for_oid(CRLEntryExtensionOID.CERTIFICATE_ISSUER).value
            except (x509.ExtensionNotFound, *UNREADABLE):
                named = None
            if isinstance(named, x509.CertificateIssuer):
                names = named.get_values_for_type(x509.DirectoryName)
                issuer = name_key(names[0]) if names else ()
            entries[issuer, entry.serial_number] = entry
        return entries


def read_crl(crl: x509.CertificateRevocationList) -> Crl | None:
    """Read what choosing among CRLs needs; None for one that cannot be understood."""
    found: dict[type, x509.ExtensionType] = {}
    unknown = None
    try:
        for extension in crl.extensions:
            found[type(extension.value)] = extension.value
            if extension.critical and extension.oid not in _KNOWN:
                unknown = extension.oid.dotted_string
        issuer = name_key(dn.crl_issuer(crl))
        this_update, next_update = crl.last_update_utc, crl.next_update_utc
    except UNREADABLE:
        return None
    number, base = found.get(x509.CRLNumber), found.get(x509.DeltaCRLIndicator)
    scope, key = found.get(x509.IssuingDistributionPoint), found.get(x509.AuthorityKeyIdentifier)
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
    )


@dataclass(frozen=True)
class Word:
    """What a list or an answer that may be believed says of one certificate; ``revoked`` is None for nothing.

    One that accuses and may not clear has no ``reasons``.
    """

    told: dt.datetime
    revoked: Revocation | None
    reasons: frozenset[x509.ReasonFlags]
    """Those it speaks for."""
    current: bool


def speaks(words: Iterable[Word]) -> bool:
    """Whether those of the words that are current speak for all reasons together."""
    current = [word.reasons for word in words if word.current]
    # as nearly always, and enumerations are slow to hash
    return ALL_REASONS in current or frozenset[x509.ReasonFlags]().union(*current) >= ALL_REASONS


def standing(words: Sequence[Word]) -> tuple[Revocation, ...]:
    """The revocations among the words. A hold ends with any newer word of no revocation (RFC 5280 §5.3.1)."""
    hold = x509.ReasonFlags.certificate_hold
    accusing = [(word.told, word.revoked) for word in words if word.revoked is not None]
    if not accusing:
        return ()
    lifted = max((w.told for w in words if w.revoked is None and hold in w.reasons), default=_ALWAYS)
    return tuple(dict.fromkeys(one for told, one in accusing if not (one.reason == hold and told < lifted)))


@dataclass(frozen=True)
class Belief:
    """Who signed a CRL: the key, and whether its own status is known; if not, it accuses and never clears."""

    key: bytes
    sure: bool


def find_words(
    serial: int,
    facts: Facts,
    crls: Callable[[NameKey], Sequence[Crl]],
    believe: Callable[[Crl], "Belief | None"],
    *,
    at: dt.datetime,
) -> Iterator[Word]:
    """What the CRLs say of a certificate, list by list.

    ``crls`` gives the CRLs of an issuer, ``believe`` says who signed one, None if nobody entitled to did.
    Works through the certificate's distribution points and then whatever its issuer published besides
    (RFC 5280 §6.3.3).
    """
    by_issuer = x509.DistributionPoint([_IssuerName], None, None, None)
    for point in (*facts.points, by_issuer):
        lists: dict[tuple[NameKey, Belief, object], list[Crl]] = {}
        for crl in _of_point(point, facts, crls):
            if _in_scope(crl.scope, facts) and (belief := believe(crl)) is not None:
                lists.setdefault((crl.issuer, belief, crl.scope), []).append(crl)
        for (_, belief, _), issues in lists.items():
            reasons = _reasons(point, issues[0].scope) if belief.sure else frozenset()
            yield from _look_up(issues, serial, facts, reasons, at)


_IssuerName = x509.DNSName("issuer.invalid")
"""Stands for the issuer's own name in the point that means: anything else the issuer published."""


def _of_point(
    point: x509.DistributionPoint, facts: Facts, crls: Callable[[NameKey], Sequence[Crl]]
) -> Iterator[Crl]:
    issuers = [name_key(n.value) for n in point.crl_issuer or () if isinstance(n, x509.DirectoryName)]
    for issuer in issuers or [facts.issuer]:
        for crl in crls(issuer):
            indirect = crl.scope is not None and crl.scope.indirect_crl
            if issuer != facts.issuer and not indirect:
                continue
            if _names_meet(point, crl, facts, issuer):
                yield crl


def _names_meet(point: x509.DistributionPoint, crl: Crl, facts: Facts, issuer: NameKey) -> bool:
    """RFC 5280 §6.3.3 (b)(2)(i): the CRL's distribution point has a name that the certificate's has."""
    scope = crl.scope
    if scope is None or (scope.full_name is None and scope.relative_name is None):
        return True
    theirs = set(_point_names(scope.full_name, scope.relative_name, crl.issuer))
    if point.full_name == [_IssuerName]:
        return ("dn", facts.issuer) in theirs
    ours = set(_point_names(point.full_name, point.relative_name, issuer))
    if not ours:
        ours = set(_point_names(point.crl_issuer, None, issuer))
    return bool(ours & theirs)


def _point_names(
    full: Iterable[x509.GeneralName] | None, relative: x509.RelativeDistinguishedName | None, issuer: NameKey
) -> Iterator[tuple[str, object]]:
    for name in full or ():
        if isinstance(name, x509.DirectoryName):
            yield "dn", name_key(name.value)
        else:
            yield type(name).__name__, name.value
    if relative is not None:
        yield "dn", (*issuer, *name_key(x509.Name([relative])))


def _in_scope(scope: x509.IssuingDistributionPoint | None, facts: Facts) -> bool:
    if scope is None:
        return True
    if scope.only_contains_attribute_certs:
        return False
    return not (scope.only_contains_user_certs if facts.ca else scope.only_contains_ca_certs)


def _reasons(
    point: x509.DistributionPoint, scope: x509.IssuingDistributionPoint | None
) -> frozenset[x509.ReasonFlags]:
    some = None if scope is None else scope.only_some_reasons
    if not some:
        return point.reasons or ALL_REASONS
    return (point.reasons or ALL_REASONS) & some


def _look_up(
    issues: Sequence[Crl], serial: int, facts: Facts, reasons: frozenset[x509.ReasonFlags], at: dt.datetime
) -> Iterator[Word]:
    """What the issues of one list say, each with its deltas.

    A later issue, by number and date, takes the place of an earlier one; but what was issued after the
    certificate's end may have dropped it (RFC 5280 §3.3). A delta that is out of date, or has no complete
    list to be added to, clears nobody; whom it names is revoked all the same.
    """
    deltas = sorted((one for one in issues if one.delta_base is not None), key=_age, reverse=True)
    complete = [one for one in issues if one.delta_base is None]
    ruling = [one for one in complete if one.usable and one.this_update <= facts.not_after]
    bases: list[Crl | None] = [one for one in complete if not any(_later(other, one) for other in ruling)]
    for base in bases or [None]:
        later = [one for one in deltas if base is None or not (_later(base, one) or _age(base) == _age(one))]
        speaker, listed, lifted = base, base.entry(serial, facts.issuer) if base is not None else None, False
        for delta in later:
            entry = delta.entry(serial, facts.issuer)
            removed = entry is not None and entry.reason == x509.ReasonFlags.remove_from_crl
            if entry is not None and (delta.usable or not removed):
                speaker, listed, lifted = delta, None if removed else entry, removed
                break
        together = []
        if base is not None and base.usable:
            together = [base, *(one for one in later if one.usable and _extends(one, base))]
        current = any(one.current(at) for one in together)
        if listed is not None and speaker is not None:
            yield Word(speaker.this_update, listed, reasons, current)
        elif together or lifted:
            told = [one.this_update for one in together if one.this_update <= facts.not_after]
            told += [speaker.this_update] if lifted and speaker is not None else []
            yield Word(max(told, default=_ALWAYS), None, reasons, current)


def _extends(delta: Crl, base: Crl) -> bool:
    """RFC 5280 §5.2.4 (c): whether a delta of the same list may be added to this complete CRL."""
    if delta.delta_base is None or base.number is None or delta.number is None:
        return False
    return delta.delta_base <= base.number < delta.number


def _age(crl: Crl) -> tuple[int, dt.datetime]:
    return crl.number or 0, crl.this_update


def _later(one: Crl, other: Crl) -> bool:
    """Whether number and date agree that one issue came after the other."""
    number, other_number = one.number or 0, other.number or 0
    return _age(one) != _age(other) and number >= other_number and one.this_update >= other.this_update


def _revocation(entry: x509.RevokedCertificate) -> Revocation:
    date, reason = _ALWAYS, x509.ReasonFlags.unspecified
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
    return _later(new, old) or (old.next_update is not None and new.this_update >= old.next_update)
