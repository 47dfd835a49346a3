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
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from medmail_cli.cms.identifiers import crl_issuer_octets
from medmail_cli.pki import dn
from medmail_cli.pki.certificate import Facts
from medmail_cli.pki.names import NameKey, name_key
from medmail_cli.pki.unreadable import UNREADABLE

SKEW = dt.timedelta(minutes=5)
"""How far clocks may differ on a CRL's own times."""

_ALWAYS = dt.datetime.min.replace(tzinfo=dt.UTC)
_ALL_REASONS = frozenset(x509.ReasonFlags) - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}
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
    usable: bool
    """False where a critical extension is unknown: such a CRL can revoke but never clear."""
    believed: dict[object, bool] = field(default_factory=dict, repr=False)
    """For the caller: which signers' keys were found to have signed it."""
    _entries: dict[tuple[int, NameKey], Revocation | None] = field(default_factory=dict, repr=False)

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
    usable = True
    try:
        for extension in crl.extensions:
            found[type(extension.value)] = extension.value
            if extension.critical and extension.oid not in _KNOWN:
                usable = False
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
        usable,
    )


@dataclass(frozen=True)
class Belief:
    """Who signed a CRL: the key, and whether its own status is known; if not, it accuses and never clears."""

    key: bytes
    sure: bool


def find_revocations(
    serial: int,
    facts: Facts,
    crls: Callable[[NameKey], Sequence[Crl]],
    believe: Callable[[Crl], "Belief | None"],
    *,
    at: dt.datetime,
) -> tuple[tuple[Revocation, ...], bool]:
    """What the CRLs say of a certificate: where it is listed, and whether they speak for all reasons.

    ``crls`` gives the CRLs of an issuer, ``believe`` says who signed one, None if nobody entitled to did.
    Works through the certificate's distribution points and then whatever its issuer published besides
    (RFC 5280 §6.3.3).
    """
    by_issuer = x509.DistributionPoint([_IssuerName], None, None, None)
    found: dict[Revocation, None] = {}
    covered: frozenset[x509.ReasonFlags] = frozenset()
    for point in (*facts.points, by_issuer):
        lists: dict[tuple[NameKey, Belief, object], list[Crl]] = {}
        for crl in _of_point(point, facts, crls):
            if _in_scope(crl.scope, facts) and (belief := believe(crl)) is not None:
                lists.setdefault((crl.issuer, belief, crl.scope), []).append(crl)
        for (_, belief, _), issues in lists.items():
            listed, current = _look_up(issues, serial, facts, at)
            found |= dict.fromkeys(listed)
            if current and belief.sure:
                covered |= _reasons(point, issues[0].scope)
    return tuple(found), covered >= _ALL_REASONS


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
    return (point.reasons or _ALL_REASONS) & (some or _ALL_REASONS)


def _look_up(
    issues: Sequence[Crl], serial: int, facts: Facts, at: dt.datetime
) -> tuple[list[Revocation], bool]:
    """The entries in the issues of one list, and whether one of them, or its delta, is current.

    A later issue, by number and date, takes the place of an earlier one; but what was issued after the
    certificate's end may have dropped it (RFC 5280 §3.3). A delta that is out of date, or has no complete
    list to be added to, clears nobody; whom it names is revoked all the same.
    """
    deltas = sorted((one for one in issues if one.delta_base is not None), key=_age, reverse=True)
    complete = [one for one in issues if one.delta_base is None]
    ruling = [one for one in complete if one.usable and one.this_update <= facts.not_after]
    standing = [one for one in complete if not any(_later(other, one) for other in ruling)]
    found, current = [], False
    bases: list[Crl | None] = [*standing] or [None]
    for base in bases:
        later = [one for one in deltas if base is None or not (_later(base, one) or _age(base) == _age(one))]
        changed = next(filter(None, (delta.entry(serial, facts.issuer) for delta in later)), None)
        if changed is not None:
            listed = None if changed.reason == x509.ReasonFlags.remove_from_crl else changed
        else:
            listed = base.entry(serial, facts.issuer) if base is not None else None
        if listed is not None:
            found.append(listed)
        if base is not None and base.usable:
            fresh = any(delta.current(at) and _extends(delta, base) for delta in later)
            current = current or fresh or base.current(at)
    return found, current


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
    """A file-safe name (SHA-256, hex) shared by all issues of one list: same issuer, key, scope and kind."""
    digest = hashlib.sha256(crl_issuer_octets(crl))
    for kind in (x509.AuthorityKeyIdentifier, x509.IssuingDistributionPoint):
        try:
            digest.update(crl.extensions.get_extension_for_class(kind).value.public_bytes())
        except (x509.ExtensionNotFound, *UNREADABLE):
            digest.update(b"\0")
    read = read_crl(crl)
    digest.update(b"delta" if read is not None and read.delta_base is not None else b"complete")
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
