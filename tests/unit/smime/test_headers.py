"""Header fields that lie: From and Sender outside and inside, protection that is none, legacy display."""

import pytest

from medmail_cli.cms import ber, der, signed
from medmail_cli.smime.fields import Mailbox, parse_mailboxes
from medmail_cli.smime.open import Opened
from medmail_cli.smime.policy import Policy
from tests.support.forged import compressed
from tests.support.letters import NOW, OUTER, TEXT, codes, encrypt, entity, opened, person, sign

HEAD = b"From: alice@medecin.test\r\nTo: bob@medecin.test\r\nSubject: inside\r\n"
CAROL = b"Sender: carol@medecin.test\r\n"


def inside(parameters: bytes = b"; hp=cipher", head: bytes = HEAD, body: bytes = b"Hello\r\n") -> bytes:
    """A payload with header fields of its own."""
    return head + b"Content-Type: text/plain" + parameters + b"\r\n\r\n" + body


def wrapped(head: bytes = HEAD) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" + inside(b"", head)


def unprotected(result: Opened) -> bool:
    """Whether the header outside counts, and is said to."""
    noted = "headers-unprotected" in [note.code for note in result.verdict.notes]
    assert noted != result.verdict.headers.protected
    return noted and result.verdict.headers.subject == "outside"


# --- protection --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["compressed", "no signer", "wrapped"])
def test_header_fields_that_nothing_protects_are_not_called_protected(form: str) -> None:
    if form == "no signer":
        alice = person("alice")
        data = signed.sign(inside(), key=alice.key, certificate=alice.certificate, signed_at=NOW)
        oid, explicit = ber.parse(data).elements()
        (body,) = explicit.elements()
        kept = [bytes(node.raw) for node in list(body.elements())[:-1]]
        data = der.sequence(bytes(oid.raw), der.tlv(0xA0, der.sequence(*kept, der.tlv(0x31))))
        raw = entity(data, "signed-data")
    else:
        raw = compressed(inside() if form == "compressed" else wrapped())
    result = opened(OUTER + raw)
    assert codes(result) == ["no-signature"]
    assert unprotected(result)


@pytest.mark.parametrize(
    "payload",
    [
        inside(b"; hp=other"),
        inside(b""),
        inside(b"; hp=cipher", b"Subject: inside\r\n"),
        b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + inside() + b"\r\n--m--\r\n",
        b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + wrapped() + b"\r\n--m--\r\n",
    ],
    ids=["unknown", "unmarked", "without From", "on a part", "wrapped in a part"],
)
def test_only_the_root_of_the_payload_with_its_own_from_is_protected(payload: bytes) -> None:
    result = opened(OUTER + encrypt(sign(payload)))
    assert result.verdict.trusted
    assert unprotected(result)


def test_the_older_form_protects_what_it_holds_though_there_be_no_from() -> None:
    """Mutt writes nothing but Subject inside; what stands outside beside it anybody could change."""
    sender = b"Sender: alice@medecin.test\r\n"
    content = inside(b'; protected-headers="v1"', sender + b"Subject: inside\r\nTo: carol@medecin.test\r\n")
    verdict = opened(OUTER + encrypt(sign(content))).verdict
    assert verdict.trusted
    assert (verdict.headers.subject, verdict.headers.to) == ("inside", ("carol@medecin.test",))
    assert (verdict.headers.from_, verdict.headers.protected) == ("alice@medecin.test", False)
    assert "headers-unprotected" in [note.code for note in verdict.notes]
    # Sender inside does not hide the one outside
    assert codes(opened(CAROL + OUTER + encrypt(sign(content)))) == ["signer-is-not-sender"]


@pytest.mark.parametrize("kind", [b"rfc822", b"global"])
def test_a_message_passed_on_under_a_protected_header_is_attached(kind: bytes) -> None:
    """RFC 9788 §4.10.1: only without ``hp`` is a message/rfc822 the letter itself."""
    carols = b"From: carol@medecin.test\r\nSubject: hers\r\n\r\nHello\r\n"
    typed = b"Content-Type: message/" + kind
    result = opened(OUTER + encrypt(sign(HEAD + typed + b"; hp=cipher\r\n\r\n" + carols)))
    assert (codes(result), result.verdict.layers) == ([], ("encrypted", "signed"))
    assert (result.verdict.headers.subject, result.verdict.text) == ("inside", None)
    assert result.parts == (carols,)
    assert [one.name for one in result.verdict.attachments] == ["message.eml"]
    # and without, it is
    own = carols.replace(b"carol", b"alice")
    plain = opened(OUTER + encrypt(sign(typed + b"\r\n\r\n" + own)))
    assert (plain.verdict.layers[-1], plain.verdict.headers.subject) == ("wrapped", "hers")


@pytest.mark.parametrize(
    "body",
    [sign(TEXT, "carol"), sign(TEXT, "carol", detached=True), encrypt(sign(TEXT, "carol"), "carol"),
     b"Content-Type: text/plain; hp=clear\r\n\r\nHello\r\n"],
    ids=["opaque", "detached", "encrypted", "hp"],
)  # fmt: skip
def test_somebody_s_protected_message_passed_on_alone_is_attached(body: bytes) -> None:
    """RFC 9788 §4.10.1: what has layers or a protected header of its own was not wrapped to protect it."""
    carols = OUTER.replace(b"alice", b"carol") + body
    result = opened(OUTER + encrypt(sign(b"Content-Type: message/rfc822\r\n\r\n" + carols)))
    assert (codes(result), result.verdict.layers) == ([], ("encrypted", "signed"))
    assert (unprotected(result), result.verdict.text, result.parts) == (True, None, (carols,))
    # the author's own is still the letter, as networks wrap what a mail program signed before
    own = sign(b"Content-Type: message/rfc822\r\n\r\n" + carols.replace(b"carol", b"alice"))
    for outside in (OUTER, b""):
        assert opened(outside + encrypt(own)).verdict.layers[-1] == "wrapped"


@pytest.mark.parametrize("hp", [b"clear", b"cipher"])
@pytest.mark.parametrize("encrypted", [True, False])
def test_what_hp_says_of_the_encryption_does_not_matter(hp: bytes, encrypted: bool) -> None:
    """The layers are seen; HP-Outer only says what the sender put outside (RFC 9788 §2.2)."""
    lies = b"HP-Outer: From: carol@medecin.test\r\nHP-Outer: Subject: other\r\n"
    content = sign(inside(b"; hp=" + hp, HEAD + lies))
    result = opened(OUTER + (encrypt(content) if encrypted else content))
    assert result.verdict.trusted
    assert (result.verdict.headers.subject, result.verdict.headers.protected) == ("inside", True)


@pytest.mark.parametrize("payload", [inside(), wrapped()], ids=["hp", "wrapped"])
def test_a_sender_added_outside_is_told_whatever_the_form(payload: bytes) -> None:
    raw = CAROL + OUTER + encrypt(sign(payload))
    assert codes(opened(raw)) == ["header-mismatch"]
    # a submission server adds who logged in (RFC 6409 §8.1)
    assert opened(raw, policy=Policy(delegates=frozenset({"Carol@medecin.test"}))).verdict.trusted


def test_several_from_inside_a_wrapped_message_are_told() -> None:
    several = wrapped(HEAD + b"From: carol@medecin.test\r\n")
    assert codes(opened(OUTER + encrypt(sign(several)))) == ["header-mismatch", "several-from"]


@pytest.mark.parametrize("payload", [inside(head=CAROL + HEAD), wrapped(CAROL + HEAD)], ids=["hp", "wrapped"])
def test_a_sender_inside_must_be_the_signer_s_too(payload: bytes) -> None:
    assert codes(opened(OUTER + encrypt(sign(payload)))) == ["signer-is-not-sender"]


# --- From --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        "ceo\uff20medecin.test <alice@medecin.test>",  # a wide @
        "ceo\ufe6bmedecin.test <alice@medecin.test>",  # a small one
        "ceo\u200b@medecin.test <alice@medecin.test>",
        '"ceo"@medecin.test <alice@medecin.test>',
        "ceo @ medecin.test <alice@medecin.test>",
        "=?utf-8?q?ceo?= @medecin.test <alice@medecin.test>",
        "ceo\ufe6b\u3000medecin.test <alice@medecin.test>",
        "alice@medecin.test (ceo@medecin.test)",
        "=?utf-8?q?<ceo@medecin.test>?= <alice@medecin.test>",
    ],
)
def test_a_display_name_that_reads_as_another_address(written: str) -> None:
    raw = OUTER.replace(b"From: alice@medecin.test", b"From: " + written.encode()) + sign(TEXT)
    assert codes(opened(raw)) == ["signer-is-not-sender"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Group: alice@medecin.test;", []),  # RFC 6854
        ("Group: alice@medecin.test, carol@medecin.test;", ["several-from", "signer-is-not-sender"]),
        ("Group:;", ["signer-is-not-sender"]),
        ("alice@medecin.test\rFrom: carol@medecin.test", ["signer-is-not-sender"]),
        ("alice@medecin.test\0", ["signer-is-not-sender"]),
        ("\u202ealice@medecin.test", ["signer-is-not-sender"]),
        ("alice\u200b@medecin.test", ["signer-is-not-sender"]),
        ('"alice"@medecin.test', ["signer-is-not-sender"]),
        ("alice@medecin.test.", ["signer-is-not-sender"]),
        ("(carol@medecin.test) Alice <alice(c)@medecin.test>", []),
        ("=?utf-8?q?Martin,_Alice?= <alice@medecin.test>", []),
        ("=?utf-8?q?carol=40x.test=2C?=alice@medecin.test", ["signer-is-not-sender"]),
    ],
)
def test_ways_to_write_from(written: str, expected: list[str]) -> None:
    raw = OUTER.replace(b"From: alice@medecin.test", b"From: " + written.encode()) + sign(TEXT)
    assert codes(opened(raw)) == expected


@pytest.mark.parametrize(
    ("name", "trusted"),
    [
        ("Alice @ Radiology", True),
        ("Alice (alice @ medecin.test)", True),
        ("Medi@Lab", True),  # no address that mail from elsewhere could reach
        ("e-s@nté", True),
        ("carol@medecin.test", False),
        ("Carol (carol @ medecin.test)", False),
    ],
)
def test_a_display_name_that_reads_as_no_other_address(name: str, trusted: bool) -> None:
    raw = OUTER.replace(b"From: ", f'From: "{name}" <'.encode()).replace(b"test\r\nTo", b"test>\r\nTo")
    assert opened(raw + sign(TEXT)).verdict.trusted == trusted


@pytest.mark.parametrize("name", ["From", "From ", "from\t"])
def test_a_from_before_all_others_is_no_line_of_a_mailbox_file(name: str) -> None:
    raw = name.encode() + b": carol@medecin.test\r\n" + OUTER + sign(TEXT)
    assert codes(opened(raw)) == ["several-from", "signer-is-not-sender"]


@pytest.mark.parametrize(
    "added", [b"Resent-From: carol@medecin.test\r\nResent-Sender: carol@medecin.test\r\n"]
)
def test_who_sent_it_again_changes_nothing(added: bytes) -> None:
    result = opened(added + OUTER + sign(TEXT))
    assert result.verdict.trusted
    assert "carol" not in str(result.verdict)


@pytest.mark.parametrize("name", ["Martin, Élise", 'a "b" c', "x <m@evil.test>", "a\\b", "Dr. É. Martin"])
def test_a_mailbox_written_out_reads_back_as_itself(name: str) -> None:
    box = Mailbox("a@x.test", name)
    assert parse_mailboxes(str(box)) == (box,)


# --- legacy display (RFC 9788 §4.5.3) ----------------------------------------------------------------------

LEGACY = b"Subject: inside\r\n\r\nHello\r\n"
HTML = b'<div class="header-protection-legacy-display"><pre>Subject: inside</pre></div><p>Hello</p>'


@pytest.mark.parametrize(
    ("parameters", "body", "text"),
    [
        (b"; hp=cipher; hp-legacy-display=1", LEGACY, "Hello\n"),
        (b"; hp=cipher", LEGACY, "Subject: inside\n\nHello\n"),
        (b"; hp-legacy-display=1", LEGACY, "Subject: inside\n\nHello\n"),
        (b"; hp=cipher; hp-legacy-display=1", b"Pay Carol.\r\n\r\nHello\r\n", "Pay Carol.\n\nHello\n"),
        (b"; hp=cipher; hp-legacy-display=1", b"Hello\r\n", "Hello\n"),
    ],
    ids=["hidden", "unmarked", "unprotected", "no header fields", "all there is"],
)
def test_only_a_marked_copy_of_protected_fields_is_hidden(parameters: bytes, body: bytes, text: str) -> None:
    assert opened(OUTER + encrypt(sign(inside(parameters, body=body)))).verdict.text == text


@pytest.mark.parametrize(
    ("parameters", "html", "text"),
    [
        (b"; hp=cipher; hp-legacy-display=1", HTML, "Hello\n"),
        (b"; hp=cipher", HTML, "Subject: inside\n\nHello\n"),
        (b"; hp=cipher; hp-legacy-display=1", HTML.replace(b"div", b"br"), "Subject: inside\n\nHello\n"),
        (b"", b"<svg/><p>Hello</p>", "Hello\n"),
    ],
    ids=["hidden", "unmarked", "no element", "closed at once"],
)
def test_the_same_in_html(parameters: bytes, html: bytes, text: str) -> None:
    content = HEAD + b"Content-Type: text/html" + parameters + b"\r\n\r\n" + html
    assert opened(OUTER + encrypt(sign(content))).verdict.text == text


@pytest.mark.parametrize("kind", [b"text/plain", b"text/rfc822-headers"])
@pytest.mark.parametrize(
    ("part", "hidden"),
    [
        (b"; protected-headers=v1\r\n\r\nSubject: inside\r\n", True),
        (b"; protected-headers=v1\r\n\r\nSubject:\r\n inside\r\nFrom: alice@medecin.test\r\n\r\n", True),
        (b"\r\n\r\nSubject: inside\r\n", False),
        (b"; protected-headers=v1\r\n\r\nSubject: inside\r\n\r\nPay Carol.\r\n", False),
        (b"; protected-headers=v1\r\n\r\nPay Carol.\r\n", False),
        (b"; protected-headers=v1\r\n\r\nSubject: another\r\n", False),
    ],
)
def test_the_copy_of_the_older_form_is_a_part_of_its_own(kind: bytes, part: bytes, hidden: bool) -> None:
    body = (
        b"--v\r\nContent-Type: "
        + kind
        + part
        + b"\r\n--v\r\nContent-Type: text/plain\r\n\r\nHello\r\n--v--\r\n"
    )
    marked = HEAD + b'Content-Type: multipart/mixed; boundary=v; protected-headers="v1"\r\n\r\n' + body
    verdict = opened(OUTER + encrypt(sign(marked))).verdict
    assert verdict.trusted
    assert (verdict.text == "Hello" and verdict.attachments == ()) == hidden
    # where the header outside is shown, the copy is the only trace of the one inside
    outside = opened(OUTER + encrypt(sign(marked.replace(b"From: alice@medecin.test\r\nTo", b"To")))).verdict
    assert outside.text != "Hello" or outside.attachments


def test_a_copy_is_shown_where_no_header_is_protected() -> None:
    content = inside(b"; hp=cipher; hp-legacy-display=1", b"Subject: inside\r\n", LEGACY)
    assert opened(OUTER + encrypt(sign(content))).verdict.text == "Subject: inside\n\nHello\n"


def test_text_that_was_not_encrypted_holds_no_copy() -> None:
    """RFC 9788 §4.5.3.1: every other reader shows those lines, whatever they are marked as."""
    content = inside(b"; hp=clear; hp-legacy-display=1", body=b"Dose: 5 mg\r\n\r\nHello\r\n")
    assert opened(OUTER + sign(content)).verdict.text == "Dose: 5 mg\n\nHello\n"
    marked = HTML.replace(b"Subject: inside", b"Dose: 5 mg")
    html = HEAD + b"Content-Type: text/html; hp=cipher; hp-legacy-display=1\r\n\r\n" + marked
    assert opened(OUTER + sign(html)).verdict.text == "Dose: 5 mg\n\nHello\n"
