"""Several issues of one list, and deltas to them: which of them speaks."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.cms import der
from medmail_cli.pki.path.crl import list_name, newer
from medmail_cli.pki.path.explain import explain
from medmail_cli.pki.path.validation import Authorities, judge
from tests.support import pki

AT = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
ROOT = pki.make_ca("Root")
LEAF, _ = pki.issue(ROOT, "dr.b@medecin.test", key_type="p256", not_after=AT + 30 * DAY)
Reason = x509.ReasonFlags


def issue(
    number: int,
    *,
    base: int | None = None,
    reason: Reason | None = None,
    fresh: bool = True,
    at: dt.datetime | None = None,
) -> x509.CertificateRevocationList:
    """An issue of the root's list, or a delta to ``base``; with a reason it lists the leaf."""
    made = at or AT + (number - 10) * DAY
    end = max(AT, made) + DAY if fresh else AT - DAY
    if base is None:
        revoked = [LEAF] if reason else []
        return pki.make_crl(ROOT, revoked, at=made, next_update=end, reason=reason, number=number)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ROOT.certificate.subject)
        .last_update(made)
        .next_update(end)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.DeltaCRLIndicator(base), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ROOT.certificate.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
    )
    if reason:
        entry = x509.RevokedCertificateBuilder().serial_number(LEAF.serial_number).revocation_date(pki.EPOCH)
        entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(ROOT.key, pki._digest_for(ROOT.key))  # type: ignore[arg-type]


def of(*crls: x509.CertificateRevocationList, at: dt.datetime = AT) -> Sequence[str]:
    judged = judge(LEAF, anchors=[ROOT.certificate], crls=crls, at=at, known_now=AT)
    return [problem.code for problem in judged.problems]


def test_a_delta_tells_what_its_base_did_not_know_however_old_or_far_from_it() -> None:
    base = issue(1)
    assert of(base) == []
    assert of(base, issue(5, base=1, reason=Reason.key_compromise)) == ["revoked"]
    assert of(base, issue(5, base=1, reason=Reason.key_compromise, fresh=False)) == ["revoked"]
    assert of(base, issue(5, base=4, reason=Reason.key_compromise)) == ["revoked"]
    assert of(issue(5, base=4, reason=Reason.key_compromise)) == ["revoked"]


def test_only_a_fresh_delta_to_this_very_list_makes_an_old_one_current() -> None:
    old = issue(1, fresh=False)
    assert of(old) == ["revocation-unknown"]
    assert of(old, issue(5, base=1)) == []
    assert of(old, issue(5, base=4)) == ["revocation-unknown"]
    assert of(old, issue(5, base=1, fresh=False)) == ["revocation-unknown"]
    assert of(issue(5, base=1)) == ["revocation-unknown"]


def test_a_hold_ends_with_the_delta_or_the_issue_that_lifts_it() -> None:
    held = issue(2, reason=Reason.certificate_hold)
    assert of(held) == ["revoked"]
    assert of(held, issue(3)) == []
    assert of(issue(3), held) == []
    assert of(held, issue(1)) == ["revoked"]
    lifted = issue(4, base=2, reason=Reason.remove_from_crl)
    assert of(held, lifted) == []
    assert of(held, lifted, issue(5, base=2, reason=Reason.key_compromise)) == ["revoked"]
    # the delta was before the list
    assert of(issue(6, reason=Reason.key_compromise), lifted) == ["revoked"]


def listing(
    *revoked: x509.Certificate,
    sha1: bool = False,
    entry: tuple[x509.ExtensionType, bool] | None = None,
    of_list: tuple[x509.ExtensionType, bool] | None = None,
    number: int = 9,
    reason: Reason | None = None,
    base: int | None = None,
) -> x509.CertificateRevocationList:
    """A list of the root's signed with any digest, with one more extension in its entries or of its own."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(ROOT.certificate.subject)
    builder = builder.last_update(AT + (number - 10) * DAY).next_update(AT + DAY)
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if of_list:
        builder = builder.add_extension(of_list[0], critical=of_list[1])
    if base:
        builder = builder.add_extension(x509.DeltaCRLIndicator(base), critical=True)
    for one in revoked:
        made = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(pki.EPOCH)
        if reason:
            made = made.add_extension(x509.CRLReason(reason), critical=False)
        if entry:
            made = made.add_extension(entry[0], critical=entry[1])
        builder = builder.add_revoked_certificate(made.build())
    crl = builder.sign(ROOT.key, hashes.SHA256())  # type: ignore[arg-type]
    if sha1:
        signed = pki.weakly_signed(crl.public_bytes(Encoding.DER), ROOT.key)
        crl = x509.load_der_x509_crl(signed)
    return crl


NEIGHBOUR, _ = pki.issue(ROOT, "dr.c@medecin.test", key_type="p256")
STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"sha1": True}, id="sha1"),
        pytest.param({"of_list": (STRANGE, True)}, id="unknown in the list"),
        pytest.param({"entry": (STRANGE, True)}, id="unknown in an entry"),
    ],
)
def test_a_list_that_is_weak_or_not_understood_accuses_and_does_not_clear(how: dict[str, Any]) -> None:
    assert of(listing(NEIGHBOUR, **how)) == ["revocation-unknown"]
    assert of(listing(NEIGHBOUR, LEAF, **how)) == ["revoked"]
    good = listing(number=8)
    assert of(listing(NEIGHBOUR, **how), good) == []
    assert of(listing(NEIGHBOUR, LEAF, **how), good) == ["revoked"]
    # nor does it lift what an older one said, nor stand in its place
    held = issue(2, reason=Reason.certificate_hold)
    assert of(held, listing(NEIGHBOUR, **how)) == ["revoked"]
    assert of(held, listing(LEAF, NEIGHBOUR, **how, reason=Reason.remove_from_crl, base=2)) == ["revoked"]
    assert list_name(listing(NEIGHBOUR, **how)) != list_name(listing(NEIGHBOUR))


def test_extensions_that_are_known_or_not_critical_take_nothing_from_a_list() -> None:
    assert of(listing(NEIGHBOUR, entry=(STRANGE, False))) == []
    assert of(listing(NEIGHBOUR, of_list=(STRANGE, False))) == []
    assert of(listing(NEIGHBOUR, entry=(x509.InvalidityDate(AT), True), reason=Reason.key_compromise)) == []
    # what looks critical by chance is looked at
    assert (
        of(listing(NEIGHBOUR, entry=(x509.UnrecognizedExtension(STRANGE.oid, b"\x01\x01\xff\x04"), False)))
        == []
    )


def test_an_old_list_says_nothing_after_the_numbers_began_again() -> None:
    old, new = issue(500, at=AT - 9 * DAY), issue(1, at=AT - DAY, reason=Reason.key_compromise)
    assert of(old, new) == of(new, old) == ["revoked"]


def test_which_issue_takes_the_place_of_which() -> None:
    held = issue(5, at=AT - DAY)
    assert newer(issue(6, at=AT), held)
    assert newer(issue(5, at=AT), held)
    assert not newer(held, held)
    assert not newer(issue(4, at=AT), held)
    assert not newer(issue(6, at=AT - 2 * DAY), held)
    # out of date by then: the authority began its numbers again
    assert newer(issue(1, at=AT + 2 * DAY), held)


def test_the_later_issue_gives_the_reason() -> None:
    superseded, compromised = issue(2, reason=Reason.superseded), issue(3, reason=Reason.key_compromise)
    before = pki.EPOCH - DAY
    leaf, _ = pki.issue(ROOT, "a@x.test", key_type="p256", not_before=before - DAY, serial=LEAF.serial_number)
    for crls in ([superseded, compromised], [compromised, superseded]):
        judged = judge(leaf, anchors=[ROOT.certificate], crls=crls, at=before, known_now=AT)
        assert "revoked" in [problem.code for problem in judged.problems]


def test_what_was_issued_after_the_certificates_end_takes_no_word_back() -> None:
    end = LEAF.not_valid_after_utc
    listed, silent = issue(2, reason=Reason.key_compromise), issue(3, at=end + DAY)
    judged = judge(LEAF, anchors=[ROOT.certificate], crls=[listed, silent], at=AT, known_now=end + 2 * DAY)
    assert [problem.code for problem in judged.problems] == ["revoked"]
    assert of(listed, issue(3, at=AT - DAY)) == []


def test_an_explanation_cites_no_list_that_was_not_believed() -> None:
    forged = pki.make_crl(pki.Authority(ROOT.certificate, pki.make_key("p256"), ROOT.chain), at=AT - 2 * DAY)
    authorities = Authorities([ROOT.certificate], (), [issue(9), forged])
    judged = authorities.judge(LEAF, at=AT, known_now=AT)
    told = explain(judged, authorities, at=AT)
    (evidence,) = (one.evidence for one in told if one.check == "revocation")
    assert evidence == "CRL of 2026-05-31T12:00:00Z to 2026-06-02T12:00:00Z"


def test_a_list_under_another_key_is_another_list() -> None:
    """While an authority changes its key it has two lists, and perhaps says in neither whose it is."""
    renewed = pki.make_ca("Root")
    rollover = pki.cross(ROOT, renewed)

    def listing(by: pki.Authority, number: int, *revoked: x509.Certificate) -> x509.CertificateRevocationList:
        builder = x509.CertificateRevocationListBuilder().issuer_name(by.certificate.subject)
        builder = builder.last_update(AT - DAY).next_update(AT + DAY)
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(pki.EPOCH).build())
        return builder.sign(by.key, pki._digest_for(by.key))  # type: ignore[arg-type]

    crls = [listing(ROOT, 1, LEAF), listing(renewed, 2)]
    judged = judge(LEAF, anchors=[ROOT.certificate], intermediates=[rollover], crls=crls, at=AT, known_now=AT)
    assert [problem.code for problem in judged.problems] == ["revoked"]


@pytest.mark.parametrize(
    ("rights", "believed"),
    [
        ([], False),
        ([(pki._key_usage(digital_signature=True), True)], False),
        ([(pki._key_usage(crl_sign=True), True)], True),
        ([(x509.BasicConstraints(ca=True, path_length=None), True)], True),
    ],
    ids=["anybody", "somebody who signs", "somebody who signs lists", "an authority"],
)
def test_who_signs_lists_in_an_authoritys_name(
    rights: list[tuple[x509.ExtensionType, bool]], believed: bool
) -> None:
    """RFC 10007: where no keyUsage speaks of lists, a name does not suffice."""
    key = pki.make_key("p256")
    point = x509.UniformResourceIdentifier("http://x.test")
    points = x509.CRLDistributionPoints([x509.DistributionPoint([point], None, None, None)])
    name = ROOT.certificate.subject
    signer = pki._certify(ROOT, key, name, pki.EPOCH, pki.FAR, [*rights, (points, False)])
    made = pki.make_crl(pki.Authority(signer, key, ()), at=AT - DAY, next_update=AT + DAY)
    found = judge(LEAF, anchors=[ROOT.certificate], intermediates=[signer], crls=[made], at=AT, known_now=AT)
    assert [problem.code for problem in found.problems] == ([] if believed else ["revocation-unknown"])


def test_an_indirect_list_with_an_issuer_that_cannot_be_read_clears_nobody() -> None:
    """RFC 5280 §5.3: nor is what it says after that taken to be said of somebody else."""
    latin_1 = der.sequence(
        der.tlv(0x31, der.sequence(der.oid("2.5.4.3"), der.tlv(0x14, "Ôrdre".encode("latin-1"))))
    )
    unread = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("2.5.29.29"), der.sequence(der.tlv(0xA4, latin_1))
    )
    own = x509.CertificateIssuer([x509.DirectoryName(ROOT.certificate.subject)])
    scope = (x509.IssuingDistributionPoint(None, None, False, False, None, True, False), True)

    def said(*entries: tuple[x509.Certificate, x509.ExtensionType | None]) -> Sequence[str]:
        builder = x509.CertificateRevocationListBuilder().issuer_name(ROOT.certificate.subject)
        builder = builder.last_update(AT - DAY).next_update(AT + DAY).add_extension(*scope)
        for one, issuer in entries:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number)
            entry = entry.revocation_date(pki.EPOCH)
            builder = builder.add_revoked_certificate(
                (entry.add_extension(issuer, critical=True) if issuer else entry).build()
            )
        return of(builder.sign(ROOT.key, hashes.SHA256()))  # type: ignore[arg-type]

    assert said((NEIGHBOUR, None)) == []
    assert said((NEIGHBOUR, unread)) == ["revocation-unknown"]
    assert said((LEAF, unread)) == ["revocation-unknown"]
    assert said((NEIGHBOUR, unread), (LEAF, None)) == ["revocation-unknown"]
    assert said((NEIGHBOUR, unread), (LEAF, own)) == ["revoked"]
    assert said((LEAF, None), (NEIGHBOUR, unread)) == ["revoked"]


def test_a_signer_of_lists_of_whom_nothing_is_known_accuses_and_does_not_clear() -> None:
    other = pki.make_ca("Lists", parent=ROOT)
    point = x509.DistributionPoint(None, None, None, [x509.DirectoryName(other.certificate.subject)])
    points = [(x509.CRLDistributionPoints([point]), False)]
    leaf, _ = pki.issue(ROOT, "a@x.test", key_type="p256", extensions=points)

    def listing(
        by: pki.Authority, scope: x509.IssuingDistributionPoint, *revoked: x509.Certificate
    ) -> x509.CertificateRevocationList:
        builder = x509.CertificateRevocationListBuilder().issuer_name(by.certificate.subject)
        builder = builder.last_update(AT - DAY).next_update(AT + DAY).add_extension(scope, critical=True)
        for one in revoked:
            issuer = x509.CertificateIssuer([x509.DirectoryName(one.issuer)])
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number)
            entry = entry.revocation_date(pki.EPOCH).add_extension(issuer, critical=True)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(by.key, pki._digest_for(by.key))  # type: ignore[arg-type]

    # the same authority twice: what its helper says counts under either
    rights = [(x509.BasicConstraints(ca=True, path_length=None), True)]
    renewed = pki._certify(None, ROOT.key, ROOT.certificate.subject, AT - DAY, pki.FAR, rights)

    def judged(*crls: x509.CertificateRevocationList) -> list[str]:
        said = []
        for anchors in ([ROOT.certificate], [ROOT.certificate, renewed], [renewed, ROOT.certificate]):
            helpers = [other.certificate]
            found = judge(leaf, anchors=anchors, intermediates=helpers, crls=crls, at=AT, known_now=AT)
            said.append([problem.code for problem in found.problems])
        assert said[0] == said[1] == said[2]
        return said[0]

    indirect = x509.IssuingDistributionPoint(None, None, False, False, None, True, False)
    authorities = x509.IssuingDistributionPoint(None, None, False, True, None, False, False)
    assert judged(listing(other, indirect, leaf)) == ["revoked"]
    assert judged(listing(other, indirect)) == ["revocation-unknown"]
    assert judged(listing(other, indirect), listing(ROOT, authorities)) == []
    fallen = listing(ROOT, authorities, other.certificate)
    assert judged(listing(other, indirect, leaf), fallen) == ["revocation-unknown"]
