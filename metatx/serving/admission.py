"""How much may wait: no more than what is answered in time, at the rate at which answers are really given."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from metatx.serving.shares import Shares

__all__ = ["Admission", "Asked", "FullError", "Ticket"]

SMOOTHING = 0.2  # weight of the last pass, or of a task's last request
GUESS = 1 / 1000  # cost of a byte, until a task has had a request: few, so that nothing is refused for it
TASK = 8  # times what is free, that a task may have: more than one client, which else would be all that it has
GUESSED = 1 / 8  # of what may wait: no guess counts for more, for it may be wrong


class FullError(RuntimeError):
    """As much waits as may.

    Attributes:
        seconds: After which there should be room.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(min(seconds, 3600)))
        super().__init__(f"The server is busy; try again in {self.seconds} s.")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is known of a request before it is prepared.

    Attributes:
        client: Who asks.
        task: None: it names several.
        form: Whether it brings files, not JSON.
        size: Parts of the form, or bytes of the JSON; None: not known yet.
    """

    client: str
    task: str | None
    form: bool
    size: int | None = None


@dataclass
class _Usual:
    """What a task's requests are like."""

    cost: float
    size: float


class Ticket:
    """A request that is under way: what it counts for, to its client and to its tasks."""

    def __init__(self, admission: "Admission", asked: Asked, guess: int) -> None:
        self._admission, self.asked = admission, asked
        self.costs: dict[str, int] = {asked.task or "": guess}
        self.over = False

    @property
    def cost(self) -> int:
        """Of all its tasks."""
        return sum(self.costs.values())

    def settle(self, costs: Mapping[str, int]) -> None:
        """Put what the request costs, task by task, in the place of the guess. Raises FullError."""
        self._admission.settle(self, dict(costs))


class Admission:
    """Counts what is under way, and lets more in while it can be answered in time.

    A request counts from when it is read until it is answered: with a guess from its size, for which each task's
    requests show the measure, and, as soon as it is prepared, with what it costs. What may wait is shared among clients
    and among tasks, so that neither one client nor one task fills it. The rate is that of passes with more waiting
    behind them, from the end of one to the end of the next: all that the server does beside the model slows it.

    Args:
        rate: Cost a second, until passes have shown it; see ``metatx.serving.throughput.cost``.
        seconds: Of work that may wait.
        largest: Cost that one input may have, and so the most that is guessed for a file.
    """

    def __init__(self, rate: float, seconds: float, largest: int) -> None:
        self.rate, self.seconds, self.largest = rate, seconds, largest
        self.clients = Shares(lambda: self.most)
        self.tasks = Shares(lambda: self.most, TASK)
        self._usual: dict[tuple[str | None, bool], _Usual] = {}
        self._last: float | None = None  # end of the last pass, if more waited behind it
        self._lock = Lock()

    @property
    def most(self) -> int:
        """Cost that may be under way."""
        return max(1, round(self.rate * self.seconds))

    @property
    def cost(self) -> int:
        """That is under way."""
        return self.clients.total

    def guess(self, asked: Asked) -> int:
        """The cost of a request that is not prepared."""
        usual, size = self._usual.get((asked.task, asked.form)), asked.size
        if usual is None:
            found = size or 1 if asked.form else (size or 1) * GUESS
        else:
            found = usual.cost if size is None else size * usual.cost / usual.size
        if asked.form:
            found = min(found, (size or 1) * self.largest)
        return max(1, round(min(found, GUESSED * self.most)))

    def check(self, asked: Asked) -> None:
        """Refuse a request for which there is no room. Raises FullError.

        Nothing is counted yet: a client that sends slowly, or nothing, holds up no other.
        """
        with self._lock:
            self._check(asked)

    @contextmanager
    def waiting(self, asked: Asked) -> Iterator[Ticket]:
        """Room for a request that was read. Raises FullError."""
        with self._lock:
            self._check(asked)
            ticket = Ticket(self, asked, self.guess(asked))
            self._add(ticket, 1)
        try:
            yield ticket
        finally:
            with self._lock:
                self._add(ticket, -1)
                ticket.over = True

    def settle(self, ticket: Ticket, costs: dict[str, int]) -> None:
        """As ``Ticket.settle``: one who has more under way may be refused what was taken for less than it is."""
        client = ticket.asked.client
        with self._lock:
            if ticket.over:  # nobody waits for it any more
                return
            others = self.clients.holds(client) - ticket.cost
            excess = self.cost - ticket.cost + sum(costs.values()) - 2 * self.most
            if others and excess > 0:
                raise FullError(excess / self.rate)
            self._add(ticket, -1)
            ticket.costs = costs
            self._add(ticket, 1)

    def _add(self, ticket: Ticket, sign: int) -> None:
        self.clients.add(ticket.asked.client, sign * ticket.cost)
        for task, cost in ticket.costs.items():
            self.tasks.add(task, sign * cost)

    def _check(self, asked: Asked) -> None:
        guess = self.guess(asked)
        if self.clients.modest(asked.client, guess):
            return
        excess = self.clients.excess(asked.client, guess)
        if asked.task is not None:
            excess = max(excess, self.tasks.excess(asked.task, guess))
        if excess > 0:
            raise FullError(excess / self.rate)

    def learn(self, asked: Asked, cost: int) -> None:
        """Note what a request turned out to be."""
        size = max(1, asked.size or 1)
        with self._lock:
            usual = self._usual.setdefault((asked.task, asked.form), _Usual(cost, size))
            usual.cost += SMOOTHING * (cost - usual.cost)
            usual.size += SMOOTHING * (size - usual.size)

    def passed(self, cost: int, more: bool) -> None:
        """Note the end of a pass of so much cost, and whether more waits."""
        now = time.perf_counter()
        if self._last is not None:
            self.rate += SMOOTHING * (cost / (now - self._last) - self.rate)
        self._last = now if more else None
