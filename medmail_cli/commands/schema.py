"""``medmail schema``: what every command prints with ``--json``, and every code with its exit."""

from typing import Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import examples

app = typer.Typer()


def events() -> dict[str, tuple[type, ...]]:
    """What each command may print, for its schema."""
    from medmail_cli.workflows.schema import Code, Schema

    return {"schema": (Schema, Code)}


@app.command(
    "schema",
    help=_("Print the JSON Schema of a command's output, or every code with its exit."),
    epilog=examples(
        "medmail schema decrypt",
        "medmail schema enrol import",
        "medmail schema --errors",
    ),
)
def schema(
    ctx: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(help=_("A command, such as decrypt or “keys list”; all without it."))
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help=_("List every code with its exit."))] = False,
) -> int:
    from medmail_cli.app import VERBS, events_of
    from medmail_cli.codes import EXITS
    from medmail_cli.errors import MedmailError
    from medmail_cli.ui.error_messages import ERRORS
    from medmail_cli.ui.render import show
    from medmail_cli.ui.schema import of_command
    from medmail_cli.workflows.schema import Code, Schema

    if errors:
        return show(ctx, "schema", (Code(code, at, _(ERRORS[code][0])) for code, at in EXITS.items()))
    known = {command: events for verb in VERBS for command, events in events_of(verb).items()}
    asked = " ".join(command or ())
    if asked and asked not in known and not any(name.startswith(f"{asked} ") for name in known):
        raise MedmailError("not-found", what="command", name=asked)
    chosen = [name for name in known if not asked or name == asked or name.startswith(f"{asked} ")]
    return show(ctx, "schema", (Schema(name, of_command(name, known[name])) for name in chosen))
