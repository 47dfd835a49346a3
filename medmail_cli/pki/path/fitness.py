"""What speaks for and against the certificates of a path, one by one (RFC 5280 §6.1, RFC 8550 §4.4).

Signatures, revocation and policies are looked at in ``path``, which finds the paths.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x448, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from medmail_cli.cms.algorithms import ml_name
from medmail_cli.cms.publickey import pss_restriction
from medmail_cli.model import Problem, phrase
from medmail_cli.pki.x509 import dn
from medmail_cli.pki.x509.certificate import Facts, facts, public_key, subject_text
from medmail_cli.pki.x509.names import mail_allowed, violates

Purpose = Literal["sign", "encrypt", "tls", "any", "crl"]
"""What the certificate is to do; ``any`` asks no usage of it, ``crl`` is for signers of CRLs."""

LONGEST_PATH = 12
_MAIL = {
    ExtendedKeyUsageOID.EMAIL_PROTECTION.dotted_string,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string,
}
_SERVER = {
    ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string,
}
_EXTENDED = {"sign": _MAIL, "encrypt": _MAIL, "tls": _SERVER}


def fit(certificate: x509.Certificate, purpose: Purpose) -> bool:
    """Whether the certificate by itself is meant for the purpose: key usage, kind of key, extended usage."""
    return not unfit(certificate, purpose)


def dates(certificate: x509.Certificate, at: dt.datetime) -> list[Problem]:
    """Whether the certificate is valid at ``at``: no skew is allowed (RFC 5280 §6.1.3 (a)(2))."""
    read = facts(certificate)
    if at > read.not_after:
        return [Problem("expired", f"{subject_text(certificate)}: {read.not_after:%Y-%m-%dT%H:%M:%SZ}")]
    if at < read.not_before:
        return [
            Problem("not-yet-valid", f"{subject_text(certificate)}: {read.not_before:%Y-%m-%dT%H:%M:%SZ}")
        ]
    return []


def weaknesses(certificate: x509.Certificate, *, anchor: bool) -> list[Problem]:
    """Weak keys and signatures, critical extensions nobody knows, and what cannot be read (§6.1.4 (o))."""
    read = facts(certificate)
    problems = [Problem(code, f"{subject_text(certificate)}: {what}") for code, what in read.weaknesses]
    if read.weak_signature and not anchor:
        code, what = read.weak_signature
        problems.append(Problem(code, f"{subject_text(certificate)}: {what}"))
    if read.unreadable is not None:
        problems.append(Problem("untrusted-issuer", phrase("cannot be read: {0}", read.unreadable)))
    problems += [
        Problem("untrusted-issuer", phrase("critical extension {0}", oid)) for oid in read.unknown_critical
    ]
    return problems


def not_entitled(above: Sequence[x509.Certificate], purpose: Purpose) -> list[Problem]:
    """What forbids the certificates above to issue the next: cA, path length, keyCertSign, extended usages.

    ``above`` runs from the anchor down. RFC 5280 §6.1.4 (h) to (n); the anchor's own limits are kept to
    (RFC 5937), but it may be a certificate without basicConstraints, as old roots are.
    """
    problems: list[Problem] = []
    room = LONGEST_PATH
    for index, certificate in enumerate(above):
        read, name = facts(certificate), subject_text(certificate)
        if not (read.ca or (index == 0 and _old_root(read))):
            problems.append(Problem("untrusted-issuer", f"{name}: basicConstraints"))
        if index and not read.self_issued:
            if room == 0:
                problems.append(Problem("untrusted-issuer", f"{name}: pathLenConstraint"))
            room = max(room - 1, 0)
        if read.path_length is not None:
            room = min(room, read.path_length)
        if read.usage is not None and not read.usage.key_cert_sign:
            problems.append(Problem("untrusted-issuer", f"{name}: keyUsage"))
        wanted = _EXTENDED.get(purpose)
        if wanted and read.extended is not None and not read.extended & wanted:
            problems.append(Problem("wrong-extended-key-usage", name))
    return problems


def _old_root(anchor: Facts) -> bool:
    """An anchor from before basicConstraints; a person's certificate without them issues nothing."""
    return anchor.ca is None and anchor.self_issued and anchor.extended is None and not anchor.names


def name_constraints(down: Sequence[x509.Certificate]) -> list[Problem]:
    """RFC 5280 §6.1.3 (b), (c); self-issued certificates in between are exempt."""
    constraints: list[x509.NameConstraints] = []
    for index, certificate in enumerate(down):
        read = facts(certificate)
        last = index == len(down) - 1
        if index and constraints and read.unreadable is None and (last or not read.self_issued):
            forbidden = violates(dn.subject(certificate), read.names, constraints)
            if forbidden is not None:
                return [Problem("untrusted-issuer", f"nameConstraints: {forbidden}")]
        if read.constraints is not None:
            constraints.append(read.constraints)
    return []


def may_speak_for(chain: Sequence[x509.Certificate], address: str) -> bool:
    """Whether those above a certificate allow it a mailbox that it does not name, but its domain implies."""
    constraints = [facts(certificate).constraints for certificate in chain[1:]]
    return mail_allowed(address, [constraint for constraint in constraints if constraint is not None])


def unfit(certificate: x509.Certificate, purpose: Purpose) -> list[Problem]:
    """Whether key usage, kind of key and extended usage allow the purpose (RFC 8550 §4.4.2, 4.4.4)."""
    if purpose == "any":
        return []
    read, problems, name = facts(certificate), [], subject_text(certificate)
    if not _usage_allows(certificate, read, purpose):
        problems.append(Problem("wrong-key-usage", name))
    wanted = _EXTENDED.get(purpose)
    if wanted and read.extended is not None and not read.extended & wanted:
        problems.append(Problem("wrong-extended-key-usage", name))
    return problems


def _usage_allows(certificate: x509.Certificate, read: Facts, purpose: Purpose) -> bool:
    key, usage = public_key(certificate), read.usage
    kind = ml_name(key)
    if purpose == "encrypt":
        if isinstance(key, ec.EllipticCurvePublicKey | x25519.X25519PublicKey | x448.X448PublicKey):
            return usage is None or usage.key_agreement
        signs_only = isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey | dsa.DSAPublicKey)
        if signs_only or kind.startswith("ml-dsa") or pss_restriction(certificate):
            return False
        return usage is None or usage.key_encipherment
    if isinstance(key, x25519.X25519PublicKey | x448.X448PublicKey) or kind.startswith("ml-kem"):
        return False
    if purpose == "crl":  # RFC 10007: not for want of a keyUsage, unless it is an authority's anyway
        return usage.crl_sign if usage is not None else bool(read.ca)
    if usage is None:
        return True
    if purpose == "tls":
        return usage.digital_signature or (isinstance(key, rsa.RSAPublicKey) and usage.key_encipherment)
    return usage.digital_signature or usage.content_commitment
