"""Scheduler: forms passes through the backbone from the requests of all tasks, as they arrive."""

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

TURNS = 16  # turns of a task that fill a pass; more turns are fairer


class Prepared(Protocol):
    """Encoded request, as ``TaskPool.prepare`` returns it."""

    @property
    def tokens(self) -> int:
        """Approximate number of tokens that enter the backbone."""
        ...


PreparedT = TypeVar("PreparedT", bound=Prepared)


class DeadlineError(TimeoutError):
    """Error of a request that was not answered in time."""


class ClosedError(RuntimeError):
    """Error of a request to a scheduler that takes no more."""


class Group:
    """Requests that arrived together, with one future for all their answers.

    Args:
        count: Number of requests.
        deadline: Time of ``time.monotonic`` after which nobody waits for the answers.
    """

    def __init__(self, count: int, deadline: float) -> None:
        self.future: Future[list[Any]] = Future()
        self._answers: list[Any] = [None] * count
        self._missing = count
        self._deadline = deadline

    def wanted(self) -> bool:
        """Return True while somebody waits for the answers; after the deadline the future fails."""
        if not self.future.done() and time.monotonic() > self._deadline:
            self.fail(DeadlineError("The request waited longer than its deadline allows."))
        return not self.future.done()

    def answer(self, position: int, answer: Any) -> None:
        """Set the answer of one request; the last answer completes the future."""
        self._answers[position] = answer
        self._missing -= 1
        if not self._missing:
            with suppress(InvalidStateError):  # it was cancelled meanwhile
                self.future.set_result(self._answers)

    def fail(self, error: Exception) -> None:
        """Let the future fail; the requests of the group that still wait are then dropped."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(frozen=True, eq=False)
class Job(Generic[PreparedT]):
    """A request that waits for its answer."""

    task: str
    request: PreparedT
    group: Group
    position: int  # in the group


class Scheduler(Generic[PreparedT]):
    """Thread that owns the model, and the queue before it.

    A pass takes the requests that wait, up to a number of tokens, fairly among tasks; it is never delayed to wait for
    more. Cancelled and late requests are dropped before they cost anything. When a pass fails, its requests run one by
    one, so that only the one at fault fails; if none does, samples could not be computed together, which is a bug.

    Args:
        answer: Function from prepared requests to their answers, in order, with an error in place of the answer where
            one request failed alone, such as ``TaskPool.outcomes``; called in one thread only.
        batch_tokens: Largest number of tokens in a pass; a longer request has a pass of its own.
        cost: Function from a request to the tokens that it counts as; by default its own number.
        passed: Function that is called after each pass, with its jobs and its seconds.
        failed: Function that is called after each failed pass of several jobs, before they are repeated one by one,
            with the jobs and the error.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[PreparedT]], Sequence[Any]],
        *,
        batch_tokens: int,
        cost: Callable[[PreparedT], int] = lambda request: request.tokens,
        passed: Callable[[Sequence[Job[PreparedT]], float], None] = lambda jobs, seconds: None,
        failed: Callable[[Sequence[Job[PreparedT]], Exception], None] = lambda jobs, error: None,
    ) -> None:
        self.batch_tokens = batch_tokens
        self._answer = answer
        self._cost = cost
        self._passed = passed
        self._failed = failed
        self._queue: FairQueue[Job[PreparedT]] = FairQueue(max(1, batch_tokens // TURNS))
        self._changed = Condition()
        self._closing = False
        self._thread = Thread(target=self._run, name="metatx-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> tuple[int, int]:
        """Number of requests and number of tokens in the queue."""
        with self._changed:
            return len(self._queue), self._queue.tokens

    @property
    def alive(self) -> bool:
        """True while the thread that owns the model runs."""
        return self._thread.is_alive()

    def wait_for_room(self) -> None:
        """Block until fewer tokens wait than a pass holds."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._queue.tokens < self.batch_tokens)

    def submit(
        self, requests: Sequence[tuple[str, PreparedT]], seconds: float = math.inf, client: str = ""
    ) -> "Future[list[Any]]":
        """Queue requests that arrived together; return the future of their answers, in order.

        If the future is cancelled, requests that are in no pass yet are dropped; if one request fails, the future
        fails.

        Args:
            requests: Name of the task, and request; of any tasks.
            seconds: Seconds after which nobody waits for the answers.
            client: Client that sent them; the clients of a task share its turns.

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

    def _next(self) -> list[Job[PreparedT]]:
        """Wait for the jobs of the next pass; none when the thread is to end."""
        with self._changed:
            while True:
                jobs = self._queue.take(self.batch_tokens, lambda job: job.group.wanted())
                self._changed.notify_all()
                if jobs or self._closing:
                    return jobs
                self._changed.wait()

    def _pass(self, jobs: Sequence[Job[PreparedT]]) -> None:
        try:
            answers = self._answer([job.request for job in jobs])
        except Exception as error:  # any error: it must not end the thread
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
