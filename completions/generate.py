"""Write the completions of bash, zsh and fish from the command tree; ``--check`` only compares.

They are static: completing a command or an option name starts no Python.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli.app import command_tree

if TYPE_CHECKING:
    from typer._click import Command

HERE = Path(__file__).parent
_FILES = {"FILE", "DIR", "BODY-FILE", "FILE.eml", "ROSTER.csv", "MANIFEST.jsonl"}


@dataclass(frozen=True)
class Option:
    """One option as a shell completes it."""

    names: tuple[str, ...]
    help: str
    takes: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A command with what may follow it; ``words`` is its path below ``medmail``."""

    words: tuple[str, ...]
    help: str
    children: tuple[str, ...]
    options: tuple[Option, ...]


def entries(command: "Command", words: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Every command of the tree, the root first."""
    children = getattr(command, "commands", {})
    yield Entry(words, _short(command.help), tuple(children), tuple(_options(command)))
    for name, child in children.items():
        yield from entries(child, (*words, name))


def _short(text: str | None) -> str:
    return (text or "").split("\n")[0].replace("`", "").rstrip(".")


def _options(command: "Command") -> Iterator[Option]:
    for param in command.params:
        if param.param_type_name != "option":
            continue
        flag = getattr(param, "is_flag", False) or getattr(param, "count", False)
        metavar = str(param.metavar or "")
        choices = tuple(metavar.split("|")) if "|" in metavar else tuple(getattr(param.type, "choices", ()))
        takes = "" if flag else metavar or "VALUE"
        yield Option((*param.opts, *param.secondary_opts), _short(getattr(param, "help", "")), takes, choices)


def bash(tree: list[Entry]) -> str:
    """A bash completion: tables of words by command path, and one function that reads them."""
    words = []
    values = []
    for entry in tree:
        key = " ".join(entry.words)
        names = [name for option in entry.options for name in option.names]
        words.append(f'    "{key}") words="{" ".join(entry.children)}" options="{" ".join(names)}" ;;')
    seen = dict.fromkeys(option for entry in tree for option in entry.options if option.takes)
    for option in seen:
        pattern = "|".join(option.names)
        if option.choices:
            values.append(
                f'    {pattern}) COMPREPLY=($(compgen -W "{" ".join(option.choices)}" -- "$cur")); return ;;'
            )
    takers = "|".join(dict.fromkeys(name for option in seen if not option.choices for name in option.names))
    return f"""# bash completion for medmail; made by completions/generate.py
_medmail() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} path="" word words options i
  COMPREPLY=()
  case $prev in
{chr(10).join(values)}
    {takers}) COMPREPLY=($(compgen -f -- "$cur")); return ;;
  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${{COMP_WORDS[i]}}
    case " $_medmail_paths " in
      *"|${{path:+$path }}$word|"*) path="${{path:+$path }}$word" ;;
    esac
  done
  case $path in
{chr(10).join(words)}
  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
  elif [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  else
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}}
_medmail_paths="{"".join("|" + " ".join(entry.words) + "|" for entry in tree if entry.words)}"
complete -o filenames -F _medmail medmail
"""


def fish(tree: list[Entry]) -> str:
    """A fish completion: a condition for each command path."""
    lines = ["# fish completion for medmail; made by completions/generate.py", "complete -c medmail -f"]
    root = tree[0]
    # the global options stand before or after any command
    everywhere = {option.names for option in root.options}
    for entry in tree:
        if not entry.words:
            condition = f"not __fish_seen_subcommand_from {' '.join(root.children)}"
        else:
            condition = " ; and ".join(f"__fish_seen_subcommand_from {word}" for word in entry.words)
            if entry.children:
                only = condition + f" ; and not __fish_seen_subcommand_from {' '.join(entry.children)}"
        for child in entry.children:
            text = _fish(next(e.help for e in tree if e.words == (*entry.words, child)))
            where = only if entry.words else condition
            lines.append(f"complete -c medmail -n '{where}' -a {child} -d '{text}'")
        for option in entry.options:
            if entry.words and option.names in everywhere:
                continue
            where = "" if option.names in everywhere else f" -n '{condition}'"
            lines.append(f"complete -c medmail{where} {_fish_option(option)}")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    value = ""
    if option.choices:
        value = f" -x -a '{' '.join(option.choices)}'"
    elif option.takes:
        value = " -r -F" if option.takes in _FILES else " -x"
    return f"{' '.join(names)}{value} -d '{_fish(option.help)}'"


def _fish(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def zsh(tree: list[Entry]) -> str:
    """A zsh completion: a function for each command path, over ``_arguments``."""
    lines = ["#compdef medmail", "# zsh completion for medmail; made by completions/generate.py", ""]
    for entry in tree:
        lines.append(f"_medmail{''.join('_' + word.replace('-', '_') for word in entry.words)}() {{")
        specs = [_zsh_option(option, name) for option in entry.options for name in option.names]
        if entry.children:
            lines.append("  local -a commands=(")
            for child in entry.children:
                text = next(e.help for e in tree if e.words == (*entry.words, child))
                lines.append(f"    '{child}:{_zsh(text)}'")
            lines.append("  )")
            specs += ["'1: :{_describe command commands}'", "'*::argument:->argument'"]
        else:
            specs.append("'*:file:_files'")
        lines.append("  local curcontext=$curcontext state line")
        lines.append("  _arguments -C \\\n    " + " \\\n    ".join(specs))
        if entry.children:
            prefix = "_medmail" + "".join("_" + word.replace("-", "_") for word in entry.words)
            lines.append("  if [[ $state == argument ]]; then")
            lines.append(f"    (( $+functions[{prefix}_${{line[1]//-/_}}] )) && {prefix}_${{line[1]//-/_}}")
            lines.append("  fi")
        lines += ["}", ""]
    lines.append('_medmail "$@"')
    return "\n".join(lines) + "\n"


def _zsh_option(option: Option, name: str) -> str:
    value = ""
    if option.choices:
        value = f":value:({' '.join(option.choices)})"
    elif option.takes:
        value = f":{option.takes.lower()}:" + ("_files" if option.takes in _FILES else "")
    return f"'*{name}[{_zsh(option.help)}]{value}'"


def _zsh(text: str) -> str:
    return text.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


def outputs() -> dict[Path, str]:
    """Every file with its content."""
    tree = list(entries(command_tree()))
    return {
        HERE / "medmail.bash": bash(tree),
        HERE / "_medmail": zsh(tree),
        HERE / "medmail.fish": fish(tree),
    }


def main() -> int:
    """Write the files, or with ``--check`` name those that differ."""
    stale = [path for path, text in outputs().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--check" in sys.argv:
            sys.stderr.write(f"{path.name} differs from the command tree: run make generated\n")
        else:
            path.write_text(outputs()[path])
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
