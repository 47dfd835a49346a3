"""The global options: they stand on every command, before or after the verb, and fill in ``Options``.

Each is shown in full at the top, and on the commands below only where people look for it there.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typer._click import Command, Context, Parameter


def add_global_options(command: "Command") -> None:
    """Give a command, and every one below it, the global options and its help."""
    from typer.models import TyperPath as ParamPath

    command.add_help_option = False
    for param in command.params:
        # a file nobody may read is no wrong usage; whoever reads it says so
        if isinstance(param.type, ParamPath):
            param.type.readable = False
    command.params.extend(_global_options(root=command.name == "medmail"))
    for child in getattr(command, "commands", {}).values():
        add_global_options(child)


def _global_options(*, root: bool) -> "list[Parameter]":
    from pathlib import Path

    from typer.core import TyperOption

    from medmail_cli.config import SECRETS
    from medmail_cli.registers import LANGUAGES
    from medmail_cli.ui.i18n import _

    panel = _("Global options")

    def option(*names: str, attribute: str, **how: Any) -> TyperOption:
        def store(ctx: "Context", _param: "Parameter", value: Any) -> None:
            if value not in (None, False, 0) or (value == 0 and how.get("type") is int):
                _set(ctx.obj.options, attribute, value)

        return TyperOption(
            param_decls=[*names, "global_" + names[-1].strip("-").replace("-", "_")],
            expose_value=False,
            callback=store,
            rich_help_panel=panel,
            **how,
        )

    options = [
        option("--json", attribute="json", is_flag=True, help=_("JSON Lines on stdout, for scripts.")),
        option("-q", "--quiet", attribute="quiet", is_flag=True, help=_("Errors only on stderr.")),
        option(
            "-v", "--verbose", attribute="verbose", count=True, metavar="", help=_("Tell more on stderr.")
        ),
        option("--no-color", attribute="no-color", is_flag=True, help=_("No colours."), hidden=not root),
        option("--no-input", attribute="no_input", is_flag=True, help=_("Never ask; fail instead.")),
        option(
            "--home",
            attribute="home",
            type=Path,
            metavar="DIR",
            help=_("Everything under one folder."),
            hidden=not root,
        ),
        option(
            "--account",
            attribute="account",
            type=str,
            metavar="NAME",
            help=_("Which account of config.toml."),
        ),
        option(
            "--lang",
            attribute="lang",
            type=str,
            metavar="|".join(LANGUAGES),
            help=_("Language of the words."),
            hidden=not root,
        ),
        option(
            "--trace",
            attribute="trace",
            type=Path,
            metavar="FILE",
            help=_("Write what is said to servers and by them to FILE, without secrets and letters."),
            hidden=not root,
        ),
        option(
            "--debug",
            attribute="debug",
            is_flag=True,
            help=_("Show a traceback when something fails."),
            hidden=not root,
        ),
    ]
    options.append(
        TyperOption(
            param_decls=["-h", "--help"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_help,
            help=_("Show this help."),
            rich_help_panel=panel,
        )
    )
    for name in SECRETS:
        options.append(
            option(
                f"--{name}-file",
                attribute=f"file {name}",
                type=Path,
                metavar="FILE",
                help=_("Read the {secret} from FILE.").format(secret=name),
                hidden=not root,
            )
        )
        options.append(
            option(
                f"--{name}-fd",
                attribute=f"fd {name}",
                type=int,
                metavar="N",
                help=_("Read the {secret} from descriptor N.").format(secret=name),
                hidden=not root,
            )
        )
    if root:
        options.append(
            TyperOption(
                param_decls=["--version"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_version,
                help=_("Show the version."),
                rich_help_panel=panel,
            )
        )
    return list(options)


def _help(ctx: "Context", _param: "Parameter", value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from medmail_cli.ui.console import data_stream

        with data_stream() as stdout:
            stdout.write(ctx.get_help() + "\n")
            stdout.flush()
        ctx.exit()


def _version(ctx: "Context", _param: "Parameter", value: bool) -> None:
    if value:
        from medmail_cli import __version__

        sys.stdout.write(f"medmail {__version__}\n")
        ctx.exit()


def _set(options: Any, attribute: str, value: Any) -> None:
    kind, _space, name = attribute.partition(" ")
    from medmail_cli.registers import LANGUAGES
    from medmail_cli.ui.i18n import _

    if kind == "lang" and value not in LANGUAGES:
        from typer import BadParameter

        problem = _("“{value}” is not one of {choices}").format(value=value, choices=", ".join(LANGUAGES))
        raise BadParameter(problem, param_hint="--lang")
    if kind == "file":
        options.secret_files[name] = value
    elif kind == "fd":
        options.secret_fds[name] = value
    elif kind == "no-color":
        options.color = False
    elif kind == "trace":
        from medmail_cli.transport import trace

        trace.begin(value)
    elif kind == "json":
        options.format = "json"
    else:
        setattr(options, kind, value)
