"""Other implementations of S/MIME, each one warm process behind a line protocol.

A request is ``command key=value …``, values in base64; the answer is ``ok`` or ``no`` and one base64 value.
"""

import base64
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.tools import require, run

SOURCES = Path(__file__).parents[1] / "interop" / "peers"
JARS = ("bcmail", "bcpkix", "bcprov", "bcutil", "javax.mail", "javax.activation")


class PeerError(Exception):
    """The peer would not, or could not; the argument is what it said."""


class Peer:
    """A running peer."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def ask(self, command: str, **values: bytes | str) -> bytes:
        """One request and its answer. Raises :class:`PeerError`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        words = [command]
        for name, value in values.items():
            octets = value.encode() if isinstance(value, str) else value
            words.append(f"{name}={base64.b64encode(octets).decode()}")
        self._process.stdin.write(" ".join(words).encode() + b"\n")
        self._process.stdin.flush()
        said, _, answer = self._process.stdout.readline().decode().strip().partition(" ")
        octets = base64.b64decode(answer)
        if said != "ok":
            raise PeerError(octets.decode() or said)
        return octets


@contextmanager
def bouncy_castle(folder: Path, level: int = 1) -> Iterator[Peer]:
    """Bouncy Castle, compiled into ``folder``; at ``level`` 1 Java starts fastest, at 4 it runs fastest."""
    require("java", "javac")
    path = os.pathsep.join([*(f"/usr/share/java/{jar}.jar" for jar in JARS), str(folder)])
    run("javac", "-nowarn", "-cp", path, "-d", folder, SOURCES / "BouncyCastle.java")
    options = ("-Xshare:auto", f"-XX:TieredStopAtLevel={level}", "-cp", path)
    with _started("java", *options, "BouncyCastle") as peer:
        yield peer


@contextmanager
def pkijs() -> Iterator[Peer]:
    """PKI.js on Node's WebCrypto, its packages installed where its script stands."""
    require("node", "npm")
    if not (SOURCES / "node_modules" / "pkijs").exists():
        run("npm", "ci", "--prefix", SOURCES, "--no-audit", "--no-fund", "--ignore-scripts", timeout=300)
    with _started("node", str(SOURCES / "pkijs.mjs")) as peer:
        yield peer


@contextmanager
def _started(*argv: str) -> Iterator[Peer]:
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Peer(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)
