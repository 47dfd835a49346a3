"""The command tree and the one place that exits.

Only the verb that is asked for is imported: a hundred-millisecond start is a promise to scripts.
"""

import sys
from typing import TYPE_CHECKING, NoReturn, cast

if TYPE_CHECKING:
    from types import FrameType, ModuleType

    from typer._click import Command, Context
    from typer._click.exceptions import UsageError

    from medmail_cli.session import Session

VERBS: tuple[str, ...] = (
    "enrol",
    "send",
    "fetch",
    "decrypt",
    "audit",
    "inbox",
    "reply",
    "outbox",
    "keys",
    "contacts",
    "trust",
    "server",
    "config",
    "schema",
    "sandbox",
    "demo",
)
"""The verbs, each a module of ``commands``, in the order the help shows them."""

_PARTS = {"enrol": ("enrol_batch", "enrol_revoke")}
"""Of a verb, the modules that hold subcommands beside those of its own."""


def main() -> NoReturn:
    """The ``medmail`` command."""
    import gc

    try:
        code = _main()
    except KeyboardInterrupt:
        # before anything was there to tell of it, or while it was told
        code = 130
    # looking for cycles in what ends with the process anyway takes a tenth of a short command's time
    gc.freeze()
    sys.exit(code)


def _main() -> int:
    if sys.argv[1:] == ["--version"]:
        from medmail_cli import __version__

        sys.stdout.write(f"medmail {__version__}\n")
        return 0
    import warnings

    # libraries warn on stderr of what is odd in a stranger's certificate; the verdict tells of it
    warnings.simplefilter("ignore")
    _open_streams()
    return run(sys.argv[1:])


def _open_streams() -> None:
    """Standard streams that were closed become /dev/null; no character is one they cannot write."""
    import io
    import os

    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # the lowest descriptor that is free, so the closed one; it stays open
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run(args: list[str]) -> int:
    """Run one command line and give its exit; errors are reported here and nowhere else."""
    import contextlib
    import os
    import signal
    from pathlib import Path

    from medmail_cli.errors import exit_of
    from medmail_cli.session import Options, Session
    from medmail_cli.ui import i18n
    from medmail_cli.ui.console import OutputGoneError
    from medmail_cli.ui.render import report_fatal, understood

    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    session = Session(Options())
    try:
        i18n.set_language(_language(args))
        try:
            if path := os.environ.get("MEDMAIL_TRACE"):
                from medmail_cli.transport import trace

                trace.begin(Path(path))
            code = _invoke(args, session)
        finally:
            session.close()
        session.console.flush()
    except OutputGoneError as gone:
        # a reader that went away has seen what it wanted
        code = 1 if gone.unread else report_fatal(session, gone.error)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost frame: all ends as an error with an exit
        # perhaps before the words were read
        _json_if_asked(session, args)
        if session.options.debug and not isinstance(error, KeyboardInterrupt):
            _traceback()
        with contextlib.suppress(OutputGoneError):
            report_fatal(session, understood(error))
        code = exit_of(understood(error).code)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # how it ended is told and stands
        signal.signal(number, signal.SIG_IGN)
    return code


def _interrupt(_signal: int, _frame: "FrameType | None") -> NoReturn:
    raise KeyboardInterrupt


def _json_if_asked(session: "Session", args: list[str]) -> None:
    options = args[: args.index("--")] if "--" in args else args
    if "--json" in options:
        session.options.format = "json"


def _traceback() -> None:
    import traceback

    traceback.print_exc()


def _language(args: list[str]) -> str:
    """The language of this run: ``--lang``, MEDMAIL_LANG, config.toml, the locale."""
    import os
    from pathlib import Path

    from medmail_cli import config
    from medmail_cli.errors import MedmailError
    from medmail_cli.registers import LANGUAGES
    from medmail_cli.ui import i18n

    home: Path | None = None
    asked: str | None = None
    for position, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name in ("--lang", "--home"):
            value = value if equals else "".join(args[position + 1 : position + 2])
            if name == "--home":
                home = Path(value)
            elif value in LANGUAGES:
                asked = value
        elif word == "--":
            break
    if asked or (asked := os.environ.get("MEDMAIL_LANG")) in LANGUAGES:
        return str(asked)
    try:
        chosen = config.load(config.paths(home or config.environment_home()).config).lang
    except MedmailError:
        # the command that reads the configuration reports it, in the locale's language
        chosen = None
    return chosen or i18n.locale_language()


def _invoke(args: list[str], session: "Session") -> int:
    from gettext import gettext

    import typer
    from typer._click import exceptions

    from medmail_cli.errors import MedmailError

    # an option's value may look like a verb: whatever could be one is loaded, and only that
    tree = command_tree(tuple(verb for verb in VERBS if verb in args) or VERBS)
    try:
        # not tree.main(), which ends interrupted runs in silence
        with tree.make_context("medmail", list(args), obj=session) as ctx:
            result = tree.invoke(ctx)
    except typer.Exit as error:
        return error.exit_code
    except exceptions.ClickException as error:
        # an error in the words before --json is told as JSON too
        _json_if_asked(session, args)
        session.options.debug = "--debug" in args
        if not isinstance(error, exceptions.UsageError):
            raise MedmailError("usage", detail=error.format_message(), command="medmail") from None
        command = error.ctx.command_path if error.ctx else "medmail"
        if error.ctx is not None and error.message == gettext("Missing command."):
            _show_commands(error.ctx, session)
        raise MedmailError("usage", detail=_usage(error), command=command) from None
    return result if isinstance(result, int) else 0


def _show_commands(ctx: "Context", session: "Session") -> None:
    """What might have been meant, for a person who names no command; stdout is for what was asked for."""
    from contextlib import redirect_stdout

    if session.options.format != "json" and not session.options.quiet:
        with redirect_stdout(sys.stderr):
            sys.stdout.write(ctx.get_help())


def _usage(error: "UsageError") -> str:
    """What is wrong with a command line, in the language of this run."""
    from typer._click import exceptions

    from medmail_cli.ui.i18n import _

    if isinstance(error, exceptions.NoSuchOption):
        detail = _("no such option: {name}").format(name=error.option_name)
        if error.possibilities:
            detail += " " + _("(did you mean {names}?)").format(names=", ".join(sorted(error.possibilities)))
        return detail
    if isinstance(error, exceptions.MissingParameter) and error.param is not None and error.ctx is not None:
        return _("missing: {name}").format(name=error.param.get_error_hint(error.ctx))
    if isinstance(error, exceptions.BadParameter):
        name = error.param_hint
        if name is None and error.param is not None and error.ctx is not None:
            name = error.param.get_error_hint(error.ctx)
        if isinstance(name, str):
            return _("{name}: {reason}").format(name=name.strip("'"), reason=error.message)
        return error.message
    return error.format_message()


def events_of(verb: str) -> dict[str, tuple[type, ...]]:
    """The verb's commands, each with the classes of what it may print."""
    return {command: events for module in _modules(verb) for command, events in module.events().items()}


def _modules(verb: str) -> "list[ModuleType]":
    import importlib

    return [importlib.import_module(f"medmail_cli.commands.{name}") for name in (verb, *_PARTS.get(verb, ()))]


def command_tree(verbs: tuple[str, ...] = VERBS) -> "Command":
    """The Typer tree of ``verbs`` as a command object, the global options on every command.

    The words are those of the language set before (``ui.i18n.set_language``).
    """
    import typer

    from medmail_cli.globaloptions import add_global_options
    from medmail_cli.ui.i18n import _

    root = typer.Typer(
        name="medmail",
        help=_("Secure professional mail for health care."),
        epilog=_("`medmail demo` shows it all in twenty seconds. `man medmail` tells the rest."),
        add_completion=False,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        rich_markup_mode="rich",
    )
    root.callback()(_root)
    for verb in verbs:
        first, *parts = _modules(verb)
        if [info.name for info in first.app.registered_commands] == [verb]:
            root.registered_commands.extend(first.app.registered_commands)
            continue
        group = first.app
        if parts:
            group = typer.Typer(help=first.app.info.help)
            for module in (first, *parts):
                group.registered_commands.extend(module.app.registered_commands)
        root.add_typer(group, name=verb)
    tree = cast("typer.core.TyperGroup", typer.main.get_command(root))
    for verb in verbs:  # Typer puts groups last
        tree.commands[verb] = tree.commands.pop(verb)
    add_global_options(tree)
    return tree


def _root() -> None:
    """Typer wants a callback to keep a single verb a verb."""
