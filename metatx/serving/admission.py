"""Admission control: bounds the work that waits by what the server answers in time, at its measured rate."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from metatx.serving.shares import Shares

__all__ = ["Admission", "Asked", "FullError", "Ticket"]

SMOOTHING = 0.2  # weight of the last pass in the rate, and of a task's last request in its usual cost
BYTE_COST = 1 / 1000  # guess for a byte of JSON, until a task has had a request: low, so that it refuses nothing
TASK_TIMES = 8  # a task may have so many times the free budget: more than a client, of which it may have only one
LARGEST_GUESS = 1 / 8  # share of the budget that a guess may count for at most, for it may be wrong


class FullError(RuntimeError):
    """Error of a request that finds no room, because too much waits already.

    Attributes:
        seconds: Seconds after which there should be room; a whole number from 1 to 3600.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(min(seconds, 3600)))
        super().__init__(f"The server is busy; try again in {self.seconds} s.")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Facts about a request that are known before it is prepared.

    Attributes:
        client: Address of the client, see ``metatx.serving.clients``.
        task: Name of the task; None if the request names several.
        form: True for a form with files and for arrays and tables, False for JSON.
        size: Number of parts of the form or of samples, or of bytes of the JSON; None if it is not known yet.
    """

    client: str
    task: str | None
    form: bool
    size: int | None = None


@dataclass
class _Usual:
    """Smoothed cost and size of a task's requests."""

    cost: float
    size: float


class Ticket:
    """A request under way, with the cost that is counted for its client and its tasks."""

    def __init__(self, admission: "Admission", asked: Asked, guess: int) -> None:
        self._admission = admission
        self.asked = asked
        self.costs: dict[str, int] = {asked.task or "": guess}
        self.over = False

    @property
    def cost(self) -> int:
        """Cost over all tasks of the request."""
        return sum(self.costs.values())

    def settle(self, costs: Mapping[str, int]) -> None:
        """Replace the guess by the cost of the prepared request, by task. Raises FullError as ``Admission.settle``."""
        self._admission.settle(self, dict(costs))


class Admission:
    """Counts the work under way, and admits a request while it can be answered in time.

    A request counts from when its body was read until it is answered: first with a guess from its size, by the usual
    cost of the task's requests; as soon as it is prepared, with its cost. The budget is shared among clients and among
    tasks, so that neither one client nor one task fills it. The rate is measured from the end of one pass to the end of
    the next, while more waits: so it includes all that the server does beside the model.

    Args:
        rate: Cost a second, until passes have been measured; see ``metatx.serving.throughput.cost``.
        seconds: Seconds of work that may wait.
        largest: Largest cost of one input, and so the largest guess for a file.
    """

    def __init__(self, rate: float, seconds: float, largest: int) -> None:
        self.rate = rate
        self.seconds = seconds
        self.largest = largest
        self.clients = Shares(lambda: self.most)
        self.tasks = Shares(lambda: self.most, TASK_TIMES)
        self._usual: dict[tuple[str | None, bool], _Usual] = {}
        self._last: float | None = None  # end of the last pass, if more waited behind it
        self._lock = Lock()

    @property
    def most(self) -> int:
        """Largest cost that may be under way: the budget."""
        return max(1, round(self.rate * self.seconds))

    @property
    def cost(self) -> int:
        """Cost that is under way."""
        return self.clients.total

    def guess(self, asked: Asked) -> int:
        """Estimate the cost of a request that is not prepared yet."""
        usual = self._usual.get((asked.task, asked.form))
        size = asked.size
        if usual is None:
            cost = size or 1 if asked.form else (size or 1) * BYTE_COST
        else:
            cost = usual.cost if size is None else size * usual.cost / usual.size
        if asked.form:
            cost = min(cost, (size or 1) * self.largest)
        return max(1, round(min(cost, LARGEST_GUESS * self.most)))

    def check(self, asked: Asked) -> None:
        """Refuse a request for which there is no room. Raises FullError.

        Nothing is counted yet, so a client that sends its body slowly, or never, takes no room from others.
        """
        with self._lock:
            self._check(asked)

    @contextmanager
    def waiting(self, asked: Asked) -> Iterator[Ticket]:
        """Count a request whose body was read, until the context ends. Raises FullError if there is no room."""
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
        """Replace the guess for a request by its cost.

        Raises:
            FullError: If its client has other requests under way, and all work together exceeds twice the budget.
        """
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
        """Update the usual cost and size of a task's requests by a prepared one."""
        size = max(1, asked.size or 1)
        with self._lock:
            usual = self._usual.setdefault((asked.task, asked.form), _Usual(cost, size))
            usual.cost += SMOOTHING * (cost - usual.cost)
            usual.size += SMOOTHING * (size - usual.size)

    def passed(self, cost: int, more: bool) -> None:
        """Update the rate at the end of a pass.

        Args:
            cost: Cost of the pass.
            more: True if more work waits; only then does the time until the next pass ends count.
        """
        now = time.perf_counter()
        if self._last is not None:
            self.rate += SMOOTHING * (cost / (now - self._last) - self.rate)
        self._last = now if more else None
