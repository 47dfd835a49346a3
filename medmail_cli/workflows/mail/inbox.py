"""``inbox``: what the mailbox holds, by what may be seen of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.store.mail.mailbox import Mailbox
    from medmail_cli.store.mail.outer_index import Stored


@dataclass(frozen=True)
class Inside:
    """What was read inside when the letter was opened; ``trusted`` is the verdict of that time."""

    from_: str | None
    subject: str | None
    trusted: bool


@dataclass(frozen=True)
class Entry:
    """A message by its outer header; ``inside`` is None while it is unopened or the keystore is locked."""

    type: ClassVar[str] = "message"
    id: str
    account: str
    folder: str
    from_: str
    to: str
    subject: str
    date: datetime | None
    message_id: str
    size: int
    stored_at: datetime
    opened: bool
    inside: Inside | None = None


@dataclass(frozen=True)
class Rebuilt:
    """The index was made anew and holds ``messages`` messages."""

    type: ClassVar[str] = "rebuilt"
    messages: int
    exit: int = 0


@dataclass(frozen=True)
class Wanted:
    """What is looked for; see :meth:`medmail_cli.store.mail.mailbox.Mailbox.list`."""

    query: str = ""
    account: str | None = None
    folder: str | None = None
    sender: str = ""
    since: datetime | None = None
    unopened: bool = False


@dataclass(frozen=True)
class Sealed:
    """The key of the sealed index, and where it is written down who read in it."""

    subkey: bytes = field(repr=False)
    run: "RunContext"


MOST_NAMED = 1000
"""Letters that an entry of the audit log names; it counts the rest."""


def inbox(mailbox: "Mailbox", wanted: Wanted, sealed: Sealed | None) -> Iterator[Entry]:
    """The messages wanted, newest first, searched inside too where there is the key of the sealed index.

    Then the audit log says before that somebody looks, and after it which letters' insides were found; what
    was searched for, perhaps a name, is not written down.
    """
    if sealed is None:
        yield from _listed(mailbox, wanted, None)
        return
    from medmail_cli.workflows.audited import logged  # only where the sealed index is read

    searched = any((wanted.query, wanted.sender))
    with logged(sealed.run, "inbox", searched=searched) as ended:
        entries = list(_listed(mailbox, wanted, sealed.subkey))
        inside = tuple(entry.id for entry in entries if entry.inside is not None)
        ended.objects, ended.facts["count"] = inside[:MOST_NAMED], len(inside)
    yield from entries


def _listed(mailbox: "Mailbox", wanted: Wanted, subkey: bytes | None) -> Iterator[Entry]:
    letters = mailbox.list(
        wanted.query,
        account=wanted.account,
        folder=wanted.folder,
        sender=wanted.sender,
        since=wanted.since,
        unopened=wanted.unopened,
        subkey=subkey,
    )
    if not letters:
        return
    opened = mailbox.opened()
    learned = dict(mailbox.learned(subkey, [letter.id for letter in letters])) if subkey is not None else {}
    for letter in reversed(letters):
        yield _entry(letter, letter.id in opened, learned.get(letter.id))


def rebuild(mailbox: "Mailbox") -> Iterator[Rebuilt]:
    """Make the index anew from the Maildirs."""
    yield Rebuilt(mailbox.rebuild())


def _entry(letter: "Stored", opened: bool, learned: dict[str, Any] | None) -> Entry:
    inside = None
    if learned is not None:
        inside = Inside(learned.get("from"), learned.get("subject"), bool(learned.get("trusted")))
    return Entry(
        letter.id,
        letter.account,
        letter.folder,
        letter.from_,
        letter.to,
        letter.subject,
        letter.date,
        letter.message_id,
        letter.size,
        letter.stored_at,
        opened,
        inside,
    )
