"""Enrolling a roster at the sandbox's authority: time a person, memory, jobs, shards; a shell loop beside."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks._measure import MEDMAIL, report
from tests.support.rosters import environment, person, roster
from tests.support.sandbox import Sandbox, sandbox

MANY = int(os.environ.get("BENCH_PEOPLE", "10000"))
SOME, FEW = MANY // 10, 300

LOOP = r"""
set -e
cd "$1"
while IFS=, read -r address rest; do
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$address.key" \
    -subj "/CN=$address" -addext "subjectAltName=email:$address" -outform DER -out "$address.csr" 2>/dev/null
  openssl base64 -in "$address.csr" |
    curl --silent --fail --cacert "$2" --user "registrar@medecin.test:$3" \
      --header 'Content-Type: application/pkcs10' --data-binary @- "$4/simpleenroll" |
    openssl base64 -d | openssl pkcs7 -inform DER -print_certs -out "$address.pem"
done
"""


@dataclass(frozen=True)
class Run:
    """One batch: seconds of wall and of processors, the client's and the authority's; memory in KiB."""

    wall: float
    client: float
    memory: int
    authority: float


def main() -> None:
    """Everything in one run, with one authority."""
    with tempfile.TemporaryDirectory() as name, sandbox("--mailbox", "registrar@medecin.test") as running:
        folder = Path(name)
        home = folder / "registrar"
        shutil.copytree(running.home("registrar@medecin.test"), home)
        (folder / "registrar.passphrase").write_text("benchmark\n")
        few = roster(folder / "few.csv", map(person, range(FEW)))
        enrol(running, home, few, folder / "warm")
        mine = enrol(running, home, few, folder / "few", "--p12")
        begun = time.perf_counter()
        loop(running, folder, few)
        theirs = time.perf_counter() - begun
        report(f"{FEW} people by PKCS#12 / openssl req + curl", mine.wall, theirs, limit=0.2)

        some = roster(folder / "some.csv", map(person, range(SOME)))
        many = roster(folder / "many.csv", map(person, range(MANY)))
        runs = {
            f"{SOME} people, 1 job": enrol(running, home, some, folder / "s1", "--jobs", "1"),
            f"{SOME} people, 4 jobs": enrol(running, home, some, folder / "s4", "--jobs", "4"),
            f"{SOME} people, 2 shards of 2 jobs": shards(running, home, some, folder / "s2"),
            f"{MANY} people, 4 jobs": enrol(running, home, many, folder / "m4", "--jobs", "4"),
            f"{MANY} people, all done before": enrol(running, home, many, folder / "m4", "--jobs", "4"),
        }
        for what, run in runs.items():
            count = int(what.split()[0])
            print(
                f"{what:<34} {run.wall:7.1f} s  a person: {1000 * run.wall / count:5.1f} ms, client"
                f" {1000 * run.client / count:5.2f} ms, authority {1000 * run.authority / count:5.2f} ms"
                f"  peak {run.memory >> 10} MiB",
                flush=True,
            )


def enrol(running: Sandbox, home: Path, path: Path, out: Path, *options: str) -> Run:
    """One batch in a process of its own."""
    words = [MEDMAIL, "enrol", "batch", str(path), "--key", "p256", "--out-dir", str(out), *options]
    return timed(running, [(words, environment(home))])


def shards(running: Sandbox, home: Path, path: Path, out: Path) -> Run:
    """Two shards at a time, each with the registrar's home of a machine of its own."""
    runs = []
    for index in range(2):
        own = home.parent / f"machine{index}"
        shutil.copytree(home, own)
        shutil.copy(home.parent / "registrar.passphrase", f"{own}.passphrase")
        words = [MEDMAIL, "enrol", "batch", str(path), "--key", "p256", "--out-dir", str(out / str(index))]
        runs.append(([*words, "--jobs", "2", "--shard", f"{index}/2"], environment(own)))
    return timed(running, runs)


def timed(running: Sandbox, runs: list[tuple[list[str], dict[str, str]]]) -> Run:
    """Run commands side by side."""
    before, theirs = resource.getrusage(resource.RUSAGE_CHILDREN), processor(running)
    begun = time.perf_counter()
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=-3);"
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    started = [
        subprocess.Popen([sys.executable, "-c", code, *words], env=env, stdout=subprocess.PIPE, text=True)
        for words, env in runs
    ]
    said = [one.communicate()[0] for one in started]
    assert all(one.returncode == 0 for one in started)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    client = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, client, max(map(int, said)), processor(running) - theirs)


def processor(running: Sandbox) -> float:
    """Seconds of processor that the authority has used so far."""
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def loop(running: Sandbox, folder: Path, path: Path) -> None:
    """The same by the shell: a key, a request, and a certificate for each, in files."""
    out = folder / "loop"
    out.mkdir()
    people = "\n".join(path.read_text().splitlines()[1:]) + "\n"
    anchors = Path(running.ready["folder"]) / "order-ca.pem"
    words = [str(out), str(anchors), running.password, running.ready["est_url"]]
    subprocess.run(["sh", "-c", LOOP, "sh", *words], input=people, text=True, check=True)
    assert sum("BEGIN CERTIFICATE" in one.read_text() for one in out.glob("*.pem")) == FEW


if __name__ == "__main__":
    main()
