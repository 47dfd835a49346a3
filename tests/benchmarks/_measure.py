"""What the benchmarks share: medians of whole processes, in turn with their peer's, and one report line."""

import compileall
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

MEDMAIL = str(Path(sys.executable).parent / "medmail")

# as an installed package is: under PYTHONDONTWRITEBYTECODE every run would compile what has changed
compileall.compile_dir(Path(__file__).parents[2] / "medmail_cli", quiet=1)

Run = Callable[[], object]


def process(*argv: str, stdin: bytes | None = None, env: dict[str, str] | None = None) -> Run:
    """A run of one command, its output thrown away; a failure stops the benchmark."""

    def run() -> None:
        subprocess.run(
            argv, input=stdin, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True
        )

    return run


def seconds(run: Run) -> float:
    """Wall time of one run."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def compare(name: str, ours: Run, peer: Run, *, limit: float, runs: int = 9, warm: int = 1) -> float:
    """Time both in turn, print the medians and their ratio, and give the ratio."""
    for _ in range(warm):
        ours()
        peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(runs)]
    mine = statistics.median(pair[0] for pair in pairs)
    theirs = statistics.median(pair[1] for pair in pairs)
    report(name, mine, theirs, limit)
    return mine / theirs


def report(name: str, mine: float, theirs: float, limit: float) -> None:
    """One line: medians in milliseconds, their ratio and the limit set for it."""
    ratio = mine / theirs
    verdict = "ok" if ratio <= limit else "MISSED"
    print(
        f"{name:<58} {mine * 1000:9.1f} ms  peer {theirs * 1000:9.1f} ms  ratio {ratio:6.3f}"
        f"  (at most {limit:g})  {verdict}",
        flush=True,
    )


def peak_kib(argv: Sequence[str], env: dict[str, str] | None = None) -> int:
    """Peak resident memory of one process, in KiB."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=-3);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], env=env, stdout=subprocess.PIPE, check=True)
    return int(done.stdout)
