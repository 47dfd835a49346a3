"""What becomes of a letter with each recipient, and what several of them come to together."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError, combine
from medmail_cli.model import Note
from medmail_cli.store.queue.outbox import Protection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medmail_cli.store.queue.outbox import Submission


@dataclass(frozen=True)
class RecipientOutcome:
    """What became of a letter for one recipient; ``id`` names the message, ``key`` is the letter's ``--id``.

    ``reply`` is what the server said. With ``possible_duplicate`` the recipient may have it twice, under
    the same Message-ID: an earlier attempt broke off after the letter had gone and before the reply.
    """

    type: ClassVar[str] = "recipient"
    address: str
    status: Literal["accepted", "queued", "refused", "unchanged", "not-sent", "ready", "written"]
    protection: Protection
    id: str | None = None
    key: str | None = None
    message_id: str | None = None
    code: str | None = None
    detail: str | None = None
    reply: str | None = None
    possible_duplicate: bool = False
    retry_at: datetime | None = None
    saved_as: Path | None = None
    exit: int = OK
    cause: MedmailError | None = field(default=None, compare=False, repr=False, metadata={"json": False})
    """What kept the server from having a say."""
    size: int | None = field(default=None, compare=False, repr=False, metadata={"json": False})
    """Of the message on the wire, in octets."""
    server: str | None = field(default=None, compare=False, repr=False, metadata={"json": False})
    server_certificate: str | None = field(default=None, compare=False, repr=False, metadata={"json": False})
    """Whose reply it is, and the SHA-256 (hex) of the certificate shown with it."""

    @property
    def stands(self) -> bool:
        """Whether the letter is somewhere now: with a server, in the outbox, in a file, or as before."""
        return self.status in ("accepted", "queued", "written", "unchanged")


def waiting(submission: "Submission", *, retry_at: datetime | None = None) -> "Iterator[RecipientOutcome]":
    """The outcome of each recipient for whom a message waits in the outbox."""
    for address in submission.pending:
        yield RecipientOutcome(
            address,
            "queued",
            submission.protection,
            submission.id,
            submission.key,
            submission.message_id,
            retry_at=retry_at,
        )


@dataclass(frozen=True)
class Retried:
    """What became of a letter that had been waiting in the outbox when another one was sent."""

    type: ClassVar[str] = "retried"
    address: str
    status: Literal["accepted", "queued", "refused"]
    protection: Protection
    id: str
    key: str | None
    code: str | None
    reply: str | None
    possible_duplicate: bool
    retry_at: datetime | None


def common_failure(outcomes: "Sequence[RecipientOutcome]") -> MedmailError | None:
    """What happened to all recipients alike, and badly, if anything did."""
    bad = [outcome for outcome in outcomes if outcome.exit]
    if not bad or len(bad) < len(outcomes) or combine(outcome.exit for outcome in bad) != bad[0].exit:
        return None
    first = bad[0]
    if first.code in ("server-unreachable", "server-busy") and first.cause is not None:
        facts = first.cause.facts
        return MedmailError("letter-queued", **{"reason": facts.get("reply"), **facts})
    if first.code is None:
        return None
    return first.cause or MedmailError(
        first.code,
        address=first.address,
        addresses=list(dict.fromkeys(outcome.address for outcome in bad)),
        reply=first.reply or "",
        what=first.id or "",
        size=first.size or "",
        limit=first.detail or "",
    )


def concluded(outcomes: "Sequence[RecipientOutcome]") -> "Iterator[Note]":
    """What the person should hear at the end, several recipients together. Raises :func:`common_failure`."""
    error = common_failure(outcomes)
    waits = any(outcome.exit and outcome.status == "queued" for outcome in outcomes)
    if waits and (error is None or error.code != "letter-queued"):
        yield Note("letter-queued", {})
    if error is not None:
        raise error
