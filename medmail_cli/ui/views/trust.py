"""``medmail trust`` for people."""

from typing import TYPE_CHECKING

from medmail_cli.ui.i18n import _
from medmail_cli.ui.messages import N_
from medmail_cli.ui.render import Column

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.trust.revocation_fetch import Fetched

KINDS = {"anchor": N_("anchor"), "intermediate": N_("intermediate"), "crl": N_("CRL"), "ocsp": N_("OCSP")}
STATUSES = {
    "kept": "",
    "added": N_("added"),
    "unchanged": N_("unchanged"),
    "removed": N_("removed"),
    "updated": N_("updated"),
    "failed": N_("failed"),
}


TABLES = {
    "trust": (
        Column(N_("Kind"), lambda event: _(KINDS[event.kind])),
        Column("SHA-256", lambda event: event.sha256[:16]),
        Column(N_("Name"), lambda event: event.subject),
        Column(N_("Until"), lambda event: event.until),
        Column(N_("Status"), lambda event: _(STATUSES[event.status])),
    )
}


def fetched(event: "Fetched", _console: "Console") -> "Iterable[Line]":
    style = "red" if event.status == "failed" else "green"
    line: list[str | tuple[str, str]] = [
        (style, _(STATUSES[event.status])),
        f"\t{_(KINDS[event.kind])}\t{event.url}",
    ]
    if event.code:
        line.append(f"\t{event.reason or event.code}")
    yield line


def empty(command: str) -> str:
    """What to say where there is nothing to show."""
    if command == "trust list":
        return _("No anchor yet; `medmail trust add FILE` takes one.")
    return _("Nothing to fetch.")
