"""What ``fetch`` is about: where letters come from, where they go, and what is told of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Literal

from medmail_cli.codes import OK
from medmail_cli.model import Note, Progress
from medmail_cli.transport.mailserver import INBOX

if TYPE_CHECKING:
    from medmail_cli.config import Account
    from medmail_cli.store.log.writer import AuditLog
    from medmail_cli.store.mail.mailbox import Mailbox
    from medmail_cli.transport.mailserver import MailServer


@dataclass(frozen=True)
class FetchedMessage:
    """A message that has come; ``known`` if the folder held its bytes already, by the outer header.

    ``uid`` is the number that its server knows it by (RFC 3501 §2.3.1.1), 0 where it has none.
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
    server_id: str = field(default="", metadata={"json": False})
    """Of a message that is not here, what its server calls it."""


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
    ends_run: bool = field(default=False, metadata={"json": False})
    """The error is the whole run's, and shown as such."""


Event = FetchedMessage | FetchedFolder | FetchedAccount | Progress | Note


@dataclass(frozen=True)
class Source:
    """An account as a run reads it: what connects and logs in, and which folders (None: all of them)."""

    account: "Account"
    connect: "Callable[[], MailServer]"
    folders: tuple[str, ...] | None = (INBOX,)


@dataclass(frozen=True)
class Stores:
    """Where messages and the trace of them go."""

    mailbox: "Mailbox"
    log: "AuditLog"
    now: Callable[[], datetime]


@dataclass
class Tally:
    """What a run has brought so far: ids that are new, and how many were not."""

    new: list[str] = field(default_factory=list)
    known: int = 0
    too_large: int = 0
    failed: int = 0
