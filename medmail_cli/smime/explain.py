"""A verdict told step by step, in the order in which the checks are made (``decrypt --explain``)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from medmail_cli.cms import algorithms
from medmail_cli.codes import of_step
from medmail_cli.model import phrase
from medmail_cli.pki.path import explain as paths
from medmail_cli.pki.path.validation import Authorities
from medmail_cli.smime.open import Opened
from medmail_cli.smime.signers import Judged
from medmail_cli.smime.verdict import Verdict

Check = (
    Literal["layers", "decryption", "coverage", "signature", "sender", "headers", "addressee"] | paths.Check
)
Result = Literal["held", "failed", "noted", "not-made"]

_WEAK = {"weak-algorithm", "unsupported-algorithm"}
_ATTRIBUTES = {
    algorithms.CONTENT_TYPE: "content-type",
    algorithms.MESSAGE_DIGEST: "message-digest",
    algorithms.SIGNING_TIME: "signing-time",
    algorithms.SIGNING_CERTIFICATE: "signing-certificate",
    algorithms.SIGNING_CERTIFICATE_V2: "signing-certificate-v2",
    algorithms.ALGORITHM_PROTECTION: "algorithm-protection",
}


@dataclass(frozen=True)
class Step:
    """One check: where it is laid down, what it is about, whether it held, and the evidence."""

    check: Check
    rule: str
    result: Result
    evidence: tuple[str, ...]
    about: str | None = None
    number: int = 0


def explain(opened: Opened, authorities: Authorities) -> tuple[Step, ...]:
    """Every check with what it rests on; those that had nothing to look at are ``not-made``."""
    return tuple(replace(step, number=number) for number, step in enumerate(_told(opened, authorities), 1))


def _told(opened: Opened, authorities: Authorities) -> Iterator[Step]:
    verdict = opened.verdict
    encryption, headers = verdict.encryption, verdict.headers
    unread = encryption.status == "failed" or any(p.code == "malformed" for p in verdict.problems)
    layers = phrase(" > ".join(f"{{{n}}}" for n in range(len(verdict.layers))), *map(phrase, verdict.layers))
    yield Step("layers", "RFC 8551 §3", "held", (layers or phrase("none"),))
    how = (encryption.algorithm, encryption.key_management, encryption.recipient)
    shown = " · ".join(word for word in how if word)
    yield _step(verdict, "decryption", "RFC 5652 §6, RFC 5083", shown, checked=encryption.status != "none")
    yield _step(verdict, "coverage", "RFC 9787, RFC 1847", layers, checked=not unread)
    for judged in opened.judged:
        yield from _signer(judged, opened, authorities)
    if not opened.judged:
        yield _step(verdict, "signature", "RFC 5652 §5.4 to §5.6", "", checked=False)
    has = ", ".join(address for signer in verdict.signature.vouching for address in signer.addresses)
    signers = any(signer.sha256 for signer in verdict.signature.signers)
    yield _step(verdict, "sender", "RFC 8550 §3", f"{has} · From: {headers.from_ or ''}", checked=signers)
    outside = verdict.outer_headers
    seen = outside.from_ or "", outside.subject or ""
    if headers.protected:
        evidence = phrase("protected; outside From: {0} · Subject: {1}", *seen)
    else:
        evidence = phrase("outside; outside From: {0} · Subject: {1}", *seen)
    yield _step(verdict, "headers", "RFC 9788 §4", evidence, checked=not unread)
    to = ", ".join((*headers.to, *headers.cc))
    yield _step(verdict, "addressee", "RFC 9787 §4", to, checked=encryption.status == "ok")


def _step(verdict: Verdict, check: Check, rule: str, evidence: str, *, checked: bool) -> Step:
    codes = of_step(check)
    failed = [p for p in verdict.problems if p.code in codes and _belongs(verdict, check, p.code)]
    noted = [p for p in verdict.notes if p.code in codes]
    said = [paths.problem_text(p) for p in (*failed, *noted)]
    if checked and evidence:
        said.insert(0, evidence)
    if failed:
        return Step(check, rule, "failed", tuple(said))
    if not checked:
        return Step(check, rule, "not-made", ())
    return Step(check, rule, "noted" if noted else "held", tuple(said))


def _belongs(verdict: Verdict, check: Check, code: str) -> bool:
    """Algorithms may be weak in the envelope or in a signature: each is told where it was found."""
    if code not in _WEAK:
        return True
    signed = any(code in signer.problems for signer in verdict.signature.signers)
    return signed if check == "signature" else not signed


def _signer(judged: Judged, opened: Opened, authorities: Authorities) -> Iterator[Step]:
    signer, info = judged.signer, judged.info
    attributes = [_ATTRIBUTES[oid] for oid in info.signed_attributes if oid in _ATTRIBUTES]
    evidence = [
        f"{info.digest} · {info.signature_scheme}",
        ", ".join(attributes) or phrase("no signed attributes"),
    ]
    if signer.signed_at:
        evidence.append(f"{signer.signed_at:%Y-%m-%dT%H:%M:%SZ}")
    codes = of_step("signature")
    failed = [p for p in judged.problems if p.code in codes and p.code in signer.problems]
    if judged.judgement is not None:
        failed = [p for p in failed if p not in judged.judgement.problems]
    repaired = [p.code for p in opened.verdict.notes if p.code in codes]
    evidence += [paths.problem_text(p) for p in failed] + repaired
    result: Result = "failed" if failed else "noted" if repaired else "held"
    if judged.proven is None and not failed:
        result = "not-made"  # without the certificate there is no key to check it with
    yield Step("signature", "RFC 5652 §5.4 to §5.6", result, tuple(evidence), signer.subject)
    if judged.judgement is None or opened.at is None:
        missing = tuple(paths.problem_text(p) for p in judged.problems if p.code == "untrusted-issuer")
        yield Step("anchor", "RFC 5652 §5.1, RFC 5280 §6.1.1 (d)", "failed", missing)
        return
    for step in paths.explain(judged.judgement, authorities, at=opened.at, enclosed=judged.enclosed):
        results: dict[bool | None, Result] = {True: "held", False: "failed", None: "noted"}
        evidence = [step.evidence] if step.evidence else []
        yield Step(step.check, step.rule, results[step.held], tuple(evidence), step.about)
