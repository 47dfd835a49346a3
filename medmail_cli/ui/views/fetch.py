"""``medmail fetch`` for people."""

from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.ui import i18n, sanitize
from medmail_cli.ui.i18n import _

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.mail.fetched import FetchedAccount, FetchedFolder, FetchedMessage


def message(event: "FetchedMessage", console: "Console") -> "Iterable[Line]":
    if event.status == "too-large":
        console.err(
            _("message {uid} of {folder} is left on the server: {size} bytes are too many").format(
                uid=event.server_id, folder=sanitize.line(event.folder), size=event.size
            )
        )
    elif event.error is not None:
        error = MedmailError(event.error, **event.reason)
        console.err(
            _("message {uid} of {folder} did not come, and is asked for again by the next run: {why}").format(
                uid=event.server_id, folder=sanitize.line(event.folder), why=i18n.message(error)
            )
        )
    elif event.status == "new":
        date = event.date.astimezone().strftime("%Y-%m-%d %H:%M") if event.date else "-" * 16
        shown = [(event.id or "")[:12], date, sanitize.line(event.from_), sanitize.line(event.subject)]
        yield "\t".join(shown) if not console.interactive_out else "  ".join(shown)


def folder(event: "FetchedFolder", console: "Console") -> "Iterable[Line]":
    if event.error is not None and not event.ends_run:
        error = MedmailError(event.error, **event.reason)
        console.err([f"{sanitize.line(event.name)}: ", ("red", i18n.message(error))])
    return ()


def account(event: "FetchedAccount", console: "Console") -> "Iterable[Line]":
    if event.error is not None:
        error = MedmailError(event.error, **event.reason)
        console.err([f"{sanitize.line(event.account)}: ", ("red", i18n.message(error))])
        if hint := i18n.hint(error):
            console.err([("cyan", _("hint:")), " ", hint])
    return ()


def closing(_command: str, counts: "Counter[str]") -> "Iterable[Line]":
    """What a person reads where nothing has come."""
    if counts["folder"] and not counts["message"] and counts["folder"] == counts["done"] - counts["account"]:
        yield _("Nothing new.")
