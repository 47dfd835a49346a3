"""Submission (RFC 6409): messages handed to the operator's server over a few verified TLS connections.

The loop runs in a thread of its own, so that the next messages are signed and encrypted while these are on
their way. ``smtpsession`` makes the connections, ``smtphandover`` speaks on them. The first has logged in
before a second is opened, and a further one that is refused costs nothing: some servers allow one at a time.
"""

import asyncio
import contextlib
import queue
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from medmail_cli.errors import MedmailError
from medmail_cli.transport.sasl import Credentials
from medmail_cli.transport.smtphandover import Envelope, Result, hand_over
from medmail_cli.transport.smtpsession import connect, failure
from medmail_cli.transport.smtpwire import Lost, Offer, Wire

if TYPE_CHECKING:
    from medmail_cli.config import Server

CONNECTIONS = 4
"""Most servers allow ten or more from one client; beyond four nothing is gained."""


@dataclass(frozen=True)
class Job:
    """A message to hand over; ``number`` is the caller's name for it, ``read`` gives its bytes when due."""

    number: int
    envelope: Envelope
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Report:
    """What became of a job: a result for each recipient, and what failed where the server had no say.

    ``certificate`` is the SHA-256 (hex) of the one that the server showed, where it was reached.
    """

    number: int
    results: dict[str, Result]
    error: MedmailError | None = None
    certificate: str | None = None


class Submitter:
    """Hands jobs to ``server`` in the background; use it as a context manager.

    ``via`` is a proxy's URL. ``credentials`` are used on each fresh connection, from another thread: they
    must not ask anybody. ``mark`` gets, durably before the end of a message's data is sent, the
    (number, address) pairs it is for; it is called from another thread.
    """

    def __init__(
        self,
        server: "Server",
        *,
        context: ssl.SSLContext,
        credentials: Credentials,
        mark: Callable[[Sequence[tuple[int, str]]], None],
        via: str | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        self._server, self._context, self._credentials = server, context, credentials
        self._mark, self._via, self._most = mark, via, connections
        self._reports: queue.SimpleQueue[Report | BaseException] = queue.SimpleQueue()
        self._outstanding = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp", daemon=True)
        # the rest belongs to the loop's thread
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._workers: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._gently = True
        self._fatal: MedmailError | None = None
        self._marks: list[tuple[list[tuple[int, str]], asyncio.Future[None]]] = []
        self._marking: asyncio.Task[None] | None = None
        self._offer: Offer | None = None
        self._offered = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Say goodbye; after an error or an interrupt at once, in the middle of whatever is going on."""
        asyncio.run_coroutine_threadsafe(self._end(gently=kind is None), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- the caller's thread

    @property
    def outstanding(self) -> int:
        """How many jobs have not been reported on."""
        return self._outstanding

    def put(self, job: Job) -> None:
        """Have a job done; it is reported on once."""
        self._outstanding += 1
        self._loop.call_soon_threadsafe(self._enter, job)

    def reports(self, *, wait: bool) -> list[Report]:
        """What has ended since the last call; with ``wait`` at least one, if any is outstanding."""
        reports: list[Report] = []
        with contextlib.suppress(queue.Empty):
            while self._outstanding:
                report = self._reports.get(block=wait and not reports)
                if isinstance(report, BaseException):
                    raise report
                reports.append(report)
                self._outstanding -= 1
        return reports

    def halt(self) -> list[int]:
        """Begin no further job, and give the numbers of those given back; what is under way goes on."""
        left = asyncio.run_coroutine_threadsafe(self._give_back(), self._loop).result()
        self._outstanding -= len(left)
        return left

    def offer(self) -> Offer | None:
        """What the server offers, connecting if need be; None where it cannot be reached."""
        return asyncio.run_coroutine_threadsafe(self._ask_offer(), self._loop).result()

    @property
    def failure(self) -> MedmailError | None:
        """Why no connection could be made, where :meth:`offer` gave None."""
        return self._fatal

    # -- the loop's thread

    def _enter(self, job: Job) -> None:
        if self._fatal is not None:
            self._reports.put(Report(job.number, {}, self._fatal))
            return
        self._jobs.put_nowait(job)
        self._hire_for_backlog()

    def _hire_for_backlog(self) -> None:
        """One connection until it is logged in, then as many as there is work for."""
        while self._jobs.qsize() > len(self._workers) - self._busy and (self._offer or not self._workers):
            if len(self._workers) >= self._most:
                return
            self._hire()

    def _hire(self) -> None:
        if len(self._workers) < self._most:
            worker = self._loop.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._ended)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled() and (error := worker.exception()) is not None:
            self._reports.put(error)  # a fault of ours: the caller's thread must hear of it
            self._offered.set()

    async def _give_back(self) -> list[int]:
        return [self._jobs.get_nowait().number for _ in range(self._jobs.qsize())]

    async def _ask_offer(self) -> Offer | None:
        if not self._workers and self._fatal is None:
            self._hire()
        await self._offered.wait()
        return self._offer

    async def _end(self, *, gently: bool) -> None:
        self._gently = gently
        # again and again: asyncio.wait_for swallows a cancellation that meets its end (Python before 3.12)
        while self._workers:
            for worker in self._workers:
                worker.cancel()
            await asyncio.wait(list(self._workers), timeout=3.0)
        if self._marking is not None:
            await self._marking
        await self._loop.shutdown_default_executor()

    async def _work(self) -> None:
        """One connection, opened anew when it is lost or used up, for one job after the other."""
        job: Job | None = None
        fresh = True
        try:
            while True:
                if job is None and not fresh:  # no reason to connect again before there is work
                    job = await self._next()
                fresh = False
                wire, offer = await connect(self._server, self._context, self._credentials, self._via)
                self._offer = offer
                self._offered.set()
                self._hire_for_backlog()
                try:
                    job = await self._serve(wire, offer, job)
                finally:
                    if self._gently:
                        await wire.quit()
                    wire.abort()
        except MedmailError as error:
            if len(self._workers) > 1:
                # the server wants no more connections: those there are do the work
                self._workers.discard(cast("asyncio.Task[None]", asyncio.current_task()))
                self._most = len(self._workers)
                if job is not None:
                    self._busy -= 1
                    self._jobs.put_nowait(job)
                return
            self._fatal = error
            self._offered.set()
            if job is not None:
                self._report(Report(job.number, {}, error))
            while not self._jobs.empty():
                self._reports.put(Report(self._jobs.get_nowait().number, {}, error))

    async def _next(self) -> Job:
        job = await self._jobs.get()
        self._busy += 1
        return job

    async def _serve(self, wire: Wire, offer: Offer, job: Job | None) -> Job | None:
        """Do jobs while the connection holds; what is left is a job that wants a fresh one."""
        used = 0
        while used != offer.messages:
            if job is None:
                job = await self._next()
            results: dict[str, Result] = {}
            try:
                await self._do(wire, offer, job, results)
            except Lost as lost:
                if used and all(result.status == "queued" for result in results.values()):
                    return job  # a connection that had served before may just have been closed
                self._report(
                    Report(job.number, results, failure(lost, self._server, self._context), wire.certificate)
                )
                return None
            except MedmailError as error:
                # our own disk: what was said on this connection is half a transaction
                self._report(Report(job.number, results, error, wire.certificate))
                return None
            self._report(Report(job.number, results, None, wire.certificate))
            job = None
            used += 1
        return None

    def _report(self, report: Report) -> None:
        self._busy -= 1
        self._reports.put(report)

    async def _do(self, wire: Wire, offer: Offer, job: Job, results: dict[str, Result]) -> None:
        verdict = None
        if offer.size is not None and job.size > offer.size:
            verdict = Result("refused", None, "too-large", offer.size)
        elif job.envelope.needs_utf8 and not offer.utf8:
            verdict = Result("refused", None, "no-smtputf8")
        if verdict is not None:
            results.update(dict.fromkeys(job.envelope.recipients, verdict))
            return

        async def mark(addresses: Sequence[str]) -> None:
            await self._marked([(job.number, address) for address in addresses])

        await hand_over(wire, offer, job.envelope, job.read(), results, mark)

    async def _marked(self, pairs: list[tuple[int, str]]) -> None:
        """Mark, together with whatever else asks for it meanwhile: one commit for all."""
        done = self._loop.create_future()
        self._marks.append((pairs, done))
        if self._marking is None:
            self._marking = self._loop.create_task(self._commit_marks())
        await done

    async def _commit_marks(self) -> None:
        while self._marks:
            group, self._marks = self._marks, []
            pairs = [pair for some, _ in group for pair in some]
            try:
                await self._loop.run_in_executor(None, self._mark, pairs)
            except MedmailError as error:
                for _, done in group:
                    if not done.done():
                        done.set_exception(error)
            else:
                for _, done in group:
                    if not done.done():
                        done.set_result(None)
        self._marking = None
