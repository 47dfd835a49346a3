"""Build a release into dist/: wheel and sdist, twice and compared, tried in a fresh environment; SBOM, sums.

``--draft`` takes the files as they lie, committed or not, and asks nothing of CHANGELOG.md: for tests.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(*argv: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None, umask: int = 0o022) -> str:
    """What a program says on stdout; its failure ends this one."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        check=False,
        umask=umask,
    )
    if done.returncode:
        sys.exit(f"{Path(argv[0]).name} failed (exit {done.returncode}): {' '.join(map(str, argv))}")
    return done.stdout.decode()


def pip(*argv: str | Path) -> None:
    """Run this environment's pip, quietly."""
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *argv)


def version() -> str:
    """The version that the package says it is."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "medmail_cli/__init__.py").read_text(), re.MULTILINE)
    assert found
    return found[1]


def epoch() -> int:
    """When HEAD was committed, in seconds since 1970: the time that everything built bears."""
    return int(run("git", "log", "-1", "--format=%ct"))


def refuse_unfinished(number: str) -> None:
    """End here where the tree or the changelog is not that of a release."""
    if changed := run("git", "status", "--porcelain"):
        sys.exit(f"not committed:\n{changed}A release is built from a commit: commit or stash these first.")
    heading = rf"^## \[{re.escape(number)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE):
        sys.exit(
            f"CHANGELOG.md has no dated section for {number}: "
            f"put '## [{number}] - YYYY-MM-DD' below '## [Unreleased]'."
        )


def export(folder: Path, *, draft: bool) -> None:
    """Lay the files of HEAD into ``folder``; of a draft those that lie here."""
    folder.mkdir(parents=True)
    if draft:
        names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        for name in names:
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        return
    archive = folder.parent / "head.tar"
    run("git", "archive", "--output", archive, "HEAD")
    run("tar", "--extract", "--touch", "--file", archive, cwd=folder)


def build(sources: Path, target: str, out: Path, *, moment: int, zone: str, umask: int) -> Path:
    """A ``wheel`` or ``sdist`` of ``sources``."""
    env = {"SOURCE_DATE_EPOCH": str(moment), "TZ": zone, "PYTHONHASHSEED": str(umask)}
    run(
        *(sys.executable, "-m", "hatchling", "build", "--directory", out, "--target", target),
        cwd=sources,
        env=env,
        umask=umask,
    )
    return next(out.glob({"wheel": "*.whl", "sdist": "*.tar.gz"}[target]))


def build_twice(folder: Path, moment: int, *, draft: bool) -> list[Path]:
    """Wheel and sdist, the same to the octet from two places; the second wheel is made of the sdist."""
    one, two = folder / "one", folder / "a longer name" / "two"
    export(one, draft=draft)
    export(two, draft=draft)
    first, second = folder / "first", folder / "second"
    sdist = build(one, "sdist", first, moment=moment, zone="UTC", umask=0o022)
    wheel = build(one, "wheel", first, moment=moment, zone="UTC", umask=0o022)
    build(two, "sdist", second, moment=moment, zone="Asia/Tokyo", umask=0o077)
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    run("tar", "--extract", "--file", sdist, cwd=unpacked)
    build(next(unpacked.iterdir()), "wheel", second, moment=moment, zone="Asia/Tokyo", umask=0o077)
    for path in (sdist, wheel):
        if path.read_bytes() != (second / path.name).read_bytes():
            sys.exit(f"{path.name} is another each time it is built: compare {first} with {second}")
    return [sdist, wheel]


def fresh_environment(folder: Path, wheel: Path) -> Path:
    """The Python of a new environment that holds the locked packages and ``wheel``, which works there."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    locked = ("--require-hashes", "--only-binary", ":all:", "--requirement", ROOT / "requirements.lock")
    pip("--python", python, "install", "--no-compile", *locked)
    # by its name, so that no path of this machine is noted down
    by_name = ("--no-deps", "--no-index", "--find-links", wheel.parent, "medmail-cli")
    pip("--python", python, "install", *by_name)
    said = run(folder / "bin" / "medmail", "--version", cwd=folder, env={"PYTHONPATH": ""})
    if said.strip() != f"medmail {version()}":
        sys.exit(f"the wheel's medmail says {said!r}, not 'medmail {version()}'")
    share = folder / "share"
    pages = {path.name for path in share.glob("man/man?/*")}
    wanted = {path.name for path in (ROOT / "man").glob("*.[15]")}
    completions = [
        *share.glob("*/completions/medmail"),
        *share.glob("*/*/_medmail"),
        *share.glob("*/*/medmail.fish"),
    ]
    if pages != wanted or len(completions) != 3:
        sys.exit(f"the wheel lacks man pages or completions: {sorted(wanted - pages)}, {completions}")
    return python


def write_sbom(path: Path, python: Path, moment: int) -> None:
    """What an environment holds, with licences and what needs what, as CycloneDX has it."""
    run(
        *(
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "cyclonedx_py",
            "environment",
            "--pyproject",
            "pyproject.toml",
        ),
        *("--output-reproducible", "--of", "JSON", "--output-file", path, python),
        env={"SOURCE_DATE_EPOCH": str(moment)},
    )
    # which release it is, hatchling alone knows
    known = json.loads(path.read_text())
    known["metadata"]["component"] |= {"version": version(), "purl": f"pkg:pypi/medmail-cli@{version()}"}
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def sums(folder: Path, paths: list[Path]) -> str:
    """What ``sha256sum --check`` reads."""
    digests = {path.relative_to(folder): hashlib.sha256(path.read_bytes()) for path in sorted(paths)}
    return "".join(f"{digest.hexdigest()}  {path}\n" for path, digest in digests.items())


def write_sums(dist: Path) -> None:
    """SHA256SUMS over the release's files that lie in ``dist``."""
    files = [path for path in dist.glob(f"medmail*{version()}*") if path.suffix != ".asc"]
    (dist / "SHA256SUMS").write_text(sums(dist, files))


def main() -> None:
    """Build it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--draft", action="store_true", help="from the files as they lie")
    options.add_argument("--dist", type=Path, default=ROOT / "dist", help="where it goes")
    given = options.parse_args()
    number, moment = version(), epoch()
    if not given.draft:
        refuse_unfinished(number)
    dist = given.dist.absolute()
    dist.mkdir(parents=True, exist_ok=True)
    for stale in [*dist.glob(f"medmail*{number}*"), *dist.glob("SHA256SUMS*")]:
        stale.unlink()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = build_twice(folder, moment, draft=given.draft)
        python = fresh_environment(folder / "environment", built[-1])
        write_sbom(dist / f"medmail-{number}.cdx.json", python, moment)
        for path in built:
            shutil.copy(path, dist)
    write_sums(dist)
    sys.stdout.write((dist / "SHA256SUMS").read_text())


if __name__ == "__main__":
    main()
