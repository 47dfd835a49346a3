"""A verdict told step by step, in the order in which the checks are made (``decrypt --explain``)."""

from dataclasses import dataclass
from typing import Literal

from medmail_cli.smime.verdict import Verdict

Check = Literal["decryption", "coverage", "signature", "certificate", "sender", "headers", "addressee"]

_CHECKS: dict[Check, tuple[str, frozenset[str]]] = {
    "decryption": (
        "RFC 5652 §6, RFC 5083",
        frozenset({"no-key", "bad-tag", "unauthenticated-encryption", "malformed"}),
    ),
    "coverage": ("RFC 9787, RFC 1847", frozenset({"no-signature", "partly-signed", "content-twice"})),
    "signature": (
        "RFC 5652 §5.6",
        frozenset({"bad-signature", "weak-algorithm", "unsupported-algorithm", "implausible-time"}),
    ),
    "certificate": (
        "RFC 5280 §6, RFC 8550 §4.4",
        frozenset(
            {
                "untrusted-issuer",
                "expired",
                "not-yet-valid",
                "revoked",
                "revocation-unknown",
                "wrong-key-usage",
                "wrong-extended-key-usage",
                "weak-key",
            }
        ),
    ),
    "sender": (
        "RFC 8550 §3",
        frozenset({"signer-is-not-sender", "no-address-in-certificate", "several-from"}),
    ),
    "headers": ("RFC 9788", frozenset({"header-mismatch", "headers-unprotected"})),
    "addressee": ("RFC 9787", frozenset({"not-addressed-to-you"})),
}


@dataclass(frozen=True)
class Step:
    """One check: where it is laid down, whether it held, and the evidence."""

    number: int
    check: Check
    rule: str
    result: Literal["held", "failed", "noted", "not-made"]
    evidence: tuple[str, ...]


def explain(verdict: Verdict) -> tuple[Step, ...]:
    """Every check with what it rests on; those that had nothing to look at are ``not-made``."""
    steps: list[Step] = []
    for number, (check, (rule, codes)) in enumerate(_CHECKS.items(), 1):
        failed = [p for p in verdict.problems if p.code in codes]
        noted = [p for p in verdict.notes if p.code in codes]
        evidence = [f"{p.code}: {p.detail}" if p.detail else p.code for p in (*failed, *noted)]
        made = _made(check, verdict)
        if made:
            evidence = [*_evidence(check, verdict), *evidence]
        if failed:
            steps.append(Step(number, check, rule, "failed", tuple(evidence)))
        elif not made:
            steps.append(Step(number, check, rule, "not-made", ()))
        else:
            steps.append(Step(number, check, rule, "noted" if noted else "held", tuple(evidence)))
    return tuple(steps)


def _made(check: Check, verdict: Verdict) -> bool:
    if check == "decryption":
        return verdict.encryption.status != "none"
    if verdict.encryption.status == "failed" or {"malformed"} & {p.code for p in verdict.problems}:
        return False
    if check in ("signature", "certificate", "sender"):
        return bool(verdict.signature.signers)
    return check != "addressee" or verdict.encryption.status == "ok"


def _evidence(check: Check, verdict: Verdict) -> list[str]:
    signers = verdict.signature.signers
    if check == "decryption":
        encryption = verdict.encryption
        found = [encryption.algorithm, encryption.key_management, encryption.recipient]
        return [" · ".join(one for one in found if one)] if encryption.status == "ok" else []
    if check == "coverage":
        return [" > ".join(verdict.layers)] if verdict.layers else []
    if check == "signature":
        return [f"{s.signed_at:%Y-%m-%dT%H:%M:%SZ}" for s in signers if s.signed_at]
    if check == "certificate":
        return [
            " < ".join(name for name in (s.subject, s.issuer, s.anchor) if name)
            + (f" · sha256:{s.sha256}" if s.sha256 else "")
            for s in signers
        ]
    if check == "sender":
        return [f"{', '.join(s.addresses)} · From: {verdict.headers.from_ or ''}" for s in signers]
    if check == "headers":
        return ["hp" if verdict.headers.protected else "outer"]
    return [", ".join((*verdict.headers.to, *verdict.headers.cc))]
