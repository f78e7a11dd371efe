"""A queue that shares what is taken from it fairly among tasks."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Deficit round-robin between tasks, by tokens (Shreedhar and Varghese 1995).

    A task with many or long requests gets no more of a pass than one with few, while both have some waiting. What does
    not fit into a pass any more goes first in the next one, so a long request waits no longer than others.

    Args:
        quantum: Tokens that a task may send each time its turn comes.
    """

    def __init__(self, quantum: int) -> None:
        self.quantum = quantum
        self.tokens = 0
        self._waiting: OrderedDict[str, deque[tuple[int, Item]]] = OrderedDict()
        self._deficit: dict[str, int] = {}
        self._interrupted: str | None = None  # whose turn it still is

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def push(self, task: str, tokens: int, item: Item) -> None:
        """Put an item of so many tokens behind the others of its task."""
        self._waiting.setdefault(task, deque()).append((tokens, item))
        self._deficit.setdefault(task, 0)
        self.tokens += tokens

    def take(self, budget: int, wanted: Callable[[Item], bool]) -> list[Item]:
        """The items of the next pass: at most ``budget`` tokens, or a single longer one.

        Args:
            budget: Tokens.
            wanted: Asked once for each item as it is taken; one that is not wanted is dropped, and takes no room.
        """
        taken: list[Item] = []
        while self._waiting:
            task, queue = next(iter(self._waiting.items()))
            if task != self._interrupted:
                self._deficit[task] += self.quantum
            self._interrupted = None
            while queue and (tokens := queue[0][0]) <= self._deficit[task]:
                if taken and tokens > budget:
                    self._interrupted = task
                    return taken
                item = queue.popleft()[1]
                self.tokens -= tokens
                if wanted(item):
                    self._deficit[task] -= tokens
                    budget -= tokens
                    taken.append(item)
            if queue:
                self._waiting.move_to_end(task)
            else:
                self._forget(task)
        return taken

    def _forget(self, task: str) -> None:
        # Turns are not saved up while nothing waits.
        del self._waiting[task], self._deficit[task]
