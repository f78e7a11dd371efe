"""A budget that many share, so that none of them fills it."""

from collections.abc import Callable

__all__ = ["Shares"]

FLOOR = 1 / 16  # of the budget, that each may hold beside others who hold much
OVER = 2  # budgets, up to which there is room for those who hold little


class Shares:
    """Dynamic thresholds (Choudhury and Hahne 1998): a holder may hold so many times what is free.

    With 2 one alone leaves a third to others, and each further one takes less. Who holds nothing, or little, gets in
    even where others have taken all, until the budget is exceeded ``OVER`` times.

    Args:
        most: The budget, asked for each time.
        times: Of what is free.
    """

    def __init__(self, most: Callable[[], float], times: int = 2) -> None:
        self._most, self._times = most, times
        self._held: dict[str, int] = {}
        self.total = 0

    def holds(self, holder: str) -> int:
        """What one holds."""
        return self._held.get(holder, 0)

    def excess(self, holder: str, amount: int) -> float:
        """How much of its own a holder must give back before it may have so much more; 0 if it may now."""
        if self.modest(holder, amount):
            return 0.0
        free = self._most() - self.total - amount
        return max(0.0, self.holds(holder) + amount - self._times * free) / (1 + self._times)

    def modest(self, holder: str, amount: int) -> bool:
        """Whether a holder would have no more than anybody may, and there is room for those."""
        held, most = self.holds(holder), self._most()
        return self.total <= OVER * most and (not held or held + amount <= FLOOR * most)

    def add(self, holder: str, amount: int) -> None:
        """Count so much more, or, below 0, less."""
        self.total += amount
        self._held[holder] = self.holds(holder) + amount
        if not self._held[holder]:
            del self._held[holder]
