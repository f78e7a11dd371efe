"""Worker threads that prepare one kind of request, taking turns."""

import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any, TypeAlias

from metatx.serving.fair_queue import FairQueue
from metatx.serving.scheduler import ClosedError

__all__ = ["Workers", "Steps"]

SMOOTHING = 0.1  # weight of the last request in the pace
QUANTUM = 256  # approximate number of tokens that a task may send each time its turn comes
SLICE = 0.02  # seconds after which a request gives way to others that wait, between two steps

Steps: TypeAlias = Generator[None, None, Any]  # yields between two inputs, and returns the prepared request


@dataclass(eq=False)
class _Work:
    task: str
    client: str
    steps: Steps
    future: "Future[Any]" = field(default_factory=Future)
    seconds: float = 0.0  # of a thread, so far

    def starts(self) -> bool:
        return self.future.running() or self.future.set_running_or_notify_cancel()


class Workers:
    """Threads and the queue before them, which is fair among tasks and clients.

    The threads work only as far ahead as the model can follow: a request that is not prepared yet can still be dropped
    at no cost, and preparing it would slow the passes for which it has to wait. A request of many inputs goes back into
    the queue between two inputs, and one thread is always free for another client.

    Args:
        name: Name of the threads, for logs and debuggers.
        workers: Threads that one client may keep busy; there is one more.
        ready: Function that is called before each turn, and returns when the model wants more.
    """

    def __init__(self, name: str, workers: int, ready: Callable[[], None]) -> None:
        self.workers = workers
        self.pace = 0.0  # seconds of a thread that a request takes
        self._ready = ready
        self._queue: FairQueue[_Work] = FairQueue(QUANTUM)
        self._busy: Counter[str] = Counter()  # threads, by client
        self._changed = Condition()
        self._closing = False
        self._threads = [
            Thread(target=self._run, name=f"metatx-{name}-{number}", daemon=True) for number in range(workers + 1)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a thread, to be begun or to go on."""
        with self._changed:
            return len(self._queue)

    @property
    def seconds(self) -> float:
        """Estimated seconds until a further request would be prepared, at least."""
        return self.waiting * self.pace / self.workers

    def submit(self, task: str, tokens: int, steps: Steps, client: str = "") -> "Future[Any]":
        """Queue a request; return the future of what ``steps`` returns. If it is cancelled in time, it is not begun.

        Args:
            task: Name of the task whose turn the request takes.
            tokens: Estimated cost of the request.
            steps: Generator that prepares the request, driven by the threads.
            client: Client whose turn it takes, among the clients of the task.
        """
        work = _Work(task, client, steps)
        with self._changed:
            self._push(work, tokens)
        return work.future

    def close(self, seconds: float) -> None:
        """Drop requests that are not begun, and end the threads.

        Args:
            seconds: Seconds to wait for the threads; one that is stuck is left behind.
        """
        ends = time.monotonic() + seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        for work in self._queue.take(self._queue.tokens, lambda work: True):
            if not work.future.cancel():
                work.future.set_exception(ClosedError("The server is stopping."))

    def _push(self, work: _Work, tokens: int) -> None:
        self._queue.push(f"{work.task} {work.client}", tokens, work)
        self._changed.notify_all()

    def _run(self) -> None:
        while work := self._next():
            over = self._advance(work)
            with self._changed:
                self._busy[work.client] -= 1
                self._busy += Counter()  # forgets clients that keep no thread busy
                if over:
                    self._changed.notify_all()
                else:
                    self._push(work, QUANTUM)

    def _next(self) -> _Work | None:
        """Wait for the request whose turn it is; None when the threads are to end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or len(self._queue))
                if self._closing:
                    return None
            self._ready()
            with self._changed:
                for work in self._queue.take(0, _Work.starts, self._has_enough):
                    self._busy[work.client] += 1
                    return work
                if len(self._queue) and not self._closing:
                    self._changed.wait()  # for a thread of those whose requests wait

    def _has_enough(self, turn: str) -> bool:
        return self._busy[turn.rpartition(" ")[2]] >= self.workers

    def _advance(self, work: _Work) -> bool:
        """Drive a request for a while; return True if it ended."""
        started = time.perf_counter()
        try:
            while time.perf_counter() - started < SLICE:
                next(work.steps)
        except StopIteration as end:
            work.future.set_result(end.value)
        except Exception as error:  # whatever it is, it must not end the thread
            work.future.set_exception(error)
        work.seconds += time.perf_counter() - started
        if work.future.done():
            self.pace += SMOOTHING * (work.seconds - self.pace)
        return work.future.done()
