"""From the outbox to the servers: hand over what is claimed, account by account, and finish what was left.

Used by ``outbox flush``, ``fetch --watch`` and whatever answers by mail.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from medmail_cli.errors import exit_of
from medmail_cli.workflows.mail.outcomes import RecipientOutcome, waiting
from medmail_cli.workflows.mail.submission_session import DeliveryContext, SubmissionSession, announce, keep

if TYPE_CHECKING:
    from medmail_cli.config import Account
    from medmail_cli.model import Note
    from medmail_cli.store.queue.outbox import Submission


def flush(
    context: DeliveryContext, submissions: Iterable["Submission"]
) -> "Iterator[RecipientOutcome | Note]":
    """Send what can be claimed of ``submissions``, account by account; what others are sending is left."""
    for event in attempt(context, submissions, wait=True):
        if event is not None:
            yield event


def attempt(
    context: DeliveryContext, submissions: Iterable["Submission"], *, wait: bool
) -> "Iterator[RecipientOutcome | Note | None]":
    """As above; without ``wait`` None says that there is nothing to do before a server answers."""
    claimed = context.outbox.claim(submissions)
    by_account: dict[str, list[Submission]] = {}
    for submission in claimed:
        by_account.setdefault(submission.account, []).append(submission)
    try:
        for name, some in by_account.items():
            yield from _attempt_account(context, name, some, wait=wait)
    finally:
        context.outbox.release(submission.number for submission in claimed)


def _attempt_account(
    context: DeliveryContext, name: str, submissions: Sequence["Submission"], *, wait: bool
) -> "Iterator[RecipientOutcome | Note | None]":
    account = context.accounts.get(name)
    if account is None:
        for submission in submissions:
            for outcome in waiting(submission):
                yield replace(outcome, code="no-account", detail=name, exit=exit_of("no-account"))
        return
    yield from settle(context, account, [submission for submission in submissions if not submission.pending])
    pending = [submission for submission in submissions if submission.pending]
    if pending:
        with SubmissionSession(context, account) as session:
            session.ship(
                pending,
                announce(
                    context.log,
                    [(submission, submission.pending, submission.attempts + 1) for submission in pending],
                ),
            )
            yield from session.carried(_arrivals(session, wait=wait))


def _arrivals(session: SubmissionSession, *, wait: bool) -> "Iterator[RecipientOutcome | Note | None]":
    while session.outstanding:
        yield from session.arrivals(wait=wait)
        if not wait and session.outstanding:
            yield None


def settle(
    context: DeliveryContext, account: "Account", submissions: Sequence["Submission"]
) -> "Iterator[Note]":
    """Finish what a killed run had sent and recorded, but not yet logged, kept and closed."""
    for submission in submissions:
        for recipient in submission.recipients:
            context.log.event(
                "send-recovered",
                actor=submission.sender,
                objects=(submission.id,),
                recipient=recipient.address,
                status=recipient.status,
                reply=recipient.reply,
                server=recipient.server,
                server_certificate=recipient.server_certificate,
            )
    yield from keep(context, account, [submission for submission in submissions if submission.copy_due])
    context.outbox.finish(submission.number for submission in submissions)
