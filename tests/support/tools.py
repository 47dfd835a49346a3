"""Running other implementations: present, or the test is skipped on a developer's machine and fails in CI."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def require(*names: str) -> None:
    """Programs that a test cannot do without."""
    missing = [name for name in names if not shutil.which(name)]
    if missing and os.environ.get("CI"):
        pytest.fail(f"missing in CI: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def run(
    *arguments: str | Path,
    stdin: bytes = b"",
    expect: int | None = 0,
    env: dict[str, str] | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program with a time limit; any exit but the one expected fails the test with what it said."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        input=stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **(env or {})},
    )
    if expect is not None:
        assert done.returncode == expect, (
            f"{arguments}: {done.returncode}\n{done.stderr.decode(errors='replace')}"
        )
    return done
