"""A judged path told step by step, in the order of RFC 5280 §6.1: what was looked at, and what was found."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from medmail_cli.cms.certificates import fingerprint
from medmail_cli.model import Problem, listed, phrase
from medmail_cli.pki.path import fitness
from medmail_cli.pki.path.crl import Crl
from medmail_cli.pki.path.evidence import NOTHING, Enclosed
from medmail_cli.pki.path.ocsp import read_ocsp
from medmail_cli.pki.path.validation import Authorities, Judgement
from medmail_cli.pki.x509.certificate import facts, issued, public_key, subject_text
from medmail_cli.pki.x509.usage import key_type

Check = Literal[
    "anchor",
    "issued",
    "period",
    "revocation",
    "names",
    "constraints",
    "policies",
    "rights",
    "strength",
    "use",
]


@dataclass(frozen=True)
class Finding:
    """One check of one certificate: where it is laid down, whether it held (None: unknown), evidence."""

    check: Check
    rule: str
    about: str
    held: bool | None
    evidence: str


def explain(
    judgement: Judgement,
    authorities: Authorities,
    *,
    at: dt.datetime,
    enclosed: Enclosed = NOTHING,
    purpose: fitness.Purpose = "sign",
) -> tuple[Finding, ...]:
    """Every check of a path, from below the anchor down to the certificate, then of its fitness for mail."""
    return tuple(_findings(judgement, authorities, at, enclosed, purpose))


def _findings(
    judgement: Judgement,
    authorities: Authorities,
    at: dt.datetime,
    enclosed: Enclosed,
    purpose: fitness.Purpose,
) -> Iterator[Finding]:
    chain = judgement.chain
    said = {(problem.code, problem.detail) for problem in (*judgement.problems, *judgement.notes)}
    top, end = subject_text(chain[-1]), subject_text(chain[0])
    trusted = judgement.anchor is not None
    yield Finding("anchor", "RFC 5280 §6.1.1 (d)", top, trusted, f"sha256:{fingerprint(chain[-1])}")
    for index in range(len(chain) - 2, -1, -1):
        certificate, issuer = chain[index], chain[index + 1]
        name = subject_text(certificate)
        signature = _made(certificate)
        by = phrase("{0} · {1} of {2}", signature, _key(issuer), subject_text(issuer))
        yield Finding("issued", "RFC 5280 §6.1.3 (a)(1)", name, issued(certificate, issuer), by)
        yield _period(certificate, at)
        yield _revocation(certificate, issuer, judgement, authorities, enclosed)
        same = facts(certificate).issuer == facts(issuer).subject
        yield Finding("names", "RFC 5280 §6.1.3 (a)(4)", name, same, subject_text(issuer))
    if len(chain) == 1:
        yield _period(chain[0], at)
    down = tuple(reversed(chain))
    if trusted:
        constrained = fitness.name_constraints(down)
        evidence = listed([problem.detail for problem in constrained]) or _constraints(down)
        yield Finding("constraints", "RFC 5280 §6.1.3 (b), (c)", end, not constrained, evidence)
        policies = facts(chain[0]).policies
        held = ("untrusted-issuer", "policy") not in said
        named = ", ".join(sorted(policies or ())) or phrase("none")
        yield Finding("policies", "RFC 5280 §6.1.3 (d) to (f)", end, held, named)
    for certificate in down[:-1]:
        wrong = fitness.not_entitled([certificate], purpose)
        yield Finding(
            "rights",
            "RFC 5280 §6.1.4 (k) to (n)",
            subject_text(certificate),
            not wrong,
            _all(wrong) or _rights(certificate),
        )
    for certificate in down:
        weak = fitness.weaknesses(certificate, anchor=certificate is down[0] and trusted)
        yield Finding(
            "strength",
            "RFC 5280 §6.1.4 (o), RFC 8551 §4.3",
            subject_text(certificate),
            not weak,
            _all(weak) or _key(certificate),
        )
    unfit = fitness.unfit(chain[0], purpose)
    yield Finding("use", "RFC 8550 §4.4.2, §4.4.4", end, not unfit, _all(unfit) or _rights(chain[0]))


def _period(certificate: x509.Certificate, at: dt.datetime) -> Finding:
    read = facts(certificate)
    evidence = phrase("{0} – {1}, at {2}", _time(read.not_before), _time(read.not_after), _time(at))
    held = not fitness.dates(certificate, at)
    return Finding("period", "RFC 5280 §6.1.3 (a)(2)", subject_text(certificate), held, evidence)


def _revocation(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    judgement: Judgement,
    authorities: Authorities,
    enclosed: Enclosed,
) -> Finding:
    """RFC 5280 §6.1.3 (a)(3), with the lists and answers that there were to look at."""
    name, read = subject_text(certificate), facts(certificate)
    revoked = [
        p.detail for p in judgement.problems if p.code == "revoked" and p.detail.startswith(f"{name}: ")
    ]
    looked_at: list[str] = [
        _with_defect(_list(crl), crl.defect)
        for crl in authorities.crls(read.issuer)
        # anybody can put a list of that name into the store, and an answer into a letter
        if any(crl.believed.values())
    ]
    answers = [*authorities.ocsp(certificate), *enclosed.ocsp]
    looked_at += [
        _with_defect(phrase("OCSP answer of {0}", _time(answer.this_update)), answer.defect)
        for der in answers
        for answer in read_ocsp(der)
        if answer.about(certificate, issuer) and answer.responder(issuer)
    ]
    looked_at += [phrase("{0} CRLs enclosed", str(len(enclosed.crls)))] if enclosed.crls else []
    if read.never_revoked:
        looked_at = ["noRevAvail (RFC 9608)"]
    unknown = any(subject == certificate for subject, _issuer in judgement.undetermined)
    held = False if revoked else None if unknown or judgement.anchor is None else True
    evidence = listed(revoked or looked_at) or phrase("no CRL and no OCSP answer at hand")
    return Finding("revocation", "RFC 5280 §6.1.3 (a)(3)", name, held, evidence)


def _list(crl: Crl) -> str:
    if crl.next_update is None:
        return phrase("CRL of {0}", _time(crl.this_update))
    return phrase("CRL of {0} to {1}", _time(crl.this_update), _time(crl.next_update))


def _with_defect(what: str, defect: str | None) -> str:
    return what if defect is None else phrase("{0}, which clears nobody ({1})", what, defect)


def problem_text(problem: Problem) -> str:
    """A problem's code, and what it is about."""
    return phrase("{0}: {1}", problem.code, problem.detail) if problem.detail else problem.code


def _all(problems: list[Problem]) -> str:
    return listed([problem_text(problem) for problem in problems])


def _constraints(down: tuple[x509.Certificate, ...]) -> str:
    held_to = [
        subject_text(certificate) for certificate in down if facts(certificate).constraints is not None
    ]
    return phrase("kept, as {0} asks", ", ".join(held_to)) if held_to else phrase("none")


def _rights(certificate: x509.Certificate) -> str:
    read = facts(certificate)
    usages = [name for name in _USAGES if read.usage is not None and getattr(read.usage, name)]
    said: list[str] = [f"keyUsage {', '.join(usages)}" if read.usage is not None else phrase("no keyUsage")]
    if read.extended is not None:
        said.append(f"extKeyUsage {', '.join(sorted(read.extended))}")
    if read.ca:
        said.append("CA" if read.path_length is None else f"CA, pathLen {read.path_length}")
    return listed(said)


_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "key_agreement", "key_cert_sign",
    "crl_sign",
)  # fmt: skip


def _made(certificate: x509.Certificate) -> str:
    """How a certificate was signed: the digest, or the algorithm where that is all."""
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        digest = None
    return digest.name if digest is not None else certificate.signature_algorithm_oid.dotted_string


def _key(certificate: x509.Certificate) -> str:
    key = public_key(certificate)
    return key_type(key) if key is not None else certificate.public_key_algorithm_oid.dotted_string


def _time(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
