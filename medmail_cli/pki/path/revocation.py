"""What revocation lists and OCSP answers say together of one certificate (RFC 5280 §6.3).

Complete, delta and indirect CRLs, split by distribution point, reason or kind of certificate. Whether a
CRL may be believed (its signer, and that signer's own path) is asked of the caller, who knows the paths.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509

from medmail_cli.pki.path.crl import ALWAYS, Crl, Revocation, age, later
from medmail_cli.pki.x509.certificate import Facts
from medmail_cli.pki.x509.names import NameKey, name_key

ALL_REASONS = frozenset(x509.ReasonFlags) - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}
"""Those that a list may be divided by."""


@dataclass(frozen=True)
class RevocationStatement:
    """What a list or an answer that may be believed says of one certificate; ``revoked`` is None for nothing.

    One that accuses and may not clear has no ``reasons``.
    """

    said_at: dt.datetime
    revoked: Revocation | None
    reasons: frozenset[x509.ReasonFlags]
    """Those it speaks for."""
    current: bool


def speaks(statements: Iterable[RevocationStatement]) -> bool:
    """Whether those of the statements that are current speak for all reasons together."""
    current = [statement.reasons for statement in statements if statement.current]
    # as nearly always, and enumerations are slow to hash
    return ALL_REASONS in current or frozenset[x509.ReasonFlags]().union(*current) >= ALL_REASONS


def standing(statements: Sequence[RevocationStatement]) -> tuple[Revocation, ...]:
    """The revocations among them. A hold ends with any newer statement of no revocation (RFC 5280 §5.3.1)."""
    hold = x509.ReasonFlags.certificate_hold
    accusing = [
        (statement.said_at, statement.revoked) for statement in statements if statement.revoked is not None
    ]
    if not accusing:
        return ()
    lifted = max((w.said_at for w in statements if w.revoked is None and hold in w.reasons), default=ALWAYS)
    return tuple(
        dict.fromkeys(
            revocation
            for said_at, revocation in accusing
            if not (revocation.reason == hold and said_at < lifted)
        )
    )


@dataclass(frozen=True)
class Belief:
    """Who signed a CRL: the key, and whether its own status is known; if not, it accuses and never clears."""

    key: bytes
    sure: bool


def find_statements(
    serial: int,
    facts: Facts,
    crls: Callable[[NameKey], Sequence[Crl]],
    believe: Callable[[Crl], "Belief | None"],
    *,
    at: dt.datetime,
) -> Iterator[RevocationStatement]:
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
) -> Iterator[RevocationStatement]:
    """What the issues of one list say, each with its deltas.

    A later issue, by number and date, takes the place of an earlier one; but what was issued after the
    certificate's end may have dropped it (RFC 5280 §3.3), from a delta too. A delta that is out of date, or
    has no complete list to be added to, clears nobody; whom it names is revoked all the same.
    """
    deltas = sorted((issue for issue in issues if issue.delta_base is not None), key=age, reverse=True)
    complete = [issue for issue in issues if issue.delta_base is None]
    ruling = [issue for issue in complete if issue.usable and issue.this_update <= facts.not_after]
    bases: list[Crl | None] = [
        issue for issue in complete if not any(later(other, issue) for other in ruling)
    ]
    for base in bases or [None]:
        added = [
            issue for issue in deltas if base is None or not (later(base, issue) or age(base) == age(issue))
        ]
        speaker, listed, lifted = base, None, False
        if base is not None:
            listed = base.entry(serial, facts.issuer) or base.left_out(serial, facts.issuer, facts.not_after)
        if listed is None:
            accusing = (
                issue for issue in deltas if not any(later(r, issue) or age(r) == age(issue) for r in ruling)
            )
            speaker, listed = next(_accusations(accusing, serial, facts, base), (base, None))
        for delta in added:
            entry = delta.entry(serial, facts.issuer)
            removed = entry is not None and entry.reason == x509.ReasonFlags.remove_from_crl
            if entry is not None and (delta.usable or not removed):
                speaker, listed, lifted = delta, None if removed else entry, removed
                break
        together = []
        if base is not None and base.usable:
            together = [base, *(issue for issue in added if issue.usable and _extends(issue, base))]
        current = any(issue.current(at) for issue in together)
        if listed is not None and speaker is not None:
            yield RevocationStatement(speaker.this_update, listed, reasons, current)
        elif together or lifted:
            times = [issue.this_update for issue in together if issue.this_update <= facts.not_after]
            times += [speaker.this_update] if lifted and speaker is not None else []
            yield RevocationStatement(max(times, default=ALWAYS), None, reasons, current)


def _accusations(
    deltas: Iterable[Crl], serial: int, facts: Facts, base: Crl | None
) -> Iterator[tuple[Crl, Revocation]]:
    """What deltas said for good, and later ones, or a complete list, left out after the end."""
    for delta in deltas:
        revocation = delta.left_out(serial, facts.issuer, facts.not_after)
        if revocation is None and base is not None and base.this_update > facts.not_after:
            revocation = delta.entry(serial, facts.issuer)
        if revocation is not None and not revocation.passing:
            yield delta, revocation


def _extends(delta: Crl, base: Crl) -> bool:
    """RFC 5280 §5.2.4 (c): whether a delta of the same list may be added to this complete CRL."""
    if delta.delta_base is None or base.number is None or delta.number is None:
        return False
    return delta.delta_base <= base.number < delta.number
