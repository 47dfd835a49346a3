"""Run a Python program as a process of its own that begins as a fork of one that has loaded medmail.

Most of what a short command costs is loading modules, and the tests run thousands. Each run is a real
process: own streams, environment, folder, exit; what kills it kills nothing else. Two things are not as when
the interpreter starts anew: the hash seed, and that modules which a run did not ask for are there as well. A
run whose environment the interpreter or a library reads as it starts is started anew (:func:`_at_start`).

The process that forks is started with the first run and ends with the test's process.
"""

import array
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_STREAMS = 3


def run(
    argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes = b"", timeout: float
) -> "subprocess.CompletedProcess[bytes]":
    """Run the Python script ``argv[0]`` with these words, its streams caught; raises TimeoutExpired."""
    if _at_start(env) != _at_start(_environment()):
        return subprocess.run(
            [sys.executable, "-P", *argv],
            env=env,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    ours, theirs = socket.socketpair()
    pipes = [os.pipe() for _ in range(_STREAMS)]
    given = [theirs.fileno(), pipes[0][0], pipes[1][1], pipes[2][1]]
    _forking().sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", given))])
    theirs.close()
    for fd in given[1:]:
        os.close(fd)
    said: list[bytes] = [b"", b""]
    threads = [
        threading.Thread(target=_write, args=(pipes[0][1], stdin)),
        *(threading.Thread(target=_read, args=(pipes[1 + i][0], said, i)) for i in range(2)),
    ]
    for thread in threads:
        thread.start()
    with ours, ours.makefile("rw", encoding="utf-8") as talk:
        talk.write(json.dumps([list(argv), dict(env), str(Path.cwd())]) + "\n")
        talk.flush()
        pid = int(talk.readline())
        ours.settimeout(timeout)
        try:
            code = int(talk.readline())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(argv, timeout, *said) from None
        finally:
            for thread in threads:
                thread.join()
    return subprocess.CompletedProcess(argv, code, *said)


def _write(fd: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(fd, "wb") as stream:
        stream.write(data)


def _read(fd: int, said: list[bytes], i: int) -> None:
    with open(fd, "rb") as stream:
        said[i] = stream.read()


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    """What the interpreter, libraries or modules read once, as they start or are loaded."""
    prefixes = ("PYTHON", "TYPER_", "_TYPER_", "LD_", "MALLOC_", "OPENSSL_")
    names = {"TZ", "TERMINAL_WIDTH", "GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS"}
    found = {n: v for n, v in env.items() if n in names or n.startswith(prefixes)}
    # set or not, the package's bytecode is there, and nothing is compiled again
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found | {"": env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or "C"}


@functools.cache
def _environment() -> dict[str, str]:
    """What the process that forks is started with."""
    around = {n: v for n, v in os.environ.items() if not n.startswith(("MEDMAIL_", "LC_", "LANG"))}
    return around | {"LC_ALL": "C.UTF-8"}


_first = threading.Lock()


def _forking() -> socket.socket:
    """The connection to the process that forks."""
    with _first:
        return _start(os.getpid())


@functools.cache
def _start(_pid: int) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=_environment(),
            # as those of the runs are: a stream finds out once whether it can be sought in
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def end() -> None:
        ours.close()
        process.communicate()

    atexit.register(end)
    return ours


def _main() -> None:
    """Load the package, then fork for each run that is asked for, until nobody can ask any more."""
    asking = socket.socket(fileno=int(sys.argv[1]))
    package = importlib.import_module("medmail_cli")
    for module in pkgutil.walk_packages(package.__path__, "medmail_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.freeze()  # what is never looked at stays shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none of the forks is waited for here
    while True:
        _data, given, _flags, _address = socket.recv_fds(asking, 1, 1 + _STREAMS)
        if not given:
            return
        if os.fork() == 0:
            asking.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _serve(given)
            return
        for fd in given:
            os.close(fd)


def _serve(given: Sequence[int]) -> None:
    """Fork once more, tell who runs and how it ended; what runs comes back from here as a script ends."""
    talk = socket.socket(fileno=given[0]).makefile("rw", encoding="utf-8")
    argv, env, folder = json.loads(talk.readline())
    pid = os.fork()
    if pid:
        for fd in given[1:]:
            os.close(fd)
        talk.write(f"{pid}\n")
        talk.flush()
        talk.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        talk.flush()
        os._exit(0)
    for i in range(_STREAMS):
        os.dup2(given[1 + i], i)
    os.closerange(_STREAMS, max(given) + 1)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv = argv
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    _main()
