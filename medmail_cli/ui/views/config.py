"""``medmail config`` for people."""

from typing import TYPE_CHECKING

from medmail_cli.ui import sanitize
from medmail_cli.ui.formats.text import plain
from medmail_cli.ui.i18n import _

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.config import ConfigFile, Place, Setting


def config_file(event: "ConfigFile", console: "Console") -> "Iterable[Line]":
    if event.status == "written":
        console.say(_("Written; now look at the servers in it:"))
    yield str(event.path)


def setting(event: "Setting", _console: "Console") -> "Iterable[Line]":
    yield f"{event.key} = {sanitize.line(plain(event.value))}"


def place(event: "Place", _console: "Console") -> "Iterable[Line]":
    yield f"{event.name}\t{sanitize.line(event.path)}"
