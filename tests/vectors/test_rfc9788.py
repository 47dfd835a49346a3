"""Header protection as published: every message of RFC 9788's appendix C, and the scheme before it.

A message's name says what it is: ``enc`` encrypted, ``hp`` header protection (``baseline`` or ``shy`` the
policy), ``legacy`` a copy of the fields in the text, ``rfc8551hp`` a message that wraps another. Those of the
older scheme (draft-autocrypt-lamps-protected-headers-02) are whole as well: Triple-DES.
"""

import base64
import datetime as dt
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from cryptography import x509

from medmail_cli.cms import enveloped, signed
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.pki.path.evidence import Enclosed
from medmail_cli.pki.path.validation import Authorities, Judgement
from medmail_cli.smime.open import Opened, open_message
from medmail_cli.smime.policy import Policy
from tests.support.letters import PLAIN, entity, opened, person
from tests.vectors import samples

AT = dt.datetime(2021, 2, 21, tzinfo=dt.UTC)
PATHS = sorted((samples.DATA / "rfc9788").iterdir())
SIGNED = [path for path in PATHS if path.stem.startswith(("smime-one-part", "smime-multipart"))]
ENCRYPTED = [path for path in PATHS if "-enc" in path.stem]
RFC = ("rfc9216.pem", "3.1", "5.3", "5.4")
SENDER = ("rfc9216.pem", "3.1", "4.3", "4.4")
OLD = ("protected-headers/keys.pem", "Authority", "Bob", "Bob")
"""The file of keys, and where in it the authority's, the reader's certificate and their key are."""
AES_128_CBC = bytes.fromhex("6086480165030401020410")
IMAGE = "9e66ba5f389410d9a81db40a3317a7e86e68722d1a4d603c064b5ef1ea55cfab"


def judged(raw: bytes, keys: tuple[str, str, str, str], policy: Policy = PLAIN) -> Opened:
    file, root, certificate, key = keys
    authorities = Authorities([samples.certificate(file, root)])

    def judge(one: x509.Certificate, enclosed: Enclosed) -> Judgement:
        return authorities.judge(one, enclosed=enclosed, at=AT, revocation="soft")

    reader = (samples.certificate(file, certificate), SoftwareKey(samples.key(file, key)))
    return open_message(raw, id="0" * 64, source="test", keys=[reader], judge=judge, at=AT, policy=policy)


def test_the_appendix_is_whole() -> None:
    """C.1.1 to C.1.8, C.2.1 to C.2.6, C.3.1 to C.3.17."""
    assert (len(PATHS), len(SIGNED), len(ENCRYPTED)) == (8 + 6 + 17, 4 + 6, 2 + 17)


@pytest.mark.parametrize("ends", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_what_is_shown(path: Path, ends: bytes) -> None:
    """The fields inside count where they are protected; the copy of them in the text is not shown."""
    name = path.stem
    verdict = judged(path.read_bytes().replace(b"\n", ends), RFC).verdict
    encrypted, unsigned = path in ENCRYPTED, name.startswith("no-crypto")
    assert verdict.trusted != unsigned
    assert [problem.code for problem in verdict.problems] == (["no-signature"] if unsigned else [])
    layers = {"encrypted": encrypted, "signed": not unsigned, "wrapped": "rfc8551hp" in name}
    assert verdict.layers == tuple(layer for layer, there in layers.items() if there)
    notes = {
        "revocation-unknown": not unsigned,
        "unauthenticated-encryption": encrypted,
        "not-encrypted": not encrypted,
        "headers-unprotected": "hp" not in name,
        "line-endings-repaired": ends == b"\n" and "multipart" in name,
    }
    assert {note.code for note in verdict.notes} == {note for note, there in notes.items() if there}
    words = (verdict.text or "").splitlines()
    assert words[:5] == ["This is the", name, "message.", "", words[4]]
    assert words[4].startswith("This ")
    assert words[-3:] == ["-- ", "Alice", "alice@smime.example"]
    images = [("image/png", IMAGE)] if "complex" in name else []
    assert [(image.type, image.sha256) for image in verdict.attachments] == images


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_fields_that_count(path: Path) -> None:
    """hcp_baseline hides the subject, hcp_shy the names and the time zone too; inside all of it stands."""
    name, raw = path.stem, path.read_bytes()
    outside = message_from_bytes(raw, policy=default)
    verdict = judged(raw, RFC).verdict
    headers = verdict.headers
    assert headers.protected == ("hp" in name)
    assert (headers.subject, headers.message_id) == (name, f"<{name}@example>")
    assert (headers.from_, headers.to) == ("Alice <alice@smime.example>", ("Bob <bob@smime.example>",))
    assert headers.date == outside["Date"].datetime
    first, reply, _ = name.replace("-lgc-rpl", "-legacy-reply").partition("-reply")
    thread = (f"<{first}@example>",) if reply else ()
    assert (headers.in_reply_to, headers.references) == (thread[0] if thread else None, thread)
    shy = "-shy" in name
    assert verdict.outer_headers.subject == ("[...]" if path in ENCRYPTED and "hp" in name else name)
    assert verdict.outer_headers.from_ == ("alice@smime.example" if shy else "Alice <alice@smime.example>")
    assert outside["Date"].datetime.utcoffset() == dt.timedelta(hours=0 if shy else -5)


@pytest.mark.parametrize("path", ENCRYPTED, ids=lambda path: path.stem)
def test_the_sender_reads_the_same(path: Path) -> None:
    hers, his = (judged(path.read_bytes(), keys) for keys in (SENDER, RFC))
    assert hers.verdict.trusted
    assert (hers.verdict.text, hers.verdict.headers) == (his.verdict.text, his.verdict.headers)
    assert (hers.parts, hers.eml()) == (his.parts, his.eml())


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("path", ENCRYPTED, ids=lambda path: path.stem)
def test_a_bit_changed_is_a_bad_tag(path: Path, place: str) -> None:
    """CBC has none: where the signature inside does not hold, no more is said than of wrong padding."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    octets = bytearray(base64.b64decode(body))
    first = octets.index(AES_128_CBC) + len(AES_128_CBC) + 16 + 4  # the IV, and how long the content is
    octets[{"first": first, "middle": (first + len(octets)) // 2, "last": -1}[place]] ^= 1
    got = judged(head + b"\n\n" + base64.encodebytes(octets), RFC)
    assert [problem.code for problem in got.verdict.problems] == ["bad-tag"]
    assert (got.verdict.trusted, got.verdict.layers, got.verdict.exit) == (False, ("encrypted",), 6)
    assert (got.verdict.text, got.content, got.parts) == (None, None, ())
    assert got.verdict.headers.subject == got.verdict.outer_headers.subject


@pytest.mark.parametrize("path", SIGNED, ids=lambda path: path.stem)
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
LEGACY = (
    '<html><head><title></title></head><body>\n<div class="header-protection-legacy-display">\n'
    "<pre>Subject: Dinner plans</pre>\n</div>\n<p>\n" + DINNER + "from there.\n</p>\n</body>\n</html>\n"
)


def test_legacy_display_in_html_alone() -> None:
    """E.2, signed and encrypted with keys of our own: the copy of the subject is not shown."""
    alice = person("alice-dinner", address="alice@example.net")
    bob = person("bob-dinner", address="bob@example.net", key_type="rsa2048")
    name = "<text-html-legacy-display@lhp.example>"
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
            'Content-Type: text/html; charset="us-ascii"; hp-legacy-display="1";\n hp="cipher"',
            *(f"HP-Outer: {line}" for line in outer),
            "",
            LEGACY,
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
