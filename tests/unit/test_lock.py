"""What is installed here and in a hospital is locked, agrees with pyproject.toml, and names no index.

And the audit of it never calls clean what was not asked for.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
RUN = [
    *PROJECT["dependencies"],
    *PROJECT["optional-dependencies"]["sandbox"],
    *PROJECT["optional-dependencies"]["card"],
]
BUILD = PYPROJECT["dependency-groups"]["build"]
DEVELOP = [line for line in PROJECT["optional-dependencies"]["dev"] if not line.startswith("medmail-cli[")]
WANTED = {
    "requirements.lock": RUN,
    "requirements-build.lock": BUILD,
    "requirements-dev.lock": [*RUN, *BUILD, *DEVELOP],
}


def locked(name: str) -> dict[str, str]:
    """The version of each package in a lock; every one has a hash."""
    found: dict[str, str] = {}
    for entry in re.findall(r"^[a-z](?:.*\\\n)*.*", (ROOT / name).read_text(), re.MULTILINE):
        requirement = Requirement(entry.partition("\\")[0])
        assert "--hash=sha256:" in entry, requirement
        (pin,) = requirement.specifier
        assert pin.operator == "==", requirement
        found[canonicalize_name(requirement.name)] = pin.version
    return found


@pytest.mark.parametrize("name", WANTED)
def test_a_lock_holds_what_pyproject_asks_for(name: str) -> None:
    """After a change of pyproject.toml: ``make lock``."""
    versions = locked(name)
    wanted = [Requirement(line) for line in WANTED[name]]
    assert [
        str(one)
        for one in wanted
        if Version(versions.get(canonicalize_name(one.name), "0")) not in one.specifier
    ] == []


def test_development_has_what_users_run() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()
    assert locked("requirements-build.lock").items() <= locked("requirements-dev.lock").items()


@pytest.mark.parametrize("name", WANTED)
def test_a_lock_names_no_index(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert set(re.findall(r"--[a-z-]+", text)) == {"--hash"}


# --- make audit -------------------------------------------------------------------------------------------

CLEAN = {"name": "rich", "version": "1.0", "vulns": []}
FLAWED = {"name": "typer", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "cffi", "skip_reason": "Dependency not found on PyPI and could not be audited: cffi (3.0)"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([CLEAN], 0, "no known vulnerabilities in 1 packages"),
        ([CLEAN, FLAWED], 1, "typer 2.0: PYSEC-1, mended in 2.1"),
        ([CLEAN, SKIPPED], 3, "Of 1 packages nothing is known, of 1 it is"),
        ([SKIPPED], 3, "the service had no answer for cffi"),
        ([FLAWED, SKIPPED], 1, "Of 1 packages nothing is known"),
        ([], 3, "the service had no answer for any"),
        (
            None,
            3,
            "Nothing is known about vulnerabilities: their service could not be asked (ConnectionError: n",
        ),
    ],
)
def test_an_audit_says_what_was_answered(
    tmp_path: Path, packages: list[dict[str, object]] | None, code: int, said: str
) -> None:
    words = "Traceback\nConnectionError: nowhere" if packages is None else "No known vulnerabilities found"
    answer = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    (tmp_path / "pip_audit.py").write_text(
        f"import sys\nsys.stdout.write({answer!r})\nsys.stderr.write({words!r})\nsys.exit({bool(code)})\n"
    )
    done = subprocess.run(
        [sys.executable, ROOT / ".ci/audit.py"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
    assert ("no known vulnerabilities" in done.stdout) == (code == 0)
