"""Inputs to answers: prepared in worker threads, batched across tasks, computed in one thread."""

import asyncio
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

from metatx.errors import TaskError
from metatx.pool import Request, TaskPool
from metatx.serving.inputs import FileInput, Input
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.metrics import Metrics
from metatx.serving.scheduler import FullError, Scheduler

__all__ = ["Engine", "Lane"]

Result = TypeVar("Result")

BODIES = 4  # largest bodies that may be in memory at once, before they are prepared
SMOOTHING = 0.1  # weight of the last request in the pace of a lane
REASON = 500  # characters of an error's message


class Lane:
    """Worker threads for one kind of request, and what waits for them.

    Args:
        name: Of the threads.
        workers: Threads.
    """

    def __init__(self, name: str, workers: int) -> None:
        self.threads = ThreadPoolExecutor(workers, f"metatx-{name}")
        self.workers = workers
        self.waiting = 0
        self.pace = 0.0  # seconds of a thread that a request takes

    @property
    def seconds(self) -> float:
        """Until a further request is ready, about."""
        return self.waiting * self.pace / self.workers

    async def run(self, work: Callable[[], Result]) -> Result:
        """What ``work`` gives, in one of the threads."""

        def timed() -> Result:
            started = time.perf_counter()
            try:
                return work()
            finally:
                self.pace += SMOOTHING * (time.perf_counter() - started - self.pace)

        return await asyncio.get_running_loop().run_in_executor(self.threads, timed)


class Engine:
    """The pool behind a batch former, with worker threads that read and encode.

    Files are read by workers of their own, so that a long film does not keep table rows waiting.

    Args:
        pool: Of the tasks.
        limits: Of a request.
        metrics: Told of all passes.
        batch_tokens: Of a pass.
        rate: Tokens a second, until passes have shown it.
        queue_seconds: Of work that may wait, before preparation and behind it.
        workers: Threads for files, and as many for JSON.
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
    ) -> None:
        self.pool, self.limits, self.metrics, self.queue_seconds = pool, limits, metrics, queue_seconds
        self.scheduler: Scheduler[Request] = Scheduler(
            pool.answer,
            batch_tokens=batch_tokens,
            queue_tokens=max(round(queue_seconds * rate), limits.tokens),
            rate=rate,
            passed=metrics.passed,
        )
        self.quick, self.slow = Lane("json", workers), Lane("files", workers)
        self._bytes = 0  # of bodies that are not prepared yet
        metrics.watch("metatx_queue_inputs", "Inputs that wait.", lambda: self.scheduler.waiting[0])
        metrics.watch("metatx_queue_tokens", "Tokens that wait.", lambda: self.scheduler.waiting[1])
        metrics.watch("metatx_tasks", "Tasks that are served.", lambda: len(pool.list()))
        metrics.watch("metatx_tasks_loaded", "Tasks in memory.", lambda: sum(t.loaded for t in pool.list()))

    @contextmanager
    def admitted(self, size: int, lane: Lane) -> Iterator[None]:
        """Room for a body of so many bytes, until it is prepared. Raises FullError."""
        scheduler = self.scheduler
        if scheduler.waiting[1] >= scheduler.queue_tokens:
            raise FullError(scheduler.delay(1))
        excess = lane.seconds - self.queue_seconds
        if excess > 0 or (self._bytes and self._bytes + size > BODIES * self.limits.body_mb * 1e6):
            raise FullError(max(1, math.ceil(excess)))
        self._bytes, lane.waiting = self._bytes + size, lane.waiting + 1
        try:
            yield
        finally:
            self._bytes, lane.waiting = self._bytes - size, lane.waiting - 1

    async def prepare(
        self, inputs: Callable[[], Sequence[Input]], answer: Literal["records", "embed"], lane: Lane
    ) -> list[tuple[str, Request]]:
        """What ``inputs`` gives to requests, each with the name of its task; in order, a file's one after the other.

        All of it in a thread of the lane, so that a long body holds up no other request.

        Raises:
            RefusedError: If they are too many, too long, or of a kind that the task does not take.
            ValueError: If one cannot be used; names which.
        """
        return await lane.run(lambda: self._prepare(inputs(), answer))

    def _prepare(self, inputs: Sequence[Input], answer: Literal["records", "embed"]) -> list[tuple[str, Request]]:
        requests: list[tuple[str, Request]] = []
        with (
            tempfile.TemporaryDirectory(prefix="metatx-")
            if any(isinstance(one, FileInput) for one in inputs)
            else nullcontext("") as folder
        ):
            for number, one in enumerate(inputs):
                try:
                    requests += self._requests_of(one, Path(folder), answer, self.limits.samples - len(requests))
                except TaskError:  # the server's fault, not the input's
                    raise
                except ValueError as error:
                    status = error.status if isinstance(error, RefusedError) else 422
                    place = f"inputs[{number}]: " if len(inputs) > 1 else ""
                    # Neither where the file lies here, nor a number that the request does not know.
                    reason = str(error).replace(f"{folder}/", "").removeprefix("sample 1: ")
                    raise RefusedError(status, f"{place}{reason[:REASON]}") from error
        return requests

    def _requests_of(
        self, one: Input, folder: Path, answer: Literal["records", "embed"], most: int
    ) -> list[tuple[str, Request]]:
        """The requests that one input makes."""
        samples = one.samples(self.pool.task(one.task), folder, self.limits)
        if len(samples) > most:
            raise RefusedError(413, f"More than {self.limits.samples:,} samples; divide the request.")
        requests = []
        for sample in samples:
            request = self.pool.prepare(one.task, sample, answer)
            if request.tokens > self.limits.tokens:
                found = f"The input has {request.tokens:,} tokens"
                raise RefusedError(413, f"{found}; expected at most {self.limits.tokens:,}: shorten it.")
            requests.append((one.task, request))
        return requests

    async def answer(self, requests: Sequence[tuple[str, Request]]) -> list[Any]:
        """Answers of prepared requests, in order; cancelled, they are dropped from the queue.

        Raises:
            FullError, ValueError: As ``Scheduler.submit``.
        """
        futures: list[Future[Any]] = self.scheduler.submit(requests, self.limits.wait)
        try:
            return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Answer what waits, then end all threads."""
        for lane in (self.quick, self.slow):
            lane.threads.shutdown(cancel_futures=True)
        self.scheduler.close()
