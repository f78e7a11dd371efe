"""Inputs to answers: prepared in worker threads, batched across tasks, computed in one thread."""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from metatx.errors import TaskError
from metatx.pool import Request, TaskPool
from metatx.serving.inputs import Input
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.metrics import Metrics
from metatx.serving.scheduler import FullError, Scheduler

__all__ = ["Engine"]

BODIES = 4  # largest bodies that may be in memory at once, before they are prepared
BACKLOG = 256  # requests that may be before or in preparation
REASON = 500  # characters of an error's message


class Engine:
    """The pool behind a batch former, with worker threads that read and encode.

    Files are read by workers of their own, so that a long film does not keep table rows waiting.

    Args:
        pool: Of the tasks.
        limits: Of a request.
        metrics: Told of all passes.
        batch_tokens: Of a pass.
        queue_tokens: That may wait.
        rate: Tokens a second, to begin with.
        workers: Threads for files, and as many for JSON.
    """

    def __init__(
        self,
        pool: TaskPool,
        limits: Limits,
        metrics: Metrics,
        *,
        batch_tokens: int,
        queue_tokens: int,
        rate: float,
        workers: int = 2,
    ) -> None:
        self.pool, self.limits, self.metrics = pool, limits, metrics
        self.scheduler: Scheduler[Request] = Scheduler(
            pool.answer, batch_tokens=batch_tokens, queue_tokens=queue_tokens, rate=rate, passed=metrics.passed
        )
        self._workers = {slow: ThreadPoolExecutor(workers, f"metatx-{slow}") for slow in (False, True)}
        self._bytes = self._requests = 0  # admitted and not yet prepared; of the event loop's thread
        metrics.watch("metatx_queue_inputs", "Inputs that wait.", lambda: self.scheduler.waiting[0])
        metrics.watch("metatx_queue_tokens", "Tokens that wait.", lambda: self.scheduler.waiting[1])
        metrics.watch("metatx_tasks", "Tasks that are served.", lambda: len(pool.list()))
        metrics.watch("metatx_tasks_loaded", "Tasks in memory.", lambda: sum(t.loaded for t in pool.list()))

    @contextmanager
    def admitted(self, size: int) -> Iterator[None]:
        """Room for a body of so many bytes, until it is prepared. Raises FullError."""
        scheduler = self.scheduler
        full = self._requests and self._bytes + size > BODIES * self.limits.body_mb * 1e6
        if full or self._requests >= BACKLOG or scheduler.waiting[1] >= scheduler.queue_tokens:
            raise FullError(scheduler.delay(1))
        self._bytes, self._requests = self._bytes + size, self._requests + 1
        try:
            yield
        finally:
            self._bytes, self._requests = self._bytes - size, self._requests - 1

    async def prepare(self, inputs: Sequence[Input], answer: Literal["records", "embed"]) -> list[tuple[str, Request]]:
        """Inputs to requests, each with the name of its task; in order, a file's one after the other.

        Raises:
            RefusedError: If they are too many, too long, or of a kind that the task does not take.
            ValueError: If one cannot be used; names which.
        """
        workers = self._workers[_slow(inputs)]
        return await asyncio.get_running_loop().run_in_executor(workers, self._prepare, inputs, answer)

    def _prepare(self, inputs: Sequence[Input], answer: Literal["records", "embed"]) -> list[tuple[str, Request]]:
        requests: list[tuple[str, Request]] = []
        with tempfile.TemporaryDirectory(prefix="metatx-") if _slow(inputs) else nullcontext("") as folder:
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
        for workers in self._workers.values():
            workers.shutdown(cancel_futures=True)
        self.scheduler.close()


def _slow(inputs: Sequence[Input]) -> bool:
    return any(one.slow for one in inputs)
