"""The options of every command that judges somebody's certificate: when, and whether servers are asked."""

from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.words import _

if TYPE_CHECKING:
    import datetime

    from medmail_cli.session import Session
    from medmail_cli.workflows.fetching import Fetcher
    from medmail_cli.workflows.validating import Validator

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


def validator(session: "Session", *, offline: bool) -> "Validator":
    """What judges certificates in this run; unless ``offline`` it asks about those of unknown status."""
    from medmail_cli.workflows.validating import Validator

    fetcher = None if offline else _fetcher(session)
    return Validator(session.trust.authorities, session.profile, fetcher)


def _fetcher(session: "Session") -> "Fetcher":
    """Asks about certificates of unknown status, while somebody waits; a person sees who is asked."""
    from medmail_cli.store.unanswered import Unanswered
    from medmail_cli.workflows.fetching import FETCH_SECONDS, RUN_SECONDS, Fetcher

    said = _("Asking {host} whether certificates have been revoked …")
    return Fetcher(
        session.trust,
        session.log,
        session.actor,
        session.now(),
        session.config.fetch_private,
        Unanswered(session.paths.cache / "unanswered.json", session.now()),
        told=lambda host: session.console.say(said.format(host=host)),
        each=FETCH_SECONDS,
        seconds=RUN_SECONDS,
    )
