"""The real ``medmail sandbox``, as other people's scripts start it."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cli import MEDMAIL

MARTIN, BERNARD = "dr.martin@medecin.test", "dr.bernard@medecin.test"


@dataclass(frozen=True)
class Sandbox:
    """A running one and what it printed."""

    process: "subprocess.Popen[str]"
    ready: dict[str, Any]

    def home(self, address: str) -> Path:
        """The MEDMAIL_HOME it made for an address."""
        return Path(next(m["home"] for m in self.ready["mailboxes"] if m["address"] == address))

    @property
    def password(self) -> str:
        return Path(self.ready["password_file"]).read_text().strip()

    def stop(self, how: int = signal.SIGINT) -> tuple[int, dict[str, Any]]:
        """Interrupt it; its exit and its result object."""
        self.process.send_signal(how)
        said, _ = self.process.communicate(timeout=20)
        return self.process.returncode, json.loads(said.splitlines()[-1])


@contextlib.contextmanager
def sandbox(*argv: str | Path) -> Iterator[Sandbox]:
    """Start one, wait until it is ready, and end it afterwards if the test did not."""
    process = subprocess.Popen(
        [MEDMAIL, "sandbox", "--json", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MEDMAIL_")},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Sandbox(process, json.loads(line))
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)
        process.stdout.close()
        process.stderr.close()
