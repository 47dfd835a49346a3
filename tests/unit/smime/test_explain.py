"""The verdict told step by step: numbered, in the RFCs' order, each check with what it rests on."""

import ast
from pathlib import Path
from typing import get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import medmail_cli
from medmail_cli.cms import ber, der
from medmail_cli.model import listed, phrase
from medmail_cli.pki.path import explain as paths
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.validation import Authorities
from medmail_cli.smime import compose
from medmail_cli.smime.explain import Step, explain
from medmail_cli.smime.open import Opened
from medmail_cli.smime.verdict import Layer
from medmail_cli.ui.error_messages import ERRORS
from medmail_cli.ui.i18n import _, set_language
from medmail_cli.ui.views.decrypt import _CHECKS, _EVIDENCE, _OWN_WORDS, _said
from tests.support import pki
from tests.support.forged import by_key_identifier, made, resigned, together
from tests.support.letters import NOW, OUTER, TEXT, authority, encrypt, entity, opened, person, sealed, sign

ROOT = authority("Health Root")
AUTHORITIES = Authorities([ROOT.certificate])
ORDER = [
    "layers", "decryption", "coverage", "signature", "anchor", "issued", "period", "revocation", "names",
    "constraints", "policies", "rights", "strength", "strength", "use", "sender", "headers", "addressee",
]  # fmt: skip
PROBLEMS = (
    "no-signature", "bad-signature", "untrusted-issuer", "expired", "not-yet-valid", "revoked",
    "revocation-unknown", "wrong-key-usage", "wrong-extended-key-usage", "weak-key", "weak-algorithm",
    "unsupported-algorithm", "signer-is-not-sender", "no-address-in-certificate", "several-from",
    "header-mismatch", "not-addressed-to-you", "implausible-time", "partly-signed", "content-twice",
    "unauthenticated-encryption", "no-key", "bad-tag", "malformed",
)  # fmt: skip


def told(result: Opened, authorities: Authorities = AUTHORITIES) -> tuple[Step, ...]:
    steps = explain(result, authorities)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert all(step.rule.startswith("RFC ") for step in steps)
    assert {step.check for step in steps} <= _CHECKS.keys()
    return steps


def of(steps: tuple[Step, ...], check: str) -> Step:
    return next(step for step in steps if step.check == check)


def test_a_trusted_letter_in_full() -> None:
    steps = told(opened(sealed()))
    assert [step.check for step in steps] == ORDER
    assert {step.result for step in steps} == {"held", "noted"}
    assert of(steps, "decryption").evidence == ("aes-256-gcm · ecdh-es-p256 · bob@medecin.test",)
    assert "message-digest" in of(steps, "signature").evidence[1]
    assert of(steps, "revocation").result == "noted"
    assert of(steps, "sender").evidence[0].startswith("alice@medecin.test · From: Alice")


def test_what_a_revocation_rests_on() -> None:
    crl = pki.make_crl(ROOT, [person("alice").certificate])
    authorities = Authorities([ROOT.certificate], crls=[crl])
    result = opened(
        sealed(), judge=lambda c, came: authorities.judge(c, enclosed=came, at=NOW, known_now=NOW)
    )
    step = of(told(result, authorities), "revocation")
    assert step.result == "failed"
    assert "2026-01-01" in step.evidence[0]
    clear = Authorities([ROOT.certificate], crls=[pki.make_crl(ROOT)])
    step = of(
        told(opened(sealed(), judge=lambda c, came: clear.judge(c, enclosed=came, at=NOW)), clear),
        "revocation",
    )
    assert (step.result, step.evidence) == ("held", ("CRL of 2026-01-01T00:00:00Z to 2046-01-01T00:00:00Z",))


def test_an_answer_that_somebody_forged_is_no_evidence() -> None:
    forger = pki.make_ca("Forger").key
    good = pki.make_ocsp(ROOT, person("alice").certificate)
    forged = Enclosed(ocsp=[pki.of_response(good, lambda basic: pki.weakly_signed(basic, forger))])
    judgement = AUTHORITIES.judge(person("alice").certificate, enclosed=forged, at=NOW)
    found = paths.explain(judgement, AUTHORITIES, at=NOW, enclosed=forged)
    (revocation,) = (one for one in found if one.check == "revocation")
    assert (revocation.held, revocation.evidence) == (None, "no CRL and no OCSP answer at hand")


def test_evidence_of_any_length_is_put_into_words() -> None:
    parts = [phrase("CRL of {0}", str(number)) for number in range(3000)]
    assert _said(listed(parts)) == "; ".join(parts)
    assert (listed([]), listed(["one"])) == ("", "one")


@pytest.mark.parametrize(
    ("raw", "check", "code"),
    [
        (sealed(signer="carol"), "sender", "signer-is-not-sender"),
        (OUTER + encrypt(TEXT), "coverage", "no-signature"),
        (sealed().replace(b"From: Alice <alice@", b"From: Alice <other@", 1), "headers", "header-mismatch"),
        (OUTER + encrypt(sign(TEXT), "carol"), "decryption", "no-key"),
    ],
)
def test_the_step_that_failed(raw: bytes, check: str, code: str) -> None:
    steps = told(opened(raw))
    failed = [step for step in steps if step.result == "failed"]
    assert [step.check for step in failed] == [check]
    assert any(evidence.startswith(code) for evidence in failed[0].evidence)


@pytest.mark.parametrize(
    ("signature", "failed"), [("lost", "anchor"), ("unreadable", "signature"), ("of another", "signature")]
)
def test_of_a_signer_nobody_knows_only_what_was_checked_holds(signature: str, failed: str) -> None:
    data = together(person("alice"))
    oid, explicit = ber.parse(data).elements()
    (body,) = explicit.elements()
    kept = [bytes(node.raw) for node in body.elements() if node.tag != 0x80]
    lost = der.sequence(bytes(oid.raw), der.tlv(0xA0, der.sequence(*kept)))
    raw = {
        "lost": entity(lost, "signed-data"),
        "unreadable": compose.multipart_signed(TEXT, b"junk", micalg="sha-256"),
        "of another": sign(TEXT, detached=True).replace(b"Hello", b"Hallo"),
    }[signature]
    steps = told(opened(OUTER + raw))
    assert [step.check for step in steps if step.result == "failed"] == [failed]
    results = {step.check: step.result for step in steps}
    assert results["sender"] == ("held" if signature == "of another" else "not-made")
    assert results["signature"] == ("not-made" if signature == "lost" else "failed")


def test_a_stranger_s_chain_is_told_as_far_as_it_goes() -> None:
    mallory = person("alice", "Mallory Root", key_type="rsa2048")
    steps = told(opened(sealed_by(mallory)))
    assert of(steps, "anchor").result == "failed"
    assert of(steps, "use").result == "held"


def sealed_by(someone: object) -> bytes:
    from medmail_cli.smime.protect import protect
    from tests.support.letters import Person, letter

    assert isinstance(someone, Person)
    bob = person("bob")
    return protect(letter(), signer=someone.signer, recipients={bob.address: bob.certificate}, signed_at=NOW)[
        0
    ].message


def test_what_there_was_not_has_words_in_every_language() -> None:
    data = resigned(made("alice"), [by_key_identifier("alice")])
    steps = told(opened(OUTER + entity(data, "signed-data")))
    evidence = {one for step in steps for one in step.evidence}
    assert evidence >= _EVIDENCE.keys()
    assert {one for one in evidence if one.startswith("no")} <= _EVIDENCE.keys()


def test_all_that_is_evidence_can_be_said_in_french(monkeypatch: pytest.MonkeyPatch) -> None:
    templates = {
        node.args[0].value
        for room in ("pki", "smime", "cms")
        for file in (Path(medmail_cli.__file__).parent / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "phrase"
        if isinstance(node.args[0], ast.Constant)
    }
    assert len(templates) > 15
    monkeypatch.setenv("LANGUAGE", "fr")
    set_language("fr")
    untold = {one for one in (*templates, *get_args(Layer)) if _(str(one)) == one}
    assert untold == set()


def test_evidence_in_french(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "fr")
    set_language("fr")
    crl = pki.make_crl(ROOT)
    weak = x509.load_der_x509_crl(pki.weakly_signed(crl.public_bytes(Encoding.DER), ROOT.key))
    authorities = Authorities([ROOT.certificate], crls=[crl, weak])
    result = opened(
        sealed(), judge=lambda c, came: authorities.judge(c, enclosed=came, at=NOW, known_now=NOW)
    )
    said = {step.check: [_said(one) for one in step.evidence] for step in told(result, authorities)}
    assert said["layers"] == ["chiffré > signé"]
    listed = "CRL du 2026-01-01T00:00:00Z au 2046-01-01T00:00:00Z"
    assert said["revocation"] == [f"{listed} ; {listed}, qui ne disculpe personne (sha1)"]
    assert said["period"][0].count(" à la date du ") == 1
    assert said["headers"][0].startswith("protégé")


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_has_a_sentence_without_its_code(code: str) -> None:
    said = _OWN_WORDS.get(code) or ERRORS[code][0]
    assert "{" not in said
    assert "-" not in code or code not in said
    assert len(said.split()) > 2
