"""``medmail contacts`` for people."""

from typing import TYPE_CHECKING

from medmail_cli.ui.i18n import _
from medmail_cli.ui.messages import N_
from medmail_cli.ui.render import Column
from medmail_cli.ui.views.send import recipient, retried

if TYPE_CHECKING:
    from medmail_cli.workflows.trust.contacts import ContactItem

__all__ = ["TABLES", "empty", "recipient", "retried"]

STATUSES = {
    "kept": "",
    "added": N_("added"),
    "changed": N_("changed"),
    "unchanged": N_("unchanged"),
    "accepted": N_("accepted"),
    "removed": N_("removed"),
}
ORIGINS = {"added": N_("added"), "learned": N_("learned"), "pinned": N_("pinned")}


def _can_read(event: "ContactItem") -> str:
    if event.encrypts:
        return _("yes")
    problems = [code for certificate in event.certificates for code in certificate.problems]
    return ", ".join(dict.fromkeys(problems)) or _("no certificate")


def _until(event: "ContactItem") -> object:
    return max((certificate.not_after for certificate in event.certificates), default=None)


def _origins(event: "ContactItem") -> str:
    return ", ".join(dict.fromkeys(_(ORIGINS[certificate.origin]) for certificate in event.certificates))


def _state(event: "ContactItem") -> str:
    states = [_(STATUSES[event.status])]
    if event.waiting:
        states.append(_("{count} waiting").format(count=len(event.waiting)))
    return ", ".join(state for state in states if state)


TABLES = {
    "contact": (
        Column(N_("Address"), lambda event: event.address),
        Column(N_("Can be encrypted to"), _can_read),
        Column(N_("Reads"), lambda event: event.reads),
        Column(N_("Until"), _until),
        Column(N_("Origin"), _origins),
        Column(N_("Status"), _state),
    )
}


def empty(_command: str) -> str:
    """What to say where there is nobody."""
    return _("No contact yet; letters you open from people you trust make them, and `medmail contacts add`.")
