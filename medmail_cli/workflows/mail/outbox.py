"""``medmail outbox``: what still waits to be sent, sending it, giving it up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from medmail_cli.errors import MedmailError
from medmail_cli.store.queue.outbox import Protection, Status, Submission, next_attempt
from medmail_cli.workflows.audited import logged
from medmail_cli.workflows.mail import delivery
from medmail_cli.workflows.mail.delivery import DeliveryContext
from medmail_cli.workflows.mail.outcomes import RecipientOutcome, concluded

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
        return tuple(one.address for one in self.recipients if one.status == "queued")


@dataclass(frozen=True)
class Dropped:
    """A message given up; those recipients will not get it."""

    type: ClassVar[str] = "dropped"
    id: str
    recipients: tuple[str, ...]


def listing(outbox: "Outbox", now: datetime) -> Iterator[Waiting]:
    """Everything that waits, oldest first."""
    return (_shown(one, now) for one in outbox.open() if one.pending)


def _shown(one: Submission, now: datetime) -> Waiting:
    fates = tuple(
        Fate(each.address, each.status, each.status == "queued" and each.doubts > 0, each.reply)
        for each in one.recipients
    )
    return Waiting(
        one.id, one.key, one.account, one.sender, one.message_id, one.protection, one.size,
        one.queued_at, next_attempt(one, now), one.attempts, fates,
    )  # fmt: skip


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
    found: list[RecipientOutcome] = []
    for event in delivery.flush(context, wanted):
        yield event
        if isinstance(event, RecipientOutcome):
            found.append(event)
    yield from concluded(found)


def drop(outbox: "Outbox", run: "RunContext", submission: Submission) -> Iterator[Dropped]:
    """Give a message up. Raises ``store-busy`` where it is being sent."""
    claimed = outbox.claim([submission])
    if not claimed:
        raise MedmailError("store-busy", path=str(submission.path))
    (one,) = claimed
    with logged(run.acting(one.sender), "outbox-drop", (one.id,), recipients=", ".join(one.pending)):
        outbox.drop(one)
    yield Dropped(one.id, one.pending)
