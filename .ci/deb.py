"""A Debian package that needs nothing but Debian's Python: medmail and all it needs, in a folder of its own.

One package serves Debian 12 and 13: what is compiled for Python 3.11 and for 3.13 bears names of its own and
lies side by side. To Python the folder is a virtual environment: what medmail starts finds the same packages.
"""

import gzip
import hashlib
import os
import tempfile
import zipfile
from email.parser import HeaderParser
from email.utils import formatdate
from pathlib import Path, PurePosixPath

import release

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PYTHONS = ("3.11", "3.13")
HOME = PurePosixPath("usr/lib/medmail")
MAINTAINER = "medmail maintainers <maintainers@medmail.invalid>"

CONTROL = """\
Package: medmail
Version: {version}-1
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {kilobytes}
Depends: python3 (>= 3.11~), python3 (<< 3.12~) | python3 (>= 3.13~), python3 (<< 3.14~), {libraries}
Suggests: python3-keyring
Section: mail
Priority: optional
Description: secure professional mail for health care, from the terminal
 Every letter leaves signed and encrypted end to end (S/MIME), its subject
 included, and is opened and judged locally. Any server that speaks SMTP and
 IMAP will do. What is done is recorded in a log that nobody can quietly change.
 .
 This package brings along all Python packages that it needs, in a folder of
 its own.
"""
# the wheels' own octets are kept, so that they can be compared with what was published
LINTIAN = """\
medmail: unstripped-binary-or-object
medmail: wrong-path-for-interpreter * [usr/bin/medmail]
"""
SCRIPTS = {
    "postinst": "py3compile -p medmail /usr/lib/medmail",
    "prerm": "py3clean -p medmail",
}
# Debian calls it when its Python becomes another one
RUNTIME = """\
#!/bin/sh
set -e
if [ "$1" = rtupdate ]; then
  py3clean -p medmail
  py3compile -p medmail /usr/lib/medmail
fi
"""
LAUNCHER = """\
#!/usr/lib/medmail/bin/python3 -I
import sys

from medmail_cli.app import main

sys.exit(main())
"""
SHARE = {
    "bash-completion/completions/medmail": "bash-completion/completions/medmail",
    "fish/vendor_completions.d/medmail.fish": "fish/vendor_completions.d/medmail.fish",
    "zsh/site-functions/_medmail": "zsh/vendor-completions/_medmail",
}
COPYRIGHT = """\
Copyright: the authors of medmail

medmail is published under the Apache License 2.0: see /usr/share/common-licenses/Apache-2.0.

In /usr/lib/medmail/site-packages it brings along these packages, unchanged, under licences of their own;
where a package gives out the text of its licence, it lies in the folder that ends in .dist-info.

"""


def _packed(text: bytes) -> bytes:
    """As ``gzip -9n`` does."""
    return gzip.compress(text, 9, mtime=0)


def contents(wheel: Path) -> dict[PurePosixPath, bytes]:
    """Where the files of a wheel go below /, and what they hold."""
    files: dict[PurePosixPath, bytes] = {}
    with zipfile.ZipFile(wheel) as opened:
        for entry in opened.infolist():
            path, octets = PurePosixPath(entry.filename), opened.read(entry)
            if entry.is_dir() or path.match("*.dist-info/RECORD") or path.match("*.dist-info/WHEEL"):
                continue  # of the wheel alone
            if path.match("*.dist-info/sboms/*"):  # of what was compiled in, for each Python another
                path = path.with_name(f"{wheel.name.split('-')[-3]}-{path.name}")
            if not path.parts[0].endswith(".data"):
                files[HOME / "site-packages" / path] = octets
            elif path.parts[1] in ("purelib", "platlib"):
                files[HOME / "site-packages" / PurePosixPath(*path.parts[2:])] = octets
            elif path.parts[1:3] == ("data", "share"):
                shared = PurePosixPath(*path.parts[3:])
                if shared.parts[0] == "man":
                    files["usr/share" / shared.with_name(f"{path.name}.gz")] = _packed(octets)
                elif str(shared) in SHARE:
                    files[PurePosixPath("usr/share") / SHARE[str(shared)]] = octets
    return files


def licence(metadata: bytes) -> str:
    """The line of a package for the file of copyrights."""
    said = HeaderParser().parsestr(metadata.decode())
    classifiers = [
        str(one).rpartition(" :: ")[2] for one in said.get_all("Classifier", []) if "License" in one
    ]
    text = said["License-Expression"] or "; ".join(classifiers) or said["License"]
    return f"{said['Name']} {said['Version']}: {text}\n"


def documents(files: dict[PurePosixPath, bytes], sbom: Path, moment: int) -> dict[PurePosixPath, bytes]:
    """What goes into /usr/share/doc/medmail."""
    metadata = {path: octets for path, octets in files.items() if path.match("*.dist-info/METADATA")}
    others = [licence(metadata[path]) for path in sorted(metadata) if not path.match("medmail_cli-*/*")]
    entry = (
        f"medmail ({release.version()}-1) stable; urgency=medium\n\n  * See changelog.gz.\n\n"
        f" -- {MAINTAINER}  {formatdate(moment)}\n"
    )
    texts = {
        "copyright": (COPYRIGHT + "".join(others)).encode(),
        "changelog.gz": _packed((release.ROOT / "CHANGELOG.md").read_bytes()),
        "changelog.Debian.gz": _packed(entry.encode()),
        sbom.name: sbom.read_bytes(),
    }
    return {PurePosixPath("usr/share/doc/medmail") / name: octets for name, octets in texts.items()}


def build(dist: Path, machine: str, wheels: list[Path], sbom: Path, moment: int) -> Path:
    """The package for ``machine``, made of ``wheels``."""
    files: dict[PurePosixPath, bytes] = {}
    for wheel in wheels:
        for path, octets in contents(wheel).items():
            if files.setdefault(path, octets) != octets:
                raise SystemExit(f"{wheel.name} has another {path} than the wheel for the other Python")
    files |= documents(files, sbom, moment)
    files[HOME / "pyvenv.cfg"] = b"home = /usr/bin\ninclude-system-site-packages = true\n"
    files[PurePosixPath("usr/bin/medmail")] = LAUNCHER.encode()
    files[PurePosixPath("usr/share/lintian/overrides/medmail")] = LINTIAN.encode()
    files[PurePosixPath("usr/share/python3/runtime.d/medmail.rtupdate")] = RUNTIME.encode()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for path, octets in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(octets)
            (root / path).chmod(0o755 if path.parent.name in ("bin", "runtime.d") else 0o644)
        (root / HOME / "bin").mkdir()
        (root / HOME / "bin" / "python3").symlink_to("../../../bin/python3")
        for python in PYTHONS:
            (root / HOME / "lib" / f"python{python}").mkdir(parents=True)
            (root / HOME / "lib" / f"python{python}" / "site-packages").symlink_to("../../site-packages")
        control = root / "DEBIAN"
        control.mkdir()
        (control / "control").write_text(
            CONTROL.format(
                libraries="libc6 (>= 2.36), libgcc-s1",
                version=release.version(),
                architecture=ARCHITECTURES[machine],
                maintainer=MAINTAINER,
                kilobytes=sum(len(octets) // 1024 + 1 for octets in files.values()),
            )
        )
        md5sums = (
            f"{hashlib.md5(octets, usedforsecurity=False).hexdigest()}  {path}\n"
            for path, octets in files.items()
        )
        (control / "md5sums").write_text("".join(sorted(md5sums)))
        for script, command in SCRIPTS.items():
            (control / script).write_text(f"#!/bin/sh\nset -e\n{command}\n")
            (control / script).chmod(0o755)
        for place in [root, *root.rglob("*")]:
            if place.is_dir():
                place.chmod(0o755)
            os.utime(place, (moment, moment), follow_symlinks=False)
        package = dist / f"medmail_{release.version()}-1_{ARCHITECTURES[machine]}.deb"
        # one thread: several divide what they compress, so that the octets depend on how many there are
        release.run(
            *("dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--threads-max=1", "--build", root, package),
            env={"SOURCE_DATE_EPOCH": str(moment)},
        )
    return package
