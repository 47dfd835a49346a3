"""Writing letters as MIME: RFC 5322, 2045 to 2047, 2231 and 6532.

Header text is UTF-8 in encoded words; nothing that a caller passes can end a line, so no field can be
injected. Every line is at most 998 octets, folded near 76. The body is one ``text/plain`` in UTF-8,
with attachments inside one ``multipart/mixed``.
"""

import binascii
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pybase64

from medmail_cli.errors import MedmailError
from medmail_cli.smime.fields import Mailbox

CRLF = b"\r\n"
BINARY = b"Content-Transfer-Encoding: binary" + CRLF
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_PLAIN_WORD = re.compile(r"[!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~]+(?: [!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~]+)*\Z")
_SENDABLE = re.compile(
    r'(?:"[^"\\\x00-\x1f\x7f]+"|[^\s"<>()\[\]:;,@\\\x00-\x1f\x7f]+)@[^\s"<>()@,;:\\\x00-\x1f\x7f]+\Z'
)
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+\Z")
_FIELD_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,70}\Z")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WIDTH = 76


@dataclass(frozen=True)
class Attachment:
    """A file to send: its name as the recipient shall see it, its media type and its content."""

    name: str
    type: str
    data: bytes


@dataclass(frozen=True)
class Outside:
    """How an answer's fields stand outside where the letter it answers hid some of them (RFC 9788 §6.1.2).

    ``mailboxes`` are pairs: one of To or Cc, and what stands for it, None for nothing.
    """

    mailboxes: tuple[tuple[Mailbox, Mailbox | None], ...]
    subject: str
    in_reply_to: str | None
    references: tuple[str, ...]


@dataclass(frozen=True)
class Letter:
    """A letter as its author means it; ``date`` is aware, ids carry their angle brackets."""

    from_: Mailbox
    to: tuple[Mailbox, ...]
    subject: str
    body: str
    date: datetime
    message_id: str
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    sender: Mailbox | None = None
    reply_to: tuple[Mailbox, ...] = ()
    in_reply_to: str | None = None
    references: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    """Fields that a network must read; they stand outside and inside."""
    entity: bytes | None = None
    """A MIME body made elsewhere, its content fields first, in place of ``body`` and ``attachments``."""
    outside: Outside | None = None

    @property
    def in_clear(self) -> "Letter":
        """The letter with those values that its header may show outside an encryption."""
        if self.outside is None:
            return self
        shown = dict(self.outside.mailboxes)
        to, cc = (
            tuple(box for mailbox in boxes if (box := shown.get(mailbox, mailbox)) is not None)
            for boxes in (self.to, self.cc)
        )
        said = self.outside
        return replace(
            self, to=to, cc=cc, subject=said.subject, in_reply_to=said.in_reply_to, references=said.references
        )


FieldLine = tuple[str, bytes]
"""A header field: its name, and the whole of it folded, its last CRLF included."""


def new_message_id(domain: str) -> str:
    """A Message-ID that nobody can guess and that says nothing of the machine or the time."""
    host = domain if domain.isascii() else domain.encode("idna").decode("ascii")
    return f"<{secrets.token_hex(16)}@{host}>"


def header_fields(letter: Letter, *, bcc: Iterable[Mailbox] = ()) -> tuple[FieldLine, ...]:
    """The letter's own header fields in order, those of MIME left out; ``bcc`` is shown only if given.

    Raises ``usage`` for an address or field name that cannot stand in a header.
    """
    fields: list[FieldLine] = [("From", mailboxes("From", (letter.from_,)))]
    if letter.sender:
        fields.append(("Sender", mailboxes("Sender", (letter.sender,))))
    if letter.reply_to:
        fields.append(("Reply-To", mailboxes("Reply-To", letter.reply_to)))
    if letter.to:
        fields.append(("To", mailboxes("To", letter.to)))
    elif not letter.cc:
        fields.append(("To", b"To: undisclosed-recipients:;" + CRLF))
    if letter.cc:
        fields.append(("Cc", mailboxes("Cc", letter.cc)))
    if bcc := tuple(bcc):
        fields.append(("Bcc", mailboxes("Bcc", bcc)))
    fields.append(("Subject", unstructured("Subject", letter.subject)))
    fields.append(("Date", b"Date: " + _date(letter.date) + CRLF))
    fields += _ids("Message-ID", (letter.message_id,))
    fields += _ids("In-Reply-To", (letter.in_reply_to or "",))
    fields += _ids("References", letter.references)
    fields += [(name, unstructured(name, value)) for name, value in letter.headers]
    return tuple(fields)


def payload(
    letter: Letter,
    *,
    fields: Iterable[FieldLine] = (),
    parameters: Sequence[tuple[str, str]] = (),
    binary: bool = False,
    legacy_display: bool = False,
) -> bytes:
    """The letter's content as a MIME entity with CRLF line ends.

    ``fields`` go first, ``parameters`` onto the root's Content-Type (RFC 9788's ``hp``). With ``binary``
    attachments stand as they are, else all is 7bit-clean. ``legacy_display`` repeats the subject at the
    head of the text for readers that know no header protection (RFC 9788 §5.2.2).
    """
    if letter.entity is not None:
        return b"".join([*(line for _, line in fields), _with_parameters(letter.entity, parameters)])
    body = letter.body
    text_parameters: list[tuple[str, str]] = []
    if legacy_display:
        body = f"Subject: {_clean(letter.subject)}\n\n{body}"
        text_parameters.append(("hp-legacy-display", "1"))
    head = [line for _, line in fields]
    if not letter.attachments:
        return b"".join([*head, *_text_part(body, [*text_parameters, *parameters], binary=binary)])
    boundary = _boundary()
    content_type = parameterized("Content-Type", "multipart/mixed", [("boundary", boundary), *parameters])
    delimiter = b"--" + boundary.encode()
    pieces = [*head, content_type, *([BINARY] if binary else []), CRLF]
    pieces += [delimiter, CRLF, *_text_part(body, text_parameters, binary=binary)]
    for attachment in letter.attachments:
        pieces += [CRLF, delimiter, CRLF, *_attachment_part(attachment, binary=binary)]
    pieces += [CRLF, delimiter, b"--", CRLF]
    return b"".join(pieces)


def _with_parameters(entity: bytes, parameters: Sequence[tuple[str, str]]) -> bytes:
    """The entity with ``parameters`` added to its Content-Type."""
    if not parameters:
        return entity
    head = b"" if entity.startswith(CRLF) else entity.partition(CRLF + CRLF)[0] + CRLF
    content_type = re.search(rb"(?im)^content-type:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*", head)
    if content_type is None:
        return parameterized("Content-Type", "text/plain", parameters) + entity
    added = "".join(f';\r\n {key}="{value}"' for key, value in parameters).encode()
    end = len(entity[: content_type.end()].rstrip(b"; \t"))
    return entity[:end] + added + entity[content_type.end() :]


def base64_lines(data: bytes) -> bytes:
    """Base64 in lines of 76 characters ended by CRLF (RFC 2045 §6.8)."""
    return pybase64.encodebytes(data).replace(b"\n", CRLF)


def base64_size(size: int) -> int:
    """How long :func:`base64_lines` makes ``size`` octets."""
    characters = (size + 2) // 3 * 4
    return characters + 2 * ((characters + 75) // 76)


def _boundary() -> str:
    # "=_" occurs in neither base64 nor quoted-printable (RFC 2045 §6.7)
    return "=_" + secrets.token_hex(16)


def multipart_signed(part: bytes, signature: bytes, *, micalg: str) -> bytes:
    """A multipart/signed entity over ``part`` as it stands, its CMS signature detached (RFC 8551 §3.5.3)."""
    boundary = _boundary()
    delimiter = b"--" + boundary.encode()
    content_type = parameterized(
        "Content-Type",
        "multipart/signed",
        [("protocol", "application/pkcs7-signature"), ("micalg", micalg), ("boundary", boundary)],
    )
    head = cms_headers("application/pkcs7-signature", None, "smime.p7s")
    return b"".join(
        [content_type, CRLF, delimiter, CRLF, part, CRLF, delimiter, CRLF, *head, CRLF,
         base64_lines(signature), CRLF, delimiter, b"--", CRLF]
    )  # fmt: skip


def cms_headers(media_type: str, smime_type: str | None, name: str) -> tuple[bytes, ...]:
    """The MIME header lines of a CMS body in base64 (RFC 8551 §3.2)."""
    parameters = [("smime-type", smime_type)] if smime_type else []
    return (
        parameterized("Content-Type", media_type, [*parameters, ("name", name)]),
        b"Content-Transfer-Encoding: base64" + CRLF,
        parameterized("Content-Disposition", "attachment", [("filename", name)]),
    )


def _text_part(text: str, parameters: Sequence[tuple[str, str]], *, binary: bool) -> list[bytes]:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if text and not text.endswith("\n"):
        text += "\n"
    data = text.encode("utf-8", "replace")
    content_type = parameterized("Content-Type", "text/plain", [("charset", "utf-8"), *parameters])
    longest = max(map(len, data.split(b"\n")))
    if (
        longest <= 998
        and not re.search(rb"[ \t]$|^From |\x0c", data, re.MULTILINE)
        and (binary or data.isascii())
    ):
        encoding = b"8bit" if not data.isascii() else b"7bit"
        body = data.replace(b"\n", CRLF)
    elif 6 * len(data.translate(None, bytes(range(128)))) < len(data):
        encoding = b"quoted-printable"
        body = re.sub(rb"(?m)^From ", b"=46rom ", binascii.b2a_qp(data, istext=True)).replace(b"\n", CRLF)
    else:
        encoding = b"base64"
        body = base64_lines(data.replace(b"\n", CRLF))
    return [content_type, b"Content-Transfer-Encoding: " + encoding + CRLF, CRLF, body]


def _attachment_part(attachment: Attachment, *, binary: bool) -> list[bytes]:
    media_type = attachment.type.lower() if _MEDIA_TYPE.match(attachment.type) else "application/octet-stream"
    if media_type.startswith(("multipart/", "message/")):
        # these may not be in base64 (RFC 2045 §6.4), and nothing here may be read as parts of the letter
        media_type = "application/octet-stream"
    name = _clean(attachment.name).strip() or "attachment"
    parameters: list[tuple[str, str]] = []
    if media_type.startswith("text/") and _is_utf8(attachment.data):
        parameters.append(("charset", "utf-8"))
    # readers that know no RFC 2231 look for an encoded word here
    fallback = name if name.isascii() else b" ".join(_encoded_words(name)).decode()
    return [
        parameterized("Content-Type", media_type, [*parameters, ("name", fallback)]),
        b"Content-Transfer-Encoding: " + (b"binary" if binary else b"base64") + CRLF,
        parameterized("Content-Disposition", "attachment", [("filename", name)]),
        CRLF,
        attachment.data if binary else base64_lines(attachment.data),
    ]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _clean(text: str) -> str:
    """No control character, line end or lone surrogate may reach a header."""
    return _CONTROLS.sub(" ", text)


def unstructured(name: str, text: str) -> bytes:
    """A field of free text, such as Subject, folded; its words encoded where they must be (RFC 2047)."""
    if not _FIELD_NAME.match(name):
        raise MedmailError("usage", reason="header-name", name=name)
    text = _clean(text).strip()
    words = text.split(" ")
    safe = text.isascii() and "=?" not in text and max(map(len, words)) <= _WIDTH and "  " not in text
    tokens = [word.encode() for word in words] if safe else list(_encoded_words(text))
    return _fold(name, tokens)


def mailboxes(name: str, boxes: Sequence[Mailbox]) -> bytes:
    """A field of mailboxes, folded between them. Raises ``usage`` for an address that cannot be sent to."""
    tokens: list[bytes] = []
    for number, box in enumerate(boxes):
        if not _SENDABLE.match(box.address) or len(box.address) > 320:
            raise MedmailError("usage", reason="address", name=box.address)
        comma = b"," if number < len(boxes) - 1 else b""
        display = _clean(box.name).strip()
        address = box.address.encode("utf-8")
        if not display:
            tokens.append(address + comma)
            continue
        if _PLAIN_WORD.match(display) and "=?" not in display and len(display) <= _WIDTH:
            tokens += [word.encode() for word in display.split(" ")]
        elif display.isascii() and "=?" not in display and len(display) <= _WIDTH:
            tokens.append(b'"' + re.sub(r'(["\\])', r"\\\1", display).encode() + b'"')
        else:
            tokens += _encoded_words(display)
        tokens.append(b"<" + address + b">" + comma)
    return _fold(name, tokens)


def _ids(name: str, ids: Iterable[str]) -> list[FieldLine]:
    """The field of these, if one of them can be written: strangers' may be of any length and character."""
    tokens = [re.sub(r"[^\x21-\x7e]", "", identifier).encode() for identifier in ids]
    usable = [token for token in tokens if token and len(token) <= 900]
    return [(name, _fold(name, usable))] if usable else []


def _encoded_words(text: str) -> Iterable[bytes]:
    """``text`` as encoded words of at most 75 characters, none splitting a character (RFC 2047 §2, §5)."""
    chunk = b""
    for character in text:
        octets = character.encode("utf-8")
        if len(chunk) + len(octets) > 45:
            yield b"=?utf-8?b?" + pybase64.b64encode(chunk) + b"?="
            chunk = b""
        chunk += octets
    yield b"=?utf-8?b?" + pybase64.b64encode(chunk) + b"?="


def _fold(name: str, tokens: Sequence[bytes]) -> bytes:
    lines = [name.encode("ascii") + b":"]
    for token in tokens:
        if len(lines[-1]) + 1 + len(token) > _WIDTH and lines[-1].strip() and not lines[-1].endswith(b":"):
            lines.append(b" " + token)
        else:
            lines[-1] += b" " + token
    return CRLF.join(lines) + CRLF


def parameterized(name: str, value: str, parameters: Iterable[tuple[str, str]]) -> bytes:
    """A structured MIME field, a line for each parameter; RFC 2231 where ASCII is not enough."""
    out = [f"{name}: {value}".encode()]
    for key, text in parameters:
        text = _clean(text)
        if (text.isascii() and len(text) <= _WIDTH - len(key)) or text.startswith("=?utf-8?b?"):
            quoted = re.sub(r'(["\\])', r"\\\1", text)
            bare = re.fullmatch(r"[A-Za-z0-9.+_-]+", text) and key not in ("hp", "hp-legacy-display")
            out.append(f"{key}={text}".encode() if bare else f'{key}="{quoted}"'.encode())
            continue
        encoded = "".join(
            chr(octet) if (octet < 128 and chr(octet).isalnum()) or octet in b"-._~" else f"%{octet:02X}"
            for octet in text.encode("utf-8")
        )
        first, *others = re.findall(r"(?:%[0-9A-F]{2}|[^%]){1,20}", encoded)
        number = "*0" if others else ""
        out.append(f"{key}{number}*=utf-8''{first}".encode())
        out += [f"{key}*{number}*={piece}".encode() for number, piece in enumerate(others, 1)]
    return b";\r\n ".join(out) + CRLF


def _date(moment: datetime) -> bytes:
    """RFC 5322 §3.3, in English whatever the locale; the offset stays the author's."""
    if moment.tzinfo is None:
        raise ValueError("a date without offset")
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day} {_MONTHS[moment.month - 1]} {moment.year:04d} "
        f"{moment:%H:%M:%S} {moment:%z}"
    )[:31].encode()
