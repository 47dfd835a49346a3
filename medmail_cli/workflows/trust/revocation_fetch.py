"""Fetching word of what was revoked, and keeping what can be believed.

Nothing is kept that nobody under an anchor signed, and nothing displaces what is held but a newer issue of
the same; so whatever a server sends, the last good list stays. ``trust update`` asks for everything,
``decrypt`` only where it must and within few seconds.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.codes import DAMAGED, OK
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.pki.path.crl import SKEW, read_crl
from medmail_cli.pki.path.fitness import fit
from medmail_cli.pki.path.validation import Judgement
from medmail_cli.pki.x509 import locations
from medmail_cli.pki.x509.bundle import read_bundle
from medmail_cli.pki.x509.certificate import facts
from medmail_cli.workflows.audited import logged

if TYPE_CHECKING:
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.trust.anchors import Trust
    from medmail_cli.store.trust.silent_hosts import Unanswered
    from medmail_cli.transport.http import Form

_BROKEN = {"untrusted-issuer", "weak-key", "weak-algorithm", "unsupported-algorithm"}
"""Problems with which a chain of signatures proves nothing, though an anchor stands at its end."""

LARGEST = 64 << 20
"""Octets of a CRL: some hold a million entries."""
FETCH_SECONDS, RUN_SECONDS = 5.0, 10.0
"""What one fetch, and all of a run, may take while somebody waits for a letter."""


@dataclass(frozen=True)
class Fetched:
    """What came of one address that a certificate names; ``certificate`` (SHA-256) for an OCSP answer."""

    type: ClassVar[str] = "fetched"
    url: str
    kind: Literal["crl", "intermediate", "ocsp"]
    status: Literal["updated", "unchanged", "failed"]
    code: str | None
    reason: str | None
    exit: int
    certificate: str | None = None


def sound(judgement: Judgement) -> bool:
    """Whether a chain leads to an anchor and everybody in it was entitled to issue the next."""
    return judgement.anchor is not None and not any(problem.code in _BROKEN for problem in judgement.problems)


@dataclass
class Fetcher:
    """Asks servers in one run; each address once, and no host again that did not answer.

    ``unanswered`` remembers failures from run to run; ``each`` bounds the seconds of one fetch, ``seconds``
    those of all together. ``announce`` hears of each host before it is asked.
    """

    trust: "Trust"
    run: "RunContext"
    allow_private: bool = False
    unanswered: "Unanswered | None" = None
    each: float = 30.0
    seconds: float | None = None
    announce: Callable[[str], None] = lambda _host: None
    _down: dict[str, MedmailError] = field(default_factory=dict, repr=False)
    _done: dict[str, bool] = field(default_factory=dict, repr=False)
    _asked: set[x509.Certificate] = field(default_factory=set, repr=False)

    def settle(self, judgement: Judgement) -> bool:
        """Ask about those of a sound chain whose status is not known today, each once; whether anything came.

        Raises only where our own store is damaged.
        """
        unknown = (*judgement.undetermined, *judgement.outdated)
        if not unknown or not sound(judgement):
            return False
        events = []
        for certificate, issuer in unknown:
            if certificate not in self._asked:
                self._asked.add(certificate)
                above = judgement.chain[judgement.chain.index(issuer) :]
                answers = list(self.answer(certificate, issuer))
                if not any(event.status == "updated" for event in answers):
                    answers += self.lists(locations.revocation_points(certificate), above)
                events += answers
        return any(event.status == "updated" for event in events)

    def answer(self, certificate: x509.Certificate, issuer: x509.Certificate) -> Iterator[Fetched]:
        """Ask the responders that a certificate names, until one answers."""
        for url in locations.ocsp_urls(certificate):
            event = self._ask(url, certificate, issuer)
            yield event
            if event.status != "failed":
                return

    def lists(
        self, points: Iterable[locations.Point], above: Sequence[x509.Certificate], *, deltas: bool = True
    ) -> Iterator[Fetched]:
        """Fetch CRLs, of each distribution point from the first place that has it, and their deltas.

        ``above`` are the issuer of the certificate that names them and all above it.
        """
        for point in points:
            for url in point:
                if url not in self._done:
                    event, crl = self._list(url, above)
                    self._done[url] = event.status != "failed"
                    yield event
                    if crl is not None and deltas:
                        yield from self.lists(locations.delta_points(crl), above, deltas=False)
                if self._done[url]:
                    break

    def get(self, url: str, form: "Form | None" = None, *, size: int = LARGEST) -> bytes:
        """What is behind a URL, up to ``size`` octets.

        Raises what :func:`medmail_cli.transport.http.fetch` raises.
        """
        from medmail_cli.transport import http

        host = http.host_of(url)
        if host in self._down:
            raise self._down[host]
        seconds = self.each if self.seconds is None else min(self.each, self.seconds)
        lately = self.unanswered is not None and (url in self.unanswered or host in self.unanswered)
        if lately or seconds <= 0:
            raise MedmailError("server-unreachable", host=host, reason="timed-out")
        self.announce(host)
        started = time.monotonic()
        try:
            limits = http.Limits(size=size, seconds=seconds, allow_private=self.allow_private)
            return http.fetch(url, limits, form)
        except MedmailError as error:
            if error.code in ("server-unreachable", "server-untrusted") and "status" not in error.facts:
                self._down[host] = error
            self._remember(host if host in self._down else url, error)
            raise
        finally:
            if self.seconds is not None:
                self.seconds -= time.monotonic() - started

    def _remember(self, name: str, error: MedmailError | None = None) -> None:
        # an address that was refused costs nothing, and may be allowed a moment later
        if self.unanswered is not None and (error is None or error.code != "address-refused"):
            self.unanswered.add(name)

    def _ask(self, url: str, certificate: x509.Certificate, issuer: x509.Certificate) -> Fetched:
        from medmail_cli.pki.path import ocsp
        from medmail_cli.transport.http import Form

        digest = fingerprint(certificate)
        try:
            form = Form(ocsp.request(certificate, issuer), "application/ocsp-request")
            der = self.get(url, form, size=ocsp.LARGEST)
            _check_answer(der, certificate, issuer, url, self.run.now)
            with logged(self.run, "trust-update", objects=(digest,), kind="ocsp"):
                changed = self.trust.keep_ocsp(certificate, der)
        except MedmailError as error:
            return failed(url, "ocsp", error, digest)
        return Fetched(url, "ocsp", "updated" if changed else "unchanged", None, None, OK, digest)

    def _list(
        self, url: str, above: Sequence[x509.Certificate]
    ) -> tuple[Fetched, x509.CertificateRevocationList | None]:
        try:
            crls = read_bundle(self.get(url), url).crls
            if len(crls) != 1:
                raise MedmailError("malformed", what=url)
            signer = self._check_list(crls[0], above, url)
            changed = keep(self.trust, self.run, crls[0], signer)
        except MedmailError as error:
            return failed(url, "crl", error), None
        if not changed:
            self._remember(url)
        return Fetched(url, "crl", "updated" if changed else "unchanged", None, None, OK), crls[0]

    def _check_list(
        self, crl: x509.CertificateRevocationList, above: Sequence[x509.Certificate], url: str
    ) -> x509.Certificate:
        """Who signed a list that may be kept: readable, begun, by somebody entitled to, under an anchor.

        Raises ``malformed``, ``not-yet-valid``, ``bad-signature``.
        """
        read = read_crl(crl)
        if read is None or read.unknown is not None:
            raise MedmailError("malformed", what=url)
        if read.this_update > self.run.now + SKEW:
            raise MedmailError("not-yet-valid")
        authorities = self.trust.authorities
        for signer in dict.fromkeys((*above, *authorities.named(read.issuer))):
            by = facts(signer)
            if by.subject != read.issuer or (by.usage is not None and not by.usage.crl_sign):
                continue
            if not read.signed_by(signer):
                continue
            if signer in above or (
                fit(signer, "crl")
                and sound(authorities.judge(signer, at=self.run.now, purpose="crl", revocation="soft"))
            ):
                return signer
        raise MedmailError("bad-signature")


def _check_answer(
    der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, url: str, now: datetime
) -> None:
    """Whether an OCSP answer may be kept: about this certificate, by somebody entitled to, and fresh.

    Raises ``server-answer-malformed``, ``bad-signature``, ``not-yet-valid``, ``expired``, and
    ``weak-algorithm`` for a good one.
    """
    from medmail_cli.pki.path import ocsp

    answers = [answer for answer in ocsp.read_ocsp(der) if answer.about(certificate, issuer)]
    if not answers:
        raise MedmailError("server-answer-malformed", host=url, detail="ocsp")
    for answer in answers:
        if answer.responder(issuer) is None:
            raise MedmailError("bad-signature")
        if answer.this_update > now + SKEW:
            raise MedmailError("not-yet-valid")
        if not answer.current(now):
            raise MedmailError("expired")
        if answer.statement(now) is None and answer.defect == "critical":
            raise MedmailError("server-answer-malformed", host=url, detail="ocsp critical extension")
        if answer.statement(now) is None:
            raise MedmailError("weak-algorithm", detail=answer.defect)


def keep(
    trust: "Trust",
    run: "RunContext",
    thing: x509.Certificate | x509.CertificateRevocationList,
    *signers: x509.Certificate,
) -> bool:
    """Store an intermediate or a CRL (signed by one of ``signers``) if it is new; whether it was."""
    changed = False
    for item, new in trust.plan(thing.public_bytes(Encoding.DER), "", intermediate=True, signers=signers):
        if new:
            with logged(run, "trust-update", objects=(item.sha256,), kind=item.kind):
                trust.keep(item)
            changed = True
    return changed


def failed(
    url: str,
    kind: Literal["crl", "intermediate", "ocsp"],
    error: MedmailError,
    certificate: str | None = None,
) -> Fetched:
    """What is told of a fetch that came to nothing. Raises the error where our own store is damaged."""
    if exit_of(error.code) == DAMAGED:
        raise error
    reason = error.facts.get("reason") or error.facts.get("detail")
    return Fetched(
        url, kind, "failed", error.code, str(reason) if reason else None, exit_of(error.code), certificate
    )
