"""One folder of ``fetch``: what is to come is found out, asked for, and stored while more is read.

A folder is done up to a position only when each message before it is stored, or a second answer has said
that it is gone, or it is remembered as owed: named by the server and not given. What is owed is asked for by
every later run, last.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from medmail_cli.audit.entry import Outcome
from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.model import Progress
from medmail_cli.transport.mailserver import LOST, TooLarge, uid
from medmail_cli.workflows.mail.fetched import Event, FetchedMessage, Source, Stores, Tally

if TYPE_CHECKING:
    from concurrent.futures import Future

    from medmail_cli.store.mail.incoming import Incoming
    from medmail_cli.store.mail.outer_index import Stored
    from medmail_cli.transport.mailserver import MailServer, Received, Sink

BATCH_BYTES = 8 * 1024 * 1024
BATCH_MESSAGES = 400
"""A batch is made durable together once it has come to either."""
_AHEAD = 2
"""Batches that may wait to be stored while more are read."""
FAILURES, REFUSALS = 5, 50
"""Messages that fail singly in turn before it is the server that has failed; refusals cost less."""
GROUP = 200
"""As many of what did not come are asked for singly, then the others by the hundred again."""


def of_folder(
    server: "MailServer", folder: str, source: Source, stores: Stores, got: Tally
) -> Iterator[Event]:
    """Fetch what is new in a folder, and what is owed; ``got`` counts it. Raises what the server comes to."""
    mailbox, account = stores.mailbox, source.account.name
    progress = mailbox.progress(account, folder)
    position = progress.position
    generation = server.open(folder).generation
    news = server.news(position or "", lambda: progress.witnesses(generation))
    if news.restored:
        # other messages may bear the server ids of those we have
        progress.begin_again()
        yield from of_folder(server, folder, source, stores, got)
        return
    owed = progress.owed(generation)
    if not news.server_ids and not owed and news.position == position:
        return
    stored: set[str] = set()
    if news.server_ids and position is not None:
        stored = progress.stored(generation, news.server_ids)
    dealt_with = stored.union(owed)
    wanted = [server_id for server_id in news.server_ids if server_id not in dealt_with]
    failed = {*owed}
    try:
        if wanted or owed:
            messages = _asked(server, lambda: mailbox.incoming(account, folder), wanted, owed, failed)
            yield from _stored(messages, folder, generation, len(wanted) + len(owed), source, stores, got)
    finally:
        if failed != {*owed}:
            progress.owe(generation, failed)
    progress.advance(news.position)


def _asked(
    server: "MailServer",
    room: "Callable[[], Sink]",
    server_ids: Sequence[str],
    owed: Sequence[str],
    failed: set[str],
) -> "Iterator[tuple[str, Received | MedmailError]]":
    """The messages with ``server_ids``, then those ``owed``; of what a server does not give, why.

    They are asked for by the hundred, and singly what did not come so. ``failed`` is kept to those that the
    server still names and has not given. Raises what is wrong with the server, not with a message.
    """
    todo, in_turn = list(server_ids), 0
    singly = list(owed) if not todo else []
    while todo or singly:
        given: set[str] = set()
        if todo:
            try:
                for server_id, message in server.fetch(todo, room):
                    if not isinstance(message, MedmailError):
                        given.add(server_id)
                        yield server_id, message
                left = [server_id for server_id in todo if server_id not in given]
                singly, todo = server.named(left) if left else [], []
            except MedmailError as error:
                if error.code not in LOST:
                    raise
                left = [server_id for server_id in todo if server_id not in given]
                if not left and not owed:
                    return
                server.reopen()
                singly, todo = left[:GROUP], left[GROUP:]
            if not todo:
                singly += owed
        for server_id in singly:
            answer = _single(server, room, server_id)
            if answer is None:
                failed.discard(server_id)
                continue
            if not isinstance(answer, MedmailError):
                in_turn = 0
                failed.discard(server_id)
            else:
                in_turn += 1
                failed.add(server_id)
            yield server_id, answer
            if isinstance(answer, MedmailError) and in_turn >= (
                FAILURES if answer.code in LOST else REFUSALS
            ):
                raise answer
        singly = []


def _single(
    server: "MailServer", room: "Callable[[], Sink]", server_id: str
) -> "Received | MedmailError | None":
    """One message, asked for alone; None where it is gone, and why where it does not come."""
    try:
        # to its end: what is left of an answer would be taken for that to the next question
        answers = list(server.fetch([server_id], room))
        if answers:
            return answers[0][1]
        if not server.named([server_id]):
            return None
    except MedmailError as error:
        if error.code not in LOST:
            raise
        server.reopen()
        return error
    return MedmailError("message-withheld", host=server.name)


def _stored(
    messages: "Iterator[tuple[str, Received | MedmailError]]",
    folder: str,
    generation: str,
    total: int,
    source: Source,
    stores: Stores,
    got: Tally,
) -> Iterator[Event]:
    from concurrent.futures import ThreadPoolExecutor

    from medmail_cli.store.mail.incoming import Incoming

    account = source.account.name
    waiting: deque[Future[Sequence[tuple[Stored, bool]]]] = deque()
    batch: list[tuple[str, bytes | Incoming]] = []
    size = done = 0

    def collect(most: int) -> Iterator[Event]:
        nonlocal done
        while len(waiting) > most or (waiting and waiting[0].done()):
            stored = waiting.popleft().result()
            done += len(stored)
            for letter, new in stored:
                if new:
                    got.new.append(letter.id)
                else:
                    got.known += 1
                yield _event(letter, new)
            yield Progress(done, total, "messages")

    # one writer: batches become durable in the order they were read
    with ThreadPoolExecutor(1, "store") as writer:

        def submit() -> None:
            nonlocal size
            if batch:
                waiting.append(
                    writer.submit(_keep, account, folder, generation, tuple(batch), source, stores)
                )
                batch.clear()
                size = 0

        yield Progress(0, total, "messages")
        try:
            for server_id, message in messages:
                if isinstance(message, MedmailError):
                    got.failed += 1
                    yield _failed(account, folder, generation, server_id, message)
                    continue
                if isinstance(message, TooLarge):
                    got.too_large += 1
                    yield FetchedMessage(
                        None,
                        account,
                        folder,
                        uid(generation, server_id),
                        "too-large",
                        message.size,
                        exit=exit_of("too-large"),
                        server_id=server_id,
                    )
                    continue
                assert isinstance(message, bytes | Incoming)  # noqa: S101 - our own room
                batch.append((server_id, message))
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
    generation: str,
    batch: "Sequence[tuple[str, bytes | Incoming]]",
    source: Source,
    stores: Stores,
) -> "Sequence[tuple[Stored, bool]]":
    """Store a batch between an intent and an outcome that names every message by its digest."""
    log = stores.log
    intent = log.intent(
        "receive", actor=source.account.address, account=account, folder=folder, count=len(batch)
    )
    try:
        stored = stores.mailbox.store(account, folder, generation, batch, stores.now())
    except MedmailError as error:
        log.outcome(intent, "failed", exit=exit_of(error.code), error=error.code)
        raise
    log.outcomes([Outcome(intent, "done", OK, objects=tuple(letter.id for letter, new in stored if new))])
    return stored


def _failed(
    account: str, folder: str, generation: str, server_id: str, error: MedmailError
) -> FetchedMessage:
    reason = {name: str(value) for name, value in error.facts.items()}
    return FetchedMessage(
        None,
        account,
        folder,
        uid(generation, server_id),
        "failed",
        0,
        exit=exit_of(error.code),
        error=error.code,
        reason=reason,
        server_id=server_id,
    )


def _event(letter: "Stored", new: bool) -> FetchedMessage:
    return FetchedMessage(
        letter.id,
        letter.account,
        letter.folder,
        uid(letter.generation, letter.server_id),
        "new" if new else "known",
        letter.size,
        letter.stored_at,
        letter.from_,
        letter.subject,
        letter.date,
    )
