"""Man pages and completions: made from the command tree, committed, current, and good for their readers."""

import dataclasses
import importlib.util
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import medmail_cli
from medmail_cli import config
from medmail_cli.app import VERBS, command_tree
from medmail_cli.profile import Profile
from tests.support.tools import require

ROOT = Path(medmail_cli.__file__).parent.parent
MAN, COMPLETIONS = ROOT / "man", ROOT / "completions"


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"generate_{path.parent.name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("folder", [MAN, COMPLETIONS], ids=lambda folder: str(folder.name))
def test_what_is_committed_is_what_the_command_tree_gives(folder: Path) -> None:
    for path, text in module_of(folder / "generate.py").outputs().items():
        assert path.read_text() == text, f"{path.name}: run make generated"


def test_every_verb_has_a_page_and_no_other_page_is_left_over() -> None:
    pages = {path.name for path in MAN.glob("*.[15]")}
    assert pages == {"medmail.1", "medmail-config.5", *(f"medmail-{verb}.1" for verb in VERBS)}


def program(name: str) -> str:
    require(name)
    return str(shutil.which(name))


@pytest.mark.parametrize("page", sorted(MAN.glob("*.[15]")), ids=lambda page: str(page.name))
def test_a_page_is_right_roff(page: Path) -> None:
    done = subprocess.run(
        [program("groff"), "-man", "-ww", "-z", "-Kutf8", "-Tutf8", str(page)],
        capture_output=True,
        check=True,
    )
    assert not done.stderr.decode()


def test_every_key_of_the_configuration_is_in_its_page() -> None:
    page = (MAN / "prose" / "medmail-config.txt").read_text()
    shapes = (config.Account, config.Authority, Profile, config.Config)
    keys = {field.name.replace("_", "-") for shape in shapes for field in dataclasses.fields(shape)}
    ours = {"name", "path", "accounts", "authorities", "secrets", "password", "token"}
    assert not {key for key in keys - ours if f"`{key}`" not in page}


def complete_bash(line: str) -> list[str]:
    words = line.split(" ")
    script = f"""
source {COMPLETIONS / "medmail.bash"}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
_medmail; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environment = {"PATH": "/nowhere"}  # no program, so surely no Python, is started
    done = subprocess.run(
        [program("bash"), "--norc", "-c", script], env=environment, capture_output=True, check=True
    )
    assert not done.stderr
    return done.stdout.decode().split()


def complete_fish(line: str) -> list[str]:
    script = f"source {COMPLETIONS / 'medmail.fish'}; complete -C '{line}'"
    done = subprocess.run([program("fish"), "--no-config", "-c", script], capture_output=True, check=True)
    return [row.split("\t")[0] for row in done.stdout.decode().splitlines()]


@pytest.mark.parametrize("complete", [complete_bash, complete_fish])
def test_commands_subcommands_and_options_are_completed(complete: Callable[[str], list[str]]) -> None:
    assert set(VERBS) <= set(complete("medmail "))
    assert complete("medmail dec") == ["decrypt"]
    assert set(complete("medmail keys ")) >= set(command_tree(("keys",)).commands["keys"].commands)  # type: ignore[attr-defined]
    assert "--explain" in complete("medmail decrypt --ex")
    assert "--passphrase-file" in complete("medmail decrypt --passph")
    assert complete("medmail enrol imp") == ["import"]
    assert "--key-file" in complete("medmail enrol import --key")


def test_zsh_reads_its_completion() -> None:
    load = "autoload -Uz compinit; compinit -D -u; autoload +X _medmail; whence -w _medmail"
    script = f"fpath=({COMPLETIONS} $fpath); {load}"
    done = subprocess.run([program("zsh"), "-f", "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.strip().endswith("function")
    subprocess.run([program("zsh"), "-n", str(COMPLETIONS / "_medmail")], check=True)


def test_every_page_is_installed() -> None:
    shared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    installed = {source.removeprefix("man/") for source in shared["shared-data"] if source.startswith("man/")}
    assert installed == {path.name for path in MAN.glob("*.[15]")}
