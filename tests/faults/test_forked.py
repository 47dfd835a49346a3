"""A run that is forked is in all a script can see of itself as one that is started."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import forked

LOOKS = """
import json, locale, os, signal, sys
streams = (sys.stdin, sys.stdout, sys.stderr)
seen = {
    "name": __name__,
    "words": sys.argv,
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "given": sys.stdin.buffer.read().hex(),
    "streams": [[s.fileno(), s.encoding, s.errors, s.line_buffering, s.buffer.seekable()] for s in streams],
    "open": sorted(os.listdir("/proc/self/fd")),
    "signals": {str(s): str(signal.getsignal(s)) for s in signal.valid_signals()},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "mask": os.umask(0o22),
    "group": os.getpgrp(),
    "locale": locale.setlocale(locale.LC_CTYPE, None),
    "safe": sys.flags.safe_path,
}
sys.stderr.write("told")
print(json.dumps(seen))
"""


def environment(**more: str) -> dict[str, str]:
    around = {n: v for n, v in os.environ.items() if not n.startswith(("LC_", "LANG", "PYTEST"))}
    return around | {"LC_ALL": "C.UTF-8", "MEDMAIL_HOME": "é\udcff"} | more


def script(folder: Path, text: str) -> str:
    path = folder / "script.py"
    path.write_text(text)
    return str(path)


def test_it_sees_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [script(tmp_path, LOOKS), "--to", "é\udcff", ""]
    runs = [
        forked.run(words, env=environment(**more), stdin=b"\x00\xff\r\n", timeout=60)
        for more in ({}, {"PYTHONHASHSEED": "1"})
    ]
    assert [(done.returncode, done.stderr) for done in runs] == [(0, b"told")] * 2
    forks, starts = (json.loads(done.stdout) for done in runs)
    del starts["environment"]["PYTHONHASHSEED"]
    assert forks == starts


def test_it_ends_the_same(tmp_path: Path) -> None:
    for text, code, said in (
        ("import sys; sys.exit(75)", 75, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("import atexit, os; atexit.register(os._exit, 3)", 3, ""),
    ):
        done = forked.run([script(tmp_path, text)], env=environment(), timeout=60)
        assert (done.returncode, done.stderr.decode(), done.stdout) == (code, said, b"")
    done = forked.run([script(tmp_path, "1 / 0")], env=environment(), timeout=60)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, b"ZeroDivisionError: division by zero")


def test_more_than_a_pipe_holds_goes_both_ways(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    path = script(tmp_path, "import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d + d)")
    assert forked.run([path], env=environment(), stdin=data, timeout=60).stdout == data + data
    unread = script(tmp_path, "import sys; sys.stdin.close()")
    assert forked.run([unread], env=environment(), stdin=data, timeout=60).returncode == 0


def test_what_does_not_end_is_killed(tmp_path: Path) -> None:
    endless = script(tmp_path, "import time; time.sleep(1000)")
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run([endless], env=environment(), timeout=0.5)
