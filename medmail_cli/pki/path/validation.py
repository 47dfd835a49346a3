"""Path building and validation (RFC 5280 §6, RFC 4158) and fitness for mail (RFC 8550 §4.4).

Our own, because the validators at hand fall short: cryptography's has no CRLs, no policies and no
directoryName constraints, and the complete one costs more to import than all the rest of a run. NIST's
PKITS is the judge of this one (``tests/vectors/test_pkits.py``).
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cryptography import x509

from medmail_cli.cms.certificates import inherits, with_parameters
from medmail_cli.cms.identifiers import key_sha256, public_key_octets, serial_number
from medmail_cli.model import Problem, phrase
from medmail_cli.pki.path.crl import SKEW, Crl, LeftOut, Revocation, read_crl
from medmail_cli.pki.path.evidence import NOTHING, Enclosed, Helpers, by_issuer, by_subject, indexed
from medmail_cli.pki.path.fitness import (
    LONGEST_PATH,
    Purpose,
    dates,
    name_constraints,
    not_entitled,
    unfit,
    weaknesses,
)
from medmail_cli.pki.path.ocsp import read_ocsp, unchecked
from medmail_cli.pki.path.policies import PolicySettings, policies_hold
from medmail_cli.pki.path.revocation import Belief, RevocationStatement, find_statements, speaks, standing
from medmail_cli.pki.x509.certificate import facts, issued, issuer_text, subject_text
from medmail_cli.pki.x509.names import NameKey

MOST_STEPS = 400
"""Signatures of issuers tried for one certificate: bounds what a mesh of cross certificates can cost."""
MOST_PATHS = 24
MOST_SIGNERS = 8
"""Certificates that came with a letter and are tried on one list, those it names first."""
MOST_DETOURS = 3
"""How many signers of CRLs may depend on each other."""

Path = tuple[x509.Certificate, ...]
_DEFAULT = PolicySettings()


@dataclass(frozen=True)
class Judgement:
    """What was found about a certificate; acceptable if and only if ``problems`` is empty."""

    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    chain: Path
    """From the certificate up to and with its anchor, or as far as issuers were found."""
    anchor: str | None
    """The anchor's subject (RFC 4514), None where no path led to one."""
    undetermined: tuple[tuple[x509.Certificate, x509.Certificate], ...] = ()
    """Those of the chain of which nobody can say whether they were revoked, each with its issuer."""
    outdated: tuple[tuple[x509.Certificate, x509.Certificate], ...] = ()
    """Those of which nobody can say whether they have been revoked since the time of judgement."""

    @property
    def trusted(self) -> bool:
        """Whether the certificate is acceptable for the purpose asked."""
        return not self.problems

    @property
    def signed_by(self) -> str | None:
        """SHA-256 of the SubjectPublicKeyInfo, in hex, of the key that signed the certificate.

        None where its issuer was not found. What the certificate says of its issuer plays no part.
        """
        issuer = self.chain[min(1, len(self.chain) - 1)]
        if issuer is self.chain[0] and not issued(issuer, issuer):
            return None
        return key_sha256(issuer)


def judge(
    certificate: x509.Certificate,
    *,
    anchors: Sequence[x509.Certificate],
    intermediates: Sequence[x509.Certificate] = (),
    crls: Sequence[x509.CertificateRevocationList] = (),
    enclosed: Enclosed = NOTHING,
    at: dt.datetime,
    known_now: dt.datetime | None = None,
    purpose: Purpose = "sign",
    revocation: Literal["hard", "soft"] = "hard",
    policies: PolicySettings = _DEFAULT,
) -> Judgement:
    """Judge one certificate; for many under the same authorities make :class:`Authorities` once."""
    return Authorities(anchors, intermediates, crls).judge(
        certificate,
        enclosed=enclosed,
        at=at,
        known_now=known_now,
        purpose=purpose,
        revocation=revocation,
        policies=policies,
    )


class Authorities:
    """Anchors, helping intermediates and CRLs, indexed; what was verified serves the next certificate."""

    def __init__(
        self,
        anchors: Sequence[x509.Certificate],
        intermediates: Sequence[x509.Certificate] = (),
        crls: Sequence[x509.CertificateRevocationList] = (),
        ocsp: Callable[[x509.Certificate], Sequence[bytes]] = lambda _certificate: (),
        earlier: Sequence[LeftOut] = (),
        remembered: Sequence[tuple[str, LeftOut]] = (),
    ) -> None:
        """``ocsp`` gives the OCSP responses (DER) kept about a certificate, ``earlier`` for each of ``crls``
        what it leaves out, ``remembered`` likewise for lists no longer at hand, each with the
        :func:`key_name` of its signer.
        """
        self._anchors = frozenset(anchors)
        self._known = by_subject((*anchors, *intermediates))
        self.helpers = (*anchors, *intermediates)
        self._crls = by_issuer(map(read_crl, crls, earlier) if earlier else map(read_crl, crls))
        self.ocsp, self.remembered = ocsp, remembered

    def judge(
        self,
        certificate: x509.Certificate,
        *,
        enclosed: Enclosed = NOTHING,
        at: dt.datetime,
        known_now: dt.datetime | None = None,
        purpose: Purpose = "sign",
        revocation: Literal["hard", "soft"] = "hard",
        policies: PolicySettings = _DEFAULT,
    ) -> Judgement:
        """Find the best path from ``certificate`` to an anchor and say all that speaks against it.

        ``enclosed`` is what came with the letter. ``at`` is the instant of judgement;
        ``known_now`` the local clock, if a revocation known today counts whatever its date (except for
        affiliationChanged, superseded, cessationOfOperation), None with ``--at``. ``revocation`` decides
        whether an unknown status is a problem (hard) or a note (soft). Never raises.
        """
        judgement = _Case(self, indexed(enclosed), at, known_now, purpose, policies, ()).judge(certificate)
        if revocation == "hard":
            return judgement
        unknown = tuple(p for p in judgement.problems if p.code == "revocation-unknown")
        others = tuple(p for p in judgement.problems if p.code != "revocation-unknown")
        return replace(judgement, problems=others, notes=unknown)

    def is_anchor(self, certificate: x509.Certificate) -> bool:
        """Whether this very certificate is an anchor."""
        return certificate in self._anchors

    def named(self, subject: NameKey) -> Sequence[x509.Certificate]:
        """Anchors and intermediates of that name."""
        return self._known.get(subject, ())

    def crls(self, issuer: NameKey) -> Sequence[Crl]:
        """The CRLs issued under that name."""
        return self._crls.get(issuer, ())


def key_name(signer: x509.Certificate) -> str:
    """Names the key that signs a list, file-safe."""
    return hashlib.sha256(public_key_octets(signer)).hexdigest()[:32]


def _weight(judgement: Judgement) -> tuple[int, int]:
    """Paths are compared by what no server and no profile can mend, then by what is unknown.

    That the certificate itself is revoked does not count against a path: another must not hide it.
    """
    own = f"{subject_text(judgement.chain[0])}: "
    others = [p for p in judgement.problems if p.code != "revoked" or not p.detail.startswith(own)]
    unknown = sum(problem.code == "revocation-unknown" for problem in others)
    return len(others) - unknown, unknown


def _authority(anchor: x509.Certificate) -> tuple[NameKey, bytes]:
    """Name and key: an authority stands twice among the anchors once its certificate is renewed."""
    return facts(anchor).subject, public_key_octets(anchor)


def _with_parameters(path: Path) -> Path | None:
    """The path, each key with the parameters it leaves to the one above (RFC 5280 §6.1.4 (f)).

    None where a signature does not hold, which of such keys shows only now.
    """
    if not any(map(inherits, path)):
        return path
    whole = path[-1:]
    for certificate in reversed(path[:-1]):
        full = with_parameters(certificate, whole[0]) if inherits(certificate) else certificate
        if not issued(full, whole[0]):
            return None
        whole = (full, *whole)
    return whole


@dataclass(frozen=True)
class _Case:
    """One certificate's judgement under way."""

    authorities: Authorities
    helpers: Helpers
    at: dt.datetime
    known_now: dt.datetime | None
    purpose: Purpose
    policies: PolicySettings
    detours: tuple[x509.Certificate, ...]
    """Signers of CRLs whose own judgement led here."""

    def judge(self, certificate: x509.Certificate) -> Judgement:
        best: Judgement | None = None
        for count, path in enumerate(self._paths(certificate)):
            undetermined: list[tuple[x509.Certificate, x509.Certificate]] = []
            outdated: list[tuple[x509.Certificate, x509.Certificate]] = []
            problems = self._problems(path, undetermined, outdated)
            anchor = subject_text(path[-1])
            judgement = Judgement(problems, (), path, anchor, tuple(undetermined), tuple(outdated))
            if not problems:
                return judgement
            if best is None or _weight(judgement) < _weight(best):
                best = judgement
            if count + 1 == MOST_PATHS:
                break
        return best or self._without_anchor(certificate)

    def _paths(self, certificate: x509.Certificate) -> Iterator[Path]:
        """Every chain of good signatures from the certificate to an anchor, likely ones first."""
        steps = MOST_STEPS
        waiting: list[Path] = [(certificate,)]
        while waiting:
            path = waiting.pop()
            if self.authorities.is_anchor(path[-1]):
                if whole := _with_parameters(path):
                    yield whole
                continue
            if len(path) == LONGEST_PATH:
                continue
            longer = []
            for issuer in self._issuers(path[-1]):
                if issuer in path:
                    continue
                steps -= 1
                if steps < 0:
                    return
                if inherits(issuer) or issued(path[-1], issuer):
                    longer.append((*path, issuer))
            waiting += reversed(longer)

    def _issuers(self, certificate: x509.Certificate) -> list[x509.Certificate]:
        below = facts(certificate)
        named = dict.fromkeys(
            (*self.authorities.named(below.issuer), *self.helpers.certificates.get(below.issuer, ()))
        )

        def unlikely(issuer: x509.Certificate) -> tuple[bool, bool, bool]:
            above = facts(issuer)
            other_key = (
                None not in (below.issuer_key_id, above.key_id) and below.issuer_key_id != above.key_id
            )
            outside = not above.not_before <= self.at <= above.not_after
            return other_key, not self.authorities.is_anchor(issuer), outside

        return sorted(named, key=unlikely)

    def _without_anchor(self, certificate: x509.Certificate) -> Judgement:
        chain = [certificate]
        while len(chain) < LONGEST_PATH:
            above = [c for c in self._issuers(chain[-1]) if c not in chain]
            issuer = next((c for c in above[:MOST_PATHS] if issued(chain[-1], c)), None)
            if issuer is None:
                break
            chain.append(issuer)
        last = facts(chain[-1])
        missing = subject_text(chain[-1]) if last.self_issued else issuer_text(chain[-1])
        own = (
            Problem("untrusted-issuer", missing),
            *dates(certificate, self.at),
            *weaknesses(certificate, anchor=False),
            *unfit(certificate, self.purpose),
        )
        return Judgement(own, (), tuple(chain), None)

    def _problems(
        self,
        path: Path,
        undetermined: list[tuple[x509.Certificate, x509.Certificate]],
        outdated: list[tuple[x509.Certificate, x509.Certificate]],
    ) -> tuple[Problem, ...]:
        """All that speaks against a path whose signatures are good (RFC 5280 §6.1), each once."""
        *above, end = reversed(path)
        problems: list[Problem] = []
        for certificate in path:
            problems += dates(certificate, self.at)
            problems += weaknesses(certificate, anchor=certificate is path[-1])
        problems += unfit(end, self.purpose)
        problems += not_entitled(above, self.purpose)
        problems += name_constraints((*above, end))
        if len(path) > 1:
            if not policies_hold([facts(c) for c in (*above[1:], end)], self.policies):
                problems.append(Problem("untrusted-issuer", phrase("policy")))
            for index, certificate in enumerate(path[:-1]):
                above_it, link = path[index + 1 :], (certificate, path[index + 1])
                revoked, known = self._status(certificate, above_it)
                name = subject_text(certificate)
                if revoked is not None:
                    since = f"{revoked.date:%Y-%m-%dT%H:%M:%SZ} {revoked.reason.value}"
                    problems.append(Problem("revoked", f"{name}: {since}"))
                elif not known:
                    problems.append(Problem("revocation-unknown", name))
                    undetermined.append(link)
                ends = revoked is None or revoked.reason == x509.ReasonFlags.certificate_hold
                if known and ends and not self._up_to_date(certificate, above_it, held=revoked is not None):
                    outdated.append(link)
        return tuple(dict.fromkeys(problems))

    def _status(self, certificate: x509.Certificate, above: Path) -> tuple[Revocation | None, bool]:
        """The revocation that tells against a certificate, if any, and whether its status is known at all."""
        if facts(certificate).never_revoked:
            return None, True
        statements = (*self._lists(certificate, above, self.at), *self._answers(certificate, above, self.at))
        revoked = standing(statements)
        against = next(
            (revocation for revocation in revoked if revocation.counts(self.at, self.known_now)), None
        )
        return against, bool(revoked) or speaks(
            statement for statement in statements if statement.revoked is None
        )

    def _up_to_date(self, certificate: x509.Certificate, above: Path, *, held: bool) -> bool:
        """Whether what clears a certificate, or only holds it, does so for today too, where today counts."""
        today = self.known_now
        if today is None or (today <= self.at and not held) or facts(certificate).never_revoked:
            return True
        at = max(today, self.at)
        return speaks(self._answers(certificate, above, at)) or speaks(self._lists(certificate, above, at))

    def _lists(
        self, certificate: x509.Certificate, above: Path, at: dt.datetime
    ) -> Iterator[RevocationStatement]:
        """What the CRLs at hand and those that came along say (RFC 5280 §6.3)."""
        yield from self._remembered(certificate, above)
        yield from find_statements(
            serial_number(certificate),
            facts(certificate),
            lambda issuer: (*self.authorities.crls(issuer), *self.helpers.crls.get(issuer, ())),
            lambda crl: self._believes(crl, above),
            at=at,
        )

    def _remembered(self, certificate: x509.Certificate, above: Path) -> Iterator[RevocationStatement]:
        """What lists that are no longer at hand left out after the certificate's end; it clears nobody."""
        read = facts(certificate)
        for signed_by, left_out in self.authorities.remembered:
            remembered = left_out(serial_number(certificate), read.issuer)
            if remembered is None or remembered[1] <= read.not_after:
                continue
            signers = (
                candidate
                for candidate in (*above, *self.authorities.helpers)
                if key_name(candidate) == signed_by
            )
            if any(signer in above or self._entitled(signer, above[-1]) is not None for signer in signers):
                yield RevocationStatement(remembered[1], remembered[0], frozenset(), current=False)

    def _answers(
        self, certificate: x509.Certificate, above: Path, at: dt.datetime
    ) -> Iterator[RevocationStatement]:
        """What the OCSP answers about a certificate say that may be believed (RFC 6960 §3.2)."""
        kept = (answer for der in self.authorities.ocsp(certificate) for answer in read_ocsp(der))
        for answer in (*kept, *self.helpers.answers):
            early = self.known_now is not None and answer.this_update - self.known_now > SKEW
            if early or not answer.about(certificate, above[0]):
                continue
            responder = answer.responder(above[0])
            if responder is None:
                continue
            if responder != above[0] and not unchecked(responder):
                revoked = standing(tuple(self._lists(responder, above, self.at)))
                if any(revocation.counts(self.at, self.known_now) for revocation in revoked):
                    continue
            if statement := answer.statement(at):
                yield statement

    def _believes(self, crl: Crl, above: Path) -> Belief | None:
        """Who signed a CRL, if entitled to under the same anchor (RFC 5280 §6.3.3 (f), (g))."""
        if self.known_now is not None and crl.this_update - self.known_now > SKEW:
            return None
        came_along = self.helpers.certificates.get(crl.issuer, ())
        likely = sorted(came_along, key=lambda candidate: facts(candidate).key_id != crl.key_id)
        for signer in dict.fromkeys((*above, *self.authorities.named(crl.issuer), *likely[:MOST_SIGNERS])):
            read = facts(signer)
            if read.subject != crl.issuer or (read.usage is not None and not read.usage.crl_sign):
                continue
            if not crl.signed_by(signer):
                continue
            sure = signer in above or self._entitled(signer, above[-1])
            if sure is not None:
                return Belief(public_key_octets(signer), sure)
        return None

    def _entitled(self, signer: x509.Certificate, anchor: x509.Certificate) -> bool | None:
        """Whether a signer of CRLs is known not to be revoked itself; None where it may sign none."""
        if self.detours and signer == self.detours[-1]:
            return True  # its authority sends those who ask about it to its own list (PKITS 4.14.30)
        if signer in self.detours or len(self.detours) == MOST_DETOURS:
            return None
        detours = (*self.detours, signer)
        case = replace(self, purpose="crl", policies=PolicySettings(), detours=detours)
        judgement = case.judge(signer)
        under = _authority(judgement.chain[-1]) == _authority(anchor)
        if not under or any(problem.code != "revocation-unknown" for problem in judgement.problems):
            return None
        return judgement.trusted
