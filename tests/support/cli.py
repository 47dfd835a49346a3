"""Running the real command, as a script would."""

import functools
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from medmail_cli.app import VERBS, events_of
from medmail_cli.ui.schema import of_command
from tests.support import forked

MEDMAIL = str(Path(sys.executable).parent / "medmail")
PASSPHRASE = "sentinel passphrase 7f3a"
"""The passphrase of test keystores; no output may ever hold it."""


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    exit: int
    stdout: str
    stderr: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """stdout as JSON Lines."""
        return [json.loads(line) for line in self.stdout.splitlines()]


def medmail(
    home: Path,
    *argv: str | Path,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    timeout: float = 120,
) -> Done:
    """Run ``medmail`` under ``home``, with its passphrase where :func:`passphrase` wrote one."""
    around = {
        name: value for name, value in os.environ.items() if not name.startswith(("MEDMAIL_", "LC_", "LANG"))
    }
    around |= {"MEDMAIL_HOME": str(home), "LC_ALL": "C.UTF-8"}
    if (home.parent / f"{home.name}.passphrase").exists():
        around["MEDMAIL_PASSPHRASE_FILE"] = str(home.parent / f"{home.name}.passphrase")
    done = forked.run([MEDMAIL, *map(str, argv)], stdin=stdin, env=around | (env or {}), timeout=timeout)
    result = Done(
        done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="replace")
    )
    assert PASSPHRASE not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr or "--debug" in argv, result.stderr
    if "--json" in argv and not {"-h", "--help", "--version"} & set(argv):
        check_json(result, [str(word) for word in argv])
    return result


def check_json(done: Done, argv: Sequence[str]) -> None:
    """Every line is what ``medmail schema`` says of the command; the last one tells how it ended."""
    lines = done.objects
    last = lines[-1]
    assert last["type"] in ("result", "error"), last
    assert last["exit"] == done.exit, last
    assert [line for line in lines[:-1] if line["type"] in ("result", "error")] == []
    schemas = [schema(last["command"])] if last["type"] == "result" else _schemas_of(argv)
    for line in lines:
        failures = [next(checker.iter_errors(line), None) for checker in schemas]
        assert None in failures or not schemas, (line, failures[0])
    if last["type"] == "error":
        # nothing was attempted; what stands in the way may be told one by one
        assert {line["type"] for line in lines[:-1]} <= {"note", "progress", "fault", "recipient"}
    if done.exit in (2, 78) or last["type"] == "error":
        assert "medmail: " in done.stderr


def valid(command: str, done: Done) -> list[dict[str, Any]]:
    """The objects of a run, each of which its schema allows."""
    for one in done.objects:
        schema(command).validate(one)
    assert done.objects[-1]["type"] in {"result", "error"}
    assert done.objects[-1]["exit"] == done.exit
    return done.objects


@functools.cache
def schema(command: str) -> jsonschema.Draft202012Validator:
    """What a line of the command's output is checked against."""
    return jsonschema.Draft202012Validator(of_command(command, events_of(command.split()[0])[command]))


def _schemas_of(argv: Sequence[str]) -> list[jsonschema.Draft202012Validator]:
    """The schemas of the commands that the words may mean: an option's value may look like a verb."""
    return [schema(command) for verb in VERBS if verb in argv for command in events_of(verb)]


def passphrase(home: Path) -> Path:
    """Write the passphrase file that :func:`medmail` will offer for ``home``."""
    path = home.parent / f"{home.name}.passphrase"
    path.write_text(PASSPHRASE + "\n")
    return path
