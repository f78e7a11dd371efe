"""How much may wait: no more than what is answered in time, at the rate at which answers are really given."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

__all__ = ["Admission", "FullError"]

SMOOTHING = 0.2  # weight of the last pass, or of a task's last request
GUESS = 1 / 1000  # tokens of a byte, until a task has had a request: few, so that nothing is refused for it


class FullError(RuntimeError):
    """As much waits as may.

    Attributes:
        seconds: After which there should be room.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(f"The server is busy; try again in {self.seconds} s.")


@dataclass
class _Usual:
    """What a task's requests are like."""

    tokens: float
    bytes: float


class Admission:
    """Counts what is under way, and lets more in while it can be answered in time.

    A request is counted by the tokens that its size suggests, until it is answered; how many tokens a byte makes, each
    task's requests show. The rate is that of passes with more waiting behind them, from the end of one to the end of
    the next: all that the server does beside the model slows it, and counts.

    Args:
        rate: Tokens a second, until passes have shown it.
        seconds: Of work that may wait.
        most_bytes: Of bodies that may be held at once.
    """

    def __init__(self, rate: float, seconds: float, most_bytes: int) -> None:
        self.rate, self.seconds, self.most_bytes = rate, seconds, most_bytes
        self.tokens = self.bytes = 0
        self._usual: dict[str | None, _Usual] = {}
        self._last: float | None = None  # end of the last pass, if more waited behind it
        self._lock = Lock()

    @property
    def most_tokens(self) -> int:
        """That may be under way."""
        return round(self.rate * self.seconds)

    def estimate(self, task: str | None, size: int | None) -> int:
        """Tokens of a request.

        Args:
            task: None: of several.
            size: Bytes of its body; None: unknown.
        """
        usual = self._usual.get(task)
        if usual is None:
            return max(1, round((size or 1) * GUESS))
        return max(1, round(usual.tokens if size is None else size * usual.tokens / usual.bytes))

    @contextmanager
    def reading(self, task: str | None, size: int | None) -> Iterator[None]:
        """Room for a body, from before it is read until its request is answered. Raises FullError.

        Its tokens are not counted yet: a client that sends slowly, or nothing, holds up no other.
        """
        held = size or 0
        with self._lock:
            self._check(task, size)
            if self.bytes and self.bytes + held > self.most_bytes:
                raise FullError(0)
            self.bytes += held
        try:
            yield
        finally:
            with self._lock:
                self.bytes -= held

    @contextmanager
    def waiting(self, task: str | None, size: int) -> Iterator[int]:
        """Room for a request that was read, whose estimated tokens it gives. Raises FullError."""
        with self._lock:
            self._check(task, size)
            tokens = self.estimate(task, size)
            self.tokens += tokens
        try:
            yield tokens
        finally:
            with self._lock:
                self.tokens -= tokens

    def _check(self, task: str | None, size: int | None) -> None:
        """Where nothing waits, there is room for anything."""
        excess = self.tokens + self.estimate(task, size) - self.most_tokens
        if self.tokens and excess > 0:
            raise FullError(excess / self.rate)

    def learn(self, task: str | None, size: int, tokens: int) -> None:
        """Note what a request turned out to be."""
        with self._lock:
            usual = self._usual.setdefault(task, _Usual(tokens, max(1, size)))
            usual.tokens += SMOOTHING * (tokens - usual.tokens)
            usual.bytes += SMOOTHING * (size - usual.bytes)

    def passed(self, tokens: int, more: bool) -> None:
        """Note the end of a pass of so many tokens, and whether more waits."""
        now = time.perf_counter()
        if self._last is not None:
            self.rate += SMOOTHING * (tokens / (now - self._last) - self.rate)
        self._last = now if more else None
