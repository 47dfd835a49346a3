"""What the README and the man pages' prose show can be typed."""

import re
import shlex
from pathlib import Path

import pytest

import medmail_cli
from medmail_cli.app import command_tree
from medmail_cli.session import Options, Session
from tests.support.cli import medmail

ROOT = Path(medmail_cli.__file__).parent.parent


def shown() -> list[str]:
    text = (ROOT / "README.md").read_text()
    blocks = "\n".join(re.findall(r"```\n(.*?)```", text, re.DOTALL))
    lines = [line.removeprefix("$ ") for line in blocks.splitlines()]
    return [line for line in lines if line.startswith("medmail ")]


@pytest.mark.parametrize("line", shown())
def test_a_command_of_the_readme_is_one_the_command_line_takes(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = command_tree()
    context = command.make_context("medmail", list(words), obj=Session(Options()))
    while getattr(command, "commands", None):
        name, command, rest = command.resolve_command(context, context._protected_args + context.args)  # type: ignore[attr-defined]
        assert command is not None
        context = command.make_context(name, rest, parent=context)


def test_the_configurations_of_the_readme_are_accepted(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "config.toml").write_text(block)
        done = medmail(tmp_path, "config", "show", "--json")
        assert done.exit == 0, done.stderr
