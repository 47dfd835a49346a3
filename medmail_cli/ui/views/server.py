"""``medmail server`` for people."""

from typing import TYPE_CHECKING

from medmail_cli.errors import MedmailError
from medmail_cli.ui import i18n, sanitize
from medmail_cli.ui.i18n import _

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medmail_cli.ui.console import Console, Line
    from medmail_cli.workflows.server import ServerCheck


def server(event: "ServerCheck", console: "Console") -> "Iterable[Line]":
    name = f"{event.protocol} {sanitize.line(event.host)}:{event.port} ({event.security})"
    if event.error is not None:
        error = MedmailError(event.error, **event.reason)
        yield [f"{name}: ", ("red", _("failed"))]
        console.err([("bold red", _("error:")), " ", i18n.message(error)])
        if hint := i18n.hint(error):
            console.err([("cyan", _("hint:")), " ", hint])
        return
    yield [f"{name}: ", ("green", _("in order"))]
    yield "  " + _("logins: {mechanisms}").format(mechanisms=", ".join(map(sanitize.line, event.mechanisms)))
    yield "  " + _("offers: {offers}").format(offers=", ".join(map(sanitize.line, event.offers)))
    if event.size is not None:
        yield "  " + _("largest message: {size} bytes").format(size=event.size)
