"""What becomes a letter and what does not: manifests, addresses, texts, whole messages."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.smime import compose, mime
from medmail_cli.smime.fields import Mailbox, parse_mailboxes
from medmail_cli.smime.protect import Style, protect, sign_only
from medmail_cli.workflows.mail import drafts
from medmail_cli.workflows.mail.drafts import (
    MANIFEST_FIELDS,
    Draft,
    finished,
    from_message,
    mailbox,
    manifest,
)
from tests.support.letters import NOW, opened, person

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ROWS = st.dictionaries(st.sampled_from([*MANIFEST_FIELDS, "other"]), JSON, max_size=6)


@given(st.binary(max_size=300))
def test_any_octets_give_drafts_or_faults(data: bytes) -> None:
    found, faults = manifest(data, Path("/nonexistent"))
    lines = [number for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    assert {fault.line for fault in faults} <= set(lines)
    assert len(found) + len({fault.line for fault in faults}) >= len(lines)


@given(st.lists(ROWS, max_size=5))
@example([{"id": "1", "to": "a@b.test", "body_file": "\0"}, {"id": "2", "to": "a@b.test", "attach": ["\0"]}])
def test_every_row_is_a_sendable_draft_or_has_a_fault(rows: list[dict[str, object]]) -> None:
    data = "\n".join(map(json.dumps, rows)).encode()
    found, faults = manifest(data, Path("/nonexistent"))
    faulty = {fault.line for fault in faults}
    assert len(found) >= sum(1 for line in range(1, len(rows) + 1) if line not in faulty)
    for draft in found:
        assert draft.key
        assert draft.everybody
        assert finished(draft) == draft or draft.subject is None


@given(
    st.text(max_size=20),
    st.lists(st.emails(), min_size=1, max_size=3, unique=True),
    st.text(min_size=1, max_size=50).filter(str.strip),
)
def test_a_good_row_says_what_it_says(subject: str, to: list[str], body: str) -> None:
    row = {"id": "1", "to": to, "subject": subject, "body": body}
    (draft,), faults = manifest(json.dumps(row).encode(), Path())
    assert faults == []
    assert (draft.subject, draft.body) == (subject, body)
    assert [box.address.lower() for box in draft.to] == [address.lower() for address in to]


@given(st.text(max_size=80))
def test_an_address_is_fit_for_an_envelope_or_refused(text: str) -> None:
    try:
        box = mailbox(text)
    except MedmailError as error:
        assert error.code == "bad-address"  # noqa: PT017 - most texts are no addresses
        return
    assert box.address.count("@") >= 1
    assert not any(character in box.address for character in "<>\r\n\0 ")
    compose.mailboxes("To", [box])


@pytest.mark.parametrize(
    ("given_", "address"),
    [
        ("bob@hosp.test", "bob@hosp.test"),
        ('"Dr, B" <Bob@HOSP.test>', "Bob@hosp.test"),
        ("bob@Hôpital.test", "bob@xn--hpital-ixa.test"),
        ("rené@hosp.test", "rené@hosp.test"),
    ],
)
def test_domains_are_compared_as_a_labels(given_: str, address: str) -> None:
    assert mailbox(given_).address == address


@pytest.mark.parametrize(
    ("body", "subject", "rest"),
    [
        ("Subject: Été\n\nBonjour\n", "Été", "Bonjour\n"),
        ("subject:x\nBonjour\n", "x", "Bonjour\n"),
        ("Bonjour\nSubject: no\n", None, "Bonjour\nSubject: no\n"),
    ],
)
def test_a_first_line_may_be_the_subject(body: str, subject: str | None, rest: str) -> None:
    draft = finished(Draft(body=body))
    assert (draft.subject, draft.body) == (subject, rest)
    assert finished(Draft(body=body, subject="given")).body == body


@pytest.mark.parametrize(
    "draft", [Draft(), Draft(body=" \n"), Draft(body="Subject: x\n\n"), Draft(subject="x")]
)
def test_nothing_to_send_is_said(draft: Draft) -> None:
    with pytest.raises(MedmailError) as error:
        finished(draft)
    assert error.value.code == "empty-letter"


@given(st.binary(max_size=400))
def test_a_whole_message_keeps_its_content_fields_and_body_alone(body: bytes) -> None:
    body = body.replace(b"\r", b"")
    data = b"To: b@c.test\nSubject: x\nX-Secret: 1\nContent-Type: text/plain;\n charset=utf-8\n\n" + body
    draft = from_message(data)
    assert draft.entity is not None
    entity = mime.parse_inner(draft.entity)
    assert [field.name for field in entity.fields] == ["content-type"]
    assert draft.entity.endswith(body.replace(b"\n", b"\r\n"))
    assert b"\nX-Secret" not in draft.entity.split(b"\r\n\r\n")[0]
    assert drafts.finished(draft) == draft


def test_a_whole_message_says_where_answers_go() -> None:
    draft = from_message(b"To: b@c.test\nReply-To: Secretary <office@c.test>\nSubject: x\n\nhello\n")
    sent = drafts.letter(draft, Mailbox("a@c.test"), NOW)
    assert b"Reply-To: Secretary <office@c.test>\r\n" in dict(compose.header_fields(sent))["Reply-To"]


@pytest.mark.parametrize(
    "parameters",
    [b"; hp=cipher", b'; HP="cipher"', b"; hp*0=ci;\n hp*1=pher", b'; protected-headers="v1" ;\n hp=cipher'],
)
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_message_that_came_protected_goes_out_as_what_it_is_now(parameters: bytes, encrypted: bool) -> None:
    """RFC 9788 §2.1.1: hp="cipher" stands in no letter that is not encrypted."""
    kind = b'Content-Type: text/plain; name="a; hp=cipher"' + parameters + b"; charset=utf-8\n\nHello\n"
    draft = from_message(b"To: bob@medecin.test\nSubject: x\n" + kind)
    alice, bob = person("alice"), person("bob")
    written = drafts.letter(draft, alice.box, NOW)
    if encrypted:
        readers = {bob.address: bob.certificate}
        made = protect(written, signer=alice.signer, recipients=readers, signed_at=NOW)
    else:
        made = sign_only(written, signer=alice.signer, signed_at=NOW)
    content = opened(made[0].message).content
    assert content is not None
    hp = "cipher" if encrypted else "clear"
    assert content.parameters == {"name": "a; hp=cipher", "charset": "utf-8", "hp": hp}
    (typed,) = content.all("content-type")
    assert typed.raw.lower().count(b"hp") == 2  # the one in the name is none
    wrapping = Style(wrapping="message-rfc822")
    plain = opened(sign_only(written, signer=alice.signer, signed_at=NOW, style=wrapping)[0].message).content
    assert plain is not None
    assert "hp" not in plain.parameters


ODD_BEGINNINGS = [b"\xef\xbb\xbf", b"\r\n\r\n", b"\xef\xbb\xbf\n\n", b"\n\xef\xbb\xbf", b" \n"]


@pytest.mark.parametrize("first", ["To: b@c.test", "From: a@c.test", "Subject: x", "Content-Type: text/html"])
@pytest.mark.parametrize("odd", ODD_BEGINNINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_however_a_message_begins_its_first_field_counts(first: str, odd: bytes, end: str) -> None:
    fields = ["To: b@c.test", "From: a@c.test", "Subject: x", "Content-Type: text/html"]
    lines = [first, *(field for field in fields if field != first), "", "<p>y"]
    draft = from_message(odd + end.join(lines).encode())
    assert [box.address for box in draft.to] == ["b@c.test"]
    assert (draft.sender, draft.subject) == (Mailbox("a@c.test"), "x")
    assert draft.entity == b"Content-Type: text/html\r\n\r\n<p>y"


@given(st.binary(max_size=300), st.sampled_from(["application/pdf", "application/dicom", "image/png"]))
@example(b"%PDF\r", "application/pdf")
@example(b"\r", "application/pdf")
def test_parts_that_are_no_text_are_sent_to_the_octet(data: bytes, kind: str) -> None:
    """RFC 8551 §3.1.1: what is made canonical is text; the line ends of others are theirs."""
    part = f"Content-Type: {kind}\nContent-Transfer-Encoding: binary\n\n".encode() + data
    head = b"To: b@c.test\nSubject: x\nContent-Type: multipart/mixed; boundary=b0und4ry\n\n"
    whole = head + b"--b0und4ry\n\nText\nof two lines\n--b0und4ry\n" + part + b"\n--b0und4ry--\n"
    entity = from_message(whole).entity
    assert entity is not None
    text, file = mime.parse_inner(entity).children
    assert mime.decode_body(file) == data
    assert mime.decode_body(text) == b"Text\r\nof two lines"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_a_name_with_quotes_is_sent_as_it_is(name: str) -> None:
    """RFC 5322 §3.2.4: quotes and backslashes are legal in a quoted string."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    draft = from_message(f'To: "{quoted}" <b@c.test>\nSubject: x\n\ny'.encode())
    (box,) = draft.to
    assert (box.address, box.name.split()) == ("b@c.test", name.split())
    written = dict(compose.header_fields(drafts.letter(draft, Mailbox("a@c.test"), NOW)))["To"]
    entity = mime.parse(written + b"\r\n")
    assert [one.name.split() for one in mime_boxes(entity)] == [name.split()]


def mime_boxes(entity: mime.Entity) -> tuple[Mailbox, ...]:
    return parse_mailboxes(entity.fields[0].value)
