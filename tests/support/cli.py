"""Running the real command, as a script would."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    done = subprocess.run(
        [MEDMAIL, *map(str, argv)],
        input=stdin,
        env=around | (env or {}),
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    result = Done(
        done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="replace")
    )
    assert PASSPHRASE not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result


def passphrase(home: Path) -> Path:
    """Write the passphrase file that :func:`medmail` will offer for ``home``."""
    path = home.parent / f"{home.name}.passphrase"
    path.write_text(PASSPHRASE + "\n")
    return path
