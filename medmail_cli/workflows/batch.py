"""``medmail enrol batch``: a roster's worth of professionals, each with exactly one certificate in use.

Whatever a kill interrupts, the next run finds in the journal (:mod:`medmail_cli.store.runs`): a key is on
disk before its request leaves, the request is announced before it leaves, the certificate is written down
before it is handed out. Only where the answer to a request was lost does the same key ask again; if the
authority does not promise to answer that with the same certificate, the row says ``possible-duplicate``.
"""

import datetime as dt
import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.audit.entry import Intent, Outcome
from medmail_cli.cms.keys import SoftwareKey
from medmail_cli.errors import OK, MedmailError, NothingAttemptedError, exit_of
from medmail_cli.model import Progress
from medmail_cli.pki.address import canonical
from medmail_cli.pki.usage import key_type
from medmail_cli.store.identity import fingerprint, key_digest
from medmail_cli.store.runs import Journal, Record, State, received
from medmail_cli.workflows import batch_person
from medmail_cli.workflows.batch_person import Handout, Pending
from medmail_cli.workflows.batch_report import BatchRow, Status, of_row
from medmail_cli.workflows.roster import Fault, Professional, cell

if TYPE_CHECKING:
    from medmail_cli.model import Memory, PrivateKey
    from medmail_cli.store.auditlog import AuditLog
    from medmail_cli.workflows.keypairs import KeyChoice

Chain = tuple[x509.Certificate, ...]
Ask = Callable[[x509.CertificateSigningRequest, "PrivateKey", "Memory"], Chain]
"""An authority's ``enrol``: see :class:`medmail_cli.workflows.enrol.Authority`."""

_NO_LOGIN = {"no-secret", "secret-unreadable", "client-key-unusable", "no-identity", "wrong-passphrase"}
"""We could not say who asks."""
_UNISSUED = _NO_LOGIN | {
    "ca-refused", "ca-rejected", "ca-busy", "ca-pending", "ca-redirected", "server-untrusted",
}  # fmt: skip
"""After these, the request has brought no certificate, or will bring the same when it is sent again; as
after whatever kept a connection from being made."""
_NOT_THIS_ROW = _NO_LOGIN | {
    "server-unreachable", "server-untrusted", "ca-fingerprint-mismatch", "ca-redirected",
}  # fmt: skip
_GIVE_UP_AFTER = 3
"""Rows in a row that fail for a reason which is not theirs."""
_MOST_TRIES = 8
_LONGEST_PAUSE = 60.0
"""Seconds between two tries, where an authority that is busy does not say when to come again."""
PATIENCE = 600.0
"""Seconds to wait in all, without any success, for an authority that is busy."""


@dataclass(frozen=True)
class Registry:
    """What enrolling many needs; ``ask`` makes a way to the authority for one worker.

    ``same_answer``: the authority answers a repeated request with the same certificate.
    ``interval`` is the least time between two requests, in seconds.
    """

    journal: Journal
    log: "AuditLog"
    actor: str
    authority: str
    method: str
    ask: Callable[[], Ask]
    out: Handout
    now: Callable[[], dt.datetime]
    key: "KeyChoice" = "rsa3072"
    jobs: int = 1
    interval: float = 0.0
    same_answer: bool = False


def choose(
    rows: Sequence[Professional], only: Sequence[tuple[str, str]], shard: tuple[int, int]
) -> list[Professional]:
    """The rows that ``--only`` and ``--shard`` leave: any of a column's values, all of the columns.

    A shard is chosen by the SHA-256 of the address, so that another order or more rows move nobody.
    """
    wanted: dict[str, set[str]] = {}
    for column, value in only:
        wanted.setdefault(column, set()).add(value.casefold())
    index, count = shard
    return [
        row
        for row in rows
        if all(cell(row, column).casefold() in values for column, values in wanted.items())
        and (count == 1 or _slot(row.address, count) == index)
    ]


def _slot(address: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(canonical(address).encode()).digest()[:8]) % count


def faulty(faults: Sequence[Fault], *, skip_faulty: bool) -> Iterator[Fault]:
    """Tell of every fault. Raises ``faulty-rows`` unless the others shall be enrolled all the same."""
    yield from faults
    if faults and not skip_faulty:
        raise NothingAttemptedError("faulty-rows", count=len({fault.line for fault in faults}))


def enrol_batch(rows: Sequence[Professional], registry: Registry) -> Iterator[BatchRow | Progress]:
    """Enrol every row that has no valid certificate from this batch yet; each one's fate is an event.

    A row that fails leaves the others alone; where the authority itself fails, the rest is not attempted.
    """
    told, todo = 0, deque(rows)
    with ThreadPoolExecutor(registry.jobs, "enrol") as pool:
        run = _Run(registry, pool)
        try:
            while todo or run.under_way or run.to_ask:
                events: list[BatchRow] = []
                while todo and len(run.under_way) + len(run.to_ask) < 4 * registry.jobs:
                    events += run.begin(todo.popleft())
                if run.under_way or run.to_ask:
                    events += run.step()
                for event in events:
                    told += 1
                    yield event
                    yield Progress(told, len(rows), "people")
        finally:
            run.settle()


@dataclass
class _Row:
    """A row on its way: prepared, then asked for, then handed out."""

    row: Professional
    state: State
    pending: Pending | None = None
    chain: Chain = ()
    intent: int | None = None
    tries: int = 0

    @property
    def person(self) -> str:
        return canonical(self.row.address)

    @property
    def waiting(self) -> Pending:
        assert self.pending is not None  # noqa: S101 - it has been prepared
        return self.pending


_Phase = Literal["prepare", "ask", "hand-out"]


@dataclass
class _Run:
    """One thread writes journal and audit log, the others make keys, ask, and lay down what came."""

    registry: Registry
    pool: ThreadPoolExecutor
    under_way: "dict[Future[Any], tuple[_Phase, _Row]]" = field(default_factory=dict)
    to_ask: deque[_Row] = field(default_factory=deque)
    next_at: float = 0.0
    patience: float = PATIENCE
    failed_alike: int = 0
    stop: MedmailError | None = None
    asks: threading.local = field(default_factory=threading.local)

    def begin(self, row: Professional) -> Iterator[BatchRow]:
        state = self.registry.journal.state(canonical(row.address))
        done, now = state.done, self.registry.now()
        if done is not None and dt.datetime.fromisoformat(done["not_after"]) > now:
            batch_person.forget(row, self.registry.out)
            yield _shown(row, state, "unchanged")
        elif self.stop is not None:
            yield self._not_attempted(row)
        else:
            one = _Row(row, state)
            # ACME certifies an address and nothing else
            plain = replace(row, name="", rpps="", organisation="") if self.registry.method == "acme" else row
            self._submit("prepare", one, batch_person.prepare, plain, self.registry.key, self.registry.out)

    def step(self) -> Iterator[BatchRow]:
        """Send off what is prepared, then wait for something to end and see to it."""
        yield from self._send_off()
        pause = max(0.0, self.next_at - time.monotonic()) if self.to_ask else None
        if not self.under_way:
            time.sleep(pause or 0.0)
            return
        finished, _ = wait(self.under_way, pause if self._may_ask() else None, FIRST_COMPLETED)
        ended = [(future, *self.under_way.pop(future)) for future in finished]
        yield from self._handed_out([each for each in ended if each[1] == "hand-out"])
        self._received([each for each in ended if each[1] == "ask" and each[0].exception() is None])
        for future, phase, one in ended:
            if phase == "prepare" and future.exception() is None:
                self._prepared(one, future.result())
            elif (error := future.exception()) is not None:
                yield from self._failed(phase, one, error)

    def settle(self) -> None:
        """However the run ends: certificates that are on their way are not lost."""
        for future in self.under_way:
            future.cancel()
        asked = [
            (future, phase, one)
            for future, (phase, one) in self.under_way.items()
            if phase == "ask" and not future.cancelled() and future.exception() is None
        ]
        self._record([one for _, _, one in asked], [future.result() for future, _, _ in asked])

    # -- prepare

    def _prepared(self, one: _Row, pending: Pending) -> None:
        one.pending = pending
        chain = tuple(map(x509.load_der_x509_certificate, one.state.chain))
        if chain and key_digest(chain[0].public_key()) == pending.key_sha256:
            # it came before a kill
            (one.intent,) = self.registry.log.intents([self._intent(one)])
            self._hand_out(one, chain)
        else:
            self.to_ask.append(one)

    # -- ask

    def _may_ask(self) -> bool:
        return sum(phase == "ask" for phase, _ in self.under_way.values()) < self.registry.jobs

    def _send_off(self) -> Iterator[BatchRow]:
        if self.stop is not None:
            while self.to_ask:
                yield self._not_attempted(self.to_ask.popleft().row)
            return
        leaving: list[_Row] = []
        asking = sum(phase == "ask" for phase, _ in self.under_way.values())
        while self.to_ask and asking + len(leaving) < self.registry.jobs and self.next_at <= time.monotonic():
            leaving.append(self.to_ask.popleft())
            if self.registry.interval:
                self.next_at = max(self.next_at, time.monotonic() - 1.0) + self.registry.interval
        if leaving:
            self.registry.journal.add(Record(one.person, "asked") for one in leaving)
            intents = self.registry.log.intents(map(self._intent, leaving))
            for one, intent in zip(leaving, intents, strict=True):
                one.intent, one.tries = intent, one.tries + 1
                self._submit("ask", one, self._asked, one)

    def _intent(self, one: _Row) -> Intent:
        facts = {
            "address": one.row.address,
            "method": self.registry.method,
            "authority": self.registry.authority,
        }
        return Intent("enrol", self.registry.actor, (one.waiting.key_sha256,), facts)

    def _asked(self, one: _Row) -> Chain:
        """In a worker, each of which has a connection of its own."""
        if not hasattr(self.asks, "ask"):
            self.asks.ask = self.registry.ask()
        memory = batch_person.memory(one.row, self.registry.out)
        csr = x509.load_der_x509_csr(one.waiting.request)
        found: Chain = self.asks.ask(csr, SoftwareKey(one.waiting.key), memory)
        return found

    def _received(self, ended: "Sequence[tuple[Future[Any], _Phase, _Row]]") -> None:
        chains = [future.result() for future, _, _ in ended]
        self._record([one for _, _, one in ended], chains)
        for (_, _, one), chain in zip(ended, chains, strict=True):
            self.failed_alike, self.patience = 0, PATIENCE
            self._hand_out(one, chain)

    def _record(self, rows: Sequence[_Row], chains: Sequence[Chain]) -> None:
        self.registry.journal.add(
            received(one.person, [each.public_bytes(Encoding.DER) for each in chain])
            for one, chain in zip(rows, chains, strict=True)
        )

    # -- hand out

    def _hand_out(self, one: _Row, chain: Chain) -> None:
        one.chain = chain
        out, now = self.registry.out, self.registry.now()
        self._submit("hand-out", one, batch_person.hand_out, one.row, one.waiting, chain, out, now)

    def _handed_out(self, ended: "Sequence[tuple[Future[Any], _Phase, _Row]]") -> Iterator[BatchRow]:
        good = [(one, future.result()) for future, _, one in ended if future.exception() is None]
        records = []
        for one, (path, secret) in good:
            certificate = one.chain[0]
            facts = {
                "key": key_type(certificate.public_key()),
                "sha256": fingerprint(certificate),
                "serial": f"{certificate.serial_number:x}",
                "not_after": certificate.not_valid_after_utc.isoformat(),
                "saved_as": str(path),
                "password_file": str(secret),
            }
            doubtful = one.state.unanswered and not self.registry.same_answer
            records.append(
                Record(
                    one.person, "done", facts | {"status": "possible-duplicate" if doubtful else "enrolled"}
                )
            )
        self.registry.log.outcomes(
            Outcome(one.intent, "done", OK, objects=(record.facts["sha256"],))
            for (one, _), record in zip(good, records, strict=True)
            if one.intent is not None
        )
        self.registry.journal.add(records)
        for one, _ in good:
            batch_person.forget(one.row, self.registry.out)
            yield _shown(one.row, one.state, "enrolled")

    # -- what goes wrong

    def _failed(self, phase: _Phase, one: _Row, error: BaseException) -> Iterator[BatchRow]:
        if not isinstance(error, MedmailError):
            raise error
        code = error.code
        if phase == "ask" and (code in _UNISSUED or error.facts.get("sent") is False):
            self.registry.journal.add([Record(one.person, "refused", {"code": code})])
        if one.intent is not None:
            facts = {"error": code}
            self.registry.log.outcomes([Outcome(one.intent, "failed", exit_of(code), facts=facts)])
            one.intent = None
        if code == "ca-busy" and one.tries < _MOST_TRIES:
            if self._wait_for(error, one.tries):
                self.to_ask.appendleft(one)
                return
            self.stop = error
        systemic = code in _NOT_THIS_ROW or (code == "ca-refused" and error.facts.get("status") == 401)
        self.failed_alike = self.failed_alike + 1 if systemic or code == "ca-busy" else 0
        if self.failed_alike >= _GIVE_UP_AFTER or code in ("disk-full", "not-writable"):
            self.stop = error
        told = (error.facts.get(name) for name in ("detail", "reason", "path"))
        detail = next(filter(None, told), None)
        yield of_row(
            one.row,
            "waiting" if code == "ca-pending" else "failed",
            requests=one.state.asked,
            unanswered=one.state.unanswered + one.state.pending,
            code=code,
            detail=str(detail) if detail else None,
            exit=exit_of(code),
        )

    def _wait_for(self, error: MedmailError, tries: int) -> bool:
        """Ask nothing, by any worker, as long as the authority wants; False if that is too long in all."""
        asked, now = error.facts.get("seconds"), time.monotonic()
        until = now + (asked if isinstance(asked, int) and asked else min(2.0 ** (tries - 1), _LONGEST_PAUSE))
        longer = until - max(self.next_at, now)
        if longer > self.patience:
            return False
        if longer > 0:
            # several workers hear the same; they wait once
            self.patience -= longer
            self.next_at = until
        return True

    def _not_attempted(self, row: Professional) -> BatchRow:
        assert self.stop is not None  # noqa: S101 - the callers' condition
        return of_row(row, "not-attempted", code=self.stop.code, exit=exit_of(self.stop.code))

    def _submit(self, phase: _Phase, one: _Row, work: Callable[..., Any], *arguments: Any) -> None:
        self.under_way[self.pool.submit(work, *arguments)] = (phase, one)


def _shown(row: Professional, state: State, status: Status) -> BatchRow:
    """What the journal knows of a row that is done; a doubt stays."""
    done = state.done or {}
    return of_row(
        row,
        "possible-duplicate" if done.get("status") == "possible-duplicate" else status,
        key=done.get("key"),
        sha256=done.get("sha256"),
        serial=done.get("serial"),
        not_after=dt.datetime.fromisoformat(done["not_after"]),
        saved_as=Path(done["saved_as"]),
        password_file=Path(done["password_file"]),
        requests=state.asked,
        unanswered=state.unanswered,
    )
