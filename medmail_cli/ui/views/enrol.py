"""``medmail enrol`` for people."""

from typing import TYPE_CHECKING

from medmail_cli.ui.render import Column
from medmail_cli.ui.sentences import N_
from medmail_cli.ui.words import _

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.anchors import Anchor
    from medmail_cli.workflows.identity import Enrolment

PURPOSES = {"sign": N_("signing"), "encrypt": N_("encryption"), "both": N_("signing and encryption")}
STATUSES = {
    "enrolled": N_("enrolled"),
    "renewed": N_("renewed"),
    "failed": N_("failed"),
    "imported": N_("imported"),
    "waiting": N_("waiting for its certificate"),
    "unchanged": N_("unchanged"),
    "valid": N_("valid"),
    "expires-soon": N_("ends soon"),
    "expired": N_("has ended"),
}

TABLES = {
    "expiry": (
        Column(N_("Address"), lambda event: event.address),
        Column("ID", lambda event: event.id[:12]),
        Column(N_("For"), lambda event: _(PURPOSES[event.purpose])),
        Column(N_("Until"), lambda event: event.not_after),
        Column(N_("Days"), lambda event: event.days_left),
        Column(N_("Status"), lambda event: _(STATUSES[event.status])),
    )
}


def enrolment(event: "Enrolment", console: "Console") -> "Iterable[Line]":
    if event.status == "waiting":
        if event.saved_as is None:
            yield (event.request or "").rstrip("\n")
        else:
            yield str(event.saved_as)
        console.say(
            _("Send the request to your authority, then run `medmail enrol import` with its certificate.")
        )
        return
    until = event.not_after.astimezone().strftime("%Y-%m-%d") if event.not_after else ""
    style = "red" if event.exit else "green"
    yield [
        (style, _(STATUSES[event.status])),
        f"\t{event.address}\t{event.id[:12]}\t{_(PURPOSES[event.purpose])}\t{event.code or until}",
    ]


def anchor(event: "Anchor", console: "Console") -> "Iterable[Line]":
    words = {
        "added": _("trust anchor added: {subject}"),
        "unchanged": _("trust anchor already there: {subject}"),
        "refused": _("not taken as trust anchor: {subject}"),
    }
    console.say(words[event.status].format(subject=event.subject))
    return ()


def empty(_command: str) -> str:
    """What to say where there is nothing to show."""
    return _("No identity yet; `medmail enrol` gets one.")
