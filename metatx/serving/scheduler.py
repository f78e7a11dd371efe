"""The batch former: requests of all tasks, as they come, to passes through the backbone."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any, Generic, Protocol, TypeVar

from metatx.serving.fair_queue import FairQueue

__all__ = ["ClosedError", "DeadlineError", "Group", "Job", "Prepared", "Scheduler"]

TURNS = 16  # turns of a task that fill a pass: the finer, the fairer


class Prepared(Protocol):
    """An encoded request, as ``TaskPool.prepare`` gives it."""

    @property
    def tokens(self) -> int:
        """Tokens that enter the backbone, about."""
        ...


Request = TypeVar("Request", bound=Prepared)


class DeadlineError(TimeoutError):
    """A request was not answered in time."""


class ClosedError(RuntimeError):
    """The scheduler takes no more requests."""


class Group:
    """Requests that came together, and one future for all their answers.

    Args:
        count: Of the requests.
        deadline: On the clock of ``time.monotonic``.
    """

    def __init__(self, count: int, deadline: float) -> None:
        self.future: Future[list[Any]] = Future()
        self._answers: list[Any] = [None] * count
        self._missing, self._deadline = count, deadline

    def wanted(self) -> bool:
        """Whether answers are still waited for; too late, the future fails."""
        if not self.future.done() and time.monotonic() > self._deadline:
            self.fail(DeadlineError("The request waited longer than its deadline allows."))
        return not self.future.done()

    def answer(self, position: int, answer: Any) -> None:
        """One of the answers; the last completes the future."""
        self._answers[position] = answer
        self._missing -= 1
        if not self._missing:
            with suppress(InvalidStateError):  # cancelled just now
                self.future.set_result(self._answers)

    def fail(self, error: Exception) -> None:
        """Let the future fail; what of the group still waits is not wanted any more."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(frozen=True, eq=False)
class Job(Generic[Request]):
    """A request that waits for its answer."""

    task: str
    request: Request
    group: Group
    position: int  # in the group


class Scheduler(Generic[Request]):
    """One thread that owns the model, and the queue before it.

    What waits goes: a pass takes whatever is there, up to a number of tokens, fairly among tasks, and none is delayed
    to wait for more. Cancelled and late requests are dropped before they cost anything. When a pass fails, its requests
    run one by one, so that only the culprit fails; if there is none, the samples did not go together, which is a fault
    of ours.

    Args:
        answer: Prepared requests to their answers, in order, an error in the place of one that failed alone, as
            ``TaskPool.outcomes``; called in one thread only.
        batch_tokens: Tokens of a pass; a longer request has one of its own.
        cost: Tokens that a request counts for; all that it has by default.
        passed: Told of each pass: its jobs and how many seconds it took.
        failed: Told of each pass of several that failed, before it is repeated one by one: its jobs and the error.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Request]], Sequence[Any]],
        *,
        batch_tokens: int,
        cost: Callable[[Request], int] = lambda request: request.tokens,
        passed: Callable[[Sequence[Job[Request]], float], None] = lambda jobs, seconds: None,
        failed: Callable[[Sequence[Job[Request]], Exception], None] = lambda jobs, error: None,
    ) -> None:
        self.batch_tokens = batch_tokens
        self._answer, self._cost, self._passed, self._failed = answer, cost, passed, failed
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

    def wait_for_room(self) -> None:
        """Return when fewer tokens wait than a pass holds."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._queue.tokens < self.batch_tokens)

    def submit(
        self, requests: Sequence[tuple[str, Request]], seconds: float = math.inf, client: str = ""
    ) -> "Future[list[Any]]":
        """Queue requests that came together, each with the name of its task; their answers, in order.

        Cancelled, what of them is in no pass yet is dropped; when one of them fails, so do all.

        Args:
            requests: Of any tasks.
            seconds: After which they need not be answered any more.
            client: That shares its tasks' turns with others.

        Raises:
            ClosedError: After ``close``.
        """
        group = Group(len(requests), time.monotonic() + seconds)
        if not requests:
            group.future.set_result([])
        with self._changed:
            if self._closing:
                raise ClosedError("The server is stopping.")
            for position, (task, request) in enumerate(requests):
                self._queue.push(task, self._cost(request), Job(task, request, group, position), client)
            self._changed.notify_all()
        return group.future

    def close(self) -> None:
        """Take no more requests, answer those that wait, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next():
            started = time.perf_counter()
            self._pass(jobs)
            self._passed(jobs, time.perf_counter() - started)

    def _next(self) -> list[Job[Request]]:
        """The jobs of the next pass; none at the end."""
        with self._changed:
            while True:
                jobs = self._queue.take(self.batch_tokens, lambda job: job.group.wanted())
                self._changed.notify_all()
                if jobs or self._closing:
                    return jobs
                self._changed.wait()

    def _pass(self, jobs: Sequence[Job[Request]]) -> None:
        try:
            answers = self._answer([job.request for job in jobs])
        except Exception as error:  # whatever it is, it must not end the thread
            if len(jobs) == 1:
                jobs[0].group.fail(error)
            else:
                self._failed(jobs, error)
                for job in jobs:
                    if job.group.wanted():
                        self._pass([job])
        else:
            for job, answer in zip(jobs, answers, strict=True):
                if isinstance(answer, Exception):
                    job.group.fail(answer)
                else:
                    job.group.answer(job.position, answer)
