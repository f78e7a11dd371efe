"""Queue that gives tasks, and the clients of a task, fair shares of what is taken from it."""

import heapq
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

Item = TypeVar("Item")

CLIENTS = 4096  # clients of a task that are remembered; beyond it, those with nothing in the queue are forgotten


class FairQueue(Generic[Item]):
    """Deficit round-robin between tasks, by tokens (Shreedhar and Varghese 1995).

    While two tasks have requests that wait, the one with many or long requests gets no more of a pass than the other. A
    request that does not fit into a pass goes first in the next, so a long request waits no longer than others. The
    clients of a task share its turns equally, by start-time fair queueing (Goyal, Vin and Cheng 1996).

    Args:
        quantum: Tokens that a task may send each time its turn comes.
    """

    def __init__(self, quantum: int) -> None:
        self.quantum = quantum
        self.tokens = 0
        self._waiting: OrderedDict[str, _Flow[Item]] = OrderedDict()
        self._deficit: dict[str, int] = {}
        self._interrupted: str | None = None  # whose turn it still is

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def push(self, task: str, tokens: int, item: Item, client: str = "") -> None:
        """Put an item, with its number of tokens, behind the others of its task and client."""
        self._waiting.setdefault(task, _Flow()).push(client, tokens, item)
        self._deficit.setdefault(task, 0)
        self.tokens += tokens

    def take(
        self, budget: int, wanted: Callable[[Item], bool], passed_over: Callable[[str], bool] = lambda task: False
    ) -> list[Item]:
        """Take the items of the next pass: at most ``budget`` tokens, or a single longer item.

        Args:
            budget: Number of tokens.
            wanted: Function that is called once for each item as it is taken; an item for which it returns False is
                dropped, and takes no room.
            passed_over: Function that returns True for a task that is to have no turn now.
        """
        taken: list[Item] = []
        left_out = 0  # tasks that were passed over one after the other
        while left_out < len(self._waiting):
            task, queue = next(iter(self._waiting.items()))
            if passed_over(task):
                self._waiting.move_to_end(task)
                left_out += 1
                continue
            left_out = 0
            if task != self._interrupted:
                self._deficit[task] += self.quantum
            self._interrupted = None
            while len(queue) and (tokens := queue.first) <= self._deficit[task]:
                if taken and tokens > budget:
                    self._interrupted = task
                    return taken
                item = queue.pop()
                self.tokens -= tokens
                if wanted(item):
                    self._deficit[task] -= tokens
                    budget -= tokens
                    taken.append(item)
            if len(queue):
                self._waiting.move_to_end(task)
            else:
                self._forget(task)
        return taken

    def _forget(self, task: str) -> None:
        # A task saves up no turns while none of its requests waits.
        del self._waiting[task], self._deficit[task]


class _Flow(Generic[Item]):
    """Items of one task that wait; the client that has had least is next."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Item]] = []  # start, number, tokens, item
        self._ends: dict[str, int] = {}  # end of each client's last item, on the clock of the starts
        self._now = self._number = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first(self) -> int:
        """Tokens of the next item."""
        return self._heap[0][2]

    def push(self, client: str, tokens: int, item: Item) -> None:
        start = max(self._now, self._ends.get(client, 0))
        self._ends[client] = start + tokens
        self._number += 1  # decides between equal starts, for items themselves cannot be compared
        heapq.heappush(self._heap, (start, self._number, tokens, item))

    def pop(self) -> Item:
        self._now, _, _, item = heapq.heappop(self._heap)
        if len(self._ends) > CLIENTS:
            self._ends = {client: end for client, end in self._ends.items() if end > self._now}
        return item
