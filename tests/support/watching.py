"""``fetch --watch`` in a thread of this process, at a pace of its own, to be stopped at will."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from medmail_cli.errors import MedmailError
from medmail_cli.model import Note
from medmail_cli.session import Options, Session
from medmail_cli.wiring.accounts import source_of
from medmail_cli.workflows.mail.fetched import FetchedMessage, Stores
from medmail_cli.workflows.mail.refusals import Refusals
from medmail_cli.workflows.mail.watch import Pace, watch
from tests.support.servers import until

QUICK = Pace(
    errands=0.05, poll=0.1, look=0.2, whole=3600, first_retry=0.05, last_retry=0.1, last_retry_refused=0.1,
    under_way=0.05, between=0.01, last_between=0.05,
)  # fmt: skip
PATIENT = replace(QUICK, poll=3600, look=3600)
"""Only what the server announces by itself is noticed."""


class _Stop(BaseException):
    """The test is over."""


@dataclass
class Watched:
    """What a watch has said so far, and how it ended."""

    session: Session
    refusals: Refusals
    events: list[object] = field(default_factory=list)
    error: MedmailError | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    stopped: bool = False

    @property
    def uids(self) -> list[int]:
        """The UIDs of the messages that have come."""
        return [one.uid for one in self.events if isinstance(one, FetchedMessage)]

    @property
    def interrupted_by(self) -> list[str]:
        """The codes of what it has overcome."""
        return [
            str(one.facts["error"])
            for one in self.events
            if isinstance(one, Note) and one.code == "watch-interrupted"
        ]

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something holds; fails where the watch ends before."""
        until(lambda: holds() or self.ended.is_set(), what, 60)
        assert holds(), (what, self.error, self.events)

    def until_ended(self) -> MedmailError | None:
        """What it raised in the end."""
        assert self.ended.wait(60), self.events
        return self.error


Flush = Callable[[Session, Refusals], Iterator[object]]


def _nothing(_session: Session, _refusals: Refusals) -> Iterator[object]:
    return iter(())


def _silent(_ids: Sequence[str]) -> Note | None:
    return None


@contextmanager
def watching(
    home: Path,
    pace: Pace = QUICK,
    *,
    flush: Flush = _nothing,
    refusals: Refusals | None = None,
    folders: tuple[str, ...] | None = ("INBOX",),
    patience: float = 30.0,
) -> Iterator[Watched]:
    """Watch the first account of ``home`` until the block ends."""
    session = Session(Options(home=home, no_input=True))
    refusals = refusals or Refusals(pause=0.05)
    refusals.forget = lambda name: session.secrets.forget(
        "password", owner=session.config.accounts[name].address
    )
    watched = Watched(session, refusals)
    source = source_of(session, session.account(), folders, patience=patience)
    stores = Stores(session.mailbox, session.log, session.now)

    def errand() -> Iterator[object]:
        if watched.stopped:
            raise _Stop
        return flush(session, refusals)

    def run() -> None:
        try:
            for event in watch(source, stores, flush=errand, react=_silent, refusals=refusals, pace=pace):
                watched.events.append(event)
        except MedmailError as error:
            watched.error = error
        except _Stop:
            pass
        finally:
            watched.ended.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        watched.stopped = True
        thread.join(60)
        session.close()
        assert not thread.is_alive()
