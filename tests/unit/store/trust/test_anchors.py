"""The trust store: what goes in comes out, newer CRLs replace older ones, a changed byte is found."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.errors import MedmailError
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.store.trust.anchors import Trust
from tests.support import pki

ROOT, OTHER = pki.make_ca("Root"), pki.make_ca("Other")
SUB = pki.make_ca("Sub", parent=ROOT)
DAY = dt.timedelta(days=1)


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return Trust(tmp_path / "trust", tmp_path / "cache")


def test_certificates_and_crls_come_back(trust: Trust) -> None:
    crl = pki.make_crl(ROOT)
    trust.add(pki.pem(ROOT.certificate, OTHER.certificate, crl), "f")
    trust.add(pki.pem(SUB.certificate), "f", intermediate=True)
    assert set(trust.anchors()) == {ROOT.certificate, OTHER.certificate}
    assert trust.intermediates() == (SUB.certificate,)
    assert trust.crls() == (crl,)
    leaf, _ = pki.issue(SUB, "a@x.test", key_type="p256")
    at = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    assert trust.authorities.judge(leaf, at=at, revocation="soft").trusted


def test_a_change_is_seen_by_the_next_judgement(trust: Trust) -> None:
    leaf, _ = pki.issue(ROOT, "a@x.test", key_type="p256")
    at = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    assert not trust.authorities.judge(leaf, at=at, revocation="soft").trusted
    trust.add(pki.pem(ROOT.certificate), "f")
    assert trust.authorities.judge(leaf, at=at, revocation="soft").trusted
    trust.remove(trust.find(trust.plan(pki.pem(ROOT.certificate), "f")[0][0].sha256))
    assert not trust.authorities.judge(leaf, at=at, revocation="soft").trusted


def test_adding_again_changes_nothing(trust: Trust) -> None:
    assert [new for _, new in trust.add(pki.pem(ROOT.certificate), "f")] == [True]
    assert [new for _, new in trust.add(pki.pem(ROOT.certificate), "f")] == [False]


def test_a_newer_crl_replaces_an_older_is_ignored(trust: Trust, tmp_path: Path) -> None:
    old, new = pki.make_crl(ROOT, number=1), pki.make_crl(ROOT, number=2, at=pki.EPOCH + DAY)
    other = pki.make_crl(OTHER)
    trust.add(pki.pem(ROOT.certificate), "f")
    for crl, taken in ((old, True), (new, True), (old, False), (new, False), (other, True)):
        assert [n for _, n in trust.add(crl.public_bytes(Encoding.DER), "f")] == [taken]
    assert len(trust.crls()) == 2
    assert all(crl in trust.crls() for crl in (new, other))
    assert len(list((tmp_path / "cache/crls").glob("*.crl"))) == 2


def test_a_list_that_nobody_at_hand_signed_displaces_nothing(trust: Trust) -> None:
    leaf, _ = pki.issue(ROOT, "a@x.test", key_type="p256")
    real = pki.make_crl(ROOT, [leaf], number=7)
    impostor = pki.Authority(ROOT.certificate, OTHER.key, ROOT.chain)
    forged = pki.make_crl(impostor, number=1000, at=pki.EPOCH + DAY)

    def codes() -> list[str]:
        judged = trust.authorities.judge(leaf, at=pki.EPOCH + 2 * DAY, known_now=pki.EPOCH + 2 * DAY)
        return [problem.code for problem in judged.problems]

    trust.add(pki.pem(ROOT.certificate, real), "f")
    trust.add(pki.pem(forged), "f")
    assert codes() == ["revoked"]
    trust.remove(next(item for item in trust.items() if item.content == real))
    assert codes() == ["revocation-unknown"]
    # nor does it stand in the way of what is signed
    assert [new for _, new in trust.add(pki.pem(real), "f")] == [True]
    assert codes() == ["revoked"]


def test_a_list_signed_weakly_takes_no_better_ones_place(trust: Trust) -> None:
    leaf, _ = pki.issue(ROOT, "a@x.test", key_type="p256")
    newer = pki.make_crl(ROOT, number=9, at=pki.EPOCH + DAY)
    weak = x509.load_der_x509_crl(pki.weakly_signed(newer.public_bytes(Encoding.DER), ROOT.key))

    def codes() -> list[str]:
        judged = trust.authorities.judge(leaf, at=pki.EPOCH + 2 * DAY, known_now=pki.EPOCH + 2 * DAY)
        return [problem.code for problem in judged.problems]

    trust.add(pki.pem(ROOT.certificate, weak), "f")
    assert codes() == ["revocation-unknown"]
    trust.add(pki.pem(pki.make_crl(ROOT, [leaf])), "f")
    trust.add(pki.pem(weak), "f")
    assert codes() == ["revoked"]
    trust.add(pki.pem(newer), "f")
    assert codes() == []


def test_a_list_may_come_before_its_authority(trust: Trust) -> None:
    sub = pki.make_ca("Sub", parent=ROOT)
    leaf, _ = pki.issue(sub, "a@x.test", key_type="p256")
    lists = [pki.make_crl(sub, number=1), pki.make_crl(sub, [leaf], number=2)]
    for crl in (*lists, pki.make_crl(ROOT)):
        trust.add(pki.pem(crl), "f")
    assert [new for _, new in trust.add(pki.pem(lists[0]), "f")] == [False]
    trust.add(pki.pem(ROOT.certificate), "f")
    judged = trust.authorities.judge(
        leaf, enclosed=Enclosed([sub.certificate]), at=pki.EPOCH + DAY, known_now=pki.EPOCH + DAY
    )
    assert [problem.code for problem in judged.problems] == ["revoked"]


def test_of_two_issues_left_by_a_kill_the_newer_counts(trust: Trust, tmp_path: Path) -> None:
    old, new = pki.make_crl(ROOT, number=1), pki.make_crl(ROOT, number=2)
    trust.add(pki.pem(ROOT.certificate, old), "f")
    (kept,) = (tmp_path / "cache/crls").glob("*.crl")
    before = kept.read_bytes()
    trust.add(pki.pem(new), "f")
    kept.write_bytes(before)
    assert trust.crls() == (new,)


def test_any_changed_byte_names_the_file(trust: Trust, tmp_path: Path) -> None:
    trust.add(pki.pem(ROOT.certificate, pki.make_crl(ROOT)), "f")
    for path in [*tmp_path.rglob("*.pem"), *tmp_path.rglob("*.crl")]:
        whole = path.read_bytes()
        for position in range(0, len(whole), 7):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(MedmailError) as caught:
                list(trust.items())
            assert caught.value.code == "store-damaged"
            assert caught.value.facts["path"] == str(path)
        path.write_bytes(whole)


def test_a_prefix_must_be_long_and_unique(trust: Trust) -> None:
    trust.add(pki.pem(ROOT.certificate), "f")
    (item,) = trust.items()
    assert trust.find(item.sha256[:6].upper()).path == item.path
    for prefix in ("", item.sha256[:5], "0" * 64):
        with pytest.raises(MedmailError, match="not-found"):
            trust.find(prefix)


def test_the_newest_ocsp_answer_about_a_certificate_is_kept(trust: Trust) -> None:
    leaf, _ = pki.issue(ROOT, "a@x.test", key_type="p256")
    trust.add(pki.pem(ROOT.certificate), "f")
    at = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    assert trust.ocsp(leaf) == ()
    good, revoked = pki.make_ocsp(ROOT, leaf), pki.make_ocsp(ROOT, leaf, at=at, revoked_at=at)
    assert trust.keep_ocsp(leaf, good)
    assert trust.authorities.judge(leaf, at=at).trusted
    assert not trust.keep_ocsp(leaf, good)
    assert trust.keep_ocsp(leaf, revoked)
    assert not trust.keep_ocsp(leaf, good)
    assert not trust.keep_ocsp(leaf, b"nonsense")
    assert trust.ocsp(leaf) == (revoked,)
    assert [p.code for p in trust.authorities.judge(leaf, at=at).problems] == ["revoked"]
    assert trust.ocsp(ROOT.certificate) == ()


def test_a_changed_ocsp_answer_is_found_and_one_that_is_gone_is_nothing(trust: Trust, tmp_path: Path) -> None:
    leaf, _ = pki.issue(ROOT, "a@x.test", key_type="p256")
    trust.keep_ocsp(leaf, pki.make_ocsp(ROOT, leaf))
    (path,) = (tmp_path / "cache/ocsp").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(MedmailError, match="store-damaged"):
        trust.ocsp(leaf)
    path.unlink()
    assert trust.ocsp(leaf) == ()
