"""Make what installs medmail without a network, of a release in dist/: a bundle of wheels, Debian packages.

The bundle holds the locked packages (the extras ``sandbox`` and ``card`` too) as wheels for the Pythons of
Debian 12 and 13 on x86_64 and aarch64, the requirements with their hashes, the SBOM and an installer.
"""

import argparse
import gzip
import itertools
import re
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import deb
import release
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

README = """\
medmail {version} for Debian 12 and 13, x86_64 and aarch64, without a network.

Before you unpack this, compare it with the release's SHA256SUMS and check the signature of that:
  gpg --verify SHA256SUMS.asc SHA256SUMS && sha256sum --check --ignore-missing SHA256SUMS

  sh install              into /opt/medmail for root, else into ~/.local/lib/medmail
  sh install --help       other places, another Python, how to take it away

It wants python3 and python3-venv of Debian. wheels/ holds medmail and all that it needs, requirements.txt
their hashes, medmail-{version}.cdx.json says what they are (CycloneDX). Then: man medmail
"""
GLIBC = 36
"""Debian 12 has glibc 2.36: no wheel that wants a newer one."""


@dataclass(frozen=True)
class Target:
    """A machine that the bundle installs on."""

    python: tuple[int, int]
    machine: str

    def tags(self) -> list[Tag]:
        """The tags of the wheels that fit it, best first."""
        platforms = [f"manylinux_2_{minor}_{self.machine}" for minor in range(GLIBC, 4, -1)]
        platforms += [f"manylinux2014_{self.machine}", f"linux_{self.machine}"]
        return [
            *cpython_tags(self.python, platforms=platforms),
            *compatible_tags(self.python, f"cp{self.python[0]}{self.python[1]}", platforms),
        ]

    def environment(self) -> dict[str, str]:
        """What the markers of requirements are about."""
        number = f"{self.python[0]}.{self.python[1]}"
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{number}.0",
            "python_version": number,
            "sys_platform": "linux",
        }

    def __str__(self) -> str:
        """For messages."""
        return f"Python {self.python[0]}.{self.python[1]} on {self.machine}"


TARGETS = [Target(python, machine) for machine in ("x86_64", "aarch64") for python in ((3, 11), (3, 13))]


def locked(lock: Path) -> list[tuple[Requirement, str]]:
    """Each requirement of a lock, and its hashes as pip's options."""
    text = re.sub(r"\\\n", "", re.sub(r"^ *#.*\n", "", lock.read_text(), flags=re.MULTILINE))
    parted = (line.partition(" --hash") for line in text.splitlines())
    return [(Requirement(one), option + hashes) for one, option, hashes in parted]


def wheels_for(target: Target, lock: Path, folder: Path) -> list[Path]:
    """The wheels in ``folder`` that ``target`` needs, one a requirement; what is missing is downloaded."""

    def fits(one: Requirement) -> list[Path]:
        name = canonicalize_name(one.name)
        found = []
        for path in folder.glob("*.whl"):
            other, number, _, tags = parse_wheel_filename(path.name)
            if other == name and number in one.specifier and tags & known:
                found.append(path)
        return found

    known = set(target.tags())
    needed = [
        (one, hashes)
        for one, hashes in locked(lock)
        if one.marker is None or one.marker.evaluate(dict(target.environment()))
    ]
    # markers are judged here: pip would judge them by the Python that it runs under
    pinned = [f"{one.name}{one.specifier}{hashes}\n" for one, hashes in needed if not fits(one)]
    if pinned:
        wanted = folder / "wanted.txt"
        wanted.write_text("".join(pinned))
        platforms = dict.fromkeys(tag.platform for tag in target.tags() if tag.platform != "any")
        release.pip(
            *("download", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", folder),
            *("--python-version", target.environment()["python_version"], "--implementation", "cp"),
            *itertools.chain.from_iterable(("--platform", platform) for platform in platforms),
            *("--requirement", wanted),
        )
        wanted.unlink()
    chosen = [fits(one) for one, _ in needed]
    if alone := [str(one) for (one, _), paths in zip(needed, chosen, strict=True) if len(paths) != 1]:
        sys.exit(f"not one wheel each for {target}: {', '.join(alone)}")
    return [paths[0] for paths in chosen]


def write_tar(path: Path, folder: Path, moment: int) -> None:
    """``folder`` as a tar.gz that is the same for the same files, whoever makes it and when."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, moment) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for file in sorted(one for one in folder.rglob("*") if one.is_file()):
            entry = tarfile.TarInfo(f"{folder.name}/{file.relative_to(folder)}")
            entry.size, entry.mtime = file.stat().st_size, moment
            entry.mode = 0o755 if file.name == "install" else 0o644
            tar.addfile(entry, BytesIO(file.read_bytes()))


def main() -> None:
    """Make it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dist", type=Path, default=release.ROOT / "dist", help="where the release lies")
    dist = options.parse_args().dist.absolute()
    number, moment = release.version(), release.epoch()
    own = dist / f"medmail_cli-{number}-py3-none-any.whl"
    sbom = dist / f"medmail-{number}.cdx.json"
    if not own.exists() or not sbom.exists():
        sys.exit(f"there is no release of {number} in {dist}: run 'make release'")
    lock = release.ROOT / "requirements.lock"
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name) / f"medmail-{number}-bundle"
        wheels = bundle / "wheels"
        wheels.mkdir(parents=True)
        needed = {target: wheels_for(target, lock, wheels) for target in TARGETS}
        shutil.copy(own, wheels)
        digest = release.sums(dist, [own]).partition(" ")[0]
        (bundle / "requirements.txt").write_text(
            f"{lock.read_text()}medmail-cli=={number} --hash=sha256:{digest}\n"
        )
        shutil.copy(sbom, bundle)
        (bundle / "install").write_text(
            (release.ROOT / ".ci" / "install").read_text().replace("@VERSION@", number)
        )
        (bundle / "README").write_text(README.format(version=number))
        (bundle / "SHA256SUMS").write_text(
            release.sums(bundle, [path for path in bundle.rglob("*") if path.is_file()])
        )
        write_tar(dist / f"{bundle.name}.tar.gz", bundle, moment)
        for machine in dict.fromkeys(target.machine for target in TARGETS):
            parts = [paths for target, paths in needed.items() if target.machine == machine]
            deb.build(
                dist, machine, [own, *dict.fromkeys(itertools.chain.from_iterable(parts))], sbom, moment
            )
    release.write_sums(dist)
    sys.stdout.write((dist / "SHA256SUMS").read_text())


if __name__ == "__main__":
    main()
