"""Letters that wait in the outbox, tried again: after a command's own work, or while one stays."""

from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.model import Note
from medmail_cli.workflows.mail.delivery import attempt
from medmail_cli.workflows.mail.outcomes import RecipientOutcome, Retried
from medmail_cli.workflows.mail.submission_session import DeliveryContext, is_ours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medmail_cli.workflows.mail.refusals import Refusals


def retry_due(context: DeliveryContext) -> "Iterator[Retried | Note]":
    """Send what has waited long enough, besides a command's own work: nothing of it changes its exit."""
    for event in _retry_due(context, None):
        if event is not None:
            yield event


def retry_meanwhile(context: DeliveryContext, refusals: "Refusals") -> "Iterator[Retried | Note | None]":
    """As :func:`retry_due`, but None is yielded instead of waiting for a server.

    Accounts whose password was refused are left out as long as ``refusals`` holds them.
    """
    return _retry_due(context, refusals)


def _retry_due(context: DeliveryContext, refusals: "Refusals | None") -> "Iterator[Retried | Note | None]":
    context.outbox.sweep()
    try:
        ripe = context.outbox.ripe(context.now())
        if refusals is None:
            yield from map(_retried, attempt(context, ripe, wait=True))
            return
        accounts = {
            submission.id: submission.account for submission in ripe if not refusals.holds(submission.account)
        }
        refused: set[str] = set()
        for event in attempt(
            context, [submission for submission in ripe if submission.id in accounts], wait=False
        ):
            if isinstance(event, RecipientOutcome):
                account = accounts[event.id or ""]
                if event.code == "login-refused" and account not in refused:
                    # many letters, one refusal
                    refused.add(account)
                    refusals.add("submission", account)
                    if refusals.spent("submission", account):
                        yield Note("watch-sends-no-more", {"account": account})
                elif event.status == "accepted":
                    refusals.clear("submission", account)
            yield _retried(event)
    except MedmailError as error:
        if is_ours(error):
            raise
        yield Note("retry-failed", {"error": error.code})


def _retried(event: "RecipientOutcome | Note | None") -> "Retried | Note | None":
    if not isinstance(event, RecipientOutcome):
        return event
    if event.status not in ("accepted", "queued", "refused"):
        return None
    return Retried(
        event.address, event.status, event.protection, event.id or "", event.key, event.code,
        event.reply, event.possible_duplicate, event.retry_at,
    )  # fmt: skip
