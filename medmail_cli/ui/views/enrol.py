"""``medmail enrol`` for people."""

from typing import TYPE_CHECKING

from medmail_cli.ui import sanitize
from medmail_cli.ui.i18n import _
from medmail_cli.ui.messages import FAULTS, N_
from medmail_cli.ui.render import Column
from medmail_cli.ui.views.keys import PURPOSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.batch.report import BatchRow
    from medmail_cli.workflows.batch.roster import Columns, Fault
    from medmail_cli.workflows.enrol.card import CardCertificate
    from medmail_cli.workflows.enrol.certified import Enrolment
    from medmail_cli.workflows.enrol.offered_roots import Anchor
    from medmail_cli.workflows.keys import KeystoreChange

STATUSES = {
    "enrolled": N_("enrolled"),
    "possible-duplicate": N_("enrolled, perhaps twice"),
    "renewed": N_("renewed"),
    "revoked": N_("revoked"),
    "failed": N_("failed"),
    "imported": N_("imported"),
    "waiting": N_("waiting for its certificate"),
    "unchanged": N_("unchanged"),
    "valid": N_("valid"),
    "expires-soon": N_("ends soon"),
    "expired": N_("has ended"),
}

_ROWS = {
    "ready": ("green", N_("would be enrolled")),
    "enrolled": ("green", N_("enrolled")),
    "unchanged": ("dim", N_("unchanged")),
    "possible-duplicate": ("yellow", N_("enrolled, perhaps twice")),
    "waiting": ("yellow", N_("the authority has not decided yet")),
    "failed": ("red", N_("failed")),
    "not-attempted": ("red", N_("not attempted")),
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


def enrolment(event: "Enrolment | BatchRow", console: "Console") -> "Iterable[Line]":
    from medmail_cli.workflows.batch.report import BatchRow

    if isinstance(event, BatchRow):
        yield from _row(event)
        return
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


def _row(event: "BatchRow") -> "Iterable[Line]":
    """A row of a batch: what became of it, whose it is, until when or why not."""
    style, word = _ROWS[event.status]
    line: list[str | tuple[str, str]] = [(style, _(word)), f"\t{sanitize.line(event.address)}"]
    if event.code:
        line.append("\t" + sanitize.line(f"{event.code} {event.detail or ''}".strip()))
    elif event.not_after:
        line.append(f"\t{event.not_after.astimezone():%Y-%m-%d}\t{event.saved_as}")
    yield line


def closing(command: str, counts: "Mapping[str, int]") -> "Iterable[Line]":
    """How many rows of a batch came to what."""
    if command in ("enrol batch", "enrol merge"):
        words = {name: word for name, (_style, word) in _ROWS.items()} | {"fault": N_("faulty")}
        counted = [f"{counts[name]} {_(word)}" for name, word in words.items() if counts.get(name)]
        if counted:
            yield " · ".join(counted)


def fault(event: "Fault", _console: "Console") -> "Iterable[Line]":
    where = f"{event.line}:{event.column}" if event.column else str(event.line)
    said = _(FAULTS[event.reason]) + (f" ({event.detail})" if event.detail else "")
    yield f"{sanitize.line(where)}\t{sanitize.line(said)}"


def columns(event: "Columns", _console: "Console") -> "Iterable[Line]":
    """How a roster's header is understood: promised names, and from which columns; then what is only kept."""
    for name, headings in event.read.items():
        yield f"{name}\t{sanitize.line(', '.join(headings))}"
    if event.kept:
        yield _("only kept") + "\t" + sanitize.line(", ".join(event.kept))


_LEFT_OUT = {
    "certificate-without-key": N_("the card has no key to it that works"),
    "malformed": N_("it cannot be read"),
    "needs-address": N_("it bears no address"),
    "other-address": N_("bears another address"),
    "other-preferred": N_("another signs for the same address"),
    "wrong-key-usage": N_("it is neither for signing nor for encryption"),
}
"""Why a certificate of a card is not used."""


def card_certificate(event: "CardCertificate", console: "Console") -> "Iterable[Line]":
    until = f"{event.not_after.astimezone():%Y-%m-%d}"
    what = _(PURPOSES[event.purpose]) if event.purpose else _(_LEFT_OUT[event.code or ""])
    console.say(sanitize.line(f"{event.card}: {event.subject} ({what}, {until})"))
    return ()


def keystore(event: "KeystoreChange", console: "Console") -> "Iterable[Line]":
    from medmail_cli.ui.views import keys

    yield from keys.keystore(event, console)


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
