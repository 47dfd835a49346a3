"""``medmail send``: compose, sign, encrypt; then the outbox; then the server; and a trace of each step.

Nothing leaves before everything that can be checked has been: the whole manifest, every key, every
recipient's certificate, what the server says of the size. A letter exists from the moment it is in the
outbox; from there on no kill loses it.
"""

import contextlib
import hashlib
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from medmail_cli.audit.entry import Intent, Outcome
from medmail_cli.errors import OK, MedmailError, NothingAttemptedError, exit_of
from medmail_cli.model import Note
from medmail_cli.smime.fields import Mailbox
from medmail_cli.smime.protect import estimate, protect, sign_only
from medmail_cli.store import files
from medmail_cli.store.keys import seal
from medmail_cli.store.keys.identity import fingerprint
from medmail_cli.store.queue.outbox import Parcel, Submission
from medmail_cli.workflows.mail import delivery, drafts
from medmail_cli.workflows.mail.delivery import Recipient, Retried, Shipment
from medmail_cli.workflows.mail.drafts import Draft, Fault
from medmail_cli.workflows.mail.recipients import Plan, check_named, plan_of, style_of
from medmail_cli.workflows.mail.sending import Office

if TYPE_CHECKING:
    from medmail_cli.config import Account


@dataclass(frozen=True)
class Content:
    """A message for stdout."""

    type: ClassVar[str] = "content"
    data: bytes


Event = Recipient | Retried | Fault | Note | Content

GROUP_LETTERS = 24
GROUP_OCTETS = 16 << 20
"""Letters are made, entered and fsynced in groups of so many, while the group before is on its way."""
UNDER_WAY = 96
"""Letters handed to the connections and not yet answered for."""
SALTS = "send salts"
"""The keystore's subkey under which the salts of commitments are sealed, bound to the commitment."""
ASK_SIZE_FROM = 1 << 20
"""From this estimated size on, the server's limit is asked for before anything is encrypted."""


@dataclass(frozen=True)
class Wish:
    """How the letters shall go; ``output`` is a file, or for a manifest a folder."""

    partial: bool = False
    sign_only: bool = False
    queue: bool = False
    dry_run: bool = False
    output: Path | None = None
    force: bool = False
    transport_only: frozenset[str] = frozenset()
    """To whom, by ``exact``, the sender knows that a letter goes under the network's protection alone."""
    confidential: bool = False
    """They answer encrypted letters, so none goes in clear."""


@dataclass(frozen=True)
class _Ready:
    """A draft with all decided: who sends it, by which account, to whom, how."""

    draft: Draft
    sender: Mailbox
    account: "Account | None"
    """None where no server is asked, and the sender is known without."""
    plan: Plan
    digest: bytes | None
    unreadable: bool = False
    """Its own sender has no key of the kind that is wanted."""


def send_manifest(data: bytes, folder: Path, office: Office, wish: Wish) -> Generator[Event, None, None]:
    """Send every letter of a manifest. Raises ``faulty-manifest`` before the first effect."""
    found, faults = drafts.manifest(data, folder)
    if faults:
        yield from sorted(faults, key=lambda fault: fault.line)
        raise NothingAttemptedError("faulty-manifest", count=len({fault.line for fault in faults}))
    yield from send(found, office, wish)


def send(wanted: Sequence[Draft], office: Office, wish: Wish) -> Generator[Event, None, None]:
    """Send drafts; each recipient's fate is an event.

    Raises ``no-recipient-certificate`` and ``not-whitelisted`` before anything is done, unless ``partial``;
    ``id-reused``; where all recipients fared alike, and badly, what happened to them.
    """
    found: list[Recipient] = []
    for event in _send(wanted, office, wish):
        yield event
        if isinstance(event, Recipient):
            found.append(event)
    yield from delivery.verdict(found)


def check(wanted: Sequence[Draft], office: Office, wish: Wish) -> Generator[Event, None, None]:
    """All of :func:`send` that can fail and needs no text: recipients, certificates, keys, where to write.

    Tells of recipients only where it raises. The drafts' keys are not looked at.
    """
    check_named(wish.transport_only, [box for draft in wanted for box in draft.everybody])
    if wish.output is not None and str(wish.output) != "-" and not wish.output.is_dir():
        files.check_output(wish.output, force=wish.force)
        if wish.output.exists() and not wish.force:
            raise MedmailError("exists", path=str(wish.output))
    ready = [
        one
        for one in (_decide(replace(d, key=None), office, wish) for d in wanted)
        if isinstance(one, _Ready)
    ]
    if not wish.partial or any(one.unreadable for one in ready):
        yield from _excluded(ready, wish)
    for one in ready:
        office.signer(one.sender.address)


def _send(wanted: Sequence[Draft], office: Office, wish: Wish) -> Iterator[Event]:
    ready: list[_Ready] = []
    unchanged: list[Recipient] = []
    reused: list[str] = []
    check_named(wish.transport_only, [box for draft in wanted for box in draft.everybody])
    for draft in wanted:
        try:
            decided = _decide(draft, office, wish)
        except MedmailError as error:
            if error.code != "id-reused":
                raise
            reused.append(str(draft.key))
            continue
        if isinstance(decided, _Ready):
            ready.append(decided)
        else:
            unchanged += decided
    if reused:
        raise NothingAttemptedError("id-reused", key=reused)
    yield from unchanged
    yield from _excluded(ready, wish)
    ready = [one for one in ready if one.plan.addressees]
    if wish.dry_run:
        for one in ready:
            for addressee in one.plan.addressees:
                yield Recipient(addressee.address, "ready", one.plan.protection, key=one.draft.key)
        return
    if wish.output is not None:
        yield from _write_out(ready, office, wish)
        return
    sent = False
    for account, some in _by_account(ready):
        for event in _send_by(account, some, office, wish):
            sent = sent or (isinstance(event, Recipient) and event.status == "accepted")
            yield event
    if not wish.queue and (sent or not ready):
        yield from delivery.retry_due(office.postage)


def _decide(draft: Draft, office: Office, wish: Wish) -> "_Ready | list[Recipient]":
    sender, account = draft.sender, None
    if sender is None or wish.output is None:
        account = office.account(sender.address if sender else None)
        sender = sender or Mailbox(account.address, "")
    plan = plan_of(
        draft.everybody,
        office.directory,
        office.whitelist,
        sign_only=wish.sign_only,
        transport_only=wish.transport_only,
        confidential=wish.confidential,
    )
    digest = None
    if draft.key is not None:
        digest = office.postage.outbox.digest(*_content(draft, sender, office, wish))
        if office.postage.outbox.known(draft.key, digest):
            return [
                Recipient(box.address, "unchanged", plan.protection, key=draft.key) for box in draft.everybody
            ]
    office.check_own(sender.address)
    lacks = plan.protection == "end-to-end" and office.lacks_post_quantum(sender.address)
    return _Ready(draft, sender, account, plan, digest, lacks)


def _content(draft: Draft, sender: Mailbox, office: Office, wish: Wish) -> Iterator[bytes]:
    """What makes two letters the same under one key."""
    heads = {
        "from": sender.address,
        **{name: [box.address for box in getattr(draft, name)] for name in ("to", "cc", "bcc")},
        "subject": draft.subject or "",
        "body": draft.body or "",
        "attach": [path.name for path in draft.attach],
        "in_reply_to": draft.in_reply_to,
        "sign_only": wish.sign_only,
        **({"reply_to": [box.address for box in draft.reply_to]} if draft.reply_to else {}),
        **({"post_quantum": True} if office.directory.post_quantum else {}),
    }
    yield json.dumps(heads, sort_keys=True).encode()
    yield draft.entity or b""
    for path in draft.attach:
        yield drafts.read(path)


def _excluded(ready: Sequence[_Ready], wish: Wish) -> Iterator[Event]:
    """Tell of recipients who cannot be sent to; unless ``partial`` was wished, that is the end of it."""
    names: dict[str, list[str]] = {}
    for one in ready:
        for addressee, code in one.plan.excluded:
            names.setdefault(code, []).append(addressee.address)
            yield Recipient(
                addressee.address, "not-sent", one.plan.protection, key=one.draft.key, code=code,
                detail=addressee.reason or None, exit=exit_of(code),
            )  # fmt: skip
    unreadable = [one.sender.address for one in ready if one.unreadable]
    if unreadable:
        names = {"not-post-quantum": [*unreadable, *names.get("not-post-quantum", ())]}
    if unreadable or (names and not wish.partial):
        first, addresses = next(iter(names.items()))
        raise NothingAttemptedError(
            first, addresses=list(dict.fromkeys(addresses)), count=len(set(addresses))
        )


def _by_account(ready: Sequence[_Ready]) -> "list[tuple[Account, list[_Ready]]]":
    groups: dict[str, tuple[Account, list[_Ready]]] = {}
    for one in ready:
        assert one.account is not None  # noqa: S101 - what is written to files has left before
        groups.setdefault(one.account.name, (one.account, []))[1].append(one)
    return list(groups.values())


def _send_by(account: "Account", ready: Sequence[_Ready], office: Office, wish: Wish) -> Iterator[Event]:
    for address in {one.sender.address for one in ready}:
        office.signer(address)  # whatever must be asked for is asked now, and not by another thread
    if wish.queue:
        for group in _groups(ready, office):
            yield from _queued(_protected(group, office), office)
        return
    with Shipment(office.postage, account) as shipment:
        yield from shipment.carried(_sent(ready, shipment, office))


def _sent(ready: Sequence[_Ready], shipment: Shipment, office: Office) -> Iterator[Event]:
    with ThreadPoolExecutor(1, "protect") as ahead:
        # a group is made while the one before is entered, sent and accounted for
        making: Future[list[Parcel]] | None = None
        for group in _groups(ready, office):
            fitting = group
            if sum(size for _, size in group) >= ASK_SIZE_FROM and (offer := shipment.offer()) and offer.size:
                limit = offer.size
                fitting = [(one, size) for one, size in group if size <= limit]
                yield from _too_large([each for each in group if each[1] > limit], limit)
            made = making.result() if making else []
            making = ahead.submit(_protected, fitting, office)
            yield from _shipped(made, shipment, office)
        if making:
            yield from _shipped(making.result(), shipment, office)
        while shipment.outstanding:
            yield from shipment.arrivals(wait=True)


def _shipped(parcels: Sequence[Parcel], shipment: Shipment, office: Office) -> Iterator[Event]:
    intents = delivery.announce(office.postage.log, [(one, one.recipients, 1) for one in parcels])
    submissions = yield from _entered(parcels, intents, office, claim=True)
    shipment.ship(submissions, intents)
    yield from shipment.arrivals(wait=False)
    while shipment.outstanding > UNDER_WAY:
        yield from shipment.arrivals(wait=True)


def _queued(parcels: Sequence[Parcel], office: Office) -> Iterator[Event]:
    intents = delivery.announce(office.postage.log, [(one, one.recipients, 0) for one in parcels])
    submissions = yield from _entered(parcels, intents, office, claim=False)
    office.postage.log.outcomes(
        Outcome(intents[one.id, address], "queued", OK) for one in submissions for address in one.pending
    )
    for one in submissions:
        for address in one.pending:
            yield Recipient(
                address, "queued", one.protection, one.id, one.key, one.message_id, retry_at=one.due_at
            )


def _entered(
    parcels: Sequence[Parcel], intents: Mapping[tuple[str, str], int], office: Office, *, claim: bool
) -> Generator[Event, None, tuple[Submission, ...]]:
    """Put parcels into the outbox; another process may have entered a letter of the same key meanwhile."""
    log = office.postage.log
    try:
        submissions = office.postage.outbox.enqueue(parcels, office.postage.now(), claim=claim)
        office.entered = office.entered or bool(submissions)
    except MedmailError as error:
        with contextlib.suppress(MedmailError):  # a full disk is the log's too; the first error counts
            log.outcomes(
                Outcome(index, "failed", exit_of(error.code), facts={"error": error.code})
                for index in intents.values()
            )
        raise
    entered = {one.id for one in submissions}
    late = [one for one in parcels if one.id not in entered]
    log.outcomes(Outcome(intents[one.id, a], "unchanged", OK) for one in late for a in one.recipients)
    for one in late:
        for address in one.recipients:
            yield Recipient(address, "unchanged", one.protection, key=one.key)
    return submissions


def _groups(ready: Sequence[_Ready], office: Office) -> Iterator[list[tuple[_Ready, int]]]:
    """Letters in groups, each with the size its message will have; the first is small, so as to begin."""
    group: list[tuple[_Ready, int]] = []
    octets, most = 0, GROUP_LETTERS // 3
    for one in ready:
        size = _estimate(one, office)
        if group and (len(group) >= most or octets + size > GROUP_OCTETS):
            yield group
            group, octets, most = [], 0, GROUP_LETTERS
        group.append((one, size))
        octets += size
    if group:
        yield group


def _estimate(one: _Ready, office: Office) -> int:
    """The size on the wire, known before a file is read."""
    letter = drafts.letter(replace(one.draft, attach=()), one.sender, office.postage.now())
    signer = office.signer(one.sender.address)
    style = style_of(office.profile, one.plan, signer)
    attached = sum(path.stat().st_size + 1000 for path in one.draft.attach)
    recipients = None
    if one.plan.protection == "end-to-end":
        recipients = [each.certificate for each in one.plan.addressees if each.certificate is not None]
    return estimate(letter, signer=signer, style=style, recipients=recipients) + attached * 16 // 9


def _too_large(ready: Sequence[tuple[_Ready, int]], limit: int) -> Iterator[Event]:
    for one, size in ready:
        for addressee in one.plan.addressees:
            yield Recipient(
                addressee.address, "not-sent", one.plan.protection, key=one.draft.key, code="too-large",
                detail=str(limit), size=size, exit=exit_of("too-large"),
            )  # fmt: skip


def _protected(group: Sequence[tuple[_Ready, int]], office: Office) -> list[Parcel]:
    return [parcel for one, _ in group for parcel in _parcels(one, office)]


def _parcels(one: _Ready, office: Office) -> Iterator[Parcel]:
    """The messages of one letter, signed and encrypted."""
    now = office.postage.now()
    wanted = {addressee.address: addressee for addressee in one.plan.addressees}
    draft = one.draft
    to, cc, bcc = (
        tuple(box for box in boxes if box.address in wanted) for boxes in (draft.to, draft.cc, draft.bcc)
    )
    draft = replace(draft, to=to, cc=cc, bcc=bcc)
    letter = drafts.letter(draft, one.sender, now.astimezone())
    letter = replace(letter, headers=(*letter.headers, *office.profile.headers.items()))
    signer = office.signer(one.sender.address)
    style = style_of(office.profile, one.plan, signer)
    if one.plan.protection == "end-to-end":
        certificates = {
            name: addressee.certificate
            for name, addressee in wanted.items()
            if addressee.certificate is not None
        }
        made = protect(letter, signer=signer, recipients=certificates, signed_at=now, style=style)
    else:
        certificates = {}
        made = sign_only(letter, signer=signer, signed_at=now, style=style)
    salts = office.unlock().subkey(SALTS)
    for submission in made:
        message = submission.message
        yield Parcel(
            id=hashlib.sha256(message).hexdigest(),
            message=message,
            account=one.account.name if one.account else "",
            sender=one.sender.address,
            recipients=submission.recipients,
            message_id=letter.message_id,
            protection=one.plan.protection,
            utf8=not message[: message.find(b"\r\n\r\n")].isascii(),
            key=one.draft.key,
            digest=one.digest,
            commitment=submission.commitment,
            sealed_salt=seal.sealed_line(salts, submission.salt, submission.commitment.encode()),
            certificates={name: fingerprint(certificate) for name, certificate in certificates.items()},
        )


def _write_out(ready: Sequence[_Ready], office: Office, wish: Wish) -> Iterator[Event]:
    """Write the messages instead of sending them: FILE, and beside it one for each Bcc recipient.

    Raises ``several-to-stdout`` where there is more than one and FILE is ``-``.
    """
    target = wish.output
    assert target is not None  # noqa: S101 - the caller's condition
    to_stdout = str(target) == "-"
    for one in ready:
        parcels = list(_parcels(one, office))
        if to_stdout and len(ready) * len(parcels) > 1:
            raise MedmailError("several-to-stdout")
        for number, parcel in enumerate(parcels):
            if to_stdout:
                path = target
            elif target.is_dir():
                path = target / f"{parcel.id}.eml"
            else:
                path = (
                    target if not number else target.with_name(f"{target.stem}-{number + 1}{target.suffix}")
                )
            intents = office.postage.log.intents(
                Intent(
                    "protect", parcel.sender, (parcel.id,),
                    {"recipient": address, **delivery.provable(parcel, address)},
                )
                for address in parcel.recipients
            )  # fmt: skip
            try:
                if not to_stdout:
                    files.write_output(path, parcel.message, force=wish.force)
            except MedmailError as error:
                office.postage.log.outcomes(Outcome(i, "failed", exit_of(error.code)) for i in intents)
                raise
            office.postage.log.outcomes(Outcome(i, "done", OK) for i in intents)
            if to_stdout:
                yield Content(parcel.message)
            for address in parcel.recipients:
                yield Recipient(
                    address, "written", parcel.protection, parcel.id, parcel.key, parcel.message_id,
                    saved_as=path,
                )  # fmt: skip
