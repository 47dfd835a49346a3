"""Kill a real run at each of its effects, one after the other.

A child runs the ``medmail`` entry point (or a script) in the real way and counts what it does to the world:
calls that write, sync, rename, link, remove or truncate files, that commit to SQLite, that send to or read
from a socket, and files opened for writing. Before the k-th of them it kills itself with SIGKILL, as a power
cut would. The interpreter itself reports these calls (``sys.setprofile`` and audit events), so nothing in
the program is replaced. Counting is the same from run to run as far as the run is.

    for k in kill_points(count_effects(argv, env=env)):
        prepare()
        run_killed_at(argv, k, env=env)
        assert_the_next_run_completes()
"""

import os
import runpy
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

KILLED = -signal.SIGKILL

_POSIX = frozenset(
    f"posix.{name}"
    for name in (
        "write",
        "pwrite",
        "writev",
        "sendfile",
        "fsync",
        "fdatasync",
        "ftruncate",
        "truncate",
        "replace",
        "rename",
        "link",
        "symlink",
        "unlink",
        "remove",
        "mkdir",
        "rmdir",
        "copy_file_range",
    )
)
_METHODS = frozenset(
    f"{kind}.{name}"
    for kind, names in {
        "FileIO": ("write", "truncate"),
        "BufferedWriter": ("write", "flush"),
        "BufferedRandom": ("write", "flush"),
        "TextIOWrapper": ("write", "flush"),
        "Connection": ("execute", "executemany", "executescript", "commit"),
        "Cursor": ("execute", "executemany", "executescript"),
        "socket": ("connect", "connect_ex", "send", "sendall", "sendto", "sendmsg", "recv", "recv_into"),
        "_SSLSocket": ("write", "read", "do_handshake", "shutdown"),
    }.items()
    for name in names
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def run_killed_at(
    argv: Sequence[str],
    k: int,
    *,
    at: str = "",
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float = 120.0,
) -> "subprocess.CompletedProcess[bytes]":
    """Run ``argv`` and kill it before its k-th effect (from 1; 0 never kills).

    With ``at`` the times a step is come to are counted instead: ``call package.module.Class.method`` or
    ``return …`` of Python's functions, ``c_call Class.method`` of the interpreter's own. ``argv[0]`` is
    ``medmail`` or the path of a Python script. ``returncode`` is ``KILLED``, or the run's own where it ended
    before so many.
    """
    return _run(argv, k, Path(os.devnull), env, stdin, timeout, at)


def count_effects(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float = 120.0,
) -> int:
    """Run ``argv`` to its end and give the number of its effects; the run must have ended with 0."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "count"
        done = _run(argv, 0, result, env, stdin, timeout)
        assert done.returncode == 0, done.stderr.decode()
        return int(result.read_text())


def kill_points(total: int, at_most: int | None = None) -> list[int]:
    """Which effects to kill before: all, or so many of them spread evenly, first and last included."""
    if at_most is None or total <= at_most:
        return list(range(1, total + 1))
    return sorted({1 + i * (total - 1) // (at_most - 1) for i in range(at_most)})


def _run(
    argv: Sequence[str],
    k: int,
    result: Path,
    env: Mapping[str, str] | None,
    stdin: bytes,
    timeout: float,
    at: str = "",
) -> "subprocess.CompletedProcess[bytes]":
    from tests.support import forked  # the child, which runs this file as a script, knows no tests

    # bytecode would be written in some runs and not in others
    environment = {**(os.environ if env is None else env), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [__file__, str(k), str(result), at, *argv]
    return forked.run(words, env=environment, stdin=stdin, timeout=timeout)


class _Doom:
    """Counts effects, or one step, in this process and ends it before the k-th."""

    def __init__(self, k: int, at: str) -> None:
        self.k = k
        self.event, _space, self.step = at.partition(" ")
        self.count = 0
        self.own_streams = {id(stream) for stream in (sys.stdout, sys.stderr)}
        self.own_streams |= {id(stream.buffer) for stream in (sys.stdout, sys.stderr)}
        self.watching = True

    def effect(self) -> None:
        self.count += 1
        if self.count == self.k:
            os.kill(os.getpid(), signal.SIGKILL)

    def profile(self, frame: FrameType, event: str, function: object) -> None:
        if not self.watching:
            return
        if self.step:
            if event == self.event and self.step == _name(frame, event, function):
                self.effect()
            return
        if event != "c_call":
            return
        name = getattr(function, "__qualname__", "")
        if name in _METHODS:
            if id(getattr(function, "__self__", None)) not in self.own_streams:
                self.effect()
        elif f"{getattr(function, '__module__', '')}.{name}" in _POSIX:
            self.effect()

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and self.watching and not self.step:
            path, _mode, flags = arguments
            if isinstance(flags, int) and flags & _WRITING and path != os.devnull:
                self.effect()


def _name(frame: FrameType, event: str, function: object) -> str:
    if event.startswith("c_"):
        return str(getattr(function, "__qualname__", ""))
    return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"


def _main() -> None:
    k, result, at, *argv = sys.argv[1:]
    doom = _Doom(int(k), at)
    sys.argv = argv
    sys.addaudithook(doom.audit)
    threading.setprofile(doom.profile)
    sys.setprofile(doom.profile)
    try:
        if argv[0] == "medmail":
            from medmail_cli.app import main

            main()
        else:
            runpy.run_path(argv[0], run_name="__main__")
    finally:
        sys.setprofile(None)
        doom.watching = False
        Path(result).write_text(str(doom.count))


if __name__ == "__main__":
    _main()
