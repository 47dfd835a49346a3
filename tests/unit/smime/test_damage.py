"""Truncations and bit flips of every kind of message: no wrong verdict, no traceback, no plaintext."""

import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.smime import mime
from medmail_cli.smime.compose import base64_lines
from medmail_cli.smime.filenames import LONGEST, distinct, safe_name
from medmail_cli.smime.protect import Style, sign_only
from tests.support.forged import compressed
from tests.support.letters import FILE, NOW, OUTER, TEXT, encrypt, letter, opened, person, sealed, sign


@cache
def samples() -> dict[str, bytes]:
    def clear(**style: str) -> bytes:
        who = person("alice").signer
        return sign_only(letter(), signer=who, signed_at=NOW, style=Style(**style))[0].message  # type: ignore[arg-type]

    return {
        "gcm": sealed(letter(attachments=(FILE,))),
        "gcm-binary-inside": sealed(binary=True),
        "cbc": sealed(cipher="aes-256-cbc"),
        "detached-inside": sealed(signature="detached"),
        "wrapped": sealed(wrapping="message-rfc822"),
        "opaque": clear(),
        "detached": clear(signature="detached"),
        "triple": OUTER + sign(encrypt(sign(TEXT)), detached=True),
    }


# a flipped bit may give a certificate a negative serial number, which the library warns of
pytestmark = [pytest.mark.thorough, pytest.mark.filterwarnings("ignore:Parsed a serial number")]
SAMPLES = ("gcm", "gcm-binary-inside", "cbc", "detached-inside", "wrapped", "opaque", "detached", "triple")


def harmless(raw: bytes, damaged: bytes, *, encrypted: bool) -> None:
    """Either the message is still what was signed, or it is not trusted and nothing decrypted came out."""
    whole, result = opened(raw), opened(damaged)
    verdict = result.verdict
    if verdict.trusted:
        # only what no signature covers may have changed
        assert verdict.text == whole.verdict.text
        assert verdict.attachments == whole.verdict.attachments
        if whole.verdict.headers.protected:
            assert verdict.headers == whole.verdict.headers
        return
    assert verdict.exit in (1, 5, 6)
    assert verdict.problems
    if encrypted and verdict.exit != 5:
        assert (verdict.text, verdict.attachments, result.content) == (None, (), None)
        assert verdict.headers.subject != letter().subject


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation(name: str) -> None:
    raw = samples()[name]
    step = max(1, len(raw) // 300)
    for length in range(0, len(raw), step):
        harmless(raw, raw[:length], encrypted=b"eloped-data" in raw)


@pytest.mark.parametrize("name", SAMPLES)
def test_flips_in_the_message(name: str) -> None:
    raw = samples()[name]
    chance = random.Random(name)
    for _ in range(400):
        damaged = bytearray(raw)
        damaged[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        harmless(raw, bytes(damaged), encrypted=b"eloped-data" in raw)


@pytest.mark.parametrize("name", SAMPLES)
def test_other_line_ends_here_and_there(name: str) -> None:
    """Some are repaired, and then what is shown is still what was signed."""
    raw = samples()[name]
    chance = random.Random(name)
    lines = raw.split(b"\r\n")
    for _ in range(400):
        ends = [b"\r\n"] * (len(lines) - 1)
        for _ in range(chance.randint(1, 3)):
            ends[chance.randrange(min(len(ends), 40))] = chance.choice(
                [b"\r", b"\n", b"\r\r\n", b"\n\r", b"\r\n\r", b""]
            )
        damaged = b"".join(part for pair in zip(lines, [*ends, b""], strict=True) for part in pair)
        harmless(raw, damaged, encrypted=b"eloped-data" in raw)


@pytest.mark.parametrize("name", ["gcm", "cbc", "gcm-binary-inside", "opaque"])
def test_flips_in_the_structure(name: str) -> None:
    """Flips under the base64, where every bit means something."""
    raw = samples()[name]
    root = mime.parse(raw)
    head, data = raw[: root.body], mime.decode_body(root)
    chance = random.Random(name)

    for _ in range(600):
        damaged = bytearray(data)
        # the first two kilobytes hold the recipients and the algorithms
        place = chance.randrange(len(data) if chance.random() < 0.5 else min(2048, len(data)))
        damaged[place] ^= 1 << chance.randrange(8)
        harmless(raw, head + base64_lines(bytes(damaged)), encrypted=name != "opaque")


def test_all_failures_after_our_key_was_named_are_one() -> None:
    """Unwrapping, tag, padding, structure: the same verdict, whatever was touched."""
    seen = set()
    for cipher in ("aes-256-gcm", "aes-256-cbc"):
        raw = OUTER + encrypt(sign(TEXT), cipher=cipher)
        root = mime.parse(raw)
        data = mime.decode_body(root)
        for place in (-1, -20, -40, -200):
            damaged = bytearray(data)
            damaged[place] ^= 1
            verdict = opened(bytes(damaged)).verdict
            if verdict.problems[0].code == "bad-tag":
                seen.add((verdict.exit, verdict.problems, verdict.notes, verdict.encryption, verdict.layers))
    assert len(seen) == 1


def test_a_letter_that_grows_without_end_is_malformed() -> None:
    """Told in our own codes, under a tag that has held too."""
    bomb = compressed(bytes(17 << 20))
    for raw, told in ((OUTER + bomb, (1, "malformed")), (OUTER + encrypt(bomb), (1, "malformed"))):
        verdict = opened(raw).verdict
        assert (verdict.exit, verdict.problems[0].code) == told


@given(
    st.lists(st.tuples(st.text(max_size=300), st.sampled_from(["application/pdf", "x/y", ""])), max_size=8)
)
def test_received_names_stay_in_their_folder(received: list[tuple[str, str]]) -> None:
    names = distinct((safe_name(*one) for one in received), taken=["message.txt"])
    assert len({name.casefold() for name in names} | {"message.txt"}) == len(received) + 1
    for name in names:
        assert name
        assert "/" not in name
        assert "\\" not in name
        assert name[0] not in ".-"
        assert len(name.encode()) <= LONGEST + 12
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\u200b" for c in name)


@pytest.mark.parametrize(
    ("received", "saved"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.pdf", "a.pdf"),
        (".bashrc", "bashrc"),
        ("..", "attachment.pdf"),
        ("", "attachment.pdf"),
        ("-rf", "rf"),
        ("~", "attachment.pdf"),
        ("a\u202efdp.exe", "a_fdp.exe"),
        ("a\r\nb.pdf", "a__b.pdf"),
        ("résultat d’Élodie.pdf", "résultat d’Élodie.pdf"),
        ("x" * 500 + ".pdf", "x" * (LONGEST - 4) + ".pdf"),
    ],
)
def test_names(received: str, saved: str) -> None:
    assert safe_name(received, "application/pdf") == saved


def test_clashing_names_are_numbered() -> None:
    assert distinct(["a.pdf", "A.pdf", "a.pdf", "a-2.pdf", "b"], taken=["b"]) == [
        "a.pdf",
        "A-2.pdf",
        "a-3.pdf",
        "a-2-2.pdf",
        "b-2",
    ]
