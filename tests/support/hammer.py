"""A batch that is killed again and again, and what must be true in the end by the authority's own list."""

import random
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from medmail_cli.sandbox.operator import Operator
from medmail_cli.store.keys.identity import key_digest
from medmail_cli.store.keys.keystore import Keystore
from tests.support.cli import MEDMAIL, medmail
from tests.support.homes import by_cmp
from tests.support.killer import KILLED, run_killed_at
from tests.support.rosters import enrol, environment, person, registrar, report, roster, rows, use_profile

METHODS = ("est", "same-answer", "cmp", "two")
"""Plain EST, EST where a request that comes again gets the same certificate, CMP, and plain EST where each
person gets one certificate to sign and one to be written to."""

_PERSON, _JOURNAL = "medmail_cli.workflows.batch.person", "medmail_cli.store.batch_journal.Journal"
_LOG, _TRANSPORT = "medmail_cli.store.log.writer.AuditLog", "medmail_cli.transport"
STEPS: dict[str, str] = {
    "before the journal is open": f"call {_JOURNAL}.__enter__",
    "after the journal is read": f"return {_JOURNAL}.__enter__",
    "before a key is made": f"call {_PERSON}.prepare",
    "after a key is on disk": f"return {_PERSON}.prepare",
    "before the journal is written": f"call {_JOURNAL}.add",
    "after the journal is written": f"return {_JOURNAL}.add",
    "before the log is told what will be": f"call {_LOG}.intents",
    "after the log is told what will be": f"return {_LOG}.intents",
    "before the authority is asked": f"call {_TRANSPORT}.METHOD.enrol",
    "while the request is sent": "c_call _SSLSocket.write",
    "while the answer is read": "c_call _SSLSocket.read",
    "after the authority has answered": f"return {_TRANSPORT}.METHOD.enrol",
    "before anything is handed out": f"call {_PERSON}.hand_out",
    "while it is handed out": "c_call rename",
    "after it is handed out": f"return {_PERSON}.hand_out",
    "before the log is told what was": f"call {_LOG}.outcomes",
    "after the log is told what was": f"return {_LOG}.outcomes",
    "before what waited is taken away": f"call {_PERSON}.forget",
    "after what waited is taken away": f"return {_PERSON}.forget",
}
"""The steps of a batch, as the killer counts them; METHOD is the authority's class."""
_ONCE = {"before the journal is open", "after the journal is read"}
"""Steps that a run comes to once only."""


@dataclass(frozen=True)
class Batch:
    """A roster of so many people, their registrar, and where what they get is laid down."""

    operator: Operator
    method: str
    home: Path
    roster: Path
    count: int

    @classmethod
    def create(cls, operator: Operator, folder: Path, count: int, method: str = "est") -> "Batch":
        """A new one in ``folder``; the operator answers as ``method`` (of ``METHODS``) wants from now on."""
        home = registrar(folder, operator)
        if method == "cmp":
            by_cmp(home, operator)
        elif method == "same-answer":
            text = (home / "config.toml").read_text()
            table = "[authorities.order]\n"
            assert table in text
            (home / "config.toml").write_text(text.replace(table, f"{table}same-answer = true\n"))
        elif method == "two":
            use_profile(home, 'certificates = "two"\n')
        return cls(operator, method, home, roster(folder / "r.csv", map(person, range(count))), count)

    @property
    def out(self) -> Path:
        return self.roster.parent / "out"

    @property
    def argv(self) -> list[str]:
        return ["enrol", "batch", str(self.roster), "--key", "p256", "--out-dir", str(self.out), "-q"]


Stroke = Callable[[Batch], int]
"""Runs a batch and kills it at some time; the exit, which is 0 where it came to its end before."""


def at_random(chance: random.Random, longest: float = 0.2) -> Stroke:
    """A kill at any time of the start, or in so many seconds from when the journal begins to grow."""

    def stroke(batch: Batch) -> int:
        journal = batch.out / "journal.jsonl"
        before, late = size(journal), chance.random() < 0.7
        with subprocess.Popen(
            [MEDMAIL, *batch.argv], env=environment(batch.home), stdout=subprocess.DEVNULL
        ) as run:
            while late and run.poll() is None and size(journal) == before:
                time.sleep(0.01)
            try:
                return run.wait(chance.uniform(0.0, longest if late else 0.6))
            except subprocess.TimeoutExpired:
                run.kill()
                return run.wait()

    return stroke


def at_step(step: str, k: int) -> Stroke:
    """A kill when the batch comes to one of ``STEPS`` for the k-th time."""

    def stroke(batch: Batch) -> int:
        authority = "cmp.CmpAuthority" if batch.method == "cmp" else "est.EstAuthority"
        at = STEPS[step].replace("METHOD", authority)
        return run_killed_at(["medmail", *batch.argv], k, at=at, env=environment(batch.home)).returncode

    return stroke


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def hammer(batch: Batch, strokes: Iterable[tuple[str, Stroke]]) -> Counter[str]:
    """Kill a batch with each of the named strokes until it has ended by itself, then check its end.

    How many kills there were of each name.
    """
    before, kills = len(batch.operator.authority.issued), Counter[str]()
    for name, stroke in strokes:
        if (code := stroke(batch)) == 0:
            break
        assert code == KILLED, (name, code)
        kills[name] += 1
    check_end(batch, before)
    return kills


def check_end(batch: Batch, before: int) -> None:
    """The batch completes, and agrees with the authority's list of all it has issued after ``before``."""
    path = batch.roster.parent / "r.jsonl"
    done = enrol(batch.home, batch.roster, "--out-dir", batch.out, "--report", path)
    assert done.exit == 0, done.stderr
    found, issued = rows(done), batch.operator.authority.issued[before:]
    assert len(found) == batch.count
    told = {line["address"]: line for line in report(path)[1:-1]}
    assert told.keys() == found.keys()
    of_person: defaultdict[str, list[x509.Certificate]] = defaultdict(list)
    for one in issued:
        of_person[whose(one)].append(one)
    assert sorted(of_person) == sorted(found)
    in_use = [
        one
        for address, row in found.items()
        for one in check_person(batch, row, told[address], of_person[address])
    ]
    assert list((batch.out / ".pending").iterdir()) == []
    check_log(batch, in_use, issued)


def check_person(
    batch: Batch, row: dict[str, Any], line: dict[str, Any], issued: list[x509.Certificate]
) -> list[x509.Certificate]:
    """A person has one certificate a purpose in use, and every other one issued is accounted for. Those."""
    revoked, given = batch.operator.authority.revoked, row["certificates"]
    purposes = ["encrypt", "sign"] if batch.method == "two" else ["both"]
    assert sorted(one["purpose"] for one in given) == purposes
    used = [one for one in issued if sha256(one) in {each["sha256"] for each in given}]
    assert {f"{one.serial_number:x}" for one in used} == {one["serial"] for one in given}
    assert [one.serial_number for one in used if one.serial_number in revoked] == []
    held = Keystore(batch.out / row["address"] / "keystore").identities()
    assert len(held) == len(used) == len(purposes)
    assert {(one.state, one.certificate) for one in held} == {("active", one) for one in used}
    assert Path(row["password_file"]).read_bytes().strip()
    # a key is on disk before it is asked for: there never was another one
    assert len({key_digest(one.public_key()) for one in issued}) == len(purposes)
    extra = [one for one in issued if one not in used and one.serial_number not in revoked]
    doubtful = batch.method in ("est", "two") and row["unanswered"] > 0
    assert (row["status"] == "possible-duplicate") == (line["status"] == "possible-duplicate") == doubtful
    assert len(extra) <= (row["unanswered"] if doubtful else 0), (row, len(extra))
    return used


def check_log(batch: Batch, in_use: list[x509.Certificate], issued: list[x509.Certificate]) -> None:
    """The audit log tells of each certificate in use, of no other, and had announced all that were issued."""
    verified = medmail(batch.home, "audit", "verify")
    assert verified.exit == 0, verified.stderr
    entries = [e for e in medmail(batch.home, "audit", "log", "--json").objects if e["type"] == "entry"]
    intents = {e["index"]: e for e in entries if e["kind"] == "intent" and e["action"] == "enrol"}
    outcomes = {e["of"]: e for e in entries if e["kind"] == "outcome" and e["action"] == "enrol"}
    # each intent has come to an end, once
    assert intents.keys() == outcomes.keys()
    assert len(outcomes) == sum(e["kind"] == "outcome" and e["action"] == "enrol" for e in entries)
    ended_well = [index for index, one in outcomes.items() if one["outcome"] == "done"]
    assert {digest for index in ended_well for digest in outcomes[index]["objects"]} == {
        sha256(one) for one in in_use
    }
    of_key = {key_digest(one.public_key()): one for one in in_use}
    announced = Counter(digest for one in intents.values() for digest in one["objects"])
    assert announced.keys() == of_key.keys()
    for index in ended_well:
        (digest,) = intents[index]["objects"]
        assert outcomes[index]["objects"] == [sha256(of_key[digest])]
    for digest, number in Counter(key_digest(one.public_key()) for one in issued).items():
        assert number <= announced[digest], whose(of_key[digest])


def whose(certificate: x509.Certificate) -> str:
    """The address it certifies."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (address,) = names.get_values_for_type(x509.RFC822Name)
    return address


def sha256(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def strokes(chance: random.Random, most: int) -> Iterator[tuple[str, Stroke]]:
    """Without end: each step in an order of chance, at its first to ``most``-th time; any time between."""
    while True:
        for step in chance.sample(list(STEPS), len(STEPS)):
            yield step, at_step(step, 1 if step in _ONCE else chance.randint(1, most))
            yield "at random", at_random(chance)
