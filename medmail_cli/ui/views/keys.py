"""``medmail keys`` for people."""

from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.ui import i18n, sanitize
from medmail_cli.ui.i18n import _
from medmail_cli.ui.messages import N_
from medmail_cli.ui.render import Column

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.keys import KeyDetails, KeyExport, KeystoreChange
    from medmail_cli.workflows.rewrap import Rewrap, RewrapSummary

PURPOSES = {"sign": N_("signing"), "encrypt": N_("encryption"), "both": N_("signing and encryption")}
STATES = {
    "active": N_("in use"),
    "expired": N_("has ended"),
    "waiting": N_("waiting for its certificate"),
    "retired": N_("replaced"),
}

TABLES = {
    "identity": (
        Column("ID", lambda event: event.id[:12]),
        Column(N_("Address"), lambda event: event.address),
        Column(N_("Name"), lambda event: event.name),
        Column(N_("For"), lambda event: _(PURPOSES[event.purpose])),
        Column(N_("Key"), lambda event: event.key),
        Column(N_("Until"), lambda event: event.not_after),
        Column(N_("Status"), lambda event: _(STATES[event.status])),
    )
}


def identity_details(event: "KeyDetails", _console: "Console") -> "Iterable[Line]":
    rows = (
        ("ID", event.id),
        (_("Status"), _(STATES[event.status])),
        (_("Addresses"), ", ".join(event.addresses)),
        (_("Name"), event.name),
        (_("For"), _(PURPOSES[event.purpose])),
        (_("Key"), event.key),
        (_("Method"), event.method),
        (_("Holder"), event.subject),
        (_("Issuer"), event.issuer),
        (_("Serial number"), event.serial),
        (_("Valid from"), event.not_before and f"{event.not_before.astimezone():%Y-%m-%d %H:%M}"),
        (_("Until"), event.not_after and f"{event.not_after.astimezone():%Y-%m-%d %H:%M}"),
        ("SHA-256", event.sha256),
        (_("Folder"), event.path),
    )
    for title, value in rows:
        if value:
            yield f"{title}\t{sanitize.line(value)}"


def key_export(event: "KeyExport", _console: "Console") -> "Iterable[Line]":
    yield event.pem.rstrip("\n") if event.pem else str(event.saved_as)


def keystore(event: "KeystoreChange", console: "Console") -> "Iterable[Line]":
    if event.status == "backed-up":
        yield str(event.path)
    said = {
        "backed-up": _("{count} identities saved; keep the passphrase of the backup apart from it."),
        "restored": _("{count} identities restored into {path}."),
        "passphrase-changed": _("The passphrase is changed."),
        "deleted": _("Deleted."),
        "unlocked": _("Open until {until}; `medmail keys lock` ends it."),
        "locked": _("Locked."),
        "unchanged": _("It was locked already."),
    }
    until = f"{event.until.astimezone():%H:%M}" if event.until else ""
    console.say(said[event.status].format(count=event.identities, path=event.path, until=until))


def rewrap(event: "Rewrap", console: "Console") -> "Iterable[Line]":
    if event.reason is not None:
        console.err(f"{event.id[:12]}: {i18n.message(MedmailError(event.reason))}")
    return ()


def rewrap_summary(event: "RewrapSummary", console: "Console") -> "Iterable[Line]":
    said = _("{count} letters made open to the new key, {kept} kept for the old one.")
    if event.dry_run:
        said = _("{count} letters would be made open to the new key, {kept} kept for the old one.")
    console.say(said.format(count=event.rewrapped, kept=event.kept))
    return ()


def empty(_command: str) -> str:
    """What to say where there is nothing to show."""
    return _("No identity yet; `medmail enrol` gets one.")
