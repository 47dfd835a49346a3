"""Opening a message and judging it: one verdict, and what may be released.

The order is the RFCs': layers off (RFC 8551), which headers count (RFC 9788), each signer's signature
(RFC 5652) and certificate (RFC 5280, by ``judge``), the sender's address (RFC 8550 §3), then who it is
addressed to. Every reason why a message is not trusted is collected; nothing stops at the first.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from medmail_cli.cms.signed import SignerInfo, check_signer, find_certificate
from medmail_cli.errors import INTEGRITY, MedmailError
from medmail_cli.pki import address
from medmail_cli.smime import display, mime
from medmail_cli.smime.fields import Field, Mailbox, addresses_in, parse_date, parse_mailboxes
from medmail_cli.smime.layers import Keys, SignatureLayer, Unwrapped, holds_signature, unwrap
from medmail_cli.smime.mime import Entity
from medmail_cli.smime.verdict import (
    Attachment,
    Encryption,
    Headers,
    OuterHeaders,
    Problem,
    Signature,
    Signer,
    Verdict,
    exit_for,
    status_of,
    unique,
)

SKEW = timedelta(minutes=5)
"""How far a signing time may lie ahead of the time of judgement (contract, decrypt)."""


class _Finding(Protocol):
    @property
    def code(self) -> str: ...
    @property
    def detail(self) -> str: ...


class Judgement(Protocol):
    """What is asked of a judged chain; ``pki.path.Judgement`` is one."""

    @property
    def problems(self) -> Sequence[_Finding]: ...
    @property
    def notes(self) -> Sequence[_Finding]: ...
    @property
    def anchor(self) -> str | None: ...


Judge = Callable[[x509.Certificate, Sequence[x509.Certificate]], Judgement]
"""Judges a signer's certificate, given the certificates that came with the message."""


Lookup = Callable[[str], Sequence[x509.Certificate]]
"""The certificates that are known for an address."""


def _nobody(_address: str) -> Sequence[x509.Certificate]:
    return ()


@dataclass(frozen=True)
class Policy:
    """What the profile and the person decide."""

    not_addressed: Literal["problem", "note"] = "note"
    unauthenticated_encryption: Literal["problem", "note"] = "note"
    domain_bound: bool = False
    """A certificate for a whole domain speaks for its mailboxes (Direct)."""
    delegates: frozenset[str] = frozenset()
    """Addresses that the user lets stand in Sender beside somebody else's From."""
    show_unverified: bool = False
    allow_weak: bool = False


@dataclass(frozen=True)
class Proven:
    """A signer of a trusted message, as contacts learn it."""

    certificate: x509.Certificate
    info: SignerInfo
    certificates: tuple[x509.Certificate, ...]
    """All that came with the signature, among them perhaps the one to encrypt to."""


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

    def eml(self) -> bytes:
        """The message without its layers: content as signed, under the header fields that count."""
        if self.content is None:
            raise ValueError("nothing was released")
        own = bytes(self.content.raw)
        head = b"" if self.content.all("mime-version") else b"MIME-Version: 1.0\r\n"
        if not self.verdict.headers.protected:
            lines = [
                f.raw for f in self.header if not f.name.startswith("content-") and f.name != "mime-version"
            ]
            head = b"".join(line + b"\r\n" for line in lines) + head
        return head + own if self.content.fields else head + b"\r\n" + own


def open_message(
    raw: bytes,
    *,
    id: str,  # noqa: A002 - the contract's word
    source: str,
    keys: Keys,
    judge: Judge,
    at: datetime,
    own_addresses: Sequence[str] = (),
    policy: Policy = Policy(),
    known: Lookup = _nobody,
    pinned: Lookup = _nobody,
) -> Opened:
    """Open and judge a message; never raises for what it holds.

    ``known`` gives the certificates known for an address, among them perhaps a signer's that did not come
    along; ``pinned`` those that the user tied to it though they bear no address.
    """
    # handed over, not lent: unwrap frees a large message as soon as it is decoded
    handed = [raw]
    del raw
    got = unwrap(handed.pop(), keys, allow_weak=policy.allow_weak)
    outer = OuterHeaders(_shown(got.outer, "from"), _shown(got.outer, "subject"))
    if got.payload is None:
        return _failed(got, id, source, outer)
    problems: list[Problem] = []
    notes: list[Problem] = []
    header, protected = _choose_header(got, got.payload, problems)
    senders = _mailboxes(header, "from")
    signers, infos = _judge_signers(got.signature, senders, known, judge, at, problems, notes)
    _check_coverage(got, problems)
    holders = tuple(info for info in infos if not info.signer.problems)
    _check_sender(header, got.outer if protected else (), holders or infos, policy, pinned, problems)
    for info in infos:
        # a signature of another than the sender's excuses nothing, unless it is a forged one
        if not holders or "bad-signature" in info.signer.problems:
            problems.extend(info.problems)
    _check_encryption(got, header, own_addresses, policy, problems, notes)
    if not protected:
        notes.append(Problem("headers-unprotected"))
    found = unique(problems)
    exit_code = exit_for(problem.code for problem in found)
    withheld = not policy.show_unverified and bool(found) and _must_withhold(got, exit_code)
    verdict = Verdict(
        id=id,
        source=source,
        exit=exit_code,
        layers=got.layers,
        encryption=_encryption(got),
        signature=Signature(status_of(signers, holds=bool(holders)) if signers else "none", signers),
        trusted=not found,
        headers=_headers(got.outer, protected=False) if withheld else _headers(header, protected=protected),
        outer_headers=outer,
        text=None,
        attachments=(),
        problems=found,
        notes=unique(notes),
        withheld=withheld,
    )
    if withheld:
        return Opened(verdict, header=got.outer)
    shown = display.shown(got.payload)
    parts = tuple(_attachment_data(part) for part in shown.attachments)
    attachments = tuple(map(_attachment, shown.attachments, parts))
    verdict = replace(verdict, text=shown.text, attachments=attachments)
    proven = holders[0].proven if not found and holders else None
    return Opened(verdict, got.payload, header, parts, proven=proven)


def _failed(got: Unwrapped, id: str, source: str, outer: OuterHeaders) -> Opened:  # noqa: A002
    error = got.failure or MedmailError("malformed")
    problem = Problem(
        error.code,
        "" if error.code == "bad-tag" else str(error.facts.get("reason") or error.facts.get("detail") or ""),
    )
    verdict = Verdict(
        id=id,
        source=source,
        exit=exit_for([error.code]),
        layers=got.layers,
        encryption=Encryption("failed" if got.encryption_failed else "none"),
        signature=Signature(),
        trusted=False,
        headers=_headers(got.outer, protected=False),
        outer_headers=outer,
        text=None,
        attachments=(),
        problems=(problem,),
        notes=() if got.encryption_failed else (Problem("not-encrypted"),),
        withheld=True,
    )
    return Opened(verdict, header=got.outer)


def _must_withhold(got: Unwrapped, exit_code: int) -> bool:
    """Integrity broken, or content that anybody may have changed without a signature that says not."""
    return exit_code == INTEGRITY or (got.decrypted is not None and not got.decrypted.authenticated)


def _choose_header(
    got: Unwrapped, payload: Entity, problems: list[Problem]
) -> tuple[tuple[Field, ...], bool]:
    """The fields that count, and whether they are protected (RFC 9788 §4.2; RFC 8551 §3.1 for wrapping)."""
    outer_from = _mailboxes(got.outer, "from")
    if not got.layers or not payload.all("from"):
        return got.outer, False
    inner_from = _mailboxes(payload.fields, "from")
    agree = not outer_from or _addresses(outer_from) == _addresses(inner_from)
    if got.layers[-1] == "wrapped":
        if not agree:
            problems.append(Problem("header-mismatch", _pair(outer_from, inner_from)))
        # a wrapped message of another sender is a forwarded one, and says nothing of this one
        return (payload.fields, True) if agree else (got.outer, False)
    marked = payload.parameters.get("hp", "").lower() in ("clear", "cipher") or (
        payload.parameters.get("protected-headers", "").lower() == "v1"
    )
    # a layer saved without its mail header has no other sender than the one inside
    if not marked and outer_from:
        return got.outer, False
    if not agree:
        problems.append(Problem("header-mismatch", _pair(outer_from, inner_from)))
    outer_sender = _mailboxes(got.outer, "sender")
    inner_sender = _mailboxes(payload.fields, "sender") or inner_from
    if outer_sender and _addresses(outer_sender) != _addresses(inner_sender):
        problems.append(Problem("header-mismatch", _pair(outer_sender, inner_sender)))
    return payload.fields, True


@dataclass(frozen=True)
class _Judged:
    """One signer with its findings in words; ``proven`` is None where its certificate was not found."""

    signer: Signer
    problems: tuple[Problem, ...]
    proven: Proven | None


def _judge_signers(
    layer: SignatureLayer | None,
    senders: Sequence[Mailbox],
    known: Lookup,
    judge: Judge,
    at: datetime,
    problems: list[Problem],
    notes: list[Problem],
) -> tuple[tuple[Signer, ...], tuple[_Judged, ...]]:
    if layer is None:
        return (), ()
    if layer.signed is None:
        problems.append(Problem("bad-signature", "the signature cannot be read"))
        return (Signer((), None, None, None, None, None, ("bad-signature",)),), ()
    judged: list[_Judged] = []
    for info in layer.signed.signers:
        certificate = find_certificate(info, layer.signed.certificates) or find_certificate(
            info, (one for box in senders for one in known(box.address))
        )
        judged.append(_judge_signer(layer, info, certificate, judge, at, notes))
    return tuple(one.signer for one in judged), tuple(judged)


def _judge_signer(
    layer: SignatureLayer,
    info: SignerInfo,
    certificate: x509.Certificate | None,
    judge: Judge,
    at: datetime,
    notes: list[Problem],
) -> _Judged:
    signed = layer.signed
    assert signed is not None  # noqa: S101 - the caller has looked
    found: list[Problem] = []
    signed_at: datetime | None = None
    try:
        signed_at = info.signed_at
    except MedmailError:
        found.append(Problem("bad-signature", "signing time"))
    if signed_at and signed_at > at + SKEW:
        found.append(Problem("implausible-time", f"{signed_at:%Y-%m-%dT%H:%M:%SZ}"))
    if certificate is None:
        found.append(Problem("untrusted-issuer", "the signer's certificate is not at hand"))
        codes = tuple(problem.code for problem in unique(found))
        return _Judged(Signer((), None, None, None, None, signed_at, codes), tuple(found), None)
    over = layer.over if layer.detached else None
    wrong = check_signer(signed, info, certificate, over)
    if layer.detached and "bad-signature" in wrong:
        repaired = mime.canonical(bytes(layer.over))
        if repaired != layer.over:
            again = check_signer(signed, info, certificate, repaired)
            if "bad-signature" not in again:
                wrong = again
                notes.append(Problem("line-endings-repaired"))
    subject = _subject(certificate)
    found += [Problem(code, subject) for code in wrong]
    judgement = judge(certificate, signed.certificates)
    found += [Problem(problem.code, problem.detail) for problem in judgement.problems]
    notes += [Problem(note.code, note.detail) for note in judgement.notes]
    signer = Signer(
        addresses=_addresses_of(certificate),
        subject=subject,
        issuer=_issuer(certificate),
        anchor=judgement.anchor,
        sha256=_sha256(certificate),
        signed_at=signed_at,
        problems=tuple(problem.code for problem in unique(found)),
    )
    return _Judged(signer, tuple(found), Proven(certificate, info, signed.certificates))


def _check_coverage(got: Unwrapped, problems: list[Problem]) -> None:
    layer = got.signature
    if layer is None or (layer.signed is not None and not layer.signed.signers):
        partly = got.payload is not None and holds_signature(got.payload)
        problems.append(Problem("partly-signed" if partly else "no-signature"))
    elif layer.detached and layer.signed is not None and layer.signed.content is not None:
        problems.append(Problem("content-twice"))


def _check_sender(
    header: tuple[Field, ...],
    hidden: tuple[Field, ...],
    judged: Sequence[_Judged],
    policy: Policy,
    pinned: Lookup,
    problems: list[Problem],
) -> None:
    """From, and Sender where there is one, must be the signer's (RFC 8550 §3)."""
    senders = _mailboxes(header, "from")
    problems.extend(
        Problem("several-from", ", ".join(map(str, _mailboxes(fields, "from"))))
        for fields in (header, hidden)
        if len(_all(fields, "from")) > 1 or len(_mailboxes(fields, "from")) > 1
    )
    if not judged:
        return
    demanded = [box.address for box in senders] or [""]
    delegates = {address.canonical(delegate) for delegate in policy.delegates}
    demanded += [
        box.address for box in _mailboxes(header, "sender") if address.canonical(box.address) not in delegates
    ]
    if any(all(_speaks_for(one, wanted, policy, pinned) for wanted in demanded) for one in judged):
        for box in senders:
            misleading = [a for a in addresses_in(box.name) if not address.same_address(a, box.address)]
            if misleading:
                problems.append(Problem("signer-is-not-sender", f"{misleading[0]} ≠ {box.address}"))
        return
    known = [one for one in judged if one.proven]
    if known and not any(one.signer.addresses for one in known):
        problems.append(Problem("no-address-in-certificate", known[0].signer.subject or ""))
    elif known:
        has = ", ".join(a for one in known for a in one.signer.addresses)
        problems.append(Problem("signer-is-not-sender", f"{has} ≠ {', '.join(demanded)}"))


def _speaks_for(judged: _Judged, wanted: str, policy: Policy, pinned: Lookup) -> bool:
    if judged.proven is None or not wanted:
        return False
    if address.binds(judged.proven.certificate, wanted, domain_bound=policy.domain_bound):
        return True
    return not judged.signer.addresses and judged.proven.certificate in pinned(wanted)


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
    if not got.decrypted.authenticated:
        where = problems if policy.unauthenticated_encryption == "problem" else notes
        where.append(Problem("unauthenticated-encryption", got.decrypted.algorithm))
    own = {address.canonical(one) for one in own_addresses}
    named = [box for name in ("to", "cc", "bcc", "from", "sender") for box in _mailboxes(header, name)]
    if own and not any(address.canonical(box.address) in own for box in named if box.address):
        where = problems if policy.not_addressed == "problem" else notes
        where.append(Problem("not-addressed-to-you", ", ".join(sorted(own_addresses))))


def _encryption(got: Unwrapped) -> Encryption:
    if got.decrypted is None:
        return Encryption()
    certificate = got.decrypted.certificate
    bears = _addresses_of(certificate)
    return Encryption(
        "ok",
        got.decrypted.algorithm,
        got.decrypted.authenticated,
        got.decrypted.key_management,
        bears[0] if bears else _subject(certificate),
    )


def _all(fields: Sequence[Field], name: str) -> list[Field]:
    return [field for field in fields if field.name == name]


def _mailboxes(fields: Sequence[Field], name: str) -> tuple[Mailbox, ...]:
    return tuple(box for field in _all(fields, name) for box in parse_mailboxes(field.value))


def _addresses(boxes: Sequence[Mailbox]) -> frozenset[str]:
    return frozenset(address.canonical(box.address) for box in boxes)


def _pair(outside: Sequence[Mailbox], inside: Sequence[Mailbox]) -> str:
    return f"{', '.join(b.address for b in outside)} ≠ {', '.join(b.address for b in inside)}"


def _shown(fields: Sequence[Field], name: str) -> str | None:
    """The field as text; several of one name are all shown, since a reader must see that they are."""
    found = [field.text for field in _all(fields, name)]
    return ", ".join(found) if found else None


def _people(fields: Sequence[Field], name: str) -> str | None:
    boxes = _mailboxes(fields, name)
    return ", ".join(map(str, boxes)) or _shown(fields, name)


def _ids(fields: Sequence[Field], name: str) -> tuple[str, ...]:
    found = _all(fields, name)
    return tuple(found[0].value.split()) if found else ()


def _headers(fields: Sequence[Field], *, protected: bool) -> Headers:
    dates = _all(fields, "date")
    ids = _ids(fields, "message-id")
    answered = _ids(fields, "in-reply-to")
    return Headers(
        from_=_people(fields, "from"),
        to=tuple(map(str, _mailboxes(fields, "to"))),
        cc=tuple(map(str, _mailboxes(fields, "cc"))),
        reply_to=_people(fields, "reply-to"),
        subject=_shown(fields, "subject"),
        date=parse_date(dates[0].value) if dates else None,
        message_id=ids[0] if ids else None,
        in_reply_to=answered[0] if answered else None,
        references=_ids(fields, "references"),
        protected=protected,
    )


def _attachment_data(part: Entity) -> bytes:
    return mime.decode_body(part)


def _attachment(part: Entity, data: bytes) -> Attachment:
    name = part.filename or ("message.eml" if part.content_type == "message/rfc822" else "")
    return Attachment(name, part.content_type, len(data), hashlib.sha256(data).hexdigest())


# a thousand letters come from a few people: what their certificates say is read once
_remembered = lru_cache(maxsize=256)
_addresses_of = _remembered(address.addresses)


@_remembered
def _subject(certificate: x509.Certificate) -> str:
    try:
        return certificate.subject.rfc4514_string()
    except (ValueError, TypeError):  # names are read late, and may be nonsense
        return ""


@_remembered
def _issuer(certificate: x509.Certificate) -> str:
    try:
        return certificate.issuer.rfc4514_string()
    except (ValueError, TypeError):
        return ""


@_remembered
def _sha256(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
