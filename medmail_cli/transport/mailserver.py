"""A mailbox server as whoever fetches sees it, whatever protocol it speaks.

What a protocol says of messages and of how far one has got is text here, kept and handed back, and read by
nobody but the adapter that gave it. A message bears a *server id* in its folder, which is good within the
folder's *generation*; a *position* is where in a folder one stands. Server ids are of ASCII letters, digits,
``-`` and ``_``, 43 at most, and of two the shorter, or else the one that sorts first, is the older where the
protocol numbers messages; a generation is of 20 lower-case letters and digits at most.

Nothing here marks or deletes a message on the server.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from medmail_cli.errors import MedmailError

if TYPE_CHECKING:
    from types import TracebackType

    from medmail_cli.transport.sasl import Credentials

INBOX = "INBOX"
"""The folder that every server has."""
LOST = frozenset({"server-answer-malformed", "server-busy", "server-unreachable"})
"""The codes after which a connection is of no more use."""


@dataclass(frozen=True)
class TooLarge:
    """Stands for what was read past: its size in octets."""

    size: int


class Sink(Protocol):
    """Where something large goes while it comes."""

    @property
    def size(self) -> int:
        """The octets written to it."""

    def write(self, data: bytes) -> None:
        """Take the next octets."""

    def discard(self) -> None:
        """Nobody wants it, or its rest will not come."""


Received = bytes | TooLarge | Sink
"""A message as it came."""


@dataclass(frozen=True)
class OpenFolder:
    """What a server says of a folder that it has opened; equal to what it said before while nothing changes.

    ``end`` is the position behind all messages, empty where the server does not tell; ``messages`` is how
    many there are, None likewise.
    """

    generation: str
    end: str
    messages: int | None


@dataclass(frozen=True)
class News:
    """What there is in the open folder since a position, oldest first.

    ``position`` is the folder's once all of these are dealt with. ``restored``: the server's mailbox is an
    older one, and what was known by its server ids is to be forgotten; then nothing is told yet.
    """

    server_ids: tuple[str, ...]
    position: str
    restored: bool = False


def _nobody() -> Mapping[str, frozenset[str]]:
    return {}


class ClosedAtTheEnd:
    """What is closed at the end of a block, politely if nothing has gone wrong in it."""

    def close(self, *, politely: bool = True) -> None:
        """End the connection."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _at: "TracebackType | None"
    ) -> None:
        self.close(politely=kind is None)


class MailServer(Protocol):
    """A mailbox server that we are connected to.

    Every method raises what ends a connection (``LOST``), and ``server-refused`` for what a server will not
    do. ``name`` is host and port, ``capabilities`` what it says it can do.
    """

    name: str
    capabilities: frozenset[str]

    def __enter__(self) -> Self:
        """Itself, closed at the end."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: "TracebackType | None",
        /,
    ) -> None:
        """Close, politely if nothing has gone wrong."""

    def close(self, *, politely: bool = True) -> None:
        """End the connection."""

    def mechanisms(self) -> tuple[str, ...]:
        """The ways to log in that the server offers."""

    def login(self, credentials: "Credentials") -> str:
        """Log in; by which way. Raises ``login-refused``, ``login-expired``, ``no-login-mechanism`` …"""

    def again(self) -> None:
        """Connect and log in anew; no folder is open then."""

    def reopen(self) -> None:
        """Likewise, and open the folder that was open, which must be of the same generation."""

    def folders(self) -> list[str]:
        """The names of all folders that hold messages, the inbox first."""

    def open(self, folder: str) -> OpenFolder:
        """Open a folder for reading only. Raises ``not-found``, ``server-refused``."""

    def news(self, since: str, witnesses: Callable[[], Mapping[str, frozenset[str]]] = _nobody) -> News:
        """What has come to the open folder since a position; all of it since an empty or unknown one.

        ``witnesses`` gives server ids of messages already stored with the Message-IDs known under each: a
        server that calls one of them otherwise has been restored.
        """

    def fetch(
        self, server_ids: Sequence[str], room: Callable[[], Sink] | None = None
    ) -> Iterator[tuple[str, Received | MedmailError]]:
        """Messages of the open folder as the server sends them, with the server id; some may be left out.

        A large one goes into what ``room`` gives, or is too large where there is none. Where messages are
        refused the refusal stands for each that did not come.
        """

    def named(self, server_ids: Sequence[str]) -> list[str]:
        """Those that the server still names in the open folder: what it does not name is gone."""

    def idling(self, every: float) -> AbstractContextManager[Callable[[float], bool]]:
        """Wait for the open folder to change: what waits so many seconds at most, and says whether it has.

        Asked ``every`` so many seconds where the server does not tell by itself.
        """

    def append(self, folder: str, message: bytes, flags: Iterable[str] = ("\\Seen",)) -> None:
        """Add a message to a folder, which is made if need be."""


def uid(generation: str, server_id: str) -> int:
    """The number that JSON knows a message by; 0 where its protocol does not number messages."""
    numbered = generation.isdecimal() and server_id.isdecimal()
    return int(server_id) if numbered else 0
