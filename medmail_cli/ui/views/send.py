"""``medmail send`` for people: a line for each recipient."""

from typing import TYPE_CHECKING

from medmail_cli.ui import sanitize
from medmail_cli.ui.i18n import _
from medmail_cli.ui.messages import N_

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.mail.drafts import Fault
    from medmail_cli.workflows.mail.outcomes import RecipientOutcome, Retried

_STATUS = {
    "accepted": ("green", N_("accepted")),
    "queued": ("yellow", N_("queued")),
    "refused": ("red", N_("refused")),
    "unchanged": ("dim", N_("unchanged")),
    "not-sent": ("red", N_("not sent")),
    "ready": ("green", N_("would be sent")),
    "written": ("green", N_("written")),
}


def recipient(event: "RecipientOutcome | Retried", _console: "Console") -> "Iterable[Line]":
    if str(getattr(event, "saved_as", None)) == "-":
        return  # the message itself stands there
    style, word = _STATUS[event.status]
    line: list[str | tuple[str, str]] = [sanitize.line(event.address), "\t", (style, _(word))]
    if event.status != "not-sent":
        weak = event.protection == "transport-only"
        line += ["\t", ("yellow" if weak else "", event.protection)]
    if event.code:
        line.append(f"\t{event.code}")
    words = event.reply if event.status != "accepted" else None
    words = words or getattr(event, "detail", None)
    if words:
        line.append(f"\t{sanitize.line(words)}")
    if event.possible_duplicate:
        line.append(("yellow", "\t" + _("possibly twice")))
    yield line


def retried(event: "Retried", console: "Console") -> "Iterable[Line]":
    for line in recipient(event, console):
        yield [("dim", _("from the outbox:") + " "), *line]


def fault(event: "Fault", _console: "Console") -> "Iterable[Line]":
    where = f"{event.line}:{event.field}" if event.field else str(event.line)
    yield f"{sanitize.line(where)}\t{sanitize.line(event.reason)}"
