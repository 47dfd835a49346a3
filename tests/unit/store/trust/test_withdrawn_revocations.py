"""A certificate that was revoked stays so when it has ended and its authority cleans up (RFC 5280 3.3)."""

import datetime as dt
import hashlib
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.errors import MedmailError
from medmail_cli.store.trust.anchors import Trust
from tests.support import pki

ROOT = pki.make_ca("Root")
DAY = dt.timedelta(days=1)
STORED = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
"""When the letter came; its signer's certificate ends a day later."""
LEAF, _ = pki.issue(ROOT, "a@x.test", key_type="p256", not_after=STORED + DAY)
REVOKED = {"revoked_at": STORED - DAY, "next_update": STORED + 99 * DAY}


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    trust = Trust(tmp_path / "trust", tmp_path / "cache")
    trust.add(pki.pem(ROOT.certificate), "root")
    return trust


def take(trust: Trust, number: int, day: int, *revoked: x509.Certificate, reason: str | None = None) -> None:
    """The list's issue of that day."""
    why = x509.ReasonFlags[reason] if reason else None
    crl = pki.make_crl(ROOT, revoked, at=STORED + day * DAY, number=number, reason=why, **REVOKED)
    trust.add(crl.public_bytes(Encoding.DER), "list")


def codes(trust: Trust, tmp_path: Path, day: int = 40) -> list[str]:
    """What another run finds."""
    again = Trust(tmp_path / "trust", tmp_path / "cache")
    assert len(again.crls()) <= 1
    judged = again.authorities.judge(LEAF, at=STORED, known_now=STORED + day * DAY)
    return [problem.code for problem in judged.problems]


def test_what_a_list_leaves_out_after_the_end_is_remembered(trust: Trust, tmp_path: Path) -> None:
    take(trust, 1, 0, LEAF)
    assert codes(trust, tmp_path) == ["revoked"]
    for number, day in ((2, 9), (3, 20)):
        take(trust, number, day)
        assert codes(trust, tmp_path) == ["revoked"]
    other, _ = pki.issue(ROOT, "b@x.test", key_type="p256", not_after=STORED + DAY)
    judged = trust.authorities.judge(other, at=STORED, known_now=STORED + 40 * DAY)
    assert judged.trusted


def test_what_it_leaves_out_before_the_end_is_taken_back(trust: Trust, tmp_path: Path) -> None:
    take(trust, 1, -2, LEAF)
    take(trust, 2, 0)
    take(trust, 3, 9)
    assert codes(trust, tmp_path) == []
    # and accused again
    take(trust, 4, 10, LEAF)
    take(trust, 5, 20)
    assert codes(trust, tmp_path) == ["revoked"]


def issue(
    trust: Trust,
    by: pki.Authority,
    number: int,
    day: int,
    kind: x509.ExtensionType,
    listed: tuple[x509.Certificate, x509.ExtensionType] | None,
) -> None:
    """A list of a kind, of that day; its one entry and what is said of that."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by.certificate.subject)
        .last_update(STORED + day * DAY)
        .next_update(STORED + 99 * DAY)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(kind, critical=True)
    )
    if listed:
        entry = x509.RevokedCertificateBuilder().serial_number(listed[0].serial_number)
        entry = entry.revocation_date(STORED - DAY).add_extension(listed[1], critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    crl = builder.sign(by.key, hashes.SHA256())  # type: ignore[arg-type]
    trust.add(crl.public_bytes(Encoding.DER), "list")


@pytest.mark.parametrize(("reason", "problems"), [("key_compromise", ["revoked"]), ("certificate_hold", [])])
def test_so_is_what_only_a_delta_told(trust: Trust, tmp_path: Path, reason: str, problems: list[str]) -> None:
    def found() -> list[str]:
        again = Trust(tmp_path / "trust", tmp_path / "cache")
        judged = again.authorities.judge(LEAF, at=STORED, known_now=STORED + 40 * DAY)
        return [problem.code for problem in judged.problems]

    delta = x509.DeltaCRLIndicator(1)
    take(trust, 1, -9)
    issue(trust, ROOT, 2, 0, delta, (LEAF, x509.CRLReason(x509.ReasonFlags[reason])))
    assert found() == ["revoked"]
    take(trust, 3, 9)  # the complete list never had it
    assert found() == problems
    issue(trust, ROOT, 4, 20, delta, None)
    assert found() == problems


def test_a_hold_is_over(trust: Trust, tmp_path: Path) -> None:
    take(trust, 1, 0, LEAF, reason="certificate_hold")
    assert codes(trust, tmp_path) == ["revoked"]
    take(trust, 2, 9)
    assert codes(trust, tmp_path) == []


def test_its_reason_counts_as_it_did(trust: Trust, tmp_path: Path) -> None:
    """Superseded after the letter came: that says nothing against the letter."""
    crl = pki.make_crl(
        ROOT, [LEAF], at=STORED + DAY / 2, revoked_at=STORED + DAY / 2, next_update=STORED + 99 * DAY,
        reason=x509.ReasonFlags.superseded,
    )  # fmt: skip
    trust.add(crl.public_bytes(Encoding.DER), "list")
    take(trust, 2, 9)
    assert codes(trust, tmp_path) == []


def test_with_the_list_goes_what_it_left_out(trust: Trust, tmp_path: Path) -> None:
    take(trust, 1, 0, LEAF)
    take(trust, 2, 9)
    (item,) = (one for one in trust.items() if one.kind == "crl")
    trust.remove(item)
    take(trust, 3, 20)
    assert codes(trust, tmp_path) == []


def test_an_indirect_list_has_the_issuers_of_its_entries(trust: Trust, tmp_path: Path) -> None:
    scope = x509.IssuingDistributionPoint(None, None, False, False, None, True, False)
    publisher = pki.make_ca("Publisher", parent=ROOT)
    trust.add(pki.pem(publisher.certificate), "publisher", intermediate=True)
    point = x509.DistributionPoint(None, None, None, [x509.DirectoryName(publisher.certificate.subject)])
    leaf, _ = pki.issue(
        ROOT, "c@x.test", key_type="p256", not_after=STORED + DAY,
        extensions=[(x509.CRLDistributionPoints([point]), False)],
    )  # fmt: skip
    issuer = x509.CertificateIssuer([x509.DirectoryName(ROOT.certificate.subject)])
    for number, day, listed in ((1, 0, (leaf, issuer)), (2, 9, None)):
        issue(trust, publisher, number, day, scope, listed)
        again = Trust(tmp_path / "trust", tmp_path / "cache").authorities
        judged = again.judge(leaf, at=STORED, known_now=STORED + 40 * DAY)
        assert "revoked" in [problem.code for problem in judged.problems]


def test_it_counts_where_its_list_is_no_longer_at_hand(trust: Trust, tmp_path: Path) -> None:
    """Caches are emptied. Another authority of the same name said nothing of ours."""
    take(trust, 1, 0, LEAF)
    take(trust, 2, 9)
    shutil.rmtree(tmp_path / "cache")
    assert codes(trust, tmp_path) == ["revoked"]
    namesake = pki.make_ca("Root")
    other, _ = pki.issue(namesake, "a@x.test", key_type="p256", not_after=STORED + DAY)
    (path,) = (tmp_path / "trust/dropped").iterdir()
    text = path.read_text().replace(f"{LEAF.serial_number:x} ", f"{other.serial_number:x} ")
    body = text.partition("\n")[2]
    path.write_text(hashlib.sha256(body.encode()).hexdigest() + "\n" + body)
    trust.add(pki.pem(namesake.certificate), "namesake")
    again = Trust(tmp_path / "trust", tmp_path / "cache").authorities
    judged = again.judge(other, at=STORED, known_now=STORED + 40 * DAY)
    assert [problem.code for problem in judged.problems] == ["revocation-unknown"]


def test_an_indirect_list_counts_when_it_is_gone_too(trust: Trust, tmp_path: Path) -> None:
    scope = x509.IssuingDistributionPoint(None, None, False, False, None, True, False)
    publisher = pki.make_ca("Publisher", parent=ROOT)
    trust.add(pki.pem(publisher.certificate), "publisher", intermediate=True)
    issuer = x509.CertificateIssuer([x509.DirectoryName(ROOT.certificate.subject)])
    issue(trust, publisher, 1, 0, scope, (LEAF, issuer))
    issue(trust, publisher, 2, 9, scope, None)
    shutil.rmtree(tmp_path / "cache")
    assert codes(trust, tmp_path) == ["revoked"]


def test_a_changed_octet_is_found(trust: Trust, tmp_path: Path) -> None:
    take(trust, 1, 0, LEAF)
    take(trust, 2, 9)
    (path,) = (tmp_path / "trust/dropped").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes().replace(b"unspecified", b"superseded"))
    with pytest.raises(MedmailError, match="store-damaged"):
        codes(trust, tmp_path)


def test_an_answer_that_forgets_does_not_displace_the_one_that_accused(trust: Trust) -> None:
    revoked = pki.make_ocsp(ROOT, LEAF, at=STORED, revoked_at=STORED - DAY)
    assert trust.keep_ocsp(LEAF, revoked)
    assert not trust.keep_ocsp(LEAF, pki.make_ocsp(ROOT, LEAF, at=STORED + 9 * DAY))
    assert trust.ocsp(LEAF) == (revoked,)
    assert trust.keep_ocsp(LEAF, pki.make_ocsp(ROOT, LEAF, at=STORED + DAY / 2))  # it still could
