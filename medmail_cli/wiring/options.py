"""Options and parts of a help page that several verbs share, and what their values come to."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.registers import FORMATS
from medmail_cli.ui.i18n import _

if TYPE_CHECKING:
    import datetime
    from collections.abc import Sequence

    from medmail_cli.session import Session

At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help=_("Judge as of this time (ISO 8601; without offset, local).")),
]
Offline = Annotated[bool, typer.Option("--offline", help=_("Use only what is on this computer."))]
TransportOnly = Annotated[
    list[str] | None,
    typer.Option(
        "--transport-only",
        metavar="ADDR",
        help=_("Send although this recipient cannot be encrypted to; repeatable."),
    ),
]
if TYPE_CHECKING:

    class Format(StrEnum):
        """How output is written."""

else:
    Format = StrEnum("Format", [(name, name) for name in FORMATS])

OutputFormat = Annotated[
    Format | None, typer.Option("--format", help=_("Write text, JSON Lines, or CSV for a spreadsheet."))
]
Backup = Annotated[
    Path | None,
    typer.Option("--backup", metavar="FILE", help=_("Back up the keystore into FILE, as `keys backup`.")),
]
NoBackup = Annotated[
    bool, typer.Option("--no-backup", help=_("Do without a backup of the new key, and be asked no more."))
]


def examples(*lines: str) -> str:
    """The epilog of a command's help: a heading in the person's language, then command lines as they stand.

    The tests type every line of it.
    """
    return "\n".join((_("Examples:"), *lines))


def instant(text: str | None, option: str = "--at") -> "datetime.datetime | None":
    """A time in ISO 8601, in UTC; without an offset it is local. What is no time is wrong usage."""
    if text is None:
        return None
    import datetime

    try:
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(_("not a time in ISO 8601"), param_hint=option) from None


def named(addresses: "Sequence[str] | None") -> frozenset[str]:
    """The addresses of ``--transport-only``. Raises ``bad-address``."""
    from medmail_cli.pki.x509.address import exact
    from medmail_cli.workflows.mail import drafts

    return frozenset(exact(drafts.mailbox(address).address) for address in addresses or ())


def write_as(session: "Session", form: Format | None) -> None:
    """Have the run's output written in the format that ``--format`` names, if it does."""
    if form is None:
        return
    if session.options.format not in ("text", form):
        raise typer.BadParameter(_("--json and --format exclude each other"), param_hint="--format")
    session.options.format = form.value
