"""``medmail outbox`` for people."""

from typing import TYPE_CHECKING

from medmail_cli.ui import sanitize
from medmail_cli.ui.i18n import _
from medmail_cli.ui.messages import N_
from medmail_cli.ui.render import Column
from medmail_cli.ui.views.send import recipient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.mail.outbox import Dropped, Waiting

__all__ = ["TABLES", "dropped", "empty", "recipient"]


def _last_words(event: "Waiting") -> str:
    said = [fate.reply for fate in event.recipients if fate.status == "queued" and fate.reply]
    twice = any(fate.possible_duplicate for fate in event.recipients)
    return "; ".join(dict.fromkeys([*said, *([_("possibly twice")] if twice else [])]))


TABLES = {
    "submission": (
        Column("ID", lambda event: event.id[:12]),
        Column(N_("Queued"), lambda event: event.queued_at),
        Column(N_("From"), lambda event: event.sender),
        Column(N_("Waiting"), lambda event: event.pending),
        Column(N_("Attempts"), lambda event: event.attempts),
        Column(N_("Last answer"), _last_words),
        Column(N_("Protection"), lambda event: event.protection),
    )
}


def empty(_command: str) -> str:
    return _("Nothing waits to be sent.")


def dropped(event: "Dropped", _console: "Console") -> "Iterable[Line]":
    yield sanitize.line(_("given up: {id}").format(id=event.id[:12]))
