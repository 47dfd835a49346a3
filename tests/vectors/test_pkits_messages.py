"""NIST PKITS, its 224 signed messages: opened with nothing at hand but the anchor and what each encloses.

What is expected follows from the test's name and settings, as for the paths; besides, most of these signers
have no address, and three messages are as weak as their DSA.
"""

from pathlib import Path

import pytest

from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.policies import PolicySettings
from medmail_cli.pki.path.validation import Authorities, Judgement
from medmail_cli.smime.open import open_message
from tests.vectors.pkits import AT, DATA, DEFAULT, SETTINGS, expected, load

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")

MESSAGES = sorted((DATA / "smime").glob("*.eml"))
# messages whose names are not quite those of their certificates
OTHER_NAMES = {
    "AllCertificatesSamePolicyTest1": "ValidCertificatePathTest1",
    "AllCertificatesAnyPolicyTest11": "AllCertificatesanyPolicyTest11",
}
WEAK = {"ValidDSASignaturesTest4", "ValidDSAParameterInheritanceTest5", "InvalidDSASignatureTest6"}


def codes_of(name: str, sender: str, *, valid: bool) -> set[str]:
    codes = set() if sender != "sender@testcertificates.gov" else {"no-address-in-certificate"}
    if name in WEAK:
        codes |= {"weak-key", "weak-algorithm"}
    return codes | expected(name, valid=valid)


def settings_of(name: str) -> tuple[PolicySettings, bool]:
    """The first settings of a test, and whether its path is valid under them."""
    listed = SETTINGS.get(name)
    return listed[0] if listed else (DEFAULT, name.startswith("Valid"))


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_message(path: Path) -> None:
    name = path.stem.removeprefix("Signed")
    name = OTHER_NAMES.get(name, name)
    settings, valid = settings_of(name)
    authorities = Authorities([load("TrustAnchorRootCertificate")])

    def judge(certificate: object, enclosed: Enclosed) -> Judgement:
        return authorities.judge(certificate, enclosed=enclosed, at=AT, known_now=AT, policies=settings)  # type: ignore[arg-type]

    result = open_message(path.read_bytes(), id="0" * 64, source=path.name, keys=[], judge=judge, at=AT)
    verdict = result.verdict
    assert {problem.code for problem in verdict.problems} == codes_of(
        name, verdict.headers.from_ or "", valid=valid
    )
    assert verdict.layers == ("signed",)
    assert (verdict.text or "").strip() == "This is a sample signed message."
    assert {note.code for note in verdict.notes} == {"not-encrypted", "headers-unprotected"}


def test_all_messages_are_there() -> None:
    assert len(MESSAGES) == 224
