"""``medmail reply``: an answer to a letter that is trusted, in its thread, under its protected subject."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from medmail_cli.codes import UNTRUSTED
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.pki.x509.address import canonical, same_address
from medmail_cli.smime.compose import Outside
from medmail_cli.smime.fields import Mailbox, parse_mailboxes
from medmail_cli.smime.verdict import Headers, Verdict
from medmail_cli.workflows.mail import drafts
from medmail_cli.workflows.mail.decrypt import DecryptionContext, Source, decrypt
from medmail_cli.workflows.mail.drafts import Draft

_ANSWER = re.compile(r"\s*+(?:re|aw|sv|réf?)\s*+(?:\[\d+\])?\s*+:", re.IGNORECASE)
_MOST_REFERENCES = 50
"""Of a long thread the first and the last are kept (RFC 5537 §3.4.4 trims alike)."""


@dataclass(frozen=True)
class Answer:
    """An answer to be: everything but its text, and what of the letter may be quoted."""

    draft: Draft
    author: str
    quoted: str
    confidential: bool
    """The letter came encrypted, so that what answers it must not go in the clear."""


def answer(
    source: Source,
    context: DecryptionContext,
    *,
    everybody: bool,
    sender: Callable[[Sequence[str]], str | None],
    include: Callable[[tuple[str, ...]], bool],
) -> Answer:
    """Open the letter as ``decrypt`` does, its traces included, and prepare the answer.

    ``sender`` says as whom, by which of one's own addresses the letter names. ``include`` says whether
    recipients whom no signature vouches for are answered too: where a letter's header is not protected
    (RFC 9788), anybody on the way could have added them.

    Raises ``untrusted-letter`` (5) where the letter is not trusted, ``bad-tag``, ``bad-signature`` (6) or
    ``no-key`` (1) where it cannot be opened intact, ``no-reply-address``.
    """
    own = context.opener.own_addresses
    (verdict,) = (event for event in decrypt([source], context) if isinstance(event, Verdict))
    if not verdict.trusted:
        codes = [problem.code for problem in verdict.problems]
        if verdict.exit != UNTRUSTED and codes:
            raise MedmailError(
                next(code for code in codes if exit_of(code) == verdict.exit), what=verdict.source
            )
        raise MedmailError("untrusted-letter", problems=codes)
    prepared = _answer(verdict, own, include, everybody=everybody)
    address = sender(_named(verdict.headers, own))
    return replace(prepared, draft=replace(prepared.draft, sender=Mailbox(address, "") if address else None))


def _named(headers: Headers, own: Sequence[str]) -> Sequence[str]:
    """One's own addresses that a letter names: as its author, else among its recipients, in its order."""
    fields = [headers.from_ or ""], headers.to, headers.cc
    written = {canonical(address): address for address in own}
    named = (canonical(box.address) for field in fields for value in field for box in parse_mailboxes(value))
    return [written[name] for name in dict.fromkeys(named) if name in written]


def _answer(
    verdict: Verdict, own: Sequence[str], include: Callable[[tuple[str, ...]], bool], *, everybody: bool
) -> Answer:
    headers = verdict.headers
    author = parse_mailboxes(headers.from_ or "")
    draft = _respond(headers, own, everybody=everybody)
    added = () if headers.protected else _others(draft.everybody, author)
    if added and not include(tuple(box.address for box in added)):
        draft = replace(draft, to=_others(draft.to, added), cc=_others(draft.cc, added))
    if not draft.to:
        raise MedmailError("no-reply-address")
    if verdict.in_clear is not None:
        draft = replace(draft, outside=_outside(draft, _respond(verdict.in_clear, own, everybody=everybody)))
    # to recipients whom anybody on the way could have added, nothing is shown of what was decrypted
    vouched = headers.protected or not _others(draft.everybody, author)
    return Answer(
        draft,
        author=author[0].name or author[0].address if author else "",
        quoted=quote(verdict.text or "") if vouched else "",
        confidential=verdict.encryption.status == "ok",
    )


def _respond(headers: Headers, own: Sequence[str], *, everybody: bool) -> Draft:
    """What answers a letter with these headers: the Respond function of RFC 9788 §6.1.1."""
    author = parse_mailboxes(headers.from_ or "")
    readers = [box for value in headers.to for box in parse_mailboxes(value)]
    copies = [box for value in headers.cc for box in parse_mailboxes(value)]
    if author and any(same_address(author[0].address, address) for address in own):
        to = readers  # one's own letter: the answer goes where it went
    else:
        # outside the protection anybody on the way could have put a Reply-To
        asked = parse_mailboxes(headers.reply_to) if headers.reply_to and headers.protected else ()
        to = list(asked or author)
    cc = [*(readers if to != readers else []), *copies] if everybody else []
    first = _distinct(to, [])
    answered = headers.message_id if drafts.MESSAGE_ID.match(headers.message_id or "") else None
    thread = tuple(
        reference
        for reference in dict.fromkeys([*headers.references, answered or ""])
        if drafts.MESSAGE_ID.match(reference)
    )
    if len(thread) > _MOST_REFERENCES:
        thread = (thread[0], *thread[-_MOST_REFERENCES + 1 :])
    return Draft(
        to=first,
        cc=_distinct(cc, [*(box.address for box in first), *own]),
        subject=subject(headers.subject or ""),
        in_reply_to=answered,
        references=thread,
    )


def _outside(draft: Draft, in_clear: Draft) -> Outside:
    """The answer's fields as anybody may read them: no more than what the letter told (RFC 9788 §6.1.2)."""
    shown: dict[str, Mailbox] = {}
    for box in (*in_clear.to, *in_clear.cc):
        shown.setdefault(canonical(box.address), box)
    return Outside(
        tuple((box, shown.get(canonical(box.address))) for box in (*draft.to, *draft.cc)),
        in_clear.subject or "",
        in_clear.in_reply_to,
        in_clear.references,
    )


def _others(boxes: Sequence[Mailbox], but: Sequence[Mailbox]) -> tuple[Mailbox, ...]:
    known = {canonical(box.address) for box in but}
    return tuple(box for box in boxes if canonical(box.address) not in known)


def subject(original: str) -> str:
    """The subject of an answer: with one ``Re:``, however often it went back and forth."""
    return original.strip() if _ANSWER.match(original) else f"Re: {original.strip()}".strip()


def quote(text: str) -> str:
    """The text with ``>`` before each line, the signature below ``-- `` left out."""
    body = re.split(r"(?m)^-- \r?$", text, maxsplit=1)[0].rstrip()
    return "".join(f"> {line}".rstrip() + "\n" for line in body.splitlines())


def _distinct(boxes: Sequence[Mailbox], but: Sequence[str]) -> tuple[Mailbox, ...]:
    distinct: list[Mailbox] = []
    known = set(map(canonical, but))
    for box in boxes:
        if box.address and canonical(box.address) not in known:
            written = f'"{_plain(box.name)}" <{box.address}>' if box.name else box.address
            distinct.append(drafts.mailbox(written))
            known |= {canonical(box.address), canonical(distinct[-1].address)}
    return tuple(distinct)


def _plain(name: str) -> str:
    return re.sub(r'["\\\x00-\x1f\x7f]', " ", name)
