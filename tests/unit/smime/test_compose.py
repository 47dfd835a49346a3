"""What we write is proper MIME, reads back as meant, and cannot be injected into."""

import email
import email.policy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.smime import compose, display, mime
from medmail_cli.smime.compose import Attachment
from medmail_cli.smime.fields import Mailbox, parse_mailboxes
from tests.support.letters import letter

# text as people can type it: no control characters, which a header cannot carry
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=120)
BODIES = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=600)
ATTACHMENTS = st.lists(
    st.builds(
        Attachment,
        TEXT,
        st.sampled_from(
            ["application/pdf", "text/plain", "image/png", "message/rfc822", "multipart/mixed", "no type"]
        ),
        st.binary(max_size=300),
    ),
    max_size=3,
).map(tuple)


def whole(written: Any, *, binary: bool = False) -> bytes:
    return compose.payload(written, fields=compose.header_fields(written), binary=binary)


@given(TEXT, TEXT, BODIES, ATTACHMENTS, st.booleans())
def test_a_letter_reads_back_as_it_was_written(
    subject: str, name: str, body: str, attachments: tuple[Attachment, ...], binary: bool
) -> None:
    written = letter(subject=subject, from_=Mailbox("a@x.test", name), body=body, attachments=attachments)
    raw = whole(written, binary=binary)
    root = mime.parse(raw)
    shown = display.shown(root)
    assert (root.text("subject") or "") == subject.strip()
    (sender,) = parse_mailboxes(root.first("from") or "")
    assert sender.address == "a@x.test"
    assert sender.name.split() == name.split()
    assert shown.text == (body if body.endswith("\n") or not body else body + "\n")
    assert [part.filename for part in shown.attachments] == [
        a.name.strip() or "attachment" for a in attachments
    ]
    assert [mime.decode_body(part) for part in shown.attachments] == [a.data for a in attachments]
    if not binary:
        assert raw.isascii()
        assert max(map(len, raw.split(b"\r\n"))) <= 998
        assert b"\n" not in raw.replace(b"\r\n", b"")


@given(TEXT, BODIES, ATTACHMENTS)
def test_the_standard_library_reads_it_alike(
    subject: str, body: str, attachments: tuple[Attachment, ...]
) -> None:
    written = letter(subject=subject, body=body, attachments=attachments)
    peer = email.message_from_bytes(whole(written), policy=email.policy.default)
    part = peer.get_body()
    assert part is not None
    assert part.get_content().replace("\r\n", "\n") == (
        body if body.endswith("\n") or not body else body + "\n"
    )
    assert [p.get_payload(decode=True) for p in peer.iter_attachments()] == [a.data for a in attachments]
    assert not peer.defects


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200), st.text(max_size=100))
def test_no_text_makes_a_line_of_its_own(subject: str, name: str, file_name: str, message_id: str) -> None:
    written = letter(
        subject=subject + "\r\nBcc: evil@x.test",
        from_=Mailbox("a@x.test", name + "\nX-Evil: 1"),
        attachments=(Attachment(file_name + "\r\n\r\nX-Evil: 1", "text/plain\r\nX-Evil: 1", b""),),
        message_id=message_id + "\r\nX-Evil: 1",
        headers=(("X-MSS-NIL", "a\r\nX-Evil: 1"),),
    )
    root = mime.parse(whole(written))
    names = [field.name for part in root.walk() for field in part.fields]
    assert "x-evil" not in names
    assert "bcc" not in names
    assert len(root.children) == 2


@pytest.mark.parametrize(
    "address", ["a@x.test\r\nBcc: b@y.test", "a@x.test, b@y.test", "no address", "<a@x.test>", ""]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(MedmailError) as caught:
        compose.header_fields(letter(to=(Mailbox(address),)))
    assert caught.value.code == "usage"


def test_thousands_of_recipients_are_folded() -> None:
    everybody = tuple(
        Mailbox(f"praticien.{n}@medecin.test", f"Docteur Élodie Müller-{n}") for n in range(3000)
    )
    raw = whole(letter(to=everybody))
    assert max(map(len, raw.split(b"\r\n"))) <= 120
    assert parse_mailboxes(mime.parse(raw).first("to") or "") == everybody


@pytest.mark.parametrize(
    "body", ["From here\n", "trailing \n", "x" * 5000 + "\n", "é" * 400 + "\n", "tab\there\n", ".\n.\n", ""]
)
def test_text_survives_the_ways_of_mail(body: str) -> None:
    raw = whole(letter(body=body))
    assert not re.search(rb"^From | \r\n", raw.split(b"\r\n\r\n", 1)[1], re.MULTILINE)
    assert display.shown(mime.parse(raw)).text == body


def test_a_bare_cc_or_nobody_gets_a_to_field() -> None:
    assert b"To: undisclosed-recipients:;\r\n" in whole(letter(to=()))


def test_size_of_base64_is_known_beforehand() -> None:
    for size in (0, 1, 2, 3, 56, 57, 58, 114, 5000):
        assert compose.base64_size(size) == len(compose.base64_lines(bytes(size)))


@pytest.mark.parametrize("reference", [f"<{'x' * 950}@y>", "é", ""])
def test_a_reference_that_cannot_be_written_leaves_no_empty_field(reference: str) -> None:
    """RFC 5322 §3.6.4: In-Reply-To and References hold one at least."""
    one = letter(in_reply_to=reference, references=(reference,))
    assert not {"In-Reply-To", "References"} & {name for name, _ in compose.header_fields(one)}
    two = letter(references=("<a@b>", reference))
    assert b"".join(line for name, line in compose.header_fields(two) if name == "References") == (
        b"References: <a@b>\r\n"
    )
