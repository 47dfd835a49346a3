"""``medmail demo`` for people: what is going on, each command as typed, and what it gave."""

import shlex
from typing import TYPE_CHECKING, Any

from medmail_cli.ui import sanitize
from medmail_cli.ui.i18n import _
from medmail_cli.ui.messages import N_

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line

_CHAPTERS = {
    "operator": N_("A mail operator and a certificate authority start on this machine, in {folder}"),
    "enrol": N_("Each physician gets an identity from the Order's authority, by its published fingerprint"),
    "meet": N_("They meet: a signed invitation brings Dr Bernard's certificates to Dr Martin"),
    "send": N_("Dr Martin sends a letter with a PDF about a patient, signed and encrypted"),
    "receive": N_("Dr Bernard fetches it, still sealed, and opens it; who wrote it is proven"),
    "reply": N_("Dr Bernard answers; subject and thread are carried on, encrypted as well"),
    "prove": N_("Both can prove afterwards what they did, against a checkpoint kept elsewhere"),
    "tamper": N_(
        "Someone changes one character of letter.eml on its way, into tampered.eml: refused, with exit 6"
    ),
    "end": N_("That was all. The operator stops."),
}


def chapter(event: Any, _console: "Console") -> "Iterable[Line]":
    if event.part != "operator":
        yield ""
    yield [("bold cyan", "# " + _(_CHAPTERS[event.part]).format(folder=event.folder))]
    if event.part == "operator":
        yield ["$ ", ("bold", f"cd {shlex.quote(str(event.folder))}")]


def person(event: Any, _console: "Console") -> "Iterable[Line]":
    yield [("cyan", f"# {event.name}")]
    exports = f"MEDMAIL_HOME={event.home} MEDMAIL_PASSPHRASE_FILE={event.passphrase_file}"
    yield ["$ ", ("bold", f"export {exports}")]


def step(event: Any, console: "Console") -> "Iterable[Line]":
    yield ["$ ", ("bold", event.command)]
    for line in (event.stdout + event.stderr).splitlines():
        yield sanitize.text(line)
    if event.returned:
        yield [("yellow", _("(exit {exit})").format(exit=event.returned))]
    console.flush()
