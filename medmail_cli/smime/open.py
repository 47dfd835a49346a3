"""Opening a message and judging it: one verdict, and what may be released.

The order is the RFCs': layers off (RFC 8551), which headers count (RFC 9788), each signer's signature
(RFC 5652) and certificate (RFC 5280, by ``judge``), the sender's address (RFC 8550 §3), then who it is
addressed to. Every reason why a message is not trusted is collected; nothing stops at the first.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from medmail_cli.cms import ber
from medmail_cli.cms.signed import unsigned_attributes
from medmail_cli.codes import INTEGRITY
from medmail_cli.errors import MedmailError
from medmail_cli.model import Problem, phrase
from medmail_cli.pki.path.validation import Judgement
from medmail_cli.pki.x509 import address
from medmail_cli.smime import display, mime, recipient_emails, transfer
from medmail_cli.smime.fields import Field
from medmail_cli.smime.header import choose, headers, in_clear, mailboxes, shown
from medmail_cli.smime.layers import Keys, holds_signature, unwrap, with_line_ends_repaired
from medmail_cli.smime.mime import Entity
from medmail_cli.smime.policy import DEFAULT_POLICY, Policy
from medmail_cli.smime.signers import (
    Judge,
    Judged,
    Lookup,
    Proven,
    addresses_of,
    check_sender,
    judge_signers,
    nobody,
    subject_of,
)
from medmail_cli.smime.unwrapped import Unwrapped
from medmail_cli.smime.verdict import (
    Attachment,
    Encryption,
    OuterHeaders,
    Signature,
    Verdict,
    exit_for,
    status_of,
    unique,
)

__all__ = ["Judge", "Judgement", "Lookup", "Opened", "Proven", "open_message"]

_TOLD_BY_HEADERS = {"several-from", "header-mismatch", "signer-is-not-sender"}
"""Problems whose detail cites header fields, perhaps decrypted ones."""


@dataclass(frozen=True)
class Opened:
    """A judged message; ``content`` and ``parts`` hold something only where it may be released."""

    verdict: Verdict
    content: Entity | None = None
    header: tuple[Field, ...] = ()
    """The header fields that count: protected ones where there are, else those outside."""
    parts: tuple[bytes, ...] = field(default=(), repr=False)
    """The attachments' octets, in the order of the verdict's."""
    proven: Proven | None = None
    at: datetime | None = None
    """The time of judgement."""
    judged: tuple[Judged, ...] = ()
    """Every signer with what was found about it."""

    def eml(self) -> bytes:
        """The message without its layers: content as signed, under the header fields that count."""
        if self.content is None:
            raise ValueError("nothing was released")
        content = self.content
        version = b"" if content.all("mime-version") else b"MIME-Version: 1.0\r\n"
        if self.verdict.headers.protected:
            return version + bytes(content.raw)
        # one header of both: outside who wrote to whom, inside what it is; no line but those that were shown
        lines = [_LONE.sub(b" ", f.raw) for f in self.header if not _is_of_mime(f)]
        lines += [f.raw for f in content.fields if _is_of_mime(f)]
        head = b"".join(line + b"\r\n" for line in lines) + version
        return head + b"\r\n" + content.source[content.body : content.end]


_LONE = re.compile(rb"\r(?!\n)|\0")


def _is_of_mime(field: Field) -> bool:
    return field.name.startswith("content-") or field.name == "mime-version"


def open_message(
    raw: bytes,
    *,
    id: str,  # noqa: A002 - the word of the JSON
    source: str,
    keys: Keys,
    judge: Judge,
    at: datetime,
    own_addresses: Sequence[str] = (),
    policy: Policy = DEFAULT_POLICY,
    known: Lookup = nobody,
    pinned: Lookup = nobody,
) -> Opened:
    """Open and judge a message; never raises for what it holds.

    ``known`` gives the certificates known for an address, among them perhaps a signer's that did not come
    along; ``pinned`` those that the user tied to it though they bear no address.
    """
    # handed over, not lent: unwrap frees a large message as soon as it is decoded
    handed = [raw]
    del raw
    got = unwrap(handed.pop(), keys, allow_weak=policy.allow_weak)
    outer = OuterHeaders(shown(got.outer, "from"), shown(got.outer, "subject"))
    while True:
        if got.payload is None:
            return _failed(got, id, source, outer)
        problems: list[Problem] = []
        notes: list[Problem] = []
        header, protected = choose(got, got.payload, policy.delegates, problems)
        senders = mailboxes(header, "from")
        signers, infos = judge_signers(got.signature, senders, known, judge, at, problems, notes)
        repaired = next((info.repaired for info in infos if info.repaired), None)
        if repaired is None:
            break
        got = with_line_ends_repaired(got, repaired, keys, allow_weak=policy.allow_weak)
    if got.repaired:
        notes.append(Problem("line-endings-repaired"))
    _check_coverage(got, problems)
    holders = tuple(info for info in infos if not info.signer.problems)
    hidden = got.outer if protected else ()
    if not protected and got.layers and got.layers[-1] == "wrapped":
        hidden = got.payload.fields
    author = check_sender(header, hidden, holders or infos, policy, pinned, problems)
    for info in infos:
        # beside the author's good signature those of others say nothing, unless one is forged
        if author is None or not holders or "bad-signature" in info.signer.problems:
            problems.extend(info.problems)
    signature_trusted = not problems
    _check_encryption(got, header, own_addresses, policy, problems, notes)
    if got.decrypted is not None and infos:
        by, beside = (author or infos[0]).info.signed_attributes, got.decrypted.beside
        attributes = unsigned_attributes(ber.parse(beside) if beside else None)
        said = by.get(recipient_emails.OID), attributes.get(recipient_emails.OID)
        problems += recipient_emails.check(*said, own_addresses)
    if not protected:
        notes.append(Problem("headers-unprotected"))
    distinct = unique(problems)
    exit_code = exit_for(problem.code for problem in distinct)
    changeable = got.decrypted is not None and not got.decrypted.authenticated and not signature_trusted
    # integrity broken, or content that anybody may have changed without a signature that says not
    withheld = not policy.show_unverified and (exit_code == INTEGRITY or changeable)
    if withheld and got.decrypted is not None:
        distinct = tuple(replace(p, detail="") if p.code in _TOLD_BY_HEADERS else p for p in distinct)
    verdict = Verdict(
        id=id,
        source=source,
        exit=exit_code,
        layers=got.layers,
        encryption=_encryption(got),
        signature=Signature(status_of(signers, holds=bool(holders)) if signers else "none", signers),
        trusted=not distinct,
        headers=headers(got.outer, protected=False) if withheld else headers(header, protected=protected),
        outer_headers=outer,
        text=None,
        attachments=(),
        problems=distinct,
        notes=unique(notes),
        withheld=withheld,
    )
    if withheld:
        return Opened(verdict, header=got.outer, at=at, judged=infos)
    partly = any(problem.code == "partly-signed" for problem in distinct)
    encrypted = got.decrypted is not None
    content = display.shown(got.payload, protected=protected, encrypted=encrypted, partly_signed=partly)
    parts = tuple(mime.decode_body(part) for part in content.attachments)
    attachments = tuple(map(_attachment, content.attachments, parts))
    verdict = replace(verdict, text=content.text, attachments=attachments)
    if encrypted and header is not got.outer:
        verdict = replace(verdict, in_clear=headers(in_clear(got, got.payload), protected=protected))
    proven = author.proven if not distinct and author else None
    return Opened(verdict, got.payload, header, parts, proven, at, infos)


def _failed(got: Unwrapped, id: str, source: str, outer: OuterHeaders) -> Opened:  # noqa: A002
    error = got.failure or MedmailError("malformed")
    details = (error.facts.get(name) for name in ("reason", "detail", "algorithm"))
    detail = str(next(filter(None, details), ""))
    if error.code == "bad-tag":
        # of all that can be wrong the one thing that is told: it stands outside, for everybody to see
        tagless = error.facts.get("tagless")
        said = "{0} in plain EnvelopedData, which has no place for its tag"
        detail = phrase(said, str(tagless)) if tagless else ""
    problem = Problem(error.code, detail)
    verdict = Verdict(
        id=id,
        source=source,
        exit=exit_for([error.code]),
        layers=got.layers,
        encryption=Encryption("failed") if got.encryption_failed else _encryption(got),
        signature=Signature(),
        trusted=False,
        headers=headers(got.outer, protected=False),
        outer_headers=outer,
        text=None,
        attachments=(),
        problems=(problem,),
        notes=() if got.encryption_failed or got.decrypted else (Problem("not-encrypted"),),
        withheld=True,
    )
    return Opened(verdict, header=got.outer)


def _check_coverage(got: Unwrapped, problems: list[Problem]) -> None:
    layer = got.signature
    if layer is None or (layer.signed is not None and not layer.signed.signers):
        partly = got.payload is not None and holds_signature(got.payload)
        problems.append(Problem("partly-signed" if partly else "no-signature"))
    elif layer.detached and layer.signed is not None and layer.signed.content is not None:
        problems.append(Problem("content-twice"))


def _check_encryption(
    got: Unwrapped,
    header: tuple[Field, ...],
    own_addresses: Sequence[str],
    policy: Policy,
    problems: list[Problem],
    notes: list[Problem],
) -> None:
    if got.decrypted is None:
        notes.append(Problem("not-encrypted"))
        return
    if got.decrypted.weak:
        problems.append(Problem("weak-algorithm", got.decrypted.algorithm))
    if not got.decrypted.authenticated:
        where = problems if policy.unauthenticated_encryption == "problem" else notes
        where.append(Problem("unauthenticated-encryption", got.decrypted.algorithm))
    own = {address.canonical(own_address) for own_address in own_addresses}
    named = [box for name in ("to", "cc", "bcc", "from", "sender") for box in mailboxes(header, name)]
    if own and not any(address.canonical(box.address) in own for box in named if box.address):
        where = problems if policy.not_addressed == "problem" else notes
        where.append(Problem("not-addressed-to-you", ", ".join(sorted(own_addresses))))


def _encryption(got: Unwrapped) -> Encryption:
    if got.decrypted is None:
        return Encryption()
    certificate = got.decrypted.certificate
    bears = addresses_of(certificate)
    return Encryption(
        "ok",
        got.decrypted.algorithm,
        got.decrypted.authenticated,
        got.decrypted.key_management,
        bears[0] if bears else subject_of(certificate),
    )


_NAMES = {"application/ms-tnef": "winmail.dat", "application/x-ole-storage": "message.msg"}
"""What Outlook's own files are called where nobody did, so that they can be told."""


def _attachment(part: Entity, data: bytes) -> Attachment:
    passed_on = part.content_type in ("message/rfc822", "message/global")
    name, kind = part.filename or ("message.eml" if passed_on else ""), part.content_type
    if part.encoding not in transfer.KNOWN:
        # RFC 2045 §6.4: no longer what its type says; and no name may say so either
        encoding = re.sub(r"[^a-z0-9-]+", "-", part.encoding)[:40].strip("-") or "unknown"
        name, kind = f"{name or 'attachment'}.{encoding}-encoded", "application/octet-stream"
    elif kind in ("application/octet-stream", "application/ms-tnef") and not part.filename:
        kind = mime.kind_of(data) or kind
        name = _NAMES.get(kind, "")
    return Attachment(name, kind, len(data), hashlib.sha256(data).hexdigest())


# a thousand letters come from a few people: what their certificates say is read once
