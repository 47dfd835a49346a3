"""The options of every command that judges somebody's certificate: when, and whether servers are asked."""

from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.words import _

if TYPE_CHECKING:
    import datetime

At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help=_("Judge as of this time (ISO 8601; without offset, local).")),
]
Offline = Annotated[bool, typer.Option("--offline", help=_("Use only what is on this computer."))]


def instant(text: str | None, option: str = "--at") -> "datetime.datetime | None":
    """A time in ISO 8601, in UTC; without an offset it is local. What is no time is wrong usage."""
    if text is None:
        return None
    import datetime

    try:
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(_("not a time in ISO 8601"), param_hint=option) from None
