"""Challenge mails of RFC 8823: the genuine in every form allowed, the forged in every form we thought of."""

import base64
import email
import email.policy
import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmail_cli.errors import MedmailError
from medmail_cli.smime import mime
from medmail_cli.smime.acme_challenge import ChallengeMail, announces, answer, digest, read

SENDER, RECIPIENT = "acme-challenge+2i211oi1204310@ca.test", "alexey@hosp.test"
TOKEN = "LgYemJLy3F1LDkiJrdIGbEzyFJyOyf6vBdyZ1TG3sME"
"""token-part1 of RFC 8823's own example."""
GENUINE = {
    "Auto-Submitted": "auto-generated; type=acme",
    "Date": "Sat, 5 Dec 2020 10:08:55 +0100",
    "Message-ID": "<A2299BB.FF7788@ca.test>",
    "From": SENDER,
    "To": RECIPIENT,
    "Subject": f"ACME: {TOKEN}",
    "Content-Type": "text/plain",
}


def mail(
    changes: dict[str, str | None] | None = None, *, more: str = "", body: str = "This is automatic.\r\n"
) -> bytes:
    fields = GENUINE | (changes or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"{head}{more}\r\n{body}".encode()


def reading(message: bytes, *, proven: bool = True) -> ChallengeMail:
    return read(mime.parse(message).fields, sender=SENDER, recipient=RECIPIENT, proven=proven)


def folded(token: str, every: int) -> str:
    return "\r\n ".join(token[at : at + every] for at in range(0, len(token), every))


def word(text: str, charset: str = "us-ascii", how: str = "q") -> str:
    payload = base64.b64encode(text.encode()).decode() if how in "bB" else text.replace(" ", "_")
    return f"=?{charset}?{how}?{payload}?="


@pytest.mark.parametrize(
    "subject",
    [
        f"ACME: {TOKEN}",
        f"ACME:\t{TOKEN}  ",
        f"ACME:\r\n {TOKEN}",
        f"ACME: {folded(TOKEN, 10)}",
        word(f"ACME: {TOKEN}", how="b"),
        word(f"ACME: {TOKEN[:20]}", "UTF-8") + "\r\n " + word(TOKEN[20:], "utf-8", "B"),
        word(f"ACME: {TOKEN}", "us-ascii*en"),
    ],
)
def test_the_token_is_read_however_the_subject_is_written(subject: str) -> None:
    assert announces(mime.parse(mail({"Subject": subject})).fields)
    assert reading(mail({"Subject": subject})) == ChallengeMail(TOKEN, "<A2299BB.FF7788@ca.test>", SENDER)


@pytest.mark.parametrize(
    "changes",
    [
        {"Auto-Submitted": "auto-generated"},
        {"Auto-Submitted": "Auto-Generated (machine); TYPE=ACME; x=1"},
        {"From": f"The Authority <{SENDER}>", "To": f'"Alexey" <{RECIPIENT.upper()}>'},
        {"Content-Type": "text/html", "Cc": "audit@ca.test"},
    ],
    ids=["no-type", "comments", "names", "html-only"],
)
def test_what_may_vary_does(changes: dict[str, str | None]) -> None:
    assert reading(mail(changes)).token == TOKEN


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"From": "acme-challenge@ca.test"}, "wrong-sender"),
        ({"From": f"{SENDER} <mallory@evil.test>"}, "wrong-sender"),
        ({"From": f"{SENDER}, mallory@evil.test"}, "wrong-sender"),
        ({"To": "boris@hosp.test"}, "wrong-recipient"),
        ({"To": f"{RECIPIENT}, boris@hosp.test"}, "wrong-recipient"),
        ({"To": None}, "no-to"),
        ({"Auto-Submitted": None}, "no-auto-submitted"),
        ({"Auto-Submitted": "no"}, "not-automatic"),
        ({"Auto-Submitted": "auto-replied; type=acme"}, "not-automatic"),
        ({"Auto-Submitted": "auto-generated; type=vacation"}, "not-automatic"),
        ({"Message-ID": None}, "no-message-id"),
        ({"Message-ID": "<a@b> <c@d>"}, "no-message-id"),
        ({"Subject": f"Re: ACME: {TOKEN}"}, "wrong-subject"),
        ({"Subject": f"ACME:{TOKEN}"}, "wrong-subject"),
        ({"Subject": f"ACME: {TOKEN}="}, "wrong-subject"),
        ({"Subject": f"ACME: {TOKEN}\x00"}, "wrong-subject"),
        ({"Subject": "ACME: "}, "wrong-subject"),
        ({"Subject": word(f"ACME: {TOKEN}", "iso-8859-1")}, "wrong-subject"),
        ({"Subject": "ACME: c2hvcnQ"}, "weak-token"),
        ({"Subject": "ACME: " + "QUJD" * 200}, "weak-token"),
    ],
)
def test_what_is_not_genuine_is_refused_by_name(changes: dict[str, str | None], fault: str) -> None:
    with pytest.raises(MedmailError) as caught:
        reading(mail(changes))
    assert caught.value.code == "challenge-not-genuine"
    assert caught.value.facts["fault"] == fault


def test_an_answer_is_no_challenge_and_neither_is_a_letter_about_one() -> None:
    for subject in (f"Re: ACME: {TOKEN}", "The ACME: what to do", "Fwd: ACME: x"):
        assert not announces(mime.parse(mail({"Subject": subject})).fields)


@pytest.mark.parametrize("name", ["From", "To", "Subject", "Message-ID", "Auto-Submitted", "Sender"])
def test_a_field_that_stands_twice_is_refused(name: str) -> None:
    value = GENUINE.get(name, SENDER)
    changes = {"Sender": SENDER} if name == "Sender" else {}
    with pytest.raises(MedmailError) as caught:
        reading(mail(dict(changes), more=f"{name}: {value}\r\n"))
    assert caught.value.facts["fault"] == f"several-{name.lower()}"


def test_an_answer_goes_elsewhere_only_where_that_is_proven() -> None:
    message = mail({"Reply-To": "responses@ca.test"})
    assert reading(message).answer_to == "responses@ca.test"
    with pytest.raises(MedmailError) as caught:
        reading(message, proven=False)
    assert caught.value.facts["reason"] == "reply-elsewhere"
    assert reading(mail({"Reply-To": SENDER.upper()}), proven=False).answer_to == SENDER


@given(st.dictionaries(st.sampled_from([*GENUINE, "Reply-To", "Cc"]), st.text(max_size=60), max_size=4))
def test_whatever_comes_is_read_or_refused(changes: dict[str, str]) -> None:
    message = mail(dict(changes))
    try:
        found = reading(message)
    except MedmailError:
        return
    assert len(base64.urlsafe_b64decode(found.token + "==")) >= 16


@given(st.binary(min_size=16, max_size=300), st.integers(1, 70))
def test_every_token_comes_back_from_its_challenge(data: bytes, width: int) -> None:
    token = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    assert reading(mail({"Subject": f"ACME: {folded(token, width)}"})).token == token


def test_the_answer_is_as_the_rfc_wants_it_and_python_reads_it() -> None:
    challenge = ChallengeMail(TOKEN, "<A2299BB.FF7788@ca.test>", "responses@ca.test")
    authorization = f"{TOKEN}DGyRejmCefe7v4NfDGDKfA.thumbprint"
    made = answer(
        challenge,
        authorization,
        address=RECIPIENT,
        message_id="<m@hosp.test>",
        date=datetime(2026, 11, 23, 9, 0, tzinfo=UTC),
    )
    assert b"\n" not in made.replace(b"\r\n", b"")
    assert max(map(len, made.split(b"\r\n"))) <= 998
    read_back = email.message_from_bytes(made, policy=email.policy.default)
    assert (read_back["From"], read_back["To"]) == (RECIPIENT, "responses@ca.test")
    assert read_back["In-Reply-To"] == read_back["References"] == challenge.message_id
    assert read_back["Subject"] == f"Re: ACME: {TOKEN}"
    assert f"Subject: Re: ACME: {TOKEN}\r\n".encode() in made
    assert read_back.get_content_type() == "text/plain"
    assert read_back["Content-Transfer-Encoding"] == "7bit"
    lines = read_back.get_content().splitlines()
    start = lines.index("-----BEGIN ACME RESPONSE-----")
    assert lines[start + 2] == "-----END ACME RESPONSE-----"
    expected = base64.urlsafe_b64encode(hashlib.sha256(authorization.encode()).digest()).rstrip(b"=").decode()
    assert lines[start + 1] == expected == digest(authorization)
    assert not [name for name in read_back if name.lower().startswith("list-")]
