"""What somebody wants to send, before it becomes letters: from options, a file, or a manifest's lines."""

import json
import mimetypes
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from medmail_cli.codes import FAILED
from medmail_cli.errors import MedmailError, not_readable
from medmail_cli.pki.x509.address import ascii_domain
from medmail_cli.smime import compose, mime
from medmail_cli.smime.compose import Attachment, Letter
from medmail_cli.smime.fields import Mailbox, parse_mailboxes, without_parameters
from medmail_cli.smime.syntax import parse_ids

MANIFEST_FIELDS = ("id", "from", "to", "cc", "bcc", "subject", "body", "body_file", "attach", "in_reply_to")
KEY_LIMIT = 200
_LINE_END = re.compile(rb"\r?\n")
_SUBJECT_LINE = re.compile(r"subject:[ \t]*([^\r\n]*)(?:\r?\n(?:[ \t]*\r?\n)?|\Z)", re.IGNORECASE)
MESSAGE_ID = re.compile(r"<[^\s<>]{1,900}>\Z")
_OF_PROTECTION = {"hp", "protected-headers"}
"""Parameters that the letter to be gets of its own, and once (RFC 9788 §5)."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a line of a manifest; lines count from 1."""

    type: ClassVar[str] = "fault"
    line: int
    field: str | None
    reason: str
    exit: int = FAILED


@dataclass(frozen=True)
class Draft:
    """A letter to be; ``key`` is its ``--id``, ``subject`` None where the text may begin with one.

    ``entity`` is a whole MIME body made elsewhere (``--message``), in place of ``body`` and ``attach``.
    """

    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    sender: Mailbox | None = None
    reply_to: tuple[Mailbox, ...] = ()
    subject: str | None = None
    body: str | None = None
    attach: tuple[Path, ...] = ()
    entity: bytes | None = None
    key: str | None = None
    in_reply_to: str | None = None
    references: tuple[str, ...] = ()
    outside: compose.Outside | None = None
    """How it stands outside, if it answers a letter that hid something."""

    @property
    def everybody(self) -> tuple[Mailbox, ...]:
        """All recipients, each once, in order."""
        return tuple({box.address: box for box in (*self.to, *self.cc, *self.bcc)}.values())


def mailbox(text: str) -> Mailbox:
    """One address, with or without a name. Raises ``bad-address``.

    A domain in another script becomes A-labels where the local part is ASCII: every server takes that.
    """
    boxes = parse_mailboxes(text)
    if len(boxes) != 1:
        raise MedmailError("bad-address", address=text)
    return _sendable(boxes[0], text)


def _sendable(box: Mailbox, text: str) -> Mailbox:
    """A mailbox that was read from ``text``, its domain as servers take it."""
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise MedmailError("bad-address", address=text)
    local, _, domain = box.address.rpartition("@")
    domain = unicodedata.normalize("NFC", domain.lower())
    box = replace(box, address=f"{local}@{ascii_domain(domain) if local.isascii() else domain}")
    try:
        compose.mailboxes("To", [box])
    except MedmailError:
        raise MedmailError("bad-address", address=text) from None
    return box


def text_of(data: bytes, path: str) -> str:
    """The text of a body file, UTF-8 with or without a mark. Raises ``not-text``."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MedmailError("not-text", path=path) from None
    if "\0" in text:
        raise MedmailError("not-text", path=path)
    return text


def read(path: Path) -> bytes:
    """A file's content. Raises ``not-readable``."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise not_readable(path, error) from None


def finished(draft: Draft) -> Draft:
    """The draft with its subject taken out of the text if it stands there. Raises ``empty-letter``."""
    if draft.subject is None and draft.body is not None:
        match = _SUBJECT_LINE.match(draft.body)
        if match:
            draft = replace(draft, subject=match[1].strip(), body=draft.body[match.end() :])
    if draft.entity is None and not draft.attach and not (draft.body or "").strip():
        raise MedmailError("empty-letter")
    return draft


def letter(draft: Draft, sender: Mailbox, date: datetime) -> Letter:
    """The letter, its attachments read. Raises ``not-readable``."""
    return Letter(
        from_=sender,
        to=draft.to,
        cc=draft.cc,
        bcc=draft.bcc,
        reply_to=draft.reply_to,
        subject=draft.subject or "",
        body=draft.body or "",
        date=date,
        message_id=compose.new_message_id(sender.address.rpartition("@")[2]),
        in_reply_to=draft.in_reply_to,
        references=draft.references or ((draft.in_reply_to,) if draft.in_reply_to else ()),
        attachments=tuple(attachment(path) for path in draft.attach),
        entity=draft.entity,
        outside=draft.outside,
    )


def attachment(path: Path) -> Attachment:
    """A file as an attachment, its type by its name."""
    kind, encoding = mimetypes.guess_type(path.name)
    return Attachment(path.name, (kind if not encoding else None) or "application/octet-stream", read(path))


def from_message(data: bytes) -> Draft:
    """A draft from a whole message (``--message FILE.eml``): its own headers and its body as it stands.

    Raises ``malformed``, ``bad-address``.
    """
    data = _with_line_ends(mime.begin(data)[0])
    entity = mime.parse(data)
    values: dict[str, list[str]] = {}
    for field in entity.fields:
        values.setdefault(field.name, []).append(field.value)

    def boxes(name: str) -> tuple[Mailbox, ...]:
        named = (box for value in values.get(name, ()) for box in parse_mailboxes(value))
        return tuple(_sendable(box, str(box)) for box in named)

    senders = boxes("from")
    if len(senders) > 1:
        raise MedmailError("several-from")
    subjects = [field.text for field in entity.fields if field.name == "subject"]
    references = parse_ids(" ".join(values.get("references", ())))
    reply = parse_ids(" ".join(values.get("in-reply-to", ())))
    return Draft(
        to=boxes("to"),
        cc=boxes("cc"),
        bcc=boxes("bcc"),
        sender=senders[0] if senders else None,
        reply_to=boxes("reply-to"),
        subject=subjects[0] if subjects else "",
        entity=_content(data, entity),
        in_reply_to=reply[0] if reply and MESSAGE_ID.match(reply[0]) else None,
        references=tuple(message_id for message_id in references if MESSAGE_ID.match(message_id)),
    )


def _with_line_ends(data: bytes) -> bytes:
    """The message with CRLF line ends (RFC 8551 §3.1.1), but for the octets of what is no text."""
    out: list[bytes] = []
    position = 0
    for part in mime.parse(data).walk():
        if not part.children and part.source is data and part.start >= position and _is_binary(part):
            # where its lines end in LF alone, a CR before the next delimiter is one of its own octets
            own = data[part.body - 2 : part.body] == b"\n\n" and data[part.end : part.end + 2] == b"\r\n"
            end = part.end + own
            out += [_LINE_END.sub(b"\r\n", data[position : part.body]), data[part.body : end]]
            position = end
    return b"".join([*out, _LINE_END.sub(b"\r\n", data[position:])])


def _is_binary(part: "mime.Entity") -> bool:
    if part.content_type.startswith("text/"):
        # whose line ends are no octets CR and LF
        return part.parameters.get("charset", "").lower().startswith(("utf-16", "utf-32"))
    return part.encoding == "binary" or part.source.find(b"\0", part.body, part.end) >= 0


def _content(data: bytes, entity: "mime.Entity") -> bytes:
    """The message without all but its content fields, and without what these say of how it came."""
    kept = [
        without_parameters(field.raw.rstrip(b"\r\n"), _OF_PROTECTION) + b"\r\n"
        for field in entity.fields
        if field.name.startswith("content-")
    ]
    return b"".join([*kept, b"\r\n", data[entity.body : entity.end]])


def manifest(data: bytes, folder: Path) -> tuple[list[Draft], list[Fault]]:
    """The drafts of a manifest (JSON Lines) and all its faults; file names are relative to ``folder``.

    Files are read only far enough to know that they can be; bodies are read whole, as they are text.
    """
    drafts: list[Draft] = []
    faults: list[Fault] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        row = _Row(number, folder, faults)
        draft = row.read(line)
        if draft is not None:
            if draft.key in lines:
                row.fault("id", f"the same as in line {lines[draft.key]}")
            lines.setdefault(draft.key or "", number)
            drafts.append(draft)
    return drafts, faults


class _Row:
    """One line being read; what is wrong with it goes to ``faults``."""

    def __init__(self, line: int, folder: Path, faults: list[Fault]) -> None:
        self.line, self.folder, self.faults = line, folder, faults

    def fault(self, field: str | None, reason: str) -> None:
        self.faults.append(Fault(self.line, field, reason))

    def read(self, line: bytes) -> Draft | None:
        try:
            values = json.loads(line.decode("utf-8-sig" if self.line == 1 else "utf-8"))
        except (ValueError, RecursionError):
            self.fault(None, "not JSON in UTF-8")
            return None
        if not isinstance(values, dict):
            self.fault(None, "not a JSON object")
            return None
        before = len(self.faults)
        for name in values.keys() - set(MANIFEST_FIELDS):
            self.fault(str(name)[:60], "unknown field")
        key = self.text(values, "id")
        if not key:
            self.fault("id", "missing")
        elif len(key) > KEY_LIMIT or not key.isprintable():
            self.fault("id", f"longer than {KEY_LIMIT} characters, or with control characters")
        sender = self.boxes(values, "from")
        if len(sender) > 1:
            self.fault("from", "more than one address")
        draft = Draft(
            key=key,
            sender=sender[0] if sender else None,
            to=self.boxes(values, "to"),
            cc=self.boxes(values, "cc"),
            bcc=self.boxes(values, "bcc"),
            subject=self.text(values, "subject"),
            body=self.body(values),
            attach=self.files(values),
            in_reply_to=self.reply(values),
        )
        if len(self.faults) > before:
            return None
        if not draft.everybody:
            self.fault("to", "no recipient")
            return None
        try:
            return finished(draft)
        except MedmailError:
            self.fault("body", "nothing to send")
            return None

    def text(self, values: dict[str, Any], name: str) -> str | None:
        value = values.get(name)
        if value is not None and (not isinstance(value, str) or _lone_surrogates(value)):
            self.fault(name, "not a text")
            return None
        return value

    def several(self, values: dict[str, Any], name: str) -> Sequence[str]:
        value = values.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fault(name, "neither a text nor a list of texts")
            return ()
        return value

    def boxes(self, values: dict[str, Any], name: str) -> tuple[Mailbox, ...]:
        return tuple(self.checked(name, self.several(values, name), mailbox))

    def checked(self, name: str, given: Sequence[str], make: Callable[[str], Any]) -> list[Any]:
        attachments = []
        for item in given:
            try:
                attachments.append(make(item))
            except MedmailError as error:
                self.fault(name, f"{error.code}: {item[:200]}")
        return attachments

    def body(self, values: dict[str, Any]) -> str | None:
        text, name = self.text(values, "body"), self.text(values, "body_file")
        if name is None:
            return text
        if text is not None:
            self.fault("body_file", "beside body")
            return None
        texts = self.checked("body_file", [name], lambda file: text_of(read(self.folder / file), file))
        return texts[0] if texts else None

    def files(self, values: dict[str, Any]) -> tuple[Path, ...]:
        def usable(name: str) -> Path:
            path = self.folder / name
            check_readable(path)
            return path

        return tuple(self.checked("attach", self.several(values, "attach"), usable))

    def reply(self, values: dict[str, Any]) -> str | None:
        value = self.text(values, "in_reply_to")
        if value is not None and not MESSAGE_ID.match(value):
            self.fault("in_reply_to", "not a Message-ID in angle brackets")
            return None
        return value


def check_readable(path: Path) -> None:
    """Raises ``not-readable`` where the file cannot be read."""
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "Is a directory")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise not_readable(path, error) from None


def _lone_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
