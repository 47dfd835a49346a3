"""A session with an account's submission server: each fate durable, then logged, then the sender's copy kept.

Each recipient has an intent in the audit log before and an outcome after; the outbox knows the fate first.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from medmail_cli.audit.entry import Intent, Outcome
from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.model import Note
from medmail_cli.store.queue.outbox import Fate, Outbox, QueuedMessage, Submission, retry_after
from medmail_cli.store.room import Room
from medmail_cli.transport.smtp import Job, Report, Submitter
from medmail_cli.transport.smtphandover import Envelope, Result
from medmail_cli.transport.smtpwire import Offer
from medmail_cli.workflows.mail.outcomes import RecipientOutcome

if TYPE_CHECKING:
    import ssl

    from medmail_cli.audit.entry import Ending, Fact
    from medmail_cli.config import Account
    from medmail_cli.store.log.writer import AuditLog
    from medmail_cli.store.mail.mailbox import Mailbox
    from medmail_cli.transport.mailserver import MailServer
    from medmail_cli.transport.sasl import Credentials

_Event = TypeVar("_Event")

CLOSED_AT_ONCE = 128
COPIES_AT_ONCE = 32 << 20
"""Octets of sent messages held in memory while their copies are written."""
FATE_SIZE, OUTCOME_SIZE = 32 << 10, 8 << 10
"""Octets that one recipient's fate takes in the outbox (pages of 4096), and in the audit log, at most."""


@dataclass
class DeliveryContext:
    """What handing over needs; ``credentials`` gives an account's, having asked for secrets it lacks.

    ``mail_server`` connects to the server of an account's letters, where copies may be kept.
    """

    outbox: Outbox
    log: "AuditLog"
    mailbox: "Mailbox | None"
    accounts: "Mapping[str, Account]"
    credentials: "Callable[[Account], Credentials]"
    tls_context: "Callable[[Account], ssl.SSLContext]"
    mail_server: "Callable[[Account], MailServer]"
    now: Callable[[], datetime]
    ask_dsn: bool = True


@dataclass
class SubmissionSession:
    """A connection to one account's server, for as many submissions as come; a context manager.

    Before the end of a letter goes out there is room for what becomes of it, in the outbox and in the log: a
    disk that fills up stops the sending, and never leaves unrecorded what a server has taken.
    """

    context: DeliveryContext
    account: "Account"
    _under_way: dict[int, tuple[Submission, dict[str, int]]] = field(default_factory=dict)
    _closing: list[tuple[Submission, bool]] = field(default_factory=list)
    """Submissions whose fates are recorded, and whether a copy is to be kept; closed many at a time."""
    _unrecorded: set[tuple[int, str]] = field(default_factory=set)
    """(number, address) of what a server may have and the outbox does not know of; under ``_counting``."""
    _counting: threading.Lock = field(default_factory=threading.Lock)
    _full: MedmailError | None = None

    def __enter__(self) -> Self:
        server = self.account.smtp
        if server is None:
            raise MedmailError("no-smtp-server", account=self.account.name)
        self._submitter = Submitter(
            server,
            context=self.context.tls_context(self.account),
            via=self.account.proxy,
            credentials=self.context.credentials(self.account),
            mark=self._mark,
        ).__enter__()
        # where leavings are swept away by the next run
        self._room = Room(self.context.outbox.folder / "messages"), Room(self.context.log.folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._submitter.__exit__(kind, error, trace)
        for room in self._room:
            room.close()
        self.context.outbox.release(
            [*self._under_way, *(submission.number for submission, _ in self._closing)]
        )

    def offer(self) -> Offer | None:
        """What the server offers; None where it cannot be reached now."""
        return self._submitter.offer()

    @property
    def outstanding(self) -> int:
        """How many submissions are under way."""
        return self._submitter.outstanding

    def ship(self, submissions: Iterable[Submission], intents: Mapping[tuple[str, str], int]) -> None:
        """Set claimed submissions on their way; ``intents`` has the audit log's index of each recipient."""
        for submission in submissions:
            self._under_way[submission.number] = (
                submission,
                {a: intents[submission.id, a] for a in submission.pending},
            )
            envelope = Envelope(
                submission.sender,
                submission.pending,
                submission.message_id,
                submission.utf8,
                self.context.ask_dsn,
            )
            read = partial(self._read, submission)
            self._submitter.put(Job(submission.number, envelope, submission.size, read))

    def _read(self, submission: Submission) -> bytes:
        return self.context.outbox.read(submission)

    def arrivals(self, *, wait: bool) -> "Iterator[RecipientOutcome | Note]":
        """What has become of submissions, once it is durable; with ``wait`` that of one at least."""
        yield from self._arrived(self._submitter.reports(wait=wait))

    def carried(self, events: "Iterable[_Event]") -> "Iterator[_Event | RecipientOutcome | Note]":
        """``events``; where an error ends them, first what becomes of all that a server has begun to take."""
        try:
            yield from events
        except MedmailError as error:
            yield from self._wind_up(error)
            raise

    def _wind_up(self, error: MedmailError) -> "Iterator[RecipientOutcome | Note]":
        for number in self._submitter.halt():
            submission, _ = self._under_way[number]
            for address in submission.pending:
                yield RecipientOutcome(
                    address, "queued", submission.protection, submission.id, submission.key,
                    submission.message_id, code=error.code, retry_at=submission.due_at,
                    exit=exit_of(error.code),
                )  # fmt: skip
        while self.outstanding:
            # more of the same may go wrong; what the caller raises is what went wrong first
            with contextlib.suppress(MedmailError):
                yield from self._arrived(self._submitter.reports(wait=True))

    def _mark(self, pairs: Sequence[tuple[int, str]]) -> None:
        """Take room for what becomes of these, then note that they are in doubt; in a thread of its own."""
        with self._counting:
            count = len(self._unrecorded.union(pairs))
        for room, size in zip(self._room, (FATE_SIZE, OUTCOME_SIZE), strict=True):
            room.hold(count * size)
        self.context.outbox.mark(pairs)
        with self._counting:
            self._unrecorded.update(pairs)

    def _insist(self, write: Callable[[], object]) -> None:
        """Write; on a full disk in the room that was kept for it, and then nothing more is sent."""
        try:
            write()
        except MedmailError as error:
            if error.code != "disk-full":
                raise
            spent = [room.spend() for room in self._room]  # both: they may be on one disk
            if not any(spent):
                raise
            self._full = error
            write()

    def _arrived(self, reports: Sequence[Report]) -> "Iterator[RecipientOutcome | Note]":
        if not reports:
            return
        now = self.context.now()
        fates: list[Fate] = []
        outcomes: list[Outcome] = []
        shown: list[RecipientOutcome] = []
        for report in reports:
            submission, intents = self._under_way.pop(report.number)
            some = [self._fate(submission, address, report, now) for address in submission.pending]
            fates += [_recorded(submission, outcome) for outcome in some]
            outcomes += [_outcome(intents[outcome.address], outcome) for outcome in some]
            shown += some
            accepted = any(outcome.status == "accepted" for outcome in some)
            self._closing.append((submission, submission.copy_due and accepted))
        self._insist(lambda: self.context.outbox.record(fates, now))
        with self._counting:
            self._unrecorded.difference_update((fate.number, fate.address) for fate in fates)
        self._insist(lambda: self.context.log.outcomes(outcomes))
        # on a full disk the copies wait for the next run
        if self._full is None and (not self.outstanding or len(self._closing) >= CLOSED_AT_ONCE):
            yield from self._close()
        for outcome in shown:
            yield outcome
            if outcome.possible_duplicate:
                code = "outcome-unknown" if outcome.code == "outcome-unknown" else "possible-duplicate"
                yield Note(code, {"address": outcome.address, "message_id": outcome.message_id or ""})
        fatal = next((report.error for report in reports if is_ours(report.error)), self._full)
        if fatal is not None:
            raise fatal

    def _fate(self, submission: Submission, address: str, report: Report, now: datetime) -> RecipientOutcome:
        outcome, server = _fate(submission, address, report, now), self.account.smtp
        if report.certificate is None or server is None:
            return outcome
        return replace(outcome, server=f"{server.host}:{server.port}", server_certificate=report.certificate)

    def _close(self) -> "Iterator[Note]":
        """Keep the copies and close the submissions; a kill before it leaves that to the next run."""
        yield from keep(
            self.context, self.account, [submission for submission, copy in self._closing if copy]
        )
        self.context.outbox.finish(submission.number for submission, _ in self._closing)
        self._closing.clear()


def announce(
    log: "AuditLog", leaving: "Iterable[tuple[Submission | QueuedMessage, Sequence[str], int]]"
) -> dict[tuple[str, str], int]:
    """Log, for each (message, recipients, attempt), that it is about to be sent to each of them."""
    pairs = [
        (submission, address, attempt) for submission, addresses, attempt in leaving for address in addresses
    ]
    indices = log.intents(
        Intent(
            "send",
            submission.sender,
            (submission.id,),
            {
                "recipient": address,
                "account": submission.account,
                "attempt": attempt,
                **provable(submission, address),
            },
        )
        for submission, address, attempt in pairs
    )
    return {
        (submission.id, address): index
        for (submission, address, _), index in zip(pairs, indices, strict=True)
    }


def provable(letter: "Submission | QueuedMessage", address: str) -> "dict[str, Fact]":
    """What an intent says of a message so that it can be proved later what went to whom."""
    return {
        "message_id": letter.message_id,
        "protection": letter.protection,
        "certificate": letter.certificates.get(address),
        "commitment": letter.commitment,
        "sealed_salt": letter.sealed_salt,
    }


def keep(context: DeliveryContext, account: "Account", submissions: Sequence[Submission]) -> "Iterator[Note]":
    """Keep the sender's copies of what was sent: in the mailbox, and on the server if the account says so."""
    for some in _batches(submissions):
        messages = [context.outbox.read(submission) for submission in some]
        if context.mailbox is not None:
            context.mailbox.keep_sent(account.name, messages, context.now())
        context.outbox.kept(submission.number for submission in some)
        if account.sent_folder and account.mailbox_server is not None:
            try:
                _append(context, account, account.sent_folder, messages)
            except MedmailError as error:
                # the letter is sent and the copy kept here: that is what counts
                yield Note("sent-copy-not-appended", {"folder": account.sent_folder, "error": error.code})


def _append(context: DeliveryContext, account: "Account", folder: str, messages: Sequence[bytes]) -> None:
    with context.mail_server(account) as server:
        for message in messages:
            server.append(folder, message)


def _batches(submissions: Sequence[Submission]) -> Iterator[list[Submission]]:
    batch: list[Submission] = []
    for submission in submissions:
        if batch and sum(other.size for other in batch) + submission.size > COPIES_AT_ONCE:
            yield batch
            batch = []
        batch.append(submission)
    if batch:
        yield batch


def is_ours(error: MedmailError | None) -> bool:
    """A full disk or a damaged outbox is no matter between us and the server: it must stop the run."""
    return error is not None and error.code in ("store-damaged", "disk-full", "not-writable", "store-busy")


def _fate(submission: Submission, address: str, report: Report, now: datetime) -> RecipientOutcome:
    result = report.results.get(address, Result("queued", None))
    code: str | None = None
    if result.status == "unknown":
        code = "outcome-unknown"
    elif result.status == "refused":
        code = result.code or "recipient-refused"
    elif result.status == "queued":
        code = report.error.code if report.error is not None else "recipient-deferred"
    status: Literal["accepted", "queued", "refused"] = (
        "queued" if result.status == "unknown" else result.status
    )
    facts = report.error.facts if report.error is not None else {}
    spoke = report.error is None or result.status in ("accepted", "refused")
    return RecipientOutcome(
        address,
        status,
        submission.protection,
        submission.id,
        submission.key,
        submission.message_id,
        code=code,
        size=submission.size,
        detail=str(result.limit)
        if result.limit
        else None
        if spoke
        else str(facts.get("reason") or facts.get("detail") or facts.get("reply") or ""),
        reply=result.reply if spoke else None,
        possible_duplicate=result.status == "unknown"
        or (address in submission.doubtful and status != "refused"),
        retry_at=now + retry_after(submission.attempts) if status == "queued" else None,
        exit=OK if code is None else exit_of(code),
        cause=report.error,
    )


def _recorded(submission: Submission, outcome: RecipientOutcome) -> Fate:
    if outcome.code == "outcome-unknown":
        return Fate(
            submission.number,
            outcome.address,
            "unknown",
            outcome.detail,
            outcome.server,
            outcome.server_certificate,
        )
    assert outcome.status in ("accepted", "refused", "queued")  # noqa: S101 - what _fate makes
    said = outcome.reply or outcome.detail or outcome.code
    return Fate(
        submission.number, outcome.address, outcome.status, said, outcome.server, outcome.server_certificate
    )


def _outcome(intent: int, outcome: RecipientOutcome) -> Outcome:
    endings: dict[str, Ending] = {"accepted": "done", "refused": "refused", "queued": "queued"}
    return Outcome(
        intent,
        endings[outcome.status],
        outcome.exit,
        outcome.reply,
        facts={
            "code": outcome.code,
            "detail": outcome.detail,
            "possible_duplicate": outcome.possible_duplicate,
            "server": outcome.server,
            "server_certificate": outcome.server_certificate,
        },
    )
