"""``fetch``: from the server's folders into the mailbox, each message once, nothing marked or deleted there.

The network is read while the group before is made durable. Whatever ends a run, what is stored stays, and
the next run goes on from there: a folder counts as done up to a UID only once every message below it is
stored or gone.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.audit.entry import Outcome
from medmail_cli.errors import OK, MedmailError, exit_of
from medmail_cli.model import Note, Progress

if TYPE_CHECKING:
    import ssl
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from medmail_cli.audit.entry import Ending, Fact
    from medmail_cli.config import Account
    from medmail_cli.store.auditlog import AuditLog
    from medmail_cli.store.index import Stored
    from medmail_cli.store.mailbox import Mailbox
    from medmail_cli.transport.imap import Imap
    from medmail_cli.transport.sasl import Credentials

BATCH_BYTES = 8 * 1024 * 1024
BATCH_MESSAGES = 400
"""A batch is made durable together once it has come to either."""
_AHEAD = 2
"""Batches that may wait to be stored while more are read."""


@dataclass(frozen=True)
class FetchedMessage:
    """A message that has come; ``known`` if the folder held its bytes already, by the outer header."""

    type: ClassVar[str] = "message"
    id: str | None
    account: str
    folder: str
    uid: int
    status: Literal["new", "known", "too-large"]
    size: int
    stored_at: datetime | None = None
    from_: str = ""
    subject: str = ""
    date: datetime | None = None
    exit: int = OK


@dataclass(frozen=True)
class FetchedAccount:
    """How one of several accounts ended."""

    type: ClassVar[str] = "account"
    account: str
    status: Literal["done", "failed"]
    exit: int
    error: str | None = None
    reason: dict[str, str] = field(default_factory=dict)


Event = FetchedMessage | FetchedAccount | Progress | Note


@dataclass(frozen=True)
class Source:
    """An account as a run reads it: how to log in, and which folders (None: all of them).

    ``patience`` is how many seconds the server may take for an answer.
    """

    account: "Account"
    context: "Callable[[], ssl.SSLContext]"
    credentials: "Callable[[], Credentials]"
    folders: tuple[str, ...] | None = ("INBOX",)
    patience: float = 60.0


@dataclass(frozen=True)
class Stores:
    """Where messages and the trace of them go."""

    mailbox: "Mailbox"
    log: "AuditLog"
    now: Callable[[], datetime]


def fetch(source: Source, stores: Stores) -> Iterator[Event]:
    """Fetch what is new in an account.

    Raises what the connection and the stores raise, ``no-account`` where the account has no IMAP server and
    ``store-busy`` where another process fetches it.
    """
    yield from recorded(source, stores, lambda: connected(source), Tally())


def recorded(
    source: Source, stores: Stores, connect: "Callable[[], AbstractContextManager[Imap]]", got: "Tally"
) -> Iterator[Event]:
    """Fetch what is new over a connection, between an intent and an outcome in the log; ``got`` counts it."""
    with stores.mailbox.fetching(source.account.name):
        intent = _begin(source, stores)
        try:
            with connect() as imap:
                yield from _folders(imap, source, stores, got)
        except MedmailError as error:
            _end(stores, intent, got, error)
            raise
        _end(stores, intent, got, None)


def fetch_all(sources: Sequence[Source], stores: Stores) -> Iterator[Event]:
    """Fetch several accounts; one that fails does not keep the others from being fetched."""
    for source in sources:
        try:
            yield from fetch(source, stores)
        except MedmailError as error:
            reason = {name: str(value) for name, value in error.facts.items()}
            yield FetchedAccount(source.account.name, "failed", exit_of(error.code), error.code, reason)
        else:
            yield FetchedAccount(source.account.name, "done", OK)


def connected(source: Source) -> "Imap":
    """A connection to the account's IMAP server, logged in."""
    from medmail_cli.transport.imap import Imap

    account = source.account
    if account.imap is None:
        raise MedmailError("no-imap-server", account=account.name)
    # a password is asked for before a server waits for it
    credentials = source.credentials()
    imap = Imap(account.imap, source.context(), via=account.proxy, timeout=source.patience)
    try:
        imap.login(credentials)
    except BaseException:
        imap.close(politely=False)
        raise
    return imap


def append_sent(source: Source, messages: Sequence[bytes]) -> None:
    """Put copies of what was sent into the server's folder for them, where the account names one."""
    folder = source.account.sent_folder
    if folder is None or not messages:
        return
    with connected(source) as imap:
        for message in messages:
            imap.append(folder, message)


@dataclass
class Tally:
    """What a run has brought so far: ids that are new, and how many were not."""

    new: list[str] = field(default_factory=list)
    known: int = 0
    too_large: int = 0


def _begin(source: Source, stores: Stores) -> int:
    account = source.account
    server = f"{account.imap.host}:{account.imap.port}" if account.imap else ""
    return stores.log.intent("fetch", actor=account.address, account=account.name, server=server)


def _end(stores: Stores, intent: int, got: Tally, error: MedmailError | None) -> None:
    facts: dict[str, Fact] = {"new": len(got.new), "known": got.known, "too-large": got.too_large}
    ending: Ending = "done"
    code = OK
    if error is not None:
        ending, code = "partial" if got.new else "failed", exit_of(error.code)
        facts["error"] = error.code
    stores.log.outcomes([Outcome(intent, ending, code, facts=facts)])


def _folders(imap: "Imap", source: Source, stores: Stores, got: Tally) -> Iterator[Event]:
    for folder in source.folders or imap.folders():
        yield from _folder(imap, folder, source, stores, got)


def _folder(imap: "Imap", folder: str, source: Source, stores: Stores, got: Tally) -> Iterator[Event]:
    mailbox, account = stores.mailbox, source.account.name
    state = mailbox.progress(account, folder)
    seen = imap.examine(folder)
    first = state.uidnext if state.uidvalidity == seen.uidvalidity else 1
    if seen.uidnext and seen.uidnext <= first and state.uidvalidity == seen.uidvalidity:
        return
    uids = imap.search(first) if seen.exists else []
    stored = mailbox.stored_uids(account, folder, seen.uidvalidity, first)
    wanted = [uid for uid in uids if uid not in stored]
    if wanted:
        yield from _messages(imap, folder, seen.uidvalidity, wanted, source, stores, got)
    # what is below the UIDNEXT told before the search is found or gone; what came since lies beyond both
    reached = max(first, seen.uidnext, *(uid + 1 for uid in uids))
    mailbox.advance(account, folder, seen.uidvalidity, reached)


def _messages(
    imap: "Imap",
    folder: str,
    uidvalidity: int,
    uids: list[int],
    source: Source,
    stores: Stores,
    got: Tally,
) -> Iterator[Event]:
    from concurrent.futures import ThreadPoolExecutor

    from medmail_cli.transport.imapwire import TooLarge

    account = source.account.name
    waiting: deque[Future[Sequence[tuple[Stored, bool]]]] = deque()
    batch: list[tuple[int, bytes]] = []
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
            yield Progress(done, len(uids), "messages")

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

        yield Progress(0, len(uids), "messages")
        try:
            for uid, message in imap.fetch(uids):
                if isinstance(message, TooLarge):
                    got.too_large += 1
                    yield FetchedMessage(
                        None, account, folder, uid, "too-large", message.size, exit=exit_of("too-large")
                    )
                    continue
                batch.append((uid, message))
                size += len(message)
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
    batch: Sequence[tuple[int, bytes]],
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
