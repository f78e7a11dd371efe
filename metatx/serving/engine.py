"""Engine: inputs are prepared in worker threads, batched across tasks, and computed in one thread."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

from metatx.errors import TaskError
from metatx.pool.pool import Request as PreparedRequest
from metatx.pool.pool import TaskPool
from metatx.registry import lookup
from metatx.serving.admission import Admission, Asked, FullError
from metatx.serving.inputs import Input
from metatx.serving.limits import GONE, SHORT, Limits, RefusedError
from metatx.serving.metrics import Metrics
from metatx.serving.readers import CancelEvent, Readers, ReadRequest
from metatx.serving.scheduler import Job, Scheduler
from metatx.serving.streaming import Events
from metatx.serving.throughput import cost
from metatx.serving.workers import Steps, Workers

__all__ = ["OutputKind", "Engine"]

LOG = logging.getLogger("metatx.serving")
REASON = 500  # characters of an error's message
QUIET = 60.0  # seconds between two log lines about a task's failed passes

OutputKind = Literal["records", "embed"]


class Engine:
    """Pool of tasks behind a scheduler that forms batches, with worker threads that read and encode.

    Files have worker threads of their own, so that a long video does not keep rows of a table waiting.

    Args:
        pool: Pool that holds the tasks.
        limits: Limits of a request.
        metrics: Metrics, updated after each pass.
        batch_tokens: Largest number of tokens in a pass.
        rate: Cost a second, until passes have been measured; a token of a short sequence costs 1.
        queue_seconds: Seconds of work that may wait, whether it is prepared or not.
        workers: Threads that prepare files, and as many that prepare JSON.
        readers: Processes that read files; by default the engine starts its own.
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
        self.pool = pool
        self.limits = limits
        self.metrics = metrics
        self._dim = pool.backbone.dim
        self._rate = rate
        # Largest cost of one sample: what the rate allows, or that of a sample which is always taken.
        taken = max(round(rate * limits.pass_seconds), cost(SHORT, self._dim))
        self._largest = min(cost(limits.tokens, self._dim), taken)
        self.readers = readers or Readers(limits, metrics)
        self.admission = Admission(rate, queue_seconds, self._largest)
        self.scheduler: Scheduler[PreparedRequest] = Scheduler(
            lambda requests: pool.outcomes(requests),
            batch_tokens=batch_tokens,
            cost=self._cost,
            passed=self._passed,
            failed=self._failed,
        )
        self._logged: dict[str, float] = {}  # time of the last log line about a task's failed passes
        self.json_workers = Workers("json", workers, self.scheduler.wait_for_room)
        self.file_workers = Workers("files", workers, self.scheduler.wait_for_room)
        metrics.watch("metatx_queue_requests", "Requests that wait for a thread.", self._unprepared)
        metrics.watch("metatx_queue_inputs", "Inputs that wait for a pass.", lambda: self.scheduler.waiting[0])
        metrics.watch("metatx_queue_tokens", "Cost under way, in short tokens.", lambda: self.admission.cost)
        metrics.watch("metatx_tasks", "Tasks that are served.", lambda: len(pool.tasks()), "livemax")
        metrics.watch("metatx_tasks_loaded", "Tasks in memory.", lambda: sum(t.loaded for t in pool.tasks()), "livemax")

    def check(self, asked: Asked, workers: Workers) -> None:
        """Refuse a request that would not be answered in time, before its body is read. Raises FullError."""
        excess = workers.seconds - self.admission.seconds
        if excess > 0 and self.admission.clients.holds(asked.client):  # a client with nothing under way may wait
            raise FullError(excess)
        self.admission.check(asked)

    async def answer(
        self,
        asked: Asked,
        workers: Workers,
        inputs: Callable[[], Sequence[Input]],
        answer: OutputKind,
        events: Events | None = None,
    ) -> tuple[list[str], list[Any], int]:
        """Answer the inputs of a request; the samples of a file are answered one after the other.

        Inputs are parsed and prepared in a worker thread, so that a long body holds up no other request. If the caller
        cancels, inputs that are not begun are dropped, and the process that reads a file is ended.

        Args:
            asked: Facts about the request, its size included.
            workers: Threads that prepare the inputs.
            inputs: Function that parses them from the body; called in a worker thread.
            answer: Kind of answer.
            events: Events that words are told to while they are written.

        Returns:
            Name of the task of each sample, and the answers, in order; number of tokens of all.

        Raises:
            FullError: If the request would not be answered in time.
            RefusedError: If the inputs are too many, too long, or of a kind that the task does not take.
            ValueError: If an input cannot be used; gives its number.
            ClosedError: If the server is stopping.
            DeadlineError: If the request waited too long.
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
                prepared = workers.submit(asked.task or "", ticket.cost, prepare(), asked.client)
                requests = await asyncio.wrap_future(prepared)
            finally:
                cancel.set()
            if events is not None:
                requests = events.followed(requests)
            answers = await asyncio.wrap_future(self.scheduler.submit(requests, self.limits.wait, asked.client))
        return [name for name, _ in requests], answers, sum(request.tokens for _, request in requests)

    def _cost(self, request: PreparedRequest) -> int:
        return sum(cost(tokens, self._dim) for tokens in request.lengths)

    def _costs(self, requests: Sequence[tuple[str, PreparedRequest]]) -> Counter[str]:
        """Sum the cost of prepared requests by task. Raises RefusedError (413) if it is too much."""
        costs: Counter[str] = Counter()
        for position, (name, request) in enumerate(requests):
            sample_cost = self._cost(request)
            costs[name] += sample_cost
            if request.tokens > SHORT and sample_cost > self._largest:
                place = f"Sample {position + 1}" if len(requests) > 1 else "The input"
                seconds = f"{sample_cost / self._rate:.1f} s"
                takes = f"{place} has {request.tokens:,} tokens, which take this server {seconds}"
                raise RefusedError(413, f"{takes}; expected at most {self.limits.pass_seconds:g} s: shorten it.")
        # The rate at the start counts here, so that a request that was taken once is taken again.
        most = max(round(self._rate * self.admission.seconds), self._largest)
        if costs.total() > most:
            tokens = sum(request.tokens for _, request in requests)
            heavy = f", which count as {costs.total():,}" if costs.total() > tokens else ""
            raise RefusedError(
                413, f"The request has {tokens:,} tokens or more{heavy}; expected at most {most:,}: divide it."
            )
        return costs

    def _unprepared(self) -> int:
        return self.json_workers.waiting + self.file_workers.waiting

    def _passed(self, jobs: Sequence[Job[PreparedRequest]], seconds: float) -> None:
        # Files that wait do not count: they are read in other processes, whose time says nothing about the model.
        more = self.json_workers.waiting + self.scheduler.waiting[0] > 0
        self.admission.passed(sum(self._cost(job.request) for job in jobs), more)
        self.metrics.passed(jobs, seconds)

    def _failed(self, jobs: Sequence[Job[PreparedRequest]], error: Exception) -> None:
        """Count a failed pass, and log it, at most once in ``QUIET`` seconds a task."""
        self.metrics.repeated.inc()
        now = time.monotonic()
        tasks = {job.task for job in jobs}
        if any(now - self._logged.get(task, -math.inf) > QUIET for task in tasks):
            self._logged |= dict.fromkeys(tasks, now)
            LOG.error("a pass of %s failed; its %d inputs run one by one", sorted(tasks), len(jobs), exc_info=error)

    def _prepare(self, inputs: Sequence[Input], answer: OutputKind, cancel: CancelEvent) -> Steps:
        """Prepare the inputs, one a step; a request that is too large is refused before the rest is read."""
        requests: list[tuple[str, PreparedRequest]] = []
        for number, item in enumerate(inputs):
            if cancel.was_set:
                raise RefusedError(GONE, "The client is gone.")
            try:
                requests += self._requests_of(item, answer, self.limits.samples - len(requests), cancel)
            except TaskError:  # the server's fault, not the input's
                raise
            except ValueError as error:
                status = error.status if isinstance(error, RefusedError) else 422
                place = f"inputs[{number}]: " if len(inputs) > 1 else ""
                reason = str(error).removeprefix("sample 1: ")  # the number means nothing to the client
                raise RefusedError(status, f"{place}{reason[:REASON]}") from error
            if number & (number - 1) == 0:  # at 0, 1, 2, 4, ...: each check goes over all requests so far
                self._costs(requests)
            yield
        return requests

    def _requests_of(
        self, item: Input, answer: OutputKind, most: int, cancel: CancelEvent
    ) -> list[tuple[str, PreparedRequest]]:
        """Prepare one input: a request for each of its samples, at most ``most``."""
        loaded = self.pool.loaded(item.task)
        wanted = ReadRequest(task=item.task, loaded=loaded, cancel=cancel, extents=answer != "embed", most=most)
        requests = []
        for encoded, extents in item.samples(wanted, self.readers):
            request = loaded.request(item.task, [encoded], extents, answer)
            if request.tokens > self.limits.tokens:
                length = f"The input has {request.tokens:,} tokens"
                raise RefusedError(413, f"{length}; expected at most {self.limits.tokens:,}: shorten it.")
            requests.append((item.task, request))
        return requests

    def warm(self) -> None:
        """Start the processes that read files, if a task of the pool needs them."""
        names = {name for task in self.pool.tasks() for name in task.inputs.values() or [task.modality]}
        kinds = [lookup("tokenizers", name) for name in names]
        if any(kind.suffixes or kind.readers or kind.isolated for kind in kinds):
            self.readers.start()

    def close(self) -> None:
        """Answer the requests that wait, then end all threads and processes; one that is stuck ends with the server."""
        for workers in (self.json_workers, self.file_workers):
            workers.close(self.limits.wait)
        self.readers.close()
        self.scheduler.close()
