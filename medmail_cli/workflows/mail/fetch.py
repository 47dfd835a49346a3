"""``fetch``: from the server's folders into the mailbox, each message once, nothing marked or deleted there.

The network is read while the group before is made durable. Whatever ends a run, what is stored stays, and
the next run goes on from there: a folder counts as done up to a UID only once every message below it is
stored or gone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.audit.entry import Outcome
from medmail_cli.codes import OK, PARTIAL
from medmail_cli.errors import MedmailError, combine, exit_of
from medmail_cli.model import Note, Progress

if TYPE_CHECKING:
    import ssl
    from contextlib import AbstractContextManager

    from medmail_cli.audit.entry import Ending, Fact
    from medmail_cli.config import Account
    from medmail_cli.store.log.writer import AuditLog
    from medmail_cli.store.mail.mailbox import Mailbox
    from medmail_cli.transport.imap import Imap
    from medmail_cli.transport.sasl import Credentials

ONE_FOLDERS = {"malformed", "not-found", "server-refused"}
"""What ends the fetching of one folder and not that of the others."""
CONNECTIONS = {"server-answer-malformed", "server-busy", "server-unreachable"}
"""What ends a connection. The next folder is fetched over another one,"""
LOST = 3
"""unless as many in turn have ended so: then it is the server that has failed."""


@dataclass(frozen=True)
class FetchedMessage:
    """A message that has come; ``known`` if the folder held its bytes already, by the outer header.

    ``failed`` if the server names it and does not give it: ``error`` says how, ``reason`` with what facts.
    """

    type: ClassVar[str] = "message"
    id: str | None
    account: str
    folder: str
    uid: int
    status: Literal["new", "known", "too-large", "failed"]
    size: int
    stored_at: datetime | None = None
    from_: str = ""
    subject: str = ""
    date: datetime | None = None
    exit: int = OK
    error: str | None = None
    reason: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FetchedAccount:
    """How one of several accounts ended."""

    type: ClassVar[str] = "account"
    account: str
    status: Literal["done", "failed"]
    exit: int
    error: str | None = None
    reason: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FetchedFolder:
    """How one folder ended; ``incomplete`` where messages that the server names did not come."""

    type: ClassVar[str] = "folder"
    account: str
    name: str
    status: Literal["done", "incomplete", "failed"]
    exit: int
    new: int
    known: int
    error: str | None = None
    reason: dict[str, str] = field(default_factory=dict)
    told: bool = field(default=False, metadata={"json": False})
    """The error is the whole run's and told as such."""


Event = FetchedMessage | FetchedFolder | FetchedAccount | Progress | Note


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
    failed: int = 0


def _begin(source: Source, stores: Stores) -> int:
    account = source.account
    server = f"{account.imap.host}:{account.imap.port}" if account.imap else ""
    return stores.log.intent("fetch", actor=account.address, account=account.name, server=server)


def _end(stores: Stores, intent: int, got: Tally, error: MedmailError | None) -> None:
    facts: dict[str, Fact] = {"new": len(got.new), "known": got.known, "too-large": got.too_large}
    if got.failed:
        facts["failed"] = got.failed
    ending: Ending = "done"
    code = OK
    if error is None and got.failed:
        ending, code = "partial", PARTIAL
    if error is not None:
        ending, code = "partial" if got.new else "failed", exit_of(error.code)
        facts["error"] = error.code
    stores.log.outcomes([Outcome(intent, ending, code, facts=facts)])


def _folders(imap: "Imap", source: Source, stores: Stores, got: Tally) -> Iterator[Event]:
    from medmail_cli.workflows.mail.fetch_folder import of_folder

    names = list(dict.fromkeys(source.folders or imap.folders()))
    lost = 0
    for name in names:
        before = len(got.new), got.known
        error: MedmailError | None = None
        exits: list[int] = []
        try:
            for event in of_folder(imap, name, source, stores, got):
                if isinstance(event, FetchedMessage):
                    exits.append(event.exit)
                yield event
        except MedmailError as raised:
            error = raised
        code = combine(exits) if error is None else exit_of(error.code)
        yield FetchedFolder(
            source.account.name,
            name,
            "failed" if error is not None else "incomplete" if code else "done",
            code,
            len(got.new) - before[0],
            got.known - before[1],
            None if error is None else error.code,
            {} if error is None else {fact: str(value) for fact, value in error.facts.items()},
            told=len(names) == 1,
        )
        if error is not None:
            lost = lost + 1 if error.code in CONNECTIONS else 0
            if len(names) == 1 or error.code not in ONE_FOLDERS | CONNECTIONS or lost == LOST:
                raise error
            if lost:
                # what may still be on its way belongs to no question of ours
                imap.again()
        else:
            lost = 0
