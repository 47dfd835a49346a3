"""Fetching 5,000 messages of 20 kB from Dovecot, and fetching nothing new, against mbsync; both fsync.

Run as root, with isync (mbsync), Postfix and Dovecot from Debian's packages.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tests.benchmarks._measure import MEDMAIL, report
from tests.support import servers

_MBSYNC = """
FSync yes
IMAPAccount a
Host localhost
Port {port}
User {user}
PassCmd "cat {password}"
SSLType STARTTLS
CertificateFile {anchors}
AuthMechs PLAIN

IMAPStore far
Account a

MaildirStore near
Path {home}/
Inbox {home}/INBOX

Channel c
Far :far:
Near :near:
Patterns INBOX
Create Near
Expunge None
Sync Pull
SyncState *
"""


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Seconds a command takes; fails if it fails."""
    started = time.monotonic()
    # an installed program has its bytecode
    around = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, env=around | environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    operator = servers.start()
    folder = Path(tempfile.mkdtemp(prefix="medmail-bench-"))
    try:
        measure(operator, folder, options.messages, options.rounds)
    finally:
        operator.stop()
        shutil.rmtree(folder)


def measure(operator: servers.MailServers, folder: Path, messages: int, rounds: int) -> None:
    """Fetch everything and then nothing, alternately by both programs."""
    address = operator.new_mailbox()
    operator.inject(address, (servers.sample(n, 20_000) for n in range(messages)))
    home, peer = folder / "medmail", folder / "mbsync"
    config = folder / "mbsyncrc"
    config.write_text(
        _MBSYNC.format(
            port=operator.imap_port,
            user=address,
            password=operator.password_file(address),
            anchors=operator.anchors,
            home=peer,
        )
    )
    ours = [MEDMAIL, "fetch"]
    theirs = ["mbsync", "-q", "-c", str(config), "c"]
    environment = {"MEDMAIL_HOME": str(home)}
    figures: dict[str, list[float]] = {"all": [], "all, mbsync": [], "nothing": [], "nothing, mbsync": []}
    for round_ in range(rounds + 1):
        for place in (home, peer):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        operator.write_config(home, address)
        os.sync()
        taken = {"all, mbsync": timed(theirs, {}), "all": timed(ours, environment)}
        if round_:  # the first round warms Dovecot's caches
            for name, seconds in taken.items():
                figures[name].append(seconds)
    for _ in range(10):
        figures["nothing, mbsync"].append(timed(theirs, {}))
        figures["nothing"].append(timed(ours, environment))
    median = {name: statistics.median(values) for name, values in figures.items()}
    titles = {"all": f"fetch of {messages} messages of 20 kB", "nothing": "fetch with nothing new"}
    for name, most in (("all", 0.8), ("nothing", 1.0)):
        report(titles[name], median[name], median[f"{name}, mbsync"], most)


if __name__ == "__main__":
    main()
