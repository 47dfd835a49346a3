"""NIST's path validation suite (PKITS): its data, its settings, and what is expected of each path."""

import datetime as dt
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509

from medmail_cli.cms import certificates
from medmail_cli.pki.path.policies import PolicySettings
from medmail_cli.pki.path.validation import Authorities

DATA = Path(cryptography_vectors.__file__).parent / "x509" / "PKITS_data"
AT = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


def policy(*numbers: int, explicit: bool = False) -> PolicySettings:
    """Acceptable NIST-test-policy-N; none given means any."""
    chosen = frozenset(f"2.16.840.1.101.3.2.1.48.{n}" for n in numbers)
    return PolicySettings(chosen or None, require_explicit=explicit)


# sections 4.1.4 and 4.1.5: lists signed with SHA-1, which may clear nobody
SHA1_CRLS = ("ValidDSASignaturesTest4", "ValidDSAParameterInheritanceTest5")

DEFAULT = PolicySettings()
NO_MAPPING = PolicySettings(inhibit_mapping=True)
SETTINGS: dict[str, list[tuple[PolicySettings, bool]]] = {
    # 4.8
    "ValidCertificatePathTest1": [
        (DEFAULT, True),
        (policy(explicit=True), True),
        (policy(1, explicit=True), True),
        (policy(2, explicit=True), False),
        (policy(1, 2, explicit=True), True),
    ],
    "AllCertificatesNoPoliciesTest2": [(DEFAULT, True), (policy(explicit=True), False)],
    "DifferentPoliciesTest3": [
        (DEFAULT, True),
        (policy(explicit=True), False),
        (policy(1, 2, explicit=True), False),
    ],
    "DifferentPoliciesTest4": [(DEFAULT, False)],
    "DifferentPoliciesTest5": [(DEFAULT, False)],
    "OverlappingPoliciesTest6": [(DEFAULT, True), (policy(1), True), (policy(2), False)],
    "DifferentPoliciesTest7": [(DEFAULT, False)],
    "DifferentPoliciesTest8": [(DEFAULT, False)],
    "DifferentPoliciesTest9": [(DEFAULT, False)],
    "AllCertificatesSamePoliciesTest10": [(DEFAULT, True), (policy(1), True), (policy(2), True)],
    "AllCertificatesanyPolicyTest11": [(DEFAULT, True), (policy(1), True)],
    "DifferentPoliciesTest12": [(DEFAULT, False)],
    "AllCertificatesSamePoliciesTest13": [(policy(1), True), (policy(2), True), (policy(3), True)],
    "AnyPolicyTest14": [(policy(1), True), (policy(2), False)],
    "UserNoticeQualifierTest15": [(DEFAULT, True)],
    "UserNoticeQualifierTest16": [(DEFAULT, True)],
    "UserNoticeQualifierTest17": [(DEFAULT, True)],
    "UserNoticeQualifierTest18": [(policy(1), True), (policy(2), True)],
    "UserNoticeQualifierTest19": [(DEFAULT, True)],
    "CPSPointerQualifierTest20": [(policy(1, explicit=True), True)],
    # 4.10
    "ValidPolicyMappingTest1": [(policy(1), True), (policy(2), False), (NO_MAPPING, False)],
    "InvalidPolicyMappingTest2": [(DEFAULT, False), (NO_MAPPING, False)],
    "ValidPolicyMappingTest3": [(policy(1), False), (policy(2), True)],
    "ValidPolicyMappingTest5": [(policy(1), True), (policy(6), False)],
    "ValidPolicyMappingTest6": [(policy(1), True), (policy(6), False)],
    "ValidPolicyMappingTest12": [(policy(1), True), (policy(2), True)],
    # 4.12
    "inhibitAnyPolicyTest3": [(DEFAULT, True), (PolicySettings(inhibit_any=True), False)],
}
# what an invalid path must be called where there is a code of our own for it
CODES = {
    r"InvalidRevoked|InvaliddeltaCRLTest[3469]|InvalidonlySomeReasonsTest(16|20|21)|InvalidcRLIssuerTest(31|32)"
    r"|InvalidNegativeSerial|InvalidLongSerial|InvalidIDPwithindirectCRLTest23|InvaliddistributionPointTest[26]$"
    r"|InvalidBasicSelfIssued(CRLSigningKeyTest7|NewWithOld|OldWithNew)|InvalidUnknownCRL(Entry)?ExtensionTest[89]"
    r"|InvalidSeparateCertificateandCRLKeysTest20|InvalidcRLIssuerTest34"
    r"|InvalidonlySomeReasonsTest15": "revoked",
    r"MissingCRL|InvalidWrongCRL|InvalidBadCRL|Invalid(Old|pre2000)CRLnextUpdate"
    r"|InvaliddeltaCRLIndicatorNoBase|InvaliddeltaCRLTest10|InvalidonlyContains|InvalidIDPwithindirectCRLTest26"
    r"|InvalidSeparateCertificateandCRLKeysTest21|InvalidUnknownCRLExtensionTest10|InvalidcRLIssuerTest(27|35)"
    r"|InvaliddistributionPointTest[389]|InvalidkeyUsage(Not)?CriticalcRLSignFalse"
    r"|InvalidonlySomeReasonsTest17": "revocation-unknown",
    r"notAfterDate": "expired",
    r"notBeforeDate": "not-yet-valid",
    r"InvalidEESignature|InvalidCASignature|NameChaining|nameConstraints|pathLen|Policy(Mapping)?Test"
    r"|cAFalse|basicConstraints|keyCertSignFalse|UnknownCriticalCertificate": "untrusted-issuer",
}


@dataclass(frozen=True)
class Case:
    name: str
    settings: PolicySettings
    valid: bool
    part: int

    def __str__(self) -> str:
        return f"{self.name}-{self.part}"


def cases() -> list[Case]:
    found = []
    for file in sorted((DATA / "certs").glob("*EE.crt")):
        name = file.stem.removesuffix("EE")
        parts = SETTINGS.get(name) or [(DEFAULT, {"V": True, "I": False}[name[0]])]
        found += [Case(name, settings, valid, n) for n, (settings, valid) in enumerate(parts, 1)]
    return found


@functools.cache
def load(name: str) -> x509.Certificate:
    return certificates.load((DATA / "certs" / f"{name}.crt").read_bytes())


@functools.cache
def world() -> Authorities:
    names = [file.stem for file in sorted((DATA / "certs").glob("*.crt"))]
    crls = [x509.load_der_x509_crl(f.read_bytes()) for f in sorted((DATA / "crls").glob("*.crl"))]
    return Authorities([load("TrustAnchorRootCertificate")], [load(name) for name in names], crls)


def expected(name: str, *, valid: bool) -> set[str]:
    """The codes of a path, weaknesses aside."""
    if valid:
        return {"revocation-unknown"} if name in SHA1_CRLS else set()
    return {next((code for pattern, code in CODES.items() if re.search(pattern, name)), "untrusted-issuer")}
