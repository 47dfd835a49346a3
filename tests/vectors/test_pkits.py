"""NIST PKITS, driven from the published data: every end certificate is judged with all 405 certificates and
173 CRLs at hand, so that the right path has to be found and not only checked.

What is expected stands in the file's name (Valid…, Invalid…); the sections on policies have settings of
their own, in the table. DSA is judged for its paths here: that it is weak is another test.
"""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import certificates
from medmail_cli.pki.path.validation import Authorities
from tests.vectors.pkits import AT, DATA, SHA1_CRLS, Case, cases, expected, load, world


@pytest.mark.parametrize("case", cases(), ids=str)
def test_path(case: Case) -> None:
    judgement = world().judge(
        load(case.name + "EE"), at=AT, known_now=AT, purpose="any", policies=case.settings
    )
    problems = [p for p in judgement.problems if not p.code.startswith("weak-")]
    assert {problem.code for problem in problems} == expected(case.name, valid=case.valid), problems


def test_the_published_data_is_all_there() -> None:
    assert len(cases()) == 247
    assert len(list((DATA / "crls").glob("*.crl"))) == 173


@pytest.mark.parametrize("name", SHA1_CRLS)
def test_dsa_and_sha1_are_weak(name: str) -> None:
    codes = {p.code for p in world().judge(load(f"{name}EE"), at=AT, purpose="any").problems}
    assert codes == {"weak-key", "weak-algorithm", "revocation-unknown"}


def test_dsa_parameters_come_from_the_issuers_key_alone() -> None:
    """4.1.5 without the certificate that has them, and with a signature that does not hold."""
    end, inheriting = load("ValidDSAParameterInheritanceTest5EE"), load("DSAParametersInheritedCACert")
    root, with_them = load("TrustAnchorRootCertificate"), load("DSACACert")

    def codes(certificate: x509.Certificate, *helpers: x509.Certificate) -> set[str]:
        judgement = Authorities([root], helpers).judge(certificate, at=AT, purpose="any", revocation="soft")
        return {problem.code for problem in judgement.problems}

    assert codes(end, inheriting, with_them) == {"weak-key", "weak-algorithm"}
    assert codes(end, inheriting) == {"untrusted-issuer", "unsupported-algorithm", "weak-algorithm"}
    changed = bytearray(end.public_bytes(Encoding.DER))
    changed[-1] ^= 1
    assert "untrusted-issuer" in codes(certificates.load(bytes(changed)), inheriting, with_them)
