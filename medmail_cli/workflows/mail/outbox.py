"""``medmail outbox``: what still waits to be sent, sending it, giving it up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from medmail_cli.errors import MedmailError
from medmail_cli.store.queue.outbox import Protection, Status, Submission, next_attempt
from medmail_cli.workflows.audited import logged
from medmail_cli.workflows.mail import delivery
from medmail_cli.workflows.mail.outcomes import RecipientOutcome, concluded
from medmail_cli.workflows.mail.submission_session import DeliveryContext

if TYPE_CHECKING:
    from medmail_cli.model import Note
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.queue.outbox import Outbox


@dataclass(frozen=True)
class Fate:
    """How far a waiting message has come for one recipient; ``reply`` is what was said last."""

    address: str
    status: Status
    possible_duplicate: bool
    reply: str | None


@dataclass(frozen=True)
class Waiting:
    """A message in the outbox; ``due_at`` is when `send` and `fetch --watch` try it again by themselves."""

    type: ClassVar[str] = "submission"
    id: str
    key: str | None
    account: str
    sender: str
    message_id: str
    protection: Protection
    size: int
    queued_at: datetime
    due_at: datetime
    attempts: int
    recipients: tuple[Fate, ...]

    @property
    def pending(self) -> tuple[str, ...]:
        """The addresses that still wait."""
        return tuple(recipient.address for recipient in self.recipients if recipient.status == "queued")


@dataclass(frozen=True)
class Dropped:
    """A message given up; those recipients will not get it."""

    type: ClassVar[str] = "dropped"
    id: str
    recipients: tuple[str, ...]


def listing(outbox: "Outbox", now: datetime) -> Iterator[Waiting]:
    """Everything that waits, oldest first."""
    return (_shown(submission, now) for submission in outbox.open() if submission.pending)


def _shown(submission: Submission, now: datetime) -> Waiting:
    fates = tuple(
        Fate(each.address, each.status, each.status == "queued" and each.doubts > 0, each.reply)
        for each in submission.recipients
    )
    return Waiting(
        submission.id,
        submission.key,
        submission.account,
        submission.sender,
        submission.message_id,
        submission.protection,
        submission.size,
        submission.queued_at,
        next_attempt(submission, now),
        submission.attempts,
        fates,
    )


def flush(
    context: DeliveryContext, names: Sequence[str], *, only_due: bool
) -> "Iterator[RecipientOutcome | Note]":
    """Send what waits: all of it, the messages named, or only what is due. Raises what befell all alike.

    What another process is sending at this moment is left to it.
    """
    outbox = context.outbox
    outbox.sweep()
    if names:
        wanted: tuple[Submission, ...] = tuple(outbox.find(name) for name in dict.fromkeys(names))
    else:
        wanted = outbox.ripe(context.now()) if only_due else outbox.open()
    outcomes: list[RecipientOutcome] = []
    for event in delivery.flush(context, wanted):
        yield event
        if isinstance(event, RecipientOutcome):
            outcomes.append(event)
    yield from concluded(outcomes)


def drop(outbox: "Outbox", run: "RunContext", submission: Submission) -> Iterator[Dropped]:
    """Give a message up. Raises ``store-busy`` where it is being sent."""
    claimed = outbox.claim([submission])
    if not claimed:
        raise MedmailError("store-busy", path=str(submission.path))
    (mine,) = claimed
    with logged(run.acting(mine.sender), "outbox-drop", (mine.id,), recipients=", ".join(mine.pending)):
        outbox.drop(mine)
    yield Dropped(mine.id, mine.pending)
