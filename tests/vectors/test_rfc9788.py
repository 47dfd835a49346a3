"""Header protection as published: RFC 9788's signed messages, its payloads, and the scheme before it.

Of RFC 9788 the messages of appendix C.1 are here whole; of what it encrypts only payloads, in envelopes of
our own. Those of the older scheme (draft-autocrypt-lamps-protected-headers-02) are whole: Triple-DES.
"""

import base64
import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509

from medmail_cli.cms import enveloped, signed
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.pki.enclosed import Enclosed
from medmail_cli.pki.path import Authorities, Judgement
from medmail_cli.smime.open import Opened, Policy, open_message
from tests.support.letters import PLAIN, entity, opened, person
from tests.vectors import samples

AT = dt.datetime(2021, 2, 21, tzinfo=dt.UTC)
PATHS = sorted((samples.DATA / "rfc9788").iterdir())
RFC = ("rfc9216.pem", "3.1", "5.3", "5.4")
OLD = ("protected-headers/keys.pem", "Authority", "Bob", "Bob")
"""The file of keys, and where in it the authority's, Bob's certificate and his key are."""


def judged(raw: bytes, keys: tuple[str, str, str, str], policy: Policy = PLAIN) -> Opened:
    file, root, certificate, key = keys
    authorities = Authorities([samples.certificate(file, root)])

    def judge(one: x509.Certificate, enclosed: Enclosed) -> Judgement:
        return authorities.judge(one, enclosed=enclosed, at=AT, revocation="soft")

    reader = (samples.certificate(file, certificate), SoftwareKey(samples.key(file, key)))
    return open_message(raw, id="0" * 64, source="test", keys=[reader], judge=judge, at=AT, policy=policy)


@pytest.mark.parametrize("ends", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_signed_messages(path: Path, ends: bytes) -> None:
    """C.1: the fields inside count, whether in the payload or in a message that it wraps (RFC 8551)."""
    verdict = judged(path.read_bytes().replace(b"\n", ends), RFC).verdict
    name = path.stem
    wrapped = name.endswith("rfc8551hp")
    assert verdict.trusted, verdict.problems
    assert verdict.layers == (("signed", "wrapped") if wrapped else ("signed",))
    headers = verdict.headers
    assert headers.protected
    assert (headers.subject, headers.message_id) == (name, f"<{name}@example>")
    assert (headers.from_, headers.to) == ("Alice <alice@smime.example>", ("Bob <bob@smime.example>",))
    words = (verdict.text or "").splitlines()
    assert words[:3] == ["This is the", name, "message."]
    assert words[-2:] == ["Alice", "alice@smime.example"]
    assert [a.type for a in verdict.attachments] == (["image/png"] if "complex" in name else [])
    repaired = ends == b"\n" and "multipart" in name
    assert {note.code for note in verdict.notes} == {"revocation-unknown", "not-encrypted"} | (
        {"line-endings-repaired"} if repaired else set()
    )


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_word_changed_is_a_bad_signature(path: Path) -> None:
    head, _, body = path.read_bytes().partition(b"\n\n")
    if b"multipart" in head:
        changed = head + b"\n\n" + body.replace(b"This is the", b"That is the")
    else:
        opaque = base64.b64decode(body).replace(b"This is the", b"That is the")
        changed = head + b"\n\n" + base64.encodebytes(opaque)
    verdict = judged(changed, RFC).verdict
    assert [problem.code for problem in verdict.problems] == ["bad-signature"]
    assert (verdict.text, verdict.exit) == (None, 6)


DINNER = "Let's meet at Rama's Roti Shop at 8pm and go to the park\n"
LEGACY = {
    "text/plain": "Subject: Dinner plans\n\n" + DINNER + "from there.\n",
    "text/html": '<html><head><title></title></head><body>\n<div class="header-protection-legacy-display">\n'
    "<pre>Subject: Dinner plans</pre>\n</div>\n<p>\n" + DINNER + "from there.\n</p>\n</body>\n</html>\n",
}


@pytest.mark.parametrize("kind", LEGACY)
def test_legacy_display(kind: str) -> None:
    """E.1 and E.2, signed and encrypted with keys of our own: the copy of the subject is not shown."""
    alice = person("alice-dinner", address="alice@example.net")
    bob = person("bob-dinner", address="bob@example.net", key_type="rsa2048")
    name = f"<{kind.replace('/', '-')}-legacy-display@lhp.example>"
    fields = [
        "Date: Fri, 21 Jan 2022 20:40:48 -0500",
        "From: Alice <alice@example.net>",
        "To: Bob <bob@example.net>",
        "Subject: Dinner plans",
        f"Message-ID: {name}",
    ]
    outer = [line.replace("Dinner plans", "[...]") for line in fields]
    payload = "\n".join(
        [
            *fields,
            "MIME-Version: 1.0",
            f'Content-Type: {kind}; charset="us-ascii"; hp-legacy-display="1";\n hp="cipher"',
            *(f"HP-Outer: {line}" for line in outer),
            "",
            LEGACY[kind],
        ]
    )
    inner = signed.sign(
        payload.replace("\n", "\r\n").encode(),
        key=alice.key, certificate=alice.certificate, signed_at=dt.datetime(2026, 11, 22, tzinfo=dt.UTC),
    )  # fmt: skip
    sealed = enveloped.encrypt(
        entity(inner, "signed-data"), [alice.certificate, bob.certificate], cipher="aes-256-gcm"
    )
    raw = "\r\n".join([*outer, "MIME-Version: 1.0", ""]).encode() + entity(sealed, "authEnveloped-data")
    verdict = opened(raw, None, keys=[(bob.certificate, bob.key)]).verdict
    assert verdict.trusted, verdict.problems
    assert (verdict.headers.subject, verdict.headers.message_id) == ("Dinner plans", name)
    assert verdict.headers.protected
    assert verdict.outer_headers.subject == "[...]"
    words = " ".join((verdict.text or "").split())
    assert words == "Let's meet at Rama's Roti Shop at 8pm and go to the park from there."


OLDER = {
    "smime-multipart-signed": ("The FooCorp contract", "Bob, we need to cancel this contract."),
    "smime-onepart-signed": ("The FooCorp contract", "Bob, we need to cancel this contract."),
    "smime-sign+enc": ("BarCorp contract signed, let's go!", "Hi Bob!"),
    "smime-sign+enc+legacy-disp": ("BarCorp contract signed, let's go!", "Hi Bob!"),
}


@pytest.mark.parametrize("name", OLDER)
def test_the_older_scheme(name: str) -> None:
    """Its fields inside count as well, its copy of the subject is not shown; Triple-DES is weak."""
    raw = (samples.DATA / "protected-headers" / f"{name}.eml").read_bytes()
    encrypted = "enc" in name
    verdict = judged(raw, OLD, Policy(allow_weak=True)).verdict
    assert [problem.code for problem in verdict.problems] == (["weak-algorithm"] if encrypted else [])
    assert verdict.layers == (("encrypted", "signed") if encrypted else ("signed",))
    assert verdict.headers.protected
    subject, greeting = OLDER[name]
    assert verdict.headers.subject == subject
    assert (verdict.text or "").startswith(greeting + "\n")
    assert f"(this is the '{name}' message)" in (verdict.text or "")
    assert verdict.outer_headers.subject == ("..." if encrypted else subject)
    unread = judged(raw, OLD).verdict
    assert unread.trusted != encrypted
    assert (unread.text is None) == encrypted
