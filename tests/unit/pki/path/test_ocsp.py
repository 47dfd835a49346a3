"""OCSP: an answer counts if it is for this certificate, from somebody entitled, and fresh."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.cms import ber, der
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.ocsp import read_ocsp, request
from medmail_cli.pki.path.validation import Authorities
from tests.support import pki
from tests.support.tools import require, run

AT = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
ROOT = pki.make_ca("Root")
OTHER = pki.make_ca("Other")
LEAF, _ = pki.issue(ROOT, "a@x.test", key_type="p256")
NEIGHBOUR, _ = pki.issue(ROOT, "b@x.test", key_type="p256")
SIGNING = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)
STRANGE = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
CERT_SIGN = (pki._key_usage(key_cert_sign=True), True)
NO_CHECK = (x509.OCSPNoCheck(), False)
REVOKED: dict[str, Any] = {"certificate_status": ocsp.OCSPCertStatus.REVOKED, "revocation_time": AT - DAY}
HELD = REVOKED | {"revocation_reason": x509.ReasonFlags.certificate_hold}


def answer(
    certificate: x509.Certificate = LEAF,
    by: tuple[x509.Certificate, pki.Key] = (ROOT.certificate, ROOT.key),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    sha1: bool = False,
    **how: Any,
) -> bytes:
    """A response about one certificate; good, and good for a day, unless said otherwise."""
    values = {
        "cert": certificate, "issuer": ROOT.certificate, "algorithm": hashes.SHA1(),  # noqa: S303 - names
        "cert_status": how.pop("certificate_status", ocsp.OCSPCertStatus.GOOD), "this_update": AT - DAY / 2,
        "next_update": AT + DAY / 2, "revocation_time": None, "revocation_reason": None, **how,
    }  # fmt: skip
    builder = ocsp.OCSPResponseBuilder().add_response(**values)
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, by[0]).certificates([by[0]])
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    response = builder.sign(by[1], pki._digest_for(by[1])).public_bytes(Encoding.DER)  # type: ignore[arg-type]
    return pki.of_response(response, lambda basic: pki.weakly_signed(basic, by[1])) if sha1 else response


def responder(ca: pki.Authority = ROOT, **how: Any) -> tuple[x509.Certificate, pki.Key]:
    given: dict[str, Any] = {"extensions": [SIGNING, NO_CHECK], "key_type": "p256"}
    return pki.issue(ca, None, "none", name="Responder", **(given | how))


def of(*responses: bytes, known_now: dt.datetime | None = AT, at: dt.datetime = AT, **how: Any) -> list[str]:
    judged = Authorities([ROOT.certificate], **how).judge(
        LEAF, enclosed=Enclosed(ocsp=responses), at=at, known_now=known_now
    )
    assert [one for one, _ in judged.undetermined] == (
        [LEAF] if any(p.code == "revocation-unknown" for p in judged.problems) else []
    )
    return [problem.code for problem in judged.problems]


def test_a_good_answer_clears() -> None:
    assert of() == ["revocation-unknown"]
    assert of(answer()) == []
    assert of(answer(algorithm=hashes.SHA256())) == []
    assert of(ocsp=lambda certificate: [answer()] if certificate == LEAF else []) == []


def test_a_revoked_answer_accuses_whatever_else_is_good() -> None:
    assert of(answer(), answer(**REVOKED)) == ["revoked"]
    crl = pki.make_crl(ROOT)
    assert of(answer(**REVOKED), crls=[crl]) == ["revoked"]
    assert of(answer(), crls=[pki.make_crl(ROOT, [LEAF])]) == ["revoked"]


def test_dates_and_reasons_count_as_for_lists() -> None:
    later: dict[str, Any] = {**REVOKED, "revocation_time": AT - DAY / 4}
    harmless = {**later, "revocation_reason": x509.ReasonFlags.superseded}
    before = AT - DAY / 3
    assert of(answer(**later), at=before) == ["revoked"]
    assert of(answer(**later), at=before, known_now=None) == []
    assert of(answer(**harmless), at=before) == []
    assert of(answer(**harmless)) == ["revoked"]


END = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
"""What stands in a certificate that has no end (RFC 5280 4.1.2.5)."""


def test_no_time_is_too_far() -> None:
    endless = responder(not_after=END)
    assert of(answer(by=endless)) == []
    assert of(answer(this_update=END, next_update=None), known_now=None) == []
    start = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
    for at in (start, END):
        assert of(answer(by=endless), at=at, known_now=at)[0] in ("not-yet-valid", "expired")
        judged = Authorities([ROOT.certificate], crls=[pki.make_crl(ROOT)]).judge(LEAF, at=at, known_now=at)
        assert judged.problems[0].code in ("not-yet-valid", "expired")


def test_an_authority_may_make_its_word_for_a_responder_critical() -> None:
    """RFC 6960 §4.2.2.2.1 only says that it should not."""
    assert of(answer(by=responder(extensions=[SIGNING, (x509.OCSPNoCheck(), True)]))) == []


@pytest.mark.parametrize(
    "unbelieved",
    [
        pytest.param(lambda: answer(NEIGHBOUR), id="about another"),
        pytest.param(lambda: answer(by=(OTHER.certificate, OTHER.key)), id="by another authority"),
        pytest.param(lambda: answer(by=responder(OTHER)), id="another authority's responder"),
        pytest.param(lambda: answer(by=responder(extensions=[NO_CHECK])), id="not entitled"),
        pytest.param(lambda: answer(by=responder(not_after=AT - DAY)), id="expired responder"),
        pytest.param(lambda: answer(by=responder(key_type="rsa1024")), id="weak responder"),
        pytest.param(
            lambda: answer(by=responder(extensions=[SIGNING, NO_CHECK, CERT_SIGN])),
            id="responder that may not sign",
        ),
        pytest.param(lambda: answer(by=responder(extensions=[SIGNING, STRANGE])), id="strange responder"),
        pytest.param(lambda: answer(issuer=OTHER.certificate), id="same number, other issuer"),
        pytest.param(lambda: answer(this_update=AT + DAY, next_update=AT + 2 * DAY), id="from the future"),
        pytest.param(lambda: answer().replace(b"20260602", b"20270602"), id="changed"),
        pytest.param(lambda: b"junk", id="junk"),
    ],
)
def test_what_is_not_believed_neither_clears_nor_accuses(unbelieved: Any) -> None:
    assert of(unbelieved()) == ["revocation-unknown"]
    assert of(unbelieved(), answer()) == []


def test_accusations_by_nobody_in_particular_are_not_heard() -> None:
    assert of(answer(by=(OTHER.certificate, OTHER.key), **REVOKED), answer()) == []


def test_stale_answers_clear_no_more_but_still_accuse() -> None:
    old: dict[str, Any] = {"this_update": AT - 3 * DAY, "next_update": AT - 2 * DAY}
    assert of(answer(**old)) == ["revocation-unknown"]
    assert of(answer(**{**REVOKED, **old, "revocation_time": AT - 4 * DAY})) == ["revoked"]
    assert of(answer(next_update=None)) == []
    assert of(answer(this_update=AT - 2 * DAY, next_update=None)) == ["revocation-unknown"]


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"sha1": True}, id="sha1"),
        pytest.param({"extensions": [STRANGE]}, id="unknown critical extension"),
    ],
)
def test_an_answer_that_is_weak_or_not_understood_accuses_and_does_not_clear(how: dict[str, Any]) -> None:
    assert of(answer(**how)) == ["revocation-unknown"]
    assert of(answer(**how), answer()) == []
    assert of(answer(**how, **REVOKED), answer()) == ["revoked"]
    held = answer(**HELD, this_update=AT - DAY)
    assert of(held, answer(**how)) == ["revoked"]


def test_extensions_that_are_known_or_not_critical_take_nothing_from_an_answer() -> None:
    assert of(answer(extensions=[(STRANGE[0], False)])) == []
    assert of(answer(extensions=[(x509.OCSPNonce(b"12345678"), True)])) == []


def test_a_critical_extension_of_a_single_response() -> None:
    """Which ``cryptography`` does not write: put in, and signed again."""

    def with_extension(critical: bool) -> bytes:
        fields = [der.oid("1.2.3.4"), *([b"\x01\x01\xff"] if critical else []), der.tlv(0x04, b"\x05\x00")]
        extensions = der.tlv(0xA1, der.sequence(der.sequence(*fields)))

        def change(basic: bytes) -> bytes:
            body, algorithm, *_ = ber.parse(basic).elements()
            *before, responses = body.elements()
            (single,) = responses.elements()
            extended = der.sequence(*(bytes(one.raw) for one in single.elements()), extensions)
            changed = der.sequence(*(bytes(one.raw) for one in before), der.sequence(extended))
            signature = ROOT.key.sign(changed, ec.ECDSA(hashes.SHA256()))  # type: ignore[union-attr,call-arg,arg-type]
            return der.sequence(changed, bytes(algorithm.raw), der.bit_string(signature))

        return pki.of_response(answer(), change)

    assert of(with_extension(critical=False)) == []
    assert of(with_extension(critical=True)) == ["revocation-unknown"]


def test_a_hold_ends_with_a_newer_good_answer_or_a_newer_list() -> None:
    held = answer(**HELD, this_update=AT - DAY)
    assert of(held) == ["revoked"]
    assert of(held, answer(this_update=AT - DAY / 2)) == []
    assert of(answer(this_update=AT - DAY / 2), held) == []
    assert of(held, answer(this_update=AT - 2 * DAY)) == ["revoked"]
    assert of(held, crls=[pki.make_crl(ROOT, at=AT - DAY / 2)]) == []
    assert of(held, crls=[pki.make_crl(ROOT, at=AT - 2 * DAY)]) == ["revoked"]
    # what was compromised once stays so
    compromised = answer(
        **HELD | {"revocation_reason": x509.ReasonFlags.key_compromise}, this_update=AT - DAY
    )
    assert of(compromised, answer(this_update=AT - DAY / 2)) == ["revoked"]
    # a list's hold likewise
    listed = pki.make_crl(ROOT, [LEAF], at=AT - DAY, reason=x509.ReasonFlags.certificate_hold)
    assert of(crls=[listed]) == ["revoked"]
    assert of(answer(this_update=AT - DAY / 2), crls=[listed]) == []
    assert of(answer(this_update=AT - 2 * DAY), crls=[listed]) == ["revoked"]


def test_what_lifted_a_hold_once_says_nothing_of_later() -> None:
    held = answer(**HELD, this_update=AT - 3 * DAY)
    lifted = answer(this_update=AT - 2 * DAY, next_update=AT - DAY)
    assert of(held, lifted) == ["revocation-unknown"]


def test_of_a_hold_that_is_no_longer_current_somebody_is_asked() -> None:
    def outdated(**when: Any) -> list[x509.Certificate]:
        held = answer(**HELD, this_update=AT - 2 * DAY, **when)
        judged = Authorities([ROOT.certificate]).judge(
            LEAF, enclosed=Enclosed(ocsp=[held]), at=AT, known_now=AT
        )
        assert [problem.code for problem in judged.problems] == ["revoked"]
        return [one for one, _ in judged.outdated]

    assert outdated(next_update=AT - DAY) == [LEAF]
    assert outdated(next_update=AT + DAY) == []


def test_a_responder_that_its_authority_revoked_is_not_heard() -> None:
    made = responder(extensions=[SIGNING])
    assert of(answer(by=made)) == []
    crl = pki.make_crl(ROOT, [made[0]], number=2)
    assert of(answer(by=made, **REVOKED), crls=[crl]) == []
    vouched = responder()
    assert of(answer(by=vouched)) == []


PSS_ROOT = pki.make_ca("PSS Root", key_type="rsa2048")


@pytest.mark.parametrize(
    ("root", "options"),
    [
        pytest.param(ROOT, [], id="ecdsa"),
        pytest.param(PSS_ROOT, [], id="rsa"),
        pytest.param(PSS_ROOT, ["-rsigopt", "rsa_padding_mode:pss"], id="pss"),
    ],
)
def test_openssl_answers_what_we_ask(tmp_path: Any, root: pki.Authority, options: list[str]) -> None:
    require("openssl")
    leaf, _ = pki.issue(root, "a@x.test", key_type="p256")
    serial = f"{leaf.serial_number:X}"
    serial = serial if len(serial) % 2 == 0 else f"0{serial}"
    (tmp_path / "index.txt").write_text(
        f"R\t460101000000Z\t260101000000Z,keyCompromise\t{serial}\tunknown\t/CN=a\n"
    )
    for name, content in (
        ("ca.pem", pki.pem(root.certificate)),
        ("ca.key", pki.pem(root.key)),
        ("ask", request(leaf, root.certificate)),
    ):
        (tmp_path / name).write_bytes(content)
    run(
        "openssl", "ocsp", "-index", tmp_path / "index.txt", "-CA", tmp_path / "ca.pem",
        "-rsigner", tmp_path / "ca.pem", "-rkey", tmp_path / "ca.key",
        "-reqin", tmp_path / "ask", "-respout", tmp_path / "told", "-ndays", "1", *options,
    )  # fmt: skip
    now = dt.datetime.now(dt.UTC)
    judged = Authorities([root.certificate]).judge(
        leaf, enclosed=Enclosed(ocsp=[(tmp_path / "told").read_bytes()]), at=now, known_now=now
    )
    assert [problem.code for problem in judged.problems] == ["revoked"]


@given(st.binary(max_size=200), st.integers(0, 5000), st.integers(0, 255))
def test_no_octets_are_too_strange(junk: bytes, at: int, octet: int) -> None:
    read_ocsp(junk)
    changed = bytearray(GOOD)
    changed[at % len(changed)] = octet
    for one in read_ocsp(bytes(changed)):
        one.about(LEAF, ROOT.certificate)
        one.responder(ROOT.certificate)


GOOD = answer()
