"""``fetch``: from the server's folders into the mailbox, each message once, nothing marked or deleted there.

The network is read while the group before is made durable. Whatever ends a run, what is stored stays, and
the next run goes on from there: a folder counts as done up to a position only once every message
before it is stored or gone.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from medmail_cli.audit.entry import Outcome
from medmail_cli.codes import OK, PARTIAL
from medmail_cli.errors import MedmailError, combine, exit_of
from medmail_cli.transport.mailserver import LOST
from medmail_cli.workflows.mail.fetched import (
    Event,
    FetchedAccount,
    FetchedFolder,
    FetchedMessage,
    Source,
    Stores,
    Tally,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from medmail_cli.audit.entry import Ending, Fact
    from medmail_cli.transport.mailserver import MailServer

ONE_FOLDERS = {"malformed", "not-found", "server-refused"}
"""What ends the fetching of one folder and not that of the others."""
CONNECTIONS = 3
"""Connections that end in turn, each over another folder, before it is the server that has failed."""


def fetch(source: Source, stores: Stores) -> Iterator[Event]:
    """Fetch what is new in an account.

    Raises what the connection and the stores raise, ``no-imap-server`` where the account has none, and
    ``store-busy`` where another process fetches it.
    """
    yield from recorded(source, stores, source.connect, Tally())


def recorded(
    source: Source, stores: Stores, connect: "Callable[[], AbstractContextManager[MailServer]]", got: "Tally"
) -> Iterator[Event]:
    """Fetch what is new over a connection, between an intent and an outcome in the log; ``got`` counts it."""
    with stores.mailbox.fetching(source.account.name):
        intent = _begin(source, stores)
        try:
            with connect() as server:
                yield from _folders(server, source, stores, got)
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


def _begin(source: Source, stores: Stores) -> int:
    account = source.account
    host = f"{server.host}:{server.port}" if (server := account.mailbox_server) else ""
    return stores.log.intent("fetch", actor=account.address, account=account.name, server=host)


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


def _folders(server: "MailServer", source: Source, stores: Stores, got: Tally) -> Iterator[Event]:
    from medmail_cli.workflows.mail.fetch_folder import of_folder

    names = list(dict.fromkeys(source.folders or server.folders()))
    lost = 0
    for name in names:
        before = len(got.new), got.known
        error: MedmailError | None = None
        exits: list[int] = []
        try:
            for event in of_folder(server, name, source, stores, got):
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
            ends_run=len(names) == 1,
        )
        if error is not None:
            lost = lost + 1 if error.code in LOST else 0
            if len(names) == 1 or error.code not in ONE_FOLDERS | LOST or lost == CONNECTIONS:
                raise error
            if lost:
                # what may still be on its way belongs to no question of ours
                server.again()
        else:
            lost = 0
