"""``medmail send``: compose, sign, encrypt; then the outbox; then the server; and a trace of each step.

Nothing leaves before everything that can be checked has been: the whole manifest, every key, every
recipient's certificate, what the server says of the size. A letter exists from the moment it is in the
outbox; from there on no kill loses it.
"""

import contextlib
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from medmail_cli.audit.entry import Intent, Outcome
from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError, NothingAttemptedError, exit_of
from medmail_cli.model import Note
from medmail_cli.smime.fields import Mailbox
from medmail_cli.store import files
from medmail_cli.store.queue.outbox import QueuedMessage, Submission
from medmail_cli.workflows.mail import drafts
from medmail_cli.workflows.mail.drafts import Draft, Fault
from medmail_cli.workflows.mail.outcomes import RecipientOutcome, Retried, concluded, waiting
from medmail_cli.workflows.mail.recipients import check_named, plan_of
from medmail_cli.workflows.mail.retrying import retry_due
from medmail_cli.workflows.mail.sealing import ASK_SIZE_FROM, UNDER_WAY, Ready, groups, messages_of, protected
from medmail_cli.workflows.mail.sending import SendingContext
from medmail_cli.workflows.mail.submission_session import SubmissionSession, announce, provable

if TYPE_CHECKING:
    from medmail_cli.config import Account


@dataclass(frozen=True)
class Content:
    """A message for stdout."""

    type: ClassVar[str] = "content"
    data: bytes


Event = RecipientOutcome | Retried | Fault | Note | Content


@dataclass(frozen=True)
class SendOptions:
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


def send_manifest(
    data: bytes, folder: Path, context: SendingContext, options: SendOptions
) -> Generator[Event, None, None]:
    """Send every letter of a manifest. Raises ``faulty-manifest`` before the first effect."""
    wanted, faults = drafts.manifest(data, folder)
    if faults:
        yield from sorted(faults, key=lambda fault: fault.line)
        raise NothingAttemptedError("faulty-manifest", count=len({fault.line for fault in faults}))
    yield from send(wanted, context, options)


def send(
    wanted: Sequence[Draft], context: SendingContext, options: SendOptions
) -> Generator[Event, None, None]:
    """Send drafts; each recipient's fate is an event.

    Raises ``no-recipient-certificate`` and ``not-whitelisted`` before anything is done, unless ``partial``;
    ``id-reused``; where all recipients fared alike, and badly, what happened to them.
    """
    outcomes: list[RecipientOutcome] = []
    for event in _send(wanted, context, options):
        yield event
        if isinstance(event, RecipientOutcome):
            outcomes.append(event)
    yield from concluded(outcomes)


def check(
    wanted: Sequence[Draft], context: SendingContext, options: SendOptions
) -> Generator[Event, None, None]:
    """All of :func:`send` that can fail and needs no text: recipients, certificates, keys, where to write.

    Tells of recipients only where it raises. The drafts' keys are not looked at.
    """
    check_named(options.transport_only, [box for draft in wanted for box in draft.everybody])
    if options.output is not None and str(options.output) != "-" and not options.output.is_dir():
        files.check_output(options.output, force=options.force)
        if options.output.exists() and not options.force:
            raise MedmailError("exists", path=str(options.output))
    ready = [
        letter
        for letter in (_decide(replace(d, key=None), context, options) for d in wanted)
        if isinstance(letter, Ready)
    ]
    if not options.partial or any(letter.unreadable for letter in ready):
        yield from _excluded(ready, options)
    for letter in ready:
        context.signer(letter.sender.address)


def _send(wanted: Sequence[Draft], context: SendingContext, options: SendOptions) -> Iterator[Event]:
    ready: list[Ready] = []
    unchanged: list[RecipientOutcome] = []
    reused: list[str] = []
    check_named(options.transport_only, [box for draft in wanted for box in draft.everybody])
    for draft in wanted:
        try:
            decided = _decide(draft, context, options)
        except MedmailError as error:
            if error.code != "id-reused":
                raise
            reused.append(str(draft.key))
            continue
        if isinstance(decided, Ready):
            ready.append(decided)
        else:
            unchanged += decided
    if reused:
        raise NothingAttemptedError("id-reused", key=reused)
    yield from unchanged
    yield from _excluded(ready, options)
    ready = [letter for letter in ready if letter.plan.addressees]
    if options.dry_run:
        for letter in ready:
            for addressee in letter.plan.addressees:
                yield RecipientOutcome(
                    addressee.address, "ready", letter.plan.protection, key=letter.draft.key
                )
        return
    if options.output is not None:
        yield from _write_out(ready, context, options)
        return
    sent = False
    for account, some in _by_account(ready):
        for event in _send_by(account, some, context, options):
            sent = sent or (isinstance(event, RecipientOutcome) and event.status == "accepted")
            yield event
    if not options.queue and (sent or not ready):
        yield from retry_due(context.delivery)


def _decide(draft: Draft, context: SendingContext, options: SendOptions) -> "Ready | list[RecipientOutcome]":
    sender, account = draft.sender, None
    if sender is None or options.output is None:
        account = context.account(sender.address if sender else None)
        sender = sender or Mailbox(account.address, "")
    plan = plan_of(
        draft.everybody,
        context.resolver,
        context.whitelist,
        sign_only=options.sign_only,
        transport_only=options.transport_only,
        confidential=options.confidential,
    )
    digest = None
    if draft.key is not None:
        digest = context.delivery.outbox.digest(*_content(draft, sender, context, options))
        if context.delivery.outbox.known(draft.key, digest):
            return [
                RecipientOutcome(box.address, "unchanged", plan.protection, key=draft.key)
                for box in draft.everybody
            ]
    context.check_own(sender.address)
    lacks = plan.protection == "end-to-end" and context.lacks_post_quantum(sender.address)
    return Ready(draft, sender, account, plan, digest, lacks)


def _content(draft: Draft, sender: Mailbox, context: SendingContext, options: SendOptions) -> Iterator[bytes]:
    """What makes two letters the same under one key."""
    heads = {
        "from": sender.address,
        **{name: [box.address for box in getattr(draft, name)] for name in ("to", "cc", "bcc")},
        "subject": draft.subject or "",
        "body": draft.body or "",
        "attach": [path.name for path in draft.attach],
        "in_reply_to": draft.in_reply_to,
        "sign_only": options.sign_only,
        **({"reply_to": [box.address for box in draft.reply_to]} if draft.reply_to else {}),
        **({"post_quantum": True} if context.resolver.post_quantum else {}),
    }
    yield json.dumps(heads, sort_keys=True).encode()
    yield draft.entity or b""
    for path in draft.attach:
        yield drafts.read(path)


def _excluded(ready: Sequence[Ready], options: SendOptions) -> Iterator[Event]:
    """Tell of recipients who cannot be sent to; unless ``partial`` was wished, that is the end of it."""
    names: dict[str, list[str]] = {}
    for letter in ready:
        for addressee, code in letter.plan.excluded:
            names.setdefault(code, []).append(addressee.address)
            yield RecipientOutcome(
                addressee.address, "not-sent", letter.plan.protection, key=letter.draft.key, code=code,
                detail=addressee.reason or None, exit=exit_of(code),
            )  # fmt: skip
    unreadable = [letter.sender.address for letter in ready if letter.unreadable]
    if unreadable:
        names = {"not-post-quantum": [*unreadable, *names.get("not-post-quantum", ())]}
    if unreadable or (names and not options.partial):
        first, addresses = next(iter(names.items()))
        raise NothingAttemptedError(
            first, addresses=list(dict.fromkeys(addresses)), count=len(set(addresses))
        )


def _by_account(ready: Sequence[Ready]) -> "list[tuple[Account, list[Ready]]]":
    groups: dict[str, tuple[Account, list[Ready]]] = {}
    for letter in ready:
        assert letter.account is not None  # noqa: S101 - what is written to files has left before
        groups.setdefault(letter.account.name, (letter.account, []))[1].append(letter)
    return list(groups.values())


def _send_by(
    account: "Account", ready: Sequence[Ready], context: SendingContext, options: SendOptions
) -> Iterator[Event]:
    for address in {letter.sender.address for letter in ready}:
        context.signer(address)  # whatever must be asked for is asked now, and not by another thread
    if options.queue:
        for group in groups(ready, context):
            yield from _queued(protected(group, context), context)
        return
    with SubmissionSession(context.delivery, account) as session:
        yield from session.carried(_sent(ready, session, context))


def _sent(ready: Sequence[Ready], session: SubmissionSession, context: SendingContext) -> Iterator[Event]:
    with ThreadPoolExecutor(1, "protect") as ahead:
        # a group is made while the one before is entered, sent and accounted for
        making: Future[list[QueuedMessage]] | None = None
        for group in groups(ready, context):
            fitting = group
            if sum(size for _, size in group) >= ASK_SIZE_FROM and (offer := session.offer()) and offer.size:
                limit = offer.size
                fitting = [(letter, size) for letter, size in group if size <= limit]
                yield from _too_large([each for each in group if each[1] > limit], limit)
            messages = making.result() if making else []
            making = ahead.submit(protected, fitting, context)
            yield from _shipped(messages, session, context)
        if making:
            yield from _shipped(making.result(), session, context)
        while session.outstanding:
            yield from session.arrivals(wait=True)


def _shipped(
    messages: Sequence[QueuedMessage], session: SubmissionSession, context: SendingContext
) -> Iterator[Event]:
    intents = announce(context.delivery.log, [(message, message.recipients, 1) for message in messages])
    submissions = yield from _entered(messages, intents, context, claim=True)
    session.ship(submissions, intents)
    yield from session.arrivals(wait=False)
    while session.outstanding > UNDER_WAY:
        yield from session.arrivals(wait=True)


def _queued(messages: Sequence[QueuedMessage], context: SendingContext) -> Iterator[Event]:
    intents = announce(context.delivery.log, [(message, message.recipients, 0) for message in messages])
    submissions = yield from _entered(messages, intents, context, claim=False)
    context.delivery.log.outcomes(
        Outcome(intents[submission.id, address], "queued", OK)
        for submission in submissions
        for address in submission.pending
    )
    for submission in submissions:
        yield from waiting(submission, retry_at=submission.due_at)


def _entered(
    messages: Sequence[QueuedMessage],
    intents: Mapping[tuple[str, str], int],
    context: SendingContext,
    *,
    claim: bool,
) -> Generator[Event, None, tuple[Submission, ...]]:
    """Put messages into the outbox; another process may have entered a letter of the same key meanwhile."""
    log = context.delivery.log
    try:
        submissions = context.delivery.outbox.enqueue(messages, context.delivery.now(), claim=claim)
        context.entered = context.entered or bool(submissions)
    except MedmailError as error:
        with contextlib.suppress(MedmailError):  # a full disk is the log's too; the first error counts
            log.outcomes(
                Outcome(index, "failed", exit_of(error.code), facts={"error": error.code})
                for index in intents.values()
            )
        raise
    entered = {submission.id for submission in submissions}
    late = [message for message in messages if message.id not in entered]
    log.outcomes(
        Outcome(intents[message.id, a], "unchanged", OK) for message in late for a in message.recipients
    )
    for message in late:
        for address in message.recipients:
            yield RecipientOutcome(address, "unchanged", message.protection, key=message.key)
    return submissions


def _too_large(ready: Sequence[tuple[Ready, int]], limit: int) -> Iterator[Event]:
    for letter, size in ready:
        for addressee in letter.plan.addressees:
            yield RecipientOutcome(
                addressee.address, "not-sent", letter.plan.protection, key=letter.draft.key, code="too-large",
                detail=str(limit), size=size, exit=exit_of("too-large"),
            )  # fmt: skip


def _write_out(ready: Sequence[Ready], context: SendingContext, options: SendOptions) -> Iterator[Event]:
    """Write the messages instead of sending them: FILE, and beside it one for each Bcc recipient.

    Raises ``several-to-stdout`` where there is more than one and FILE is ``-``.
    """
    target = options.output
    assert target is not None  # noqa: S101 - the caller's condition
    to_stdout = str(target) == "-"
    for letter in ready:
        messages = list(messages_of(letter, context))
        if to_stdout and len(ready) * len(messages) > 1:
            raise MedmailError("several-to-stdout")
        for number, message in enumerate(messages):
            if to_stdout:
                path = target
            elif target.is_dir():
                path = target / f"{message.id}.eml"
            else:
                path = (
                    target if not number else target.with_name(f"{target.stem}-{number + 1}{target.suffix}")
                )
            intents = context.delivery.log.intents(
                Intent(
                    "protect", message.sender, (message.id,),
                    {"recipient": address, **provable(message, address)},
                )
                for address in message.recipients
            )  # fmt: skip
            try:
                if not to_stdout:
                    files.write_output(path, message.message, force=options.force)
            except MedmailError as error:
                context.delivery.log.outcomes(Outcome(i, "failed", exit_of(error.code)) for i in intents)
                raise
            context.delivery.log.outcomes(Outcome(i, "done", OK) for i in intents)
            if to_stdout:
                yield Content(message.message)
            for address in message.recipients:
                yield RecipientOutcome(
                    address, "written", message.protection, message.id, message.key, message.message_id,
                    saved_as=path,
                )  # fmt: skip
