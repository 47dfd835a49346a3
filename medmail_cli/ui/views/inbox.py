"""``medmail inbox`` for people."""

from typing import TYPE_CHECKING

from medmail_cli.ui.i18n import _
from medmail_cli.ui.messages import N_
from medmail_cli.ui.render import Column

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.mail.inbox import Entry, Rebuilt


def _sender(event: "Entry") -> str:
    return (event.inside and event.inside.from_) or event.from_


def _subject(event: "Entry") -> str:
    return (event.inside and event.inside.subject) or event.subject


def _state(event: "Entry") -> str:
    if not event.opened:
        return "N"
    return "" if event.inside is None or event.inside.trusted else "!"


TABLES = {
    "message": (
        Column(N_("Message"), lambda event: event.id[:12]),
        Column("", _state),
        Column(N_("Date"), lambda event: event.date or event.stored_at),
        Column(N_("From"), _sender),
        Column(N_("Subject"), _subject),
        Column(N_("Folder"), lambda event: event.folder),
    )
}


def rebuilt(event: "Rebuilt", console: "Console") -> "Iterable[Line]":
    console.say(_("The index is made anew; it holds {count} messages.").format(count=event.messages))
    return ()


def empty(_command: str) -> str:
    """What a person reads where nothing matches."""
    return _("No messages.")
