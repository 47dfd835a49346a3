"""``medmail demo``: the tour."""

from pathlib import Path
from typing import Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import examples

app = typer.Typer()


def events() -> dict[str, tuple[type, ...]]:
    """What the command may print, for its schema."""
    from medmail_cli.sandbox.tour import Chapter, Person, Step

    return {"demo": (Chapter, Person, Step)}


@app.command(
    "demo",
    help=_(
        "Show it all in twenty seconds: two physicians enrol, write, read, answer and prove it, with the "
        "real commands on an operator of their own. Everything is removed afterwards."
    ),
    epilog=examples("medmail demo --dir tour"),
)
def demo(
    ctx: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help=_("Keep everything here to look at; it must be empty.")),
    ] = None,
) -> int:
    from medmail_cli.sandbox import require_extra
    from medmail_cli.ui.render import show

    require_extra()
    from medmail_cli.sandbox.tour import tour

    return show(ctx, "demo", tour(directory))
