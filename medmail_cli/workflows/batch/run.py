"""``medmail enrol batch``: a roster's worth of professionals, each with one certificate in use for each key.

Whatever a kill interrupts, the next run finds in the journal (:mod:`medmail_cli.store.batch_journal`): a key
is on disk before its request leaves, the request is announced before it leaves, the certificate is written
down before the next key's is asked for, and before all are handed out. Only where the answer to a request was
lost does the same key ask again; if the authority does not promise to answer that with the same
certificate, the row says ``possible-duplicate``.
"""

import datetime as dt
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medmail_cli.audit.entry import Intent, Outcome
from medmail_cli.codes import OK
from medmail_cli.errors import MedmailError, exit_of
from medmail_cli.model import Progress
from medmail_cli.pki.x509.address import canonical
from medmail_cli.registers import PROTOCOLS
from medmail_cli.store.batch_journal import Journal, Record, State, received
from medmail_cli.workflows.batch import person
from medmail_cli.workflows.batch.choice import is_done
from medmail_cli.workflows.batch.person import Chain, Handout, Prepared
from medmail_cli.workflows.batch.report import BatchRow, given_out, of_done, of_row, plain
from medmail_cli.workflows.batch.roster import Professional
from medmail_cli.workflows.batch.throttle import Throttle
from medmail_cli.workflows.enrol.certified import serves_for
from medmail_cli.workflows.enrol.key_pairs import Pair

if TYPE_CHECKING:
    from medmail_cli.model import Memory, PrivateKey
    from medmail_cli.store.log.run import RunContext
    from medmail_cli.workflows.enrol.escrow import Escrow

Ask = Callable[[x509.CertificateSigningRequest, "PrivateKey", "Memory"], Chain]
"""An authority's ``enrol``: see :class:`medmail_cli.workflows.enrol.authority.Authority`."""

_NO_LOGIN = {"no-secret", "secret-unreadable", "client-key-unusable", "no-identity", "wrong-passphrase"}
"""We could not say who asks."""
_UNISSUED = _NO_LOGIN | {
    "ca-refused", "ca-rejected", "ca-busy", "ca-pending", "ca-redirected", "server-untrusted", "tls-failed",
    "client-certificate-refused",
}  # fmt: skip
"""After these, the request has brought no certificate, or will bring the same when it is sent again; as
after whatever kept a connection from being made."""
_NOT_THIS_ROW = _NO_LOGIN | {
    "server-unreachable", "server-untrusted", "ca-fingerprint-mismatch", "ca-redirected", "tls-failed",
    "client-certificate-refused",
}  # fmt: skip
_GIVE_UP_AFTER = 3
"""Rows in a row that fail for a reason which is not theirs."""
_MOST_TRIES = 8


@dataclass(frozen=True)
class Registry:
    """What enrolling many needs; ``ask`` makes a way to the authority for one worker.

    Everybody gets a certificate for each of ``pairs``, the first of which signs. ``same_answer``: the
    authority answers a repeated request with the same certificate. ``interval`` is the least time between
    two requests, in seconds. ``escrow`` has a copy of each key that only encrypts.
    """

    journal: Journal
    run: "RunContext"
    authority: str
    method: str
    ask: Callable[[], Ask]
    out: Handout
    clock: Callable[[], dt.datetime]
    pairs: tuple[Pair, ...] = (Pair("rsa3072", "both"),)
    jobs: int = 1
    interval: float = 0.0
    same_answer: bool = False
    escrow: "Escrow | None" = None


def enrol_batch(rows: Sequence[Professional], registry: Registry) -> Iterator[BatchRow | Progress]:
    """Enrol every row that has no valid certificate from this batch yet; each one's fate is an event.

    A row that fails leaves the others alone; where the authority itself fails, the rest is not attempted.
    """
    count, todo = 0, deque(rows)
    with ThreadPoolExecutor(registry.jobs, "enrol") as pool:
        run = _Run(registry, pool, Throttle(registry.interval))
        try:
            while todo or run.under_way or run.to_ask:
                events: list[BatchRow] = []
                while todo and len(run.under_way) + len(run.to_ask) < 4 * registry.jobs:
                    events += run.begin(todo.popleft())
                if run.under_way or run.to_ask:
                    events += run.step()
                for event in events:
                    count += 1
                    yield event
                    yield Progress(count, len(rows), "people")
        finally:
            run.settle()


@dataclass
class _Enrolment:
    """A row on its way: prepared and asked for, key after key, then handed out."""

    row: Professional
    state: State
    prepared: Prepared = field(default_factory=lambda: Prepared((), ""))
    intents: dict[str, int] = field(default_factory=dict)
    """By key, what the audit log awaits the outcome of."""
    tries: int = 0

    @property
    def address(self) -> str:
        return canonical(self.row.address)


_Phase = Literal["prepare", "ask", "hand-out"]


@dataclass
class _Run:
    """One thread writes journal and audit log, the others make keys, ask, and lay down what came."""

    registry: Registry
    pool: ThreadPoolExecutor
    throttle: Throttle
    under_way: "dict[Future[Any], tuple[_Phase, _Enrolment]]" = field(default_factory=dict)
    to_ask: deque[_Enrolment] = field(default_factory=deque)
    failed_alike: int = 0
    stop: MedmailError | None = None
    asks: threading.local = field(default_factory=threading.local)

    def begin(self, row: Professional) -> Iterator[BatchRow]:
        state = self.registry.journal.state(canonical(row.address))
        if is_done(state, self.registry.clock()):
            person.forget(row, self.registry.out)
            yield of_done(row, "unchanged", state)
        elif self.stop is not None:
            yield self._not_attempted(row)
        else:
            self._prepare(_Enrolment(row, state))

    def step(self) -> Iterator[BatchRow]:
        """Send off what is prepared, then wait for something to end and see to it."""
        yield from self._send_off()
        pause = self.throttle.pause if self.to_ask else None
        if not self.under_way:
            time.sleep(pause or 0.0)
            return
        finished, _ = wait(self.under_way, pause if self._may_ask() else None, FIRST_COMPLETED)
        ended = [(future, *self.under_way.pop(future)) for future in finished]
        yield from self._handed_out([each for each in ended if each[1] == "hand-out"])
        self._received([each for each in ended if each[1] == "ask" and each[0].exception() is None])
        for future, phase, enrolment in ended:
            if phase == "prepare" and future.exception() is None:
                self._prepared(enrolment, future.result())
            elif (error := future.exception()) is not None:
                yield from self._failed(phase, enrolment, error)

    def settle(self) -> None:
        """However the run ends: certificates that are on their way are not lost."""
        for future in self.under_way:
            future.cancel()
        asked = [
            (future, phase, enrolment)
            for future, (phase, enrolment) in self.under_way.items()
            if phase == "ask" and not future.cancelled() and future.exception() is None
        ]
        self._record([enrolment for _, _, enrolment in asked], [future.result() for future, _, _ in asked])

    # -- prepare

    def _prepare(self, enrolment: _Enrolment) -> None:
        row, registry = enrolment.row, self.registry
        asks_for = row
        if not PROTOCOLS[registry.method].certifies_names:
            asks_for = replace(row, name="", rpps="", organisation="")
        self._submit(
            "prepare",
            enrolment,
            person.prepare,
            asks_for,
            registry.pairs,
            enrolment.state.chains,
            registry.out,
        )

    def _prepared(self, enrolment: _Enrolment, prepared: Prepared) -> None:
        enrolment.prepared, enrolment.tries = prepared, 0
        if prepared.complete:
            # all came before a kill
            self._hand_out(enrolment)
        else:
            self.to_ask.append(enrolment)

    # -- ask

    def _may_ask(self) -> bool:
        return sum(phase == "ask" for phase, _ in self.under_way.values()) < self.registry.jobs

    def _send_off(self) -> Iterator[BatchRow]:
        if self.stop is not None:
            while self.to_ask:
                enrolment = self.to_ask.popleft()
                self._close(enrolment, self.stop.code)
                yield self._not_attempted(enrolment.row)
            return
        leaving: list[_Enrolment] = []
        asking = sum(phase == "ask" for phase, _ in self.under_way.values())
        while self.to_ask and asking + len(leaving) < self.registry.jobs and not self.throttle.pause:
            leaving.append(self.to_ask.popleft())
            self.throttle.asked()
        if leaving:
            keys = [each.prepared.next.key_sha256 for each in leaving]
            self.registry.journal.add(
                Record(each.address, "asked", {"key": key}) for each, key in zip(leaving, keys, strict=True)
            )
            self._intend(list(zip(leaving, keys, strict=True)))
            for enrolment in leaving:
                enrolment.tries += 1
                self._submit("ask", enrolment, self._asked, enrolment)

    def _intend(self, asked: Sequence[tuple[_Enrolment, str]]) -> None:
        """Log that certificates for these keys are wanted."""
        if not asked:
            return
        registry = self.registry
        facts = {"method": registry.method, "authority": registry.authority}
        intents = registry.run.log.intents(
            Intent("enrol", registry.run.actor, (key,), {"address": each.row.address, **facts})
            for each, key in asked
        )
        for (enrolment, key), intent in zip(asked, intents, strict=True):
            enrolment.intents[key] = intent

    def _asked(self, enrolment: _Enrolment) -> Chain:
        """In a worker, each of which has a connection of its own."""
        if not hasattr(self.asks, "ask"):
            self.asks.ask = self.registry.ask()
        waiting = enrolment.prepared.next
        memory = person.memory(enrolment.row, waiting, self.registry.out)
        csr = x509.load_der_x509_csr(waiting.request)
        chain: Chain = self.asks.ask(csr, enrolment.prepared.prover, memory)
        return chain

    def _received(self, ended: "Sequence[tuple[Future[Any], _Phase, _Enrolment]]") -> None:
        chains = [future.result() for future, _, _ in ended]
        self._record([each for _, _, each in ended], chains)
        for (_, _, enrolment), chain in zip(ended, chains, strict=True):
            self.failed_alike = 0
            self.throttle.answered()
            enrolment.prepared = replace(enrolment.prepared, chains=(*enrolment.prepared.chains, chain))
            if enrolment.prepared.complete:
                self._hand_out(enrolment)
            else:
                self._prepare(enrolment)

    def _record(self, rows: Sequence[_Enrolment], chains: Sequence[Chain]) -> None:
        self.registry.journal.add(
            received(enrolment.address, [each.public_bytes(Encoding.DER) for each in chain])
            for enrolment, chain in zip(rows, chains, strict=True)
        )

    # -- hand out

    def _hand_out(self, enrolment: _Enrolment) -> None:
        came_before = [
            key.key_sha256 for key in enrolment.prepared.keys if key.key_sha256 not in enrolment.intents
        ]
        self._intend([(enrolment, key) for key in came_before])
        out, now = self.registry.out, self.registry.clock()
        self._submit("hand-out", enrolment, person.hand_out, enrolment.row, enrolment.prepared, out, now)

    def _handed_out(self, ended: "Sequence[tuple[Future[Any], _Phase, _Enrolment]]") -> Iterator[BatchRow]:
        good, records, outcomes = [], [], list[Outcome]()
        for future, _, enrolment in ended:
            if future.exception() is not None:
                continue
            if self.registry.escrow is not None:
                try:
                    self._escrowed(enrolment, self.registry.escrow)
                except MedmailError as error:
                    yield from self._failed("hand-out", enrolment, error)
                    continue
            paths, secret = future.result()
            given = [
                given_out(chain[0], path)
                for chain, path in zip(enrolment.prepared.chains, paths, strict=True)
            ]
            abandoned = enrolment.state.abandoned + len(enrolment.state.chains) - len(given)
            doubtful = abandoned or (enrolment.state.unanswered and not self.registry.same_answer)
            facts = {
                "status": "possible-duplicate" if doubtful else "enrolled",
                "certificates": [plain(each) for each in given],
                "password_file": str(secret),
            }
            records.append(Record(enrolment.address, "done", facts))
            outcomes += [
                Outcome(enrolment.intents[key.key_sha256], "done", OK, objects=(each.sha256,))
                for key, each in zip(enrolment.prepared.keys, given, strict=True)
            ]
            good.append(enrolment)
        self.registry.run.log.outcomes(outcomes)
        self.registry.journal.add(records)
        for enrolment in good:
            person.forget(enrolment.row, self.registry.out)
            yield of_done(enrolment.row, "enrolled", enrolment.state)

    def _escrowed(self, enrolment: _Enrolment, escrow: "Escrow") -> None:
        from medmail_cli.cms.keys import SoftwareKey
        from medmail_cli.smime.protect import Signer
        from medmail_cli.workflows.enrol.escrow import lay_down

        signer = enrolment.prepared.keys[0], enrolment.prepared.chains[0]
        for pending, chain in zip(enrolment.prepared.keys, enrolment.prepared.chains, strict=True):
            if serves_for(chain[0]) == "encrypt":
                by = Signer(SoftwareKey(signer[0].key), signer[1][0], signer[1][1:], chain[0])
                lay_down(escrow, by, enrolment.row.address, pending.key, chain, self.registry.clock())

    # -- what goes wrong

    def _failed(self, phase: _Phase, enrolment: _Enrolment, error: BaseException) -> Iterator[BatchRow]:
        if not isinstance(error, MedmailError):
            raise error
        code = error.code
        if phase == "ask" and (code in _UNISSUED or error.facts.get("sent") is False):
            self.registry.journal.add([Record(enrolment.address, "refused", {"code": code})])
        self._close(enrolment, code)
        if phase == "hand-out" and code == "wrong-key-usage":
            # what came is of no use: the next run asks for another key's
            person.forget(enrolment.row, self.registry.out)
        if code == "ca-busy" and enrolment.tries < _MOST_TRIES:
            if self.throttle.rest(error, enrolment.tries):
                self.to_ask.appendleft(enrolment)
                return
            self.stop = error
        systemic = code in _NOT_THIS_ROW or (code == "ca-refused" and error.facts.get("status") == 401)
        self.failed_alike = self.failed_alike + 1 if systemic or code == "ca-busy" else 0
        if self.failed_alike >= _GIVE_UP_AFTER or code in ("disk-full", "not-writable"):
            self.stop = error
        details = (error.facts.get(name) for name in ("detail", "reason", "path"))
        detail = next(filter(None, details), None)
        yield of_row(
            enrolment.row,
            "waiting" if code == "ca-pending" else "failed",
            requests=enrolment.state.asked,
            unanswered=enrolment.state.unanswered + bool(enrolment.state.pending),
            code=code,
            detail=str(detail) if detail else None,
            exit=exit_of(code),
        )

    def _close(self, enrolment: _Enrolment, code: str) -> None:
        """Log that the person has not got what was asked for."""
        if not enrolment.intents:
            return
        self.registry.run.log.outcomes(
            Outcome(intent, "failed", exit_of(code), facts={"error": code})
            for intent in enrolment.intents.values()
        )
        enrolment.intents.clear()

    def _not_attempted(self, row: Professional) -> BatchRow:
        assert self.stop is not None  # noqa: S101 - the callers' condition
        return of_row(row, "not-attempted", code=self.stop.code, exit=exit_of(self.stop.code))

    def _submit(
        self, phase: _Phase, enrolment: _Enrolment, work: Callable[..., Any], *arguments: Any
    ) -> None:
        self.under_way[self.pool.submit(work, *arguments)] = (phase, enrolment)
