"""Inputs to answers: prepared in worker threads, batched across tasks, computed in one thread."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

from metatx.errors import TaskError
from metatx.pool.pool import Request, TaskPool
from metatx.registry import lookup
from metatx.serving.admission import Admission, Asked, FullError
from metatx.serving.inputs import Input
from metatx.serving.limits import GONE, SHORT, Limits, RefusedError
from metatx.serving.metrics import Metrics
from metatx.serving.readers import CancelEvent, Readers, ReadRequest
from metatx.serving.scheduler import Job, Scheduler
from metatx.serving.throughput import cost
from metatx.serving.workers import Steps, Workers

__all__ = ["OutputKind", "Engine"]

LOG = logging.getLogger("metatx.serving")
REASON = 500  # characters of an error's message
QUIET = 60.0  # seconds in which one log line tells of a task's passes that were repeated

OutputKind = Literal["records", "embed"]


class Engine:
    """The pool behind a batch former, with worker threads that read and encode.

    Files are read by workers of their own, so that a long film does not keep table rows waiting.

    Args:
        pool: Of the tasks.
        limits: Of a request.
        metrics: Told of all passes.
        batch_tokens: Of a pass.
        rate: Cost a second, until passes have shown it; a token of a short sequence costs 1.
        queue_seconds: Of work that may wait, before preparation and behind it.
        workers: Threads for files, and as many for JSON.
        readers: Read files; None: of its own.
    """

    def __init__(
        self,
        pool: TaskPool,
        limits: Limits,
        metrics: Metrics,
        *,
        batch_tokens: int,
        rate: float,
        queue_seconds: float = 10.0,
        workers: int = 2,
        readers: Readers | None = None,
    ) -> None:
        self.pool, self.limits, self.metrics = pool, limits, metrics
        self._dim, self._rate = pool.backbone.dim, rate
        self.readers = readers or Readers(limits, metrics)
        self.admission = Admission(rate, queue_seconds, cost(limits.tokens, self._dim))
        self.scheduler: Scheduler[Request] = Scheduler(
            pool.outcomes, batch_tokens=batch_tokens, cost=self._cost, passed=self._passed, failed=self._failed
        )
        self._told: dict[str, float] = {}  # when a task's repeated passes were last in the log
        self.json_workers = Workers("json", workers, self.scheduler.wait_for_room)
        self.file_workers = Workers("files", workers, self.scheduler.wait_for_room)
        metrics.watch("metatx_queue_requests", "Requests that wait for a thread.", self._unprepared)
        metrics.watch("metatx_queue_inputs", "Inputs that wait for a pass.", lambda: self.scheduler.waiting[0])
        metrics.watch("metatx_queue_tokens", "Cost under way, in short tokens.", lambda: self.admission.cost)
        metrics.watch("metatx_tasks", "Tasks that are served.", lambda: len(pool.tasks()))
        metrics.watch("metatx_tasks_loaded", "Tasks in memory.", lambda: sum(t.loaded for t in pool.tasks()))

    def check(self, asked: Asked, lane: Workers) -> None:
        """Refuse a request, before its body is read, that would not be answered in time. Raises FullError."""
        excess = lane.seconds - self.admission.seconds
        if excess > 0 and self.admission.clients.holds(asked.client):  # who has nothing there waits for his turn alone
            raise FullError(excess)
        self.admission.check(asked)

    async def answer(
        self, asked: Asked, lane: Workers, inputs: Callable[[], Sequence[Input]], answer: OutputKind
    ) -> tuple[list[str], list[Any]]:
        """What ``inputs`` gives to answers: the name of each one's task, and the answers; a file's one after the other.

        Inputs are read and prepared in a thread of the lane, so that a long body holds up no other request. Cancelled,
        what was not begun is dropped, and the process that reads a file is ended.

        Args:
            asked: Who asks for what, its size known.
            lane: That prepares the inputs.
            inputs: Reads them from the body.
            answer: Kind of answer.

        Raises:
            FullError: If they would not be answered in time.
            RefusedError: If they are too many, too long, or of a kind that the task does not take.
            ValueError: If one cannot be used; names which.
            ClosedError, DeadlineError: As ``Scheduler.submit``.
        """
        cancel = CancelEvent()

        def prepare() -> Steps:
            requests = yield from self._prepare(inputs(), answer, cancel)
            costs = self._costs(requests)
            self.admission.learn(asked, costs.total())
            ticket.settle(costs)
            return requests

        with self.admission.waiting(asked) as ticket:
            try:
                prepared = lane.submit(asked.task or "", ticket.cost, prepare(), asked.client)
                requests = await asyncio.wrap_future(prepared)
            finally:
                cancel.set()
            answers = await asyncio.wrap_future(self.scheduler.submit(requests, self.limits.wait, asked.client))
        return [name for name, _ in requests], answers

    def _cost(self, request: Request) -> int:
        sequences = [request.tokens] if request.sequence is None else request.sequence.lengths
        return sum(cost(tokens, self._dim) for tokens in sequences)

    def _costs(self, requests: Sequence[tuple[str, Request]]) -> Counter[str]:
        """The cost of prepared requests, task by task. Raises RefusedError (413) if it is too much."""
        costs: Counter[str] = Counter()
        for position, (name, request) in enumerate(requests):
            costs[name] += (own := self._cost(request))
            if request.tokens > SHORT and own > self.limits.pass_seconds * self._rate:
                place = f"Sample {position + 1}" if len(requests) > 1 else "The input"
                takes = f"{place} has {request.tokens:,} tokens, which take this server {own / self._rate:.1f} s"
                raise RefusedError(413, f"{takes}; expected at most {self.limits.pass_seconds:g} s: shorten it.")
        # By the rate at the start, so that what is once taken is taken again.
        if costs.total() > (most := max(round(self._rate * self.admission.seconds), self.limits.tokens)):
            tokens = sum(request.tokens for _, request in requests)
            heavy = f", which count for {costs.total():,}" if costs.total() > tokens else ""
            raise RefusedError(
                413, f"The request has {tokens:,} tokens or more{heavy}; expected at most {most:,}: divide it."
            )
        return costs

    def _unprepared(self) -> int:
        return self.json_workers.waiting + self.file_workers.waiting

    def _passed(self, jobs: Sequence[Job[Request]], seconds: float) -> None:
        # Files that wait are read elsewhere: how long that takes says nothing of the model.
        more = self.json_workers.waiting + self.scheduler.waiting[0] > 0
        self.admission.passed(sum(self._cost(job.request) for job in jobs), more)
        self.metrics.passed(jobs, seconds)

    def _failed(self, jobs: Sequence[Job[Request]], error: Exception) -> None:
        """Count a pass that is repeated; the log tells of each task once in a while."""
        self.metrics.repeated.inc()
        now, tasks = time.monotonic(), {job.task for job in jobs}
        if any(now - self._told.get(task, -math.inf) > QUIET for task in tasks):
            self._told |= dict.fromkeys(tasks, now)
            LOG.error("a pass of %s failed; its %d inputs run one by one", sorted(tasks), len(jobs), exc_info=error)

    def _prepare(self, inputs: Sequence[Input], answer: OutputKind, cancel: CancelEvent) -> Steps:
        """Prepared requests, an input a step; what is too much is refused before the rest is read."""
        requests: list[tuple[str, Request]] = []
        for number, one in enumerate(inputs):
            if cancel.was_set:
                raise RefusedError(GONE, "The client is gone.")
            try:
                requests += self._requests_of(one, answer, self.limits.samples - len(requests), cancel)
            except TaskError:  # the server's fault, not the input's
                raise
            except ValueError as error:
                status = error.status if isinstance(error, RefusedError) else 422
                place = f"inputs[{number}]: " if len(inputs) > 1 else ""
                reason = str(error).removeprefix("sample 1: ")  # a number that the request does not know
                raise RefusedError(status, f"{place}{reason[:REASON]}") from error
            if number & (number - 1) == 0:  # at 0, 1, 2, 4, ..., for what is looked at is all there is so far
                self._costs(requests)
            yield
        return requests

    def _requests_of(self, one: Input, answer: OutputKind, most: int, cancel: CancelEvent) -> list[tuple[str, Request]]:
        """The requests that one input makes."""
        loaded = self.pool.loaded(one.task)
        wanted = ReadRequest(task=one.task, loaded=loaded, cancel=cancel, extents=answer != "embed", most=most)
        requests = []
        for encoded, extents in one.samples(wanted, self.readers):
            request = loaded.request(one.task, [encoded], extents, answer)
            if request.tokens > self.limits.tokens:
                found = f"The input has {request.tokens:,} tokens"
                raise RefusedError(413, f"{found}; expected at most {self.limits.tokens:,}: shorten it.")
            requests.append((one.task, request))
        return requests

    def warm(self) -> None:
        """Make ready what reads in processes, where a task needs it."""
        kinds = [lookup("tokenizers", task.modality) for task in self.pool.tasks()]
        if any(kind.suffixes or kind.readers or kind.isolated for kind in kinds):
            self.readers.start()

    def close(self) -> None:
        """OutputKind what waits, then end all threads and processes; one that is stuck ends with the server."""
        for lane in (self.json_workers, self.file_workers):
            lane.close(self.limits.wait)
        self.readers.close()
        self.scheduler.close()
