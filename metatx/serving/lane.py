"""Worker threads that prepare one kind of request."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any

from metatx.serving.fair import FairQueue

__all__ = ["Lane"]

SMOOTHING = 0.1  # weight of the last request in the pace
QUANTUM = 256  # tokens, about, that a task may send each time its turn comes


@dataclass(frozen=True, eq=False)
class _Work:
    do: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)

    def starts(self) -> bool:
        return self.future.set_running_or_notify_cancel()


class Lane:
    """Threads, and what waits for them, fairly among tasks.

    They work only as far ahead as the model can follow: what is not prepared yet can still be dropped at no cost, and
    preparing it would take the interpreter from the passes that it has to wait for.

    Args:
        name: Of the threads.
        workers: Threads.
        ready: Called before each request; returns when the model wants more.
    """

    def __init__(self, name: str, workers: int, ready: Callable[[], None]) -> None:
        self.workers = workers
        self.pace = 0.0  # seconds of a thread that a request takes
        self._ready = ready
        self._queue: FairQueue[_Work] = FairQueue(QUANTUM)
        self._changed = Condition()
        self._closing = False
        self._threads = [
            Thread(target=self._run, name=f"metatx-{name}-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Requests that no thread has begun."""
        with self._changed:
            return len(self._queue)

    @property
    def seconds(self) -> float:
        """Until a further request is prepared, at least."""
        return self.waiting * self.pace / self.workers

    def submit(self, task: str, tokens: int, do: Callable[[], Any]) -> "Future[Any]":
        """What ``do`` gives, in one of the threads; cancelled before, it is not called.

        Args:
            task: Whose turn it takes.
            tokens: Of the request, about.
            do: Prepares it.
        """
        work = _Work(do)
        with self._changed:
            self._queue.push(task, tokens, work)
            self._changed.notify()
        return work.future

    def close(self, seconds: float) -> None:
        """Drop what no thread has begun, and end them; one that is stuck is left behind after so many seconds."""
        ends = time.monotonic() + seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        for work in self._queue.take(self._queue.tokens, lambda work: True):
            work.future.cancel()

    def _run(self) -> None:
        while self._wanted():
            self._ready()
            with self._changed:
                taken = self._queue.take(0, _Work.starts)
            for work in taken:
                self._do(work)

    def _wanted(self) -> bool:
        """Wait until there is something to do; False at the end."""
        with self._changed:
            while not self._closing and not len(self._queue):
                self._changed.wait()
            return not self._closing

    def _do(self, work: _Work) -> None:
        started = time.perf_counter()
        try:
            work.future.set_result(work.do())
        except Exception as error:  # whatever it is, it must not end the thread
            work.future.set_exception(error)
        self.pace += SMOOTHING * (time.perf_counter() - started - self.pace)
