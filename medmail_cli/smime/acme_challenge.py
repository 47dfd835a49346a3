"""The mails of ACME's challenge for addresses, email-reply-00: reading the one, writing the other (RFC 8823).

Whether a challenge mail is genuine (§3.1, item 6) cannot be told by looking at it: the caller says which
header fields are proven, by an S/MIME signature with protected headers or by DKIM, and this module looks at
those alone. The answer is of use to nobody but the authority: it is bound to our account's key and to a
token that came over HTTPS. What a forged challenge could do is spoil an order, as the first wrong answer
ends it, or have us write to its sender. So, proven or not, a mail counts only if it is to us alone, from the
very address that the authority announced, made by a machine and has every field once.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from medmail_cli.errors import MedmailError
from medmail_cli.pki.issuance import jose
from medmail_cli.pki.x509.address import same_address
from medmail_cli.smime.compose import FieldLine, Letter, header_fields, payload
from medmail_cli.smime.fields import Field, Mailbox, parse_mailboxes, parse_parameters

PREFIX = "ACME:"
LEAST_TOKEN, LONGEST_TOKEN = 16, 512
"""Octets of token-part1 when decoded at least (§3.1: 128 bits), characters of it at most."""
_CHARSET = re.compile(r"=\?([^?*]*)(?:\*[^?]*)?\?[bBqQ]\?")
_MESSAGE_ID = re.compile(r"<[^<>\s\x00-\x1f\x7f-\U0010ffff]{1,900}>\Z")
_ONCE = ("from", "to", "subject", "message-id", "auto-submitted")
_AT_MOST_ONCE = ("reply-to", "sender", "cc")


@dataclass(frozen=True)
class ChallengeMail:
    """A challenge mail that may be answered: the token it brings, its id, and where the answer goes."""

    token: str
    message_id: str
    answer_to: str


def announces(fields: Sequence[Field]) -> bool:
    """Whether a mail claims to be a challenge mail at all."""
    return any(field.name == "subject" and field.text.lstrip().startswith(PREFIX) for field in fields)


def read(fields: Sequence[Field], *, sender: str, recipient: str, proven: bool) -> ChallengeMail:
    """The challenge in these header fields (RFC 8823 §3.1).

    ``sender`` is the address that the challenge object names, ``recipient`` ours. Where the fields are
    not ``proven``, a Reply-To that leads elsewhere is not followed. Raises ``challenge-not-genuine`` with
    the reason; such a mail must be ignored.
    """
    for name in (*_ONCE, *_AT_MOST_ONCE):
        count = sum(field.name == name for field in fields)
        if count > 1 or (name in _ONCE and not count):
            raise _ignored(f"{'several' if count else 'no'}-{name}")
    values = {field.name: field for field in fields}
    _check_people(values["from"], sender, "wrong-sender")
    _check_people(values["to"], recipient, "wrong-recipient")
    kind, parameters = parse_parameters(values["auto-submitted"].value)
    if kind != "auto-generated" or parameters.get("type", "acme").lower() != "acme":
        raise _ignored("not-automatic")
    message_id = values["message-id"].value
    if not _MESSAGE_ID.match(message_id):
        raise _ignored("no-message-id")
    answer_to = sender
    if "reply-to" in values:
        boxes = parse_mailboxes(values["reply-to"].value)
        if len(boxes) != 1 or not boxes[0].address:
            raise _ignored("several-reply-to")
        if not same_address(boxes[0].address, sender):
            if not proven:
                raise MedmailError("challenge-not-genuine", reason="reply-elsewhere")
            answer_to = boxes[0].address
    return ChallengeMail(_token(values["subject"]), message_id, answer_to)


def _check_people(field: Field, wanted: str, fault: str) -> None:
    boxes = parse_mailboxes(field.value)
    if len(boxes) != 1 or not same_address(boxes[0].address, wanted):
        raise _ignored(fault)


def _token(subject: Field) -> str:
    """token-part1: white space in it, as folding leaves it, is ignored; encoded words are ASCII or UTF-8."""
    charsets = {name.lower() for name in _CHARSET.findall(subject.value)}
    text = subject.text.strip()
    if not charsets <= {"us-ascii", "utf-8"} or not re.match(PREFIX + r"\s", text):
        raise _ignored("wrong-subject")
    token = re.sub(r"[ \t\r\n]+", "", text.removeprefix(PREFIX))
    try:
        if len(token) > LONGEST_TOKEN or len(jose.decode(token)) < LEAST_TOKEN:
            raise _ignored("weak-token")
    except ValueError:
        raise _ignored("wrong-subject") from None
    return token


def digest(key_authorization: str) -> str:
    """What the answer says: SHA-256 of the key authorization, base64url (§3, item 5)."""
    return jose.encode(hashlib.sha256(key_authorization.encode("ascii")).digest())


def answer(
    challenge: ChallengeMail, key_authorization: str, *, address: str, message_id: str, date: datetime
) -> bytes:
    """The answer to a challenge mail, from ``address`` (RFC 8823 §3.2).

    ``key_authorization`` is that of both parts of the token. The subject is kept in one line and in ASCII,
    and so is the digest: authorities search for them without unfolding.
    """
    letter = Letter(
        from_=Mailbox(address),
        to=(Mailbox(challenge.answer_to),),
        subject="Re: ACME",
        body=(
            f"-----BEGIN ACME RESPONSE-----\n{digest(key_authorization)}\n-----END ACME RESPONSE-----\n"
            "\nThis is the answer to a challenge mail for a certificate; nobody needs to read it.\n"
        ),
        date=date,
        message_id=message_id,
        in_reply_to=challenge.message_id,
        references=(challenge.message_id,),
    )
    subject: FieldLine = ("Subject", f"Subject: Re: {PREFIX} {challenge.token}\r\n".encode())
    head = [subject if name == "Subject" else (name, line) for name, line in header_fields(letter)]
    return payload(letter, fields=[*head, ("MIME-Version", b"MIME-Version: 1.0\r\n")])


def _ignored(fault: str) -> MedmailError:
    return MedmailError("challenge-not-genuine", reason="wrong-challenge", fault=fault)
