"""``medmail config``: write a first configuration, show what is in force, say where everything is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmail_cli.ui.i18n import _
from medmail_cli.wiring.options import examples

if TYPE_CHECKING:
    from medmail_cli.session import Session

app = typer.Typer(help=_("Write, show and locate the configuration."))


def events() -> dict[str, tuple[type, ...]]:
    """What each command may print, for its schema."""
    from medmail_cli.workflows.config import ConfigFile, Place, Setting

    return {"config init": (ConfigFile,), "config show": (Setting,), "config path": (Place,)}


@app.command(
    "init",
    help=_("Write a first config.toml; one that is there is never changed."),
    epilog=examples("medmail config init --address dr.martin@medecin.test --server mail.medecin.test"),
)
def init(
    ctx: typer.Context,
    address: Annotated[str, typer.Option(metavar="ADDR", help=_("Your mail address."))] = "",
    server: Annotated[str, typer.Option(metavar="HOST", help=_("The operator's mail server."))] = "",
    profile: Annotated[str, typer.Option(help=_("generic, mssante, direct or kim."))] = "generic",
    tls_anchors: Annotated[
        Path | None, typer.Option(metavar="FILE", help=_("Trust the operator's server by these anchors."))
    ] = None,
) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.config import write_first

    session: Session = ctx.obj
    return show(ctx, "config init", write_first(session.paths.config, address, server, profile, tls_anchors))


@app.command(
    "show",
    help=_("Show every setting in force, without any secret."),
    epilog=examples("medmail config show --json"),
)
def show_(ctx: typer.Context) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.config import settings

    session: Session = ctx.obj
    return show(ctx, "config show", settings(session.config, session.profile))


@app.command(
    "path",
    help=_("Print where configuration, keystore, mail and the rest are."),
    epilog=examples("medmail config path"),
)
def path(ctx: typer.Context) -> int:
    from medmail_cli.ui.render import show
    from medmail_cli.workflows.config import places

    session: Session = ctx.obj
    return show(ctx, "config path", places(session.paths))
