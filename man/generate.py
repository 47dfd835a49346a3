"""Write the man pages from the command tree and the prose beside it; ``--check`` only compares.

``prose/PAGE.txt`` holds what the tree cannot say: lines that begin with ``# `` open a section, a line of
four spaces is shown as it is, a blank line parts paragraphs, ``- `` begins an item.
"""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medmail_cli import __version__
from medmail_cli.app import VERBS, command_tree
from medmail_cli.codes import EXITS
from medmail_cli.ui.error_messages import ERRORS

if TYPE_CHECKING:
    from typer._click import Command, Parameter

HERE = Path(__file__).parent


def roff(text: str) -> str:
    """Plain text as roff: nothing in it is a request, code in backquotes is bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in text.split("\n"))


def prose(page: str) -> str:
    """The hand-written sections of ``page``, as roff."""
    path = HERE / "prose" / f"{page}.txt"
    if not path.exists():
        return ""
    out: list[str] = []
    verbatim = False
    for line in path.read_text().splitlines():
        if verbatim and line and not line.startswith("    "):
            out.append(".fi\n.RE")
            verbatim = False
        if line.startswith("# "):
            out.append(f".SH {roff(line[2:]).upper()}")
        elif line.startswith("    "):
            if not verbatim:
                out.append(".PP\n.RS 4\n.nf")
                verbatim = True
            out.append(roff(line[4:]))
        elif line.startswith("- "):
            out.append(f".IP \\(bu 2\n{roff(line[2:])}")
        elif not line:
            out.append("" if verbatim else ".PP")
        else:
            out.append(roff(line))
    if verbatim:
        out.append(".fi\n.RE")
    return "\n".join(out) + "\n"


def _heading(page: str, section: int) -> str:
    return f'.TH {page.upper()} {section} "" "medmail {__version__}" "medmail"\n'


def _option(param: "Parameter") -> str:
    names = ", ".join(f"\\fB{roff(name)}\\fR" for name in (*param.opts, *param.secondary_opts))
    flag = getattr(param, "is_flag", False) or getattr(param, "count", False)
    metavar = "" if flag else f" \\fI{roff(str(param.metavar or 'VALUE'))}\\fR"
    return f".TP\n{names}{metavar}\n{roff(str(getattr(param, 'help', '') or ''))}\n"


def _synopsis(words: str, command: "Command") -> str:
    pieces = [f".B medmail {roff(words)}".rstrip(), "[\\fIOPTIONS\\fR]"]
    if getattr(command, "commands", None):
        pieces.append("\\fICOMMAND\\fR")
    for param in command.params:
        if param.param_type_name == "argument":
            name = str(param.metavar or param.name or "").upper() + ("…" if param.nargs == -1 else "")
            pieces.append(f"\\fI{roff(name)}\\fR" if param.required else f"[\\fI{roff(name)}\\fR]")
    return pieces[0] + "\n" + " ".join(pieces[1:]) + "\n"


def _own_options(command: "Command") -> str:
    own = [
        param
        for param in command.params
        if param.param_type_name == "option" and getattr(param, "rich_help_panel", None) != "Global options"
    ]
    return "".join(_option(param) for param in own)


def _examples(command: "Command") -> str:
    heading, *lines = str(getattr(command, "epilog", "") or "").split("\n")
    return "".join([f"{roff(heading)}\n.RS 4\n", *(f".br\n{roff(line)}\n" for line in lines), ".RE\n"])


def page_of(verb: str, command: "Command") -> str:
    """The page of one verb with its subcommands."""
    children: dict[str, Command] = getattr(command, "commands", {})
    help_text = (command.help or "").strip()
    out = _heading(f"medmail-{verb}", 1)
    out += f".SH NAME\nmedmail\\-{verb} \\- {roff(help_text.split(chr(10))[0].rstrip('.'))}\n.SH SYNOPSIS\n"
    if children:
        out += (
            "\n.br\n".join(_synopsis(f"{verb} {name}", child).strip() for name, child in children.items())
            + "\n"
        )
    else:
        out += _synopsis(verb, command)
    out += f".SH DESCRIPTION\n{roff(help_text)}\n"
    if children:
        out += ".SH COMMANDS\n"
        for name, child in children.items():
            out += (
                f".SS medmail {verb} {roff(name)}\n{roff((child.help or '').strip())}\n{_own_options(child)}"
            )
            out += f".PP\n{_examples(child)}"
    elif options := _own_options(command):
        out += f".SH OPTIONS\n{options}"
    out += prose(f"medmail-{verb}")
    if not children:
        out += f".SH EXAMPLES\n{_examples(command).partition(chr(10))[2]}"
    return out + ".SH SEE ALSO\n.BR medmail (1),\n.BR medmail\\-config (5)\n"


def overview(tree: "Command") -> str:
    """medmail(1)."""
    out = _heading("medmail", 1)
    out += ".SH NAME\nmedmail \\- secure professional mail for health care\n.SH SYNOPSIS\n.B medmail\n"
    out += "[\\fIGLOBAL OPTIONS\\fR] \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n"
    out += prose("medmail").split(".SH FILES")[0]
    out += ".SH COMMANDS\n"
    for name, command in getattr(tree, "commands", {}).items():
        out += f".TP\n.BR medmail\\-{name} (1)\n{roff((command.help or '').strip().split(chr(10))[0])}\n"
    out += ".SH GLOBAL OPTIONS\nThey stand before or after the command.\n"
    out += "".join(_option(param) for param in tree.params if param.param_type_name == "option")
    rest = prose("medmail").partition(".SH FILES")
    out += rest[1] + rest[2]
    out += ".SH CODES\nEvery code that an error or a verdict may bear, with the exit it leads to.\n"
    for code, at in sorted(EXITS.items()):
        out += f".TP\n\\fB{roff(code)}\\fR ({at})\n{roff(ERRORS[code][0])}\n"
    pages = ",\n".join(f".BR medmail\\-{verb} (1)" for verb in VERBS)
    return out + f".SH SEE ALSO\n{pages},\n.BR medmail\\-config (5)\n"


def outputs() -> dict[Path, str]:
    """Every page with its content."""
    tree = command_tree()
    pages = {HERE / "medmail.1": overview(tree)}
    for verb, command in getattr(tree, "commands", {}).items():
        pages[HERE / f"medmail-{verb}.1"] = page_of(verb, command)
    config = _heading("medmail-config", 5)
    config += ".SH NAME\nmedmail\\-config \\- the configuration of medmail\n"
    pages[HERE / "medmail-config.5"] = config + prose("medmail-config") + ".SH SEE ALSO\n.BR medmail (1)\n"
    return pages


def main() -> int:
    """Write the pages, or with ``--check`` name those that differ."""
    pages = outputs()
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    unknown = [path for path in HERE.glob("*.[15]") if path not in pages]
    for path in stale + unknown:
        if "--check" in sys.argv:
            sys.stderr.write(f"{path.name} differs from the command tree: run make generated\n")
        elif path in pages:
            path.write_text(pages[path])
        else:
            path.unlink()
    return 1 if (stale or unknown) and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
