"""The batch former: requests of all tasks, as they come, to passes through the backbone."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any, Generic, Protocol, TypeVar

from metatx.serving.fair import FairQueue

__all__ = ["ClosedError", "DeadlineError", "FullError", "Job", "Prepared", "Scheduler"]

SMOOTHING = 0.2  # weight of the last pass in the rate that tells how long a queue will take
TURNS = 16  # turns of a task that fill a pass: the finer, the fairer


class Prepared(Protocol):
    """An encoded request, as ``TaskPool.prepare`` gives it."""

    @property
    def tokens(self) -> int:
        """Tokens that enter the backbone, about."""
        ...


Request = TypeVar("Request", bound=Prepared)


class FullError(RuntimeError):
    """The queue holds as many tokens as it may.

    Attributes:
        seconds: After which there should be room.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"The server is busy; try again in {seconds} s.")
        self.seconds = seconds


class DeadlineError(TimeoutError):
    """A request was not answered in time."""


class ClosedError(RuntimeError):
    """The scheduler takes no more requests."""


@dataclass(frozen=True, eq=False)
class Job(Generic[Request]):
    """A request that waits for its answer."""

    task: str
    request: Request
    deadline: float  # on the clock of ``time.monotonic``
    future: "Future[Any]" = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)

    def starts(self) -> bool:
        """Whether it is still to be answered; from then on it cannot be cancelled."""
        if self.gone() or not self.future.set_running_or_notify_cancel():
            return False
        if time.monotonic() > self.deadline:
            self.future.set_exception(DeadlineError("The request waited longer than its deadline allows."))
            return False
        return True

    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.future.cancelled()


class Scheduler(Generic[Request]):
    """One thread that owns the model, and the bounded queue before it.

    What waits goes: a pass takes whatever is there, up to a number of tokens, fairly among tasks, and none is delayed
    to wait for more. Cancelled and late requests are dropped before they cost anything. When a pass fails, its requests
    run one by one, so that only the culprit fails.

    Args:
        answer: Prepared requests to their answers, in order, as ``TaskPool.answer``; called in one thread only.
        batch_tokens: Tokens of a pass; a longer request has one of its own.
        queue_tokens: Tokens that may wait.
        rate: Tokens a second, until passes have shown it.
        passed: Told of each pass: its jobs and how many seconds it took.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Request]], Sequence[Any]],
        *,
        batch_tokens: int,
        queue_tokens: int,
        rate: float = 1000.0,
        passed: Callable[[Sequence[Job[Request]], float], None] = lambda jobs, seconds: None,
    ) -> None:
        self.batch_tokens, self.queue_tokens, self.rate = batch_tokens, queue_tokens, rate
        self._answer, self._passed = answer, passed
        self._queue: FairQueue[Job[Request]] = FairQueue(max(1, batch_tokens // TURNS))
        self._changed = Condition()
        self._closing = False
        self._thread = Thread(target=self._run, name="metatx-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> tuple[int, int]:
        """Requests and tokens in the queue."""
        with self._changed:
            return len(self._queue), self._queue.tokens

    @property
    def alive(self) -> bool:
        """Whether the thread that owns the model runs."""
        return self._thread.is_alive()

    def submit(self, requests: Sequence[tuple[str, Request]], seconds: float = math.inf) -> "list[Future[Any]]":
        """Queue requests, each with the name of its task: all of them, or none.

        Args:
            requests: Of any tasks.
            seconds: After which they need not be answered any more.

        Raises:
            FullError: If they do not fit beside what waits already.
            ValueError: If they would not fit into an empty queue either.
            ClosedError: After ``close``.
        """
        tokens = sum(request.tokens for _, request in requests)
        if tokens > self.queue_tokens:
            raise ValueError(f"The request has {tokens:,} tokens; expected at most {self.queue_tokens:,}: divide it.")
        deadline = time.monotonic() + seconds
        jobs = [Job(task, request, deadline) for task, request in requests]
        with self._changed:
            if self._closing:
                raise ClosedError("The server is stopping.")
            if self._queue.tokens + tokens > self.queue_tokens:
                self._queue.purge(Job.gone)
            if self._queue.tokens + tokens > self.queue_tokens:
                raise FullError(self.delay(tokens))
            for job in jobs:
                self._queue.push(job.task, job.request.tokens, job)
            self._changed.notify()
        return [job.future for job in jobs]

    def delay(self, tokens: int = 0) -> int:
        """Whole seconds, at least one, until so many more tokens should find room."""
        with self._changed:
            missing = self._queue.tokens + tokens - self.queue_tokens
        return max(1, math.ceil(missing / self.rate))

    def close(self) -> None:
        """Take no more requests, answer those that wait, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next():
            started = time.perf_counter()
            self._pass(jobs)
            seconds = time.perf_counter() - started
            tokens = sum(job.request.tokens for job in jobs)
            self.rate += SMOOTHING * (tokens / seconds - self.rate)
            self._passed(jobs, seconds)

    def _next(self) -> list[Job[Request]]:
        """The jobs of the next pass; none at the end."""
        with self._changed:
            while True:
                jobs = self._queue.take(self.batch_tokens, Job.starts)
                if jobs or self._closing:
                    return jobs
                self._changed.wait()

    def _pass(self, jobs: Sequence[Job[Request]]) -> None:
        try:
            answers = self._answer([job.request for job in jobs])
        except Exception as error:  # whatever it is, it must not end the thread
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
            else:
                for job in jobs:
                    self._pass([job])
        else:
            for job, answer in zip(jobs, answers, strict=True):
                job.future.set_result(answer)
