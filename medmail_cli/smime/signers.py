"""Who signed: each signer's signature and certificate judged, and the sender's address bound to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509

from medmail_cli.cms.certificates import UNREADABLE, fingerprint
from medmail_cli.cms.identifiers import nameable, serial_number
from medmail_cli.cms.signerinfo import SignerInfo
from medmail_cli.cms.verify import Content, certificate_meant, check_signer
from medmail_cli.errors import MedmailError
from medmail_cli.model import Problem, phrase
from medmail_cli.pki.path.evidence import MOST_HELPERS, NOTHING, Enclosed
from medmail_cli.pki.path.fitness import may_speak_for
from medmail_cli.pki.path.validation import Judgement
from medmail_cli.pki.x509 import address, dn
from medmail_cli.pki.x509.certificate import facts
from medmail_cli.smime.fields import Field, Mailbox, addresses_in
from medmail_cli.smime.header import all_of, mailboxes
from medmail_cli.smime.policy import Policy
from medmail_cli.smime.unwrapped import SignatureLayer
from medmail_cli.smime.verdict import Signer, unique

SKEW = timedelta(minutes=5)
"""How far a signing time may lie ahead of the time of judgement."""


MOST_CANDIDATES = 8
"""Certificates that one signer's identifier may name; several signers share them, but each has one."""


Judge = Callable[[x509.Certificate, Enclosed], Judgement]
"""Judges a signer's certificate, given what came with the message."""


Lookup = Callable[[str], Sequence[x509.Certificate]]
"""The certificates that are known for an address, and those that stand above them."""


def nobody(_address: str) -> Sequence[x509.Certificate]:
    """The look-up of somebody who knows no certificates."""
    return ()


@dataclass(frozen=True)
class Proven:
    """A signer of a trusted message, as contacts learn it."""

    certificate: x509.Certificate
    info: SignerInfo
    certificates: tuple[x509.Certificate, ...]
    """All that came with the signature, among them perhaps the one to encrypt to."""


@dataclass(frozen=True)
class Judged:
    """One signer with its findings in words; ``proven`` is None where its certificate was not found."""

    signer: Signer
    problems: tuple[Problem, ...]
    proven: Proven | None
    info: SignerInfo
    judgement: Judgement | None = None
    enclosed: Enclosed = NOTHING
    repaired: Content | None = None
    """What the signature holds over, where that has other line ends than those that came."""


def judge_signers(
    layer: SignatureLayer | None,
    senders: Sequence[Mailbox],
    known: Lookup,
    judge: Judge,
    at: datetime,
    problems: list[Problem],
    notes: list[Problem],
) -> tuple[tuple[Signer, ...], tuple[Judged, ...]]:
    """Judge every signer of a layer: what the verdict shows, and what :func:`check_sender` needs."""
    if layer is None:
        return (), ()
    if layer.signed is None:
        problems.append(Problem("bad-signature", phrase("the signature cannot be read")))
        return (Signer((), None, None, None, None, None, ("bad-signature",)),), ()
    judged: list[Judged] = []
    # who is looked up costs time, and a From may name thousands
    looked_up = (
        certificate
        for box in senders[:MOST_CANDIDATES]
        for certificate in known(box.address)
        if nameable(certificate)
    )
    at_hand = tuple(dict.fromkeys((*looked_up, *layer.signed.certificates)))
    by_serial = _by_serial(at_hand)
    most = max(1, MOST_CANDIDATES // max(1, len(layer.signed.signers)))
    for info in layer.signed.signers:
        # anybody can put another certificate of the same name and number, or key, into a message
        numbered = at_hand if info.id.serial is None else by_serial.get(info.id.serial, ())
        meant = certificate_meant(info, at_hand[:MOST_HELPERS])
        named = (
            [meant]
            if meant
            else [certificate for certificate in numbered if info.id.names(certificate)][:most]
        )
        attempts: list[tuple[Judged, list[Problem]]] = []
        candidates: list[x509.Certificate | None] = [*named] or [None]
        for candidate in candidates:
            noted: list[Problem] = []
            attempts.append((_judge_signer(layer, info, candidate, at_hand, judge, at, noted), noted))
            if not attempts[-1][0].problems:
                break
        best, noted = min(attempts, key=lambda each: _faults(each[0]))
        judged.append(best)
        notes += noted
    return tuple(judged_signer.signer for judged_signer in judged), tuple(judged)


def _by_serial(certificates: Sequence[x509.Certificate]) -> dict[int, list[x509.Certificate]]:
    by_serial: dict[int, list[x509.Certificate]] = {}
    for certificate in certificates:
        by_serial.setdefault(serial_number(certificate), []).append(certificate)
    return by_serial


def _faults(judged: Judged) -> tuple[bool, int]:
    return "bad-signature" in judged.signer.problems, len(judged.problems)


def _judge_signer(
    layer: SignatureLayer,
    info: SignerInfo,
    certificate: x509.Certificate | None,
    at_hand: tuple[x509.Certificate, ...],
    judge: Judge,
    at: datetime,
    notes: list[Problem],
) -> Judged:
    signed = layer.signed
    assert signed is not None  # noqa: S101 - the caller has looked
    problems: list[Problem] = []
    signed_at: datetime | None = None
    try:
        signed_at = info.signed_at
    except MedmailError:
        problems.append(Problem("bad-signature", phrase("signing time")))
    if signed_at and signed_at - at > SKEW:
        problems.append(Problem("implausible-time", f"{signed_at:%Y-%m-%dT%H:%M:%SZ}"))
    if certificate is None:
        if info.id in signed.unread or (signed.unread and info.id.issuer is None):
            problems.append(Problem("untrusted-issuer", phrase("the signer's certificate cannot be read")))
        else:
            problems.append(Problem("untrusted-issuer", phrase("the signer's certificate is not at hand")))
        codes = tuple(problem.code for problem in unique(problems))
        return Judged(Signer((), None, None, None, None, signed_at, codes), tuple(problems), None, info)
    enclosed = Enclosed(at_hand, signed.crls, signed.ocsp)
    judgement = judge(certificate, enclosed)
    full = judgement.chain[0]  # with the parameters that its key may have left to its issuer's
    wrong = check_signer(signed, info, full, layer.content)
    repaired = None
    for meant in layer.repairs if "bad-signature" in wrong else ():
        again = check_signer(signed, info, full, meant)
        if "bad-signature" not in again:
            repaired, wrong = meant, again
            break
    subject = subject_of(certificate)
    problems += [Problem(code, subject) for code in wrong]
    problems += judgement.problems
    begun = facts(certificate).not_before
    if signed_at and begun <= at and begun - signed_at > SKEW:
        problems.append(Problem("implausible-time", f"{signed_at:%Y-%m-%dT%H:%M:%SZ}"))
    notes += judgement.notes
    signer = Signer(
        addresses=addresses_of(certificate),
        subject=subject,
        issuer=_issuer_of(certificate),
        anchor=judgement.anchor,
        sha256=_fingerprint(certificate),
        signed_at=signed_at,
        problems=tuple(problem.code for problem in unique(problems)),
    )
    proven = Proven(certificate, info, signed.certificates)
    return Judged(signer, tuple(problems), proven, info, judgement, enclosed, repaired)


def check_sender(
    header: tuple[Field, ...],
    hidden: tuple[Field, ...],
    judged: Sequence[Judged],
    policy: Policy,
    pinned: Lookup,
    problems: list[Problem],
) -> Judged | None:
    """From, and Sender where there is one, must be the signer's (RFC 8550 §3).

    Returns the first signer who speaks for both, None where there is none.
    """
    senders = mailboxes(header, "from")
    problems.extend(
        Problem("several-from", ", ".join(map(str, mailboxes(fields, "from"))))
        for fields in (header, hidden)
        if len(all_of(fields, "from")) > 1 or len(mailboxes(fields, "from")) > 1
    )
    if not judged:
        return None
    demanded = [box.address for box in senders] or [""]
    delegates = {address.canonical(delegate) for delegate in policy.delegates}
    demanded += [
        box.address for box in mailboxes(header, "sender") if address.canonical(box.address) not in delegates
    ]
    for judged_signer in judged:
        if all(_speaks_for(judged_signer, wanted, policy, pinned) for wanted in demanded):
            for box in senders:
                misleading = [a for a in addresses_in(box.name) if not address.same_address(a, box.address)]
                if misleading:
                    problems.append(Problem("signer-is-not-sender", f"{misleading[0]} ≠ {box.address}"))
            return judged_signer
    known = [candidate for candidate in judged if candidate.proven]
    if known and not any(candidate.signer.addresses for candidate in known):
        problems.append(Problem("no-address-in-certificate", known[0].signer.subject or ""))
    elif known:
        has = ", ".join(a for candidate in known for a in candidate.signer.addresses)
        problems.append(Problem("signer-is-not-sender", f"{has} ≠ {', '.join(demanded)}"))
    return None


def _speaks_for(judged: Judged, wanted: str, policy: Policy, pinned: Lookup) -> bool:
    if judged.proven is None or not wanted:
        return False
    if address.binds(judged.proven.certificate, wanted, domain_bound=policy.domain_bound):
        named = bool(judged.signer.addresses)
        return named or judged.judgement is None or may_speak_for(judged.judgement.chain, wanted)
    return not judged.signer.addresses and judged.proven.certificate in pinned(wanted)


_remembered = lru_cache(maxsize=256)
addresses_of = _remembered(address.addresses)
_fingerprint = _remembered(fingerprint)


@_remembered
def subject_of(certificate: x509.Certificate) -> str:
    """The subject as RFC 4514 text; "" where it cannot be read."""
    try:
        return dn.subject(certificate).rfc4514_string()
    except UNREADABLE:  # names are read late, and may be nonsense
        return ""


@_remembered
def _issuer_of(certificate: x509.Certificate) -> str:
    try:
        return dn.issuer(certificate).rfc4514_string()
    except UNREADABLE:
        return ""
