"""Budget that is shared among many, so that none of them fills it."""

from collections.abc import Callable

__all__ = ["Shares"]

FLOOR = 1 / 16  # share of the budget that each holder may have, whatever others hold
OVER = 2  # budgets in all, up to which a holder may still have its FLOOR


class Shares:
    """Dynamic thresholds (Choudhury and Hahne 1998): a holder may hold ``times`` as much as is free.

    With 2, a single holder leaves a third of the budget to others, and each further holder gets less. A holder with
    nothing, or little, gets in even where others have taken the whole budget, until ``OVER`` budgets are taken.

    Args:
        most: Function that returns the budget; called each time, for it may change.
        times: Factor on the free part of the budget.
    """

    def __init__(self, most: Callable[[], float], times: int = 2) -> None:
        self._most = most
        self._times = times
        self.amounts: dict[str, int] = {}
        self.total = 0

    def holds(self, holder: str) -> int:
        """Return the amount that a holder has."""
        return self.amounts.get(holder, 0)

    def excess(self, holder: str, amount: int) -> float:
        """Return the amount that a holder must give back before it may have ``amount`` more; 0 if it may now."""
        if self.modest(holder, amount):
            return 0.0
        free = self._most() - self.total - amount
        return max(0.0, self.holds(holder) + amount - self._times * free) / (1 + self._times)

    def modest(self, holder: str, amount: int) -> bool:
        """Return True if a holder with ``amount`` more stays within its floor, and there is room for floors."""
        before = self.holds(holder)
        most = self._most()
        return self.total <= OVER * most and (not before or before + amount <= FLOOR * most)

    def add(self, holder: str, amount: int) -> None:
        """Add an amount to what a holder has; a negative one is given back."""
        self.total += amount
        self.amounts[holder] = self.holds(holder) + amount
        if not self.amounts[holder]:
            del self.amounts[holder]
