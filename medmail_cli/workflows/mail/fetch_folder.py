"""One folder of ``fetch``: what is to come is found out, asked for, and stored while more is read.

A folder is done up to a UID only when each message below it is stored, or a second answer has said that it
is gone, or it is remembered as owed: named by the server and not given. What is owed is asked for by
every later run, last.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmail_cli.audit.entry import Outcome
from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.model import Progress
from medmail_cli.workflows.mail.fetched import Event, FetchedMessage, Source, Stores, Tally

if TYPE_CHECKING:
    from concurrent.futures import Future

    from medmail_cli.store.mail.incoming import Incoming
    from medmail_cli.store.mail.outer_index import Stored
    from medmail_cli.transport.imap import Examined, Imap
    from medmail_cli.transport.imapwire import Literal, Sink

BATCH_BYTES = 8 * 1024 * 1024
BATCH_MESSAGES = 400
"""A batch is made durable together once it has come to either."""
_AHEAD = 2
"""Batches that may wait to be stored while more are read."""
FAILURES, REFUSALS = 5, 50
"""Messages that fail singly in turn before it is the server that has failed; refusals cost less."""
GROUP = 200
"""As many of what did not come are asked for singly, then the others by the hundred again."""
_LOST = {"server-answer-malformed", "server-busy", "server-unreachable"}
"""After these a connection is of no more use."""


def of_folder(imap: "Imap", folder: str, source: Source, stores: Stores, got: Tally) -> Iterator[Event]:
    """Fetch what is new in a folder, and what is owed; ``got`` counts it. Raises what the server comes to."""
    mailbox, account = stores.mailbox, source.account.name
    state = mailbox.progress(account, folder)
    seen = imap.examine(folder)
    same = state.uidvalidity == seen.uidvalidity
    if same and seen.uidnext and seen.uidnext < state.uidnext:
        # the server's mailbox has been restored: other messages may bear the numbers of those we have
        mailbox.begin_again(account, folder, seen.uidvalidity)
        state = mailbox.progress(account, folder)
    first = max(1, state.uidnext) if same else 1
    noted = mailbox.owed(account, folder, seen.uidvalidity)
    owed = noted if state.uidnext else set()
    nothing_new = same and seen.uidnext and seen.uidnext <= first and state.uidnext
    if nothing_new and not owed:
        return
    uids: list[int] = []
    if not nothing_new:
        known = mailbox.witnesses(account, folder, seen.uidvalidity)
        uids, said = _searched(imap, folder, seen, first, known)
        if any(said[uid] not in known[uid] for uid in said.keys() & known.keys()):
            # restored as well, and grown past what we had since: what we know by these numbers is another
            mailbox.begin_again(account, folder, seen.uidvalidity)
            yield from of_folder(imap, folder, source, stores, got)
            return
    stored: set[int] = set()
    if uids and (state.uidnext or not same):
        stored = mailbox.stored_uids(account, folder, seen.uidvalidity, first)
    wanted = [uid for uid in uids if uid not in stored and uid not in owed]
    failed: set[int] = set(owed)
    try:
        if wanted or owed:
            place = _Place(imap, folder, seen.uidvalidity, lambda: mailbox.incoming(account, folder))
            asked = _asked(place, wanted, sorted(owed), failed)
            yield from _stored(asked, folder, seen.uidvalidity, len(wanted) + len(owed), source, stores, got)
    finally:
        if failed != noted:
            mailbox.owe(account, folder, seen.uidvalidity, failed)
    # what is below the UIDNEXT told before the search is found or gone; what came since lies beyond both
    reached = max(first, seen.uidnext, *(uid + 1 for uid in uids))
    mailbox.advance(account, folder, seen.uidvalidity, reached)


def _searched(
    imap: "Imap", folder: str, seen: "Examined", first: int, witnesses: "Mapping[int, frozenset[str]]"
) -> tuple[list[int], dict[int, str]]:
    """What is there from ``first`` on, and what the server calls the witnesses, if it says so."""
    try:
        return imap.search(first, seen, witnesses)
    except MedmailError as error:
        if not witnesses or error.code not in _LOST:
            raise
        # perhaps it was over these
        imap.again(folder, seen.uidvalidity)
        return imap.search(first, seen)


@dataclass(frozen=True)
class _Place:
    """Where messages are, and ``room`` for those that are too large to be held in memory."""

    imap: "Imap"
    folder: str
    uidvalidity: int
    room: "Callable[[], Sink]"

    def fetch(self, uids: Sequence[int]) -> "Iterator[tuple[int, Literal | MedmailError]]":
        return self.imap.fetch(uids, self.room)

    def again(self) -> None:
        self.imap.again(self.folder, self.uidvalidity)


def _asked(
    place: _Place, uids: Sequence[int], owed: Sequence[int], failed: set[int]
) -> "Iterator[tuple[int, Literal | MedmailError]]":
    """The messages with ``uids``, then those ``owed``; of what a server does not give, why.

    They are asked for by the hundred, and singly what did not come so. ``failed`` is kept to those that the
    server still names and has not given. Raises what is wrong with the server, not with a message.
    """
    todo, in_turn = list(uids), 0
    singly = list(owed) if not todo else []
    while todo or singly:
        came: set[int] = set()
        if todo:
            try:
                for uid, message in place.fetch(todo):
                    if not isinstance(message, MedmailError):
                        came.add(uid)
                        yield uid, message
                left = [uid for uid in todo if uid not in came]
                singly, todo = place.imap.named(left) if left else [], []
            except MedmailError as error:
                if error.code not in _LOST:
                    raise
                left = [uid for uid in todo if uid not in came]
                if not left and not owed:
                    return
                place.again()
                singly, todo = left[:GROUP], left[GROUP:]
            if not todo:
                singly += owed
        for uid in singly:
            message_ = _single(place, uid)
            if message_ is None:
                failed.discard(uid)
                continue
            if not isinstance(message_, MedmailError):
                in_turn = 0
                failed.discard(uid)
            else:
                in_turn += 1
                failed.add(uid)
            yield uid, message_
            if isinstance(message_, MedmailError) and in_turn >= (
                FAILURES if message_.code in _LOST else REFUSALS
            ):
                raise message_
        singly = []


def _single(place: _Place, uid: int) -> "Literal | MedmailError | None":
    """One message, asked for alone; None where it is gone, and why where it does not come."""
    try:
        # to its end: what is left of an answer would be taken for that to the next question
        came = list(place.fetch([uid]))
        if came:
            return came[0][1]
        if not place.imap.named([uid]):
            return None
    except MedmailError as error:
        if error.code not in _LOST:
            raise
        place.again()
        return error
    return MedmailError("message-withheld", host=place.imap.name)


def _stored(
    messages: "Iterator[tuple[int, Literal | MedmailError]]",
    folder: str,
    uidvalidity: int,
    total: int,
    source: Source,
    stores: Stores,
    got: Tally,
) -> Iterator[Event]:
    from concurrent.futures import ThreadPoolExecutor

    from medmail_cli.store.mail.incoming import Incoming
    from medmail_cli.transport.imapwire import TooLarge

    account = source.account.name
    waiting: deque[Future[Sequence[tuple[Stored, bool]]]] = deque()
    batch: list[tuple[int, bytes | Incoming]] = []
    size = done = 0

    def collect(most: int) -> Iterator[Event]:
        nonlocal done
        while len(waiting) > most or (waiting and waiting[0].done()):
            stored = waiting.popleft().result()
            done += len(stored)
            for one, new in stored:
                if new:
                    got.new.append(one.id)
                else:
                    got.known += 1
                yield _event(one, new)
            yield Progress(done, total, "messages")

    # one writer: batches become durable in the order they were read
    with ThreadPoolExecutor(1, "store") as writer:

        def submit() -> None:
            nonlocal size
            if batch:
                waiting.append(
                    writer.submit(_keep, account, folder, uidvalidity, tuple(batch), source, stores)
                )
                batch.clear()
                size = 0

        yield Progress(0, total, "messages")
        try:
            for uid, message in messages:
                if isinstance(message, MedmailError):
                    got.failed += 1
                    yield _failed(account, folder, uid, message)
                    continue
                if isinstance(message, TooLarge):
                    got.too_large += 1
                    yield FetchedMessage(
                        None, account, folder, uid, "too-large", message.size, exit=exit_of("too-large")
                    )
                    continue
                assert isinstance(message, bytes | Incoming)  # noqa: S101 - our own room
                batch.append((uid, message))
                size += len(message) if isinstance(message, bytes) else message.size
                if size >= BATCH_BYTES or len(batch) >= BATCH_MESSAGES:
                    submit()
                    yield from collect(_AHEAD)
        except MedmailError:
            # the connection is gone; what has come is kept
            submit()
            yield from collect(0)
            raise
        submit()
        yield from collect(0)


def _keep(
    account: str,
    folder: str,
    uidvalidity: int,
    batch: "Sequence[tuple[int, bytes | Incoming]]",
    source: Source,
    stores: Stores,
) -> "Sequence[tuple[Stored, bool]]":
    """Store a batch between an intent and an outcome that names every message by its digest."""
    log = stores.log
    intent = log.intent(
        "receive", actor=source.account.address, account=account, folder=folder, count=len(batch)
    )
    try:
        stored = stores.mailbox.store(account, folder, uidvalidity, batch, stores.now())
    except MedmailError as error:
        log.outcome(intent, "failed", exit=exit_of(error.code), error=error.code)
        raise
    log.outcomes([Outcome(intent, "done", OK, objects=tuple(one.id for one, new in stored if new))])
    return stored


def _failed(account: str, folder: str, uid: int, error: MedmailError) -> FetchedMessage:
    reason = {name: str(value) for name, value in error.facts.items()}
    return FetchedMessage(
        None, account, folder, uid, "failed", 0, exit=exit_of(error.code), error=error.code, reason=reason
    )


def _event(one: "Stored", new: bool) -> FetchedMessage:
    return FetchedMessage(
        one.id,
        one.account,
        one.folder,
        one.uid,
        "new" if new else "known",
        one.size,
        one.stored_at,
        one.from_,
        one.subject,
        one.date,
    )
