"""``fetch --watch``: stay with an account, fetch whenever something comes, send what is due meanwhile.

What passes by itself ends nothing: it is told, and tried again. A round over the folders is recorded in the
log, so there is one only where a folder has changed, and now and then in any case.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmail_cli.codes import TRY_LATER
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.model import Note
from medmail_cli.transport.mailserver import INBOX
from medmail_cli.workflows.mail.fetch import recorded
from medmail_cli.workflows.mail.fetched import Source, Stores, Tally

if TYPE_CHECKING:
    from medmail_cli.transport.mailserver import MailServer, OpenFolder
    from medmail_cli.workflows.mail.refusals import Refusals

_REFUSED = ("login-refused", "login-expired", "client-certificate-refused")
_PASSING = {
    "no-login-mechanism", "no-starttls", "not-found", "secret-command-failed", "secret-unreadable",
    "server-answer-malformed", "server-refused", "server-untrusted", "tls-failed", "wrong-security",
}  # fmt: skip
"""What may pass by itself once a first round has shown that the account is set up as it should be."""


@dataclass(frozen=True)
class Pace:
    """How long everything waits, in seconds."""

    errands: float = 15.0
    """What is due to be sent is looked for as often as this; it may come from another process."""
    poll: float = 60.0
    """Without IDLE the folder is asked after as often."""
    look: float = 90.0
    """All folders are looked at as often, and the server has to answer: IDLE says nothing of a dead line."""
    whole: float = 25 * 60.0
    """A round is made as often though nothing seems to have changed."""
    first_retry: float = 5.0
    last_retry: float = 60.0
    last_retry_refused: float = 300.0
    """A lost connection is made again, later each time, up to these; the longer where the server refuses."""
    under_way: float = 1.0
    """What is being sent is asked after as often."""
    between: float = 1.0
    last_between: float = 30.0
    """Rounds that bring nothing, though something has changed each time, are as far apart, more each time."""


def watch(
    source: Source,
    stores: Stores,
    *,
    flush: Callable[[], Iterator[object]],
    react: Callable[[Sequence[str]], Note | None],
    refusals: "Refusals",
    pace: Pace | None = None,
) -> Iterator[object]:
    """Fetch whenever something comes, until interrupted; the first folder is the one waited on.

    ``flush`` sends what is due: it yields None wherever it would have to wait, and is gone on with later;
    it leaves out the accounts that ``refusals`` holds. ``react`` is given the ids that are new. Raises what
    cannot pass by itself; before a first login, and a first round, that is whatever the server refuses.
    """
    account = source.account.name
    pace = pace or Pace()
    errands = _Errands(flush, pace)
    stay = _Stay(source, stores, react, pace, errands)
    delay = pace.first_retry
    try:
        while True:
            stay.rounds = 0
            try:
                with source.connect() as server:
                    refusals.clear("mailbox", account)
                    stay.known = True
                    yield from stay.on(server)
            except MedmailError as error:
                if not _passes(error.code, known=stay.known, settled=stay.settled):
                    raise
                if stay.rounds:
                    delay = pace.first_retry
                seconds = delay
                if error.code in _REFUSED:
                    refusals.add("mailbox", account)
                    if refusals.spent("mailbox", account):
                        raise
                    seconds = refusals.pause
                else:
                    most = pace.last_retry if error.code == "server-unreachable" else pace.last_retry_refused
                    delay = min(2 * delay, most)
                yield _interrupted(account, error, seconds)
                yield from errands.during(seconds)
    finally:
        errands.close()


def _passes(code: str, *, known: bool, settled: bool) -> bool:
    later = exit_of(code) == TRY_LATER
    return later or (known and code in _REFUSED) or (settled and code in _PASSING)


def _interrupted(account: str, error: MedmailError, seconds: float) -> Note:
    facts: dict[str, str | int] = {name: str(value) for name, value in error.facts.items()}
    return Note(
        "watch-interrupted", facts | {"account": account, "error": error.code, "seconds": int(seconds)}
    )


class _Errands:
    """What is to be sent while we wait: gone on with bit by bit, so that nothing that comes has to wait."""

    def __init__(self, flush: Callable[[], Iterator[object]], pace: Pace) -> None:
        self._flush, self._pace = flush, pace
        self._under_way: Iterator[object] | None = None
        self._next = 0.0

    @property
    def wait(self) -> float:
        """Seconds until it is worth going on."""
        if self._under_way is not None:
            return self._pace.under_way
        return max(0.0, self._next - time.monotonic())

    def go_on(self) -> Iterator[object]:
        """Do what can be done without waiting; what came of it."""
        if self._under_way is None:
            if time.monotonic() < self._next:
                return
            self._under_way = self._flush()
        for event in self._under_way:
            if event is None:
                return
            yield event
        self._under_way = None
        self._next = time.monotonic() + self._pace.errands

    def during(self, seconds: float) -> Iterator[object]:
        """Nothing else for so many seconds."""
        until = time.monotonic() + seconds
        while True:
            yield from self.go_on()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, max(self.wait, 0.01)))

    def close(self) -> None:
        """Give up what is under way, at once."""
        if self._under_way is not None and hasattr(self._under_way, "close"):
            self._under_way.close()


@dataclass
class _Stay:
    """What is done over one connection after the other.

    ``known`` once a login has, ``settled`` once a round has succeeded.
    """

    source: Source
    stores: Stores
    react: Callable[[Sequence[str]], Note | None]
    pace: Pace
    errands: _Errands
    known: bool = False
    settled: bool = False
    rounds: int = 0
    """Over the connection at hand."""

    def on(self, server: "MailServer") -> Iterator[object]:
        """Fetch and wait over a connection, until it is lost."""
        before: Mapping[str, OpenFolder | str] | None = None
        whole = time.monotonic()
        pause = 0.0
        while True:
            # looked at before the round: what comes while it lasts differs from this
            seen = self._look(server)
            if seen != before or time.monotonic() >= whole:
                yield from self.errands.during(pause) if pause else ()
                before = seen
                got = Tally()
                yield from self._round(server, got)
                whole = time.monotonic() + self.pace.whole
                pause = 0.0 if got.new else min(max(2 * pause, self.pace.between), self.pace.last_between)
                continue
            pause = 0.0
            with server.idling(self.pace.poll) as changed:
                until = time.monotonic() + self.pace.look
                while True:
                    yield from self.errands.go_on()
                    left = until - time.monotonic()
                    if left <= 0 or changed(min(left, self.errands.wait)):
                        break

    def _look(self, server: "MailServer") -> "Mapping[str, OpenFolder | str]":
        """What the server says of each folder; the first is the one that is open afterwards."""
        names = list(self.source.folders or server.folders() or [INBOX])
        seen: dict[str, OpenFolder | str] = {}
        for name in reversed(names):
            try:
                seen[name] = server.open(name)
            except MedmailError as error:
                if len(names) == 1 or error.code not in ("not-found", "server-refused"):
                    raise
                seen[name] = error.code
        return seen

    def _round(self, server: "MailServer", got: Tally) -> Iterator[object]:
        try:
            yield from recorded(self.source, self.stores, lambda: nullcontext(server), got)
        finally:
            noted = self.react(got.new) if got.new else None
        if noted is not None:
            yield noted
        self.settled = True
        self.rounds += 1
