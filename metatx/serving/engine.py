"""Inputs to answers: prepared in worker threads, batched across tasks, computed in one thread."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from metatx.errors import TaskError
from metatx.pool import Request, TaskPool
from metatx.serving.admission import Admission, FullError
from metatx.serving.inputs import FileInput, Input
from metatx.serving.lane import Lane
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.metrics import Metrics
from metatx.serving.scheduler import Job, Scheduler

__all__ = ["Answer", "Engine"]

BODIES = 16  # largest bodies that may be held at once; long files among them lie on disk
REASON = 500  # characters of an error's message

Answer = Literal["records", "embed"]


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
        self.pool, self.limits, self.metrics = pool, limits, metrics
        self.admission = Admission(rate, queue_seconds, round(BODIES * limits.body_mb * 1e6))
        self.scheduler: Scheduler[Request] = Scheduler(pool.outcomes, batch_tokens=batch_tokens, passed=self._passed)
        self.quick = Lane("json", workers, self.scheduler.wait_for_room)
        self.slow = Lane("files", workers, self.scheduler.wait_for_room)
        metrics.watch("metatx_queue_requests", "Requests that no thread has begun.", self._unprepared)
        metrics.watch("metatx_queue_inputs", "Inputs that wait for a pass.", lambda: self.scheduler.waiting[0])
        metrics.watch("metatx_queue_tokens", "Tokens under way, about.", lambda: self.admission.tokens)
        metrics.watch("metatx_tasks", "Tasks that are served.", lambda: len(pool.list()))
        metrics.watch("metatx_tasks_loaded", "Tasks in memory.", lambda: sum(t.loaded for t in pool.list()))

    @contextmanager
    def admitted(self, task: str | None, size: int | None, lane: Lane) -> Iterator[None]:
        """Room for the body of a request, from before it is read until it is answered.

        Args:
            task: None: it names several.
            size: Bytes of the body; None: unknown.
            lane: That prepares it.

        Raises:
            FullError: If it would not be answered in time.
        """
        excess = lane.seconds - self.admission.seconds
        if excess > 0:
            raise FullError(excess)
        with self.admission.reading(task, size):
            yield

    async def answer(
        self, task: str | None, size: int, lane: Lane, inputs: Callable[[], Sequence[Input]], answer: Answer
    ) -> tuple[list[str], list[Any]]:
        """What ``inputs`` gives to answers: the name of each one's task, and the answers; a file's one after the other.

        Inputs are read and prepared in a thread of the lane, so that a long body holds up no other request. Cancelled,
        what was not begun is dropped.

        Args:
            task: None: the inputs name several.
            size: Bytes of the body.
            lane: That prepares them.
            inputs: Reads them from the body.
            answer: Kind of answer.

        Raises:
            FullError: If they would not be answered in time.
            RefusedError: If they are too many, too long, or of a kind that the task does not take.
            ValueError: If one cannot be used; names which.
            ClosedError, DeadlineError: As ``Scheduler.submit``.
        """

        def prepare() -> list[tuple[str, Request]]:
            requests = self._prepare(inputs(), answer)
            tokens = sum(request.tokens for _, request in requests)
            self.admission.learn(task, size, tokens)
            if tokens > (most := max(self.admission.most_tokens, self.limits.tokens)):
                raise RefusedError(413, f"The request has {tokens:,} tokens; expected at most {most:,}: divide it.")
            return requests

        with self.admission.waiting(task, size) as tokens:
            requests = await asyncio.wrap_future(lane.submit(task or "", tokens, prepare))
            answers = await asyncio.wrap_future(self.scheduler.submit(requests, self.limits.wait))
        return [name for name, _ in requests], answers

    def _unprepared(self) -> int:
        return self.quick.waiting + self.slow.waiting

    def _passed(self, jobs: Sequence[Job[Request]], seconds: float) -> None:
        more = self._unprepared() + self.scheduler.waiting[0] > 0
        self.admission.passed(sum(job.request.tokens for job in jobs), more)
        self.metrics.passed(jobs, seconds)

    def _prepare(self, inputs: Sequence[Input], answer: Answer) -> list[tuple[str, Request]]:
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
                    reason = str(error).replace(f"{folder}/", "") if folder else str(error)
                    reason = reason.removeprefix("sample 1: ")
                    raise RefusedError(status, f"{place}{reason[:REASON]}") from error
        return requests

    def _requests_of(self, one: Input, folder: Path, answer: Answer, most: int) -> list[tuple[str, Request]]:
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

    def close(self) -> None:
        """Answer what waits, then end all threads."""
        for lane in (self.quick, self.slow):
            lane.close()
        self.scheduler.close()
