"""The audit log: what an append costs as the log grows, and verifying a million entries."""

import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from medmail_cli.store.log.writer import AuditLog, Intent, Outcome
from tests.benchmarks._measure import MEDMAIL, compare, peak_kib, process, report

BARE = """\
import hashlib, sys
with open(sys.argv[1], "rb") as file:
    for line in file:
        hashlib.sha256(line).digest()
"""
MILLION = 1_000_000
APPENDS = 300


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def grow(folder: Path, size: int) -> None:
    """Let the log grow to ``size`` entries like those of letters sent."""
    with AuditLog(folder, now) as log:
        log.sign()
        while (left := size - log._size) > 0:
            count = min(5000, (left + 1) // 2)
            intents = log.intents(
                [Intent("send", "dr.martin@medecin.test", ("ab" * 32,), {"recipient": "labo@medecin.test"})]
                * count
            )
            log.outcomes(
                [Outcome(intent, "done", 0, "250 2.0.0 Ok: queued as 4F3A11C0042") for intent in intents][
                    : left - count
                ]
            )


def append_seconds(folder: Path) -> float:
    """The median time of one durable append, opening included once."""
    times = []
    with AuditLog(folder, now) as log:
        log.event("warm")
        for _ in range(APPENDS):
            begun = time.perf_counter()
            log.event("measured")
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def run_seconds(folder: Path) -> float:
    """The median time of a whole run with one entry: open, register, append, sign, close."""
    times = []
    for _ in range(25):
        begun = time.perf_counter()
        with AuditLog(folder, now) as log:
            log.event("measured")
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def main() -> None:
    """Appending at 1,000 and at 1,000,000 entries; verifying 1,000,000 against a bare loop."""
    with tempfile.TemporaryDirectory() as home:
        small, large = Path(home) / "small", Path(home) / "audit"
        grow(small, 1000)
        grow(large, MILLION)
        report("audit: append at 1,000,000 / at 1,000", append_seconds(large), append_seconds(small), 1.3)
        report("audit: a run's log at 1,000,000 / at 1,000", run_seconds(large), run_seconds(small), 1.3)
        env = {**os.environ, "MEDMAIL_HOME": home}
        compare(
            "medmail audit verify of 1,000,000 / bare loop of hashes",
            process(MEDMAIL, "audit", "verify", env=env),
            process(sys.executable, "-c", BARE, str(large / "entries.jsonl")),
            limit=4,
            runs=3,
        )
        size = (large / "entries.jsonl").stat().st_size
        peak = peak_kib([MEDMAIL, "audit", "verify"], env)
        print(f"audit: verify peaks at {peak // 1024} MiB for {size >> 20} MiB of entries")


if __name__ == "__main__":
    main()
