"""Series as windows of past and future."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["Future", "Past", "Windows", "firsts", "in_a_row"]


class Windows(Sequence[np.ndarray]):
    """Overlapping parts of a table (T, C), each (C, size); views, so that they cost no memory.

    Args:
        rows: The table.
        firsts: Row at which each begins.
        size: Rows of each.
        time_axis: 0 for parts (size, C).
    """

    def __init__(self, rows: np.ndarray, firsts: np.ndarray, size: int, *, time_axis: int = 1) -> None:
        self.rows, self.firsts, self.size, self.time_axis = rows, firsts, size, time_axis

    def __len__(self) -> int:
        return len(self.firsts)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        first = self.firsts[at]
        part = self.rows[first : first + self.size]
        return part if self.time_axis == 0 else part.T

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))


class Future(Windows):
    """What is to be forecast, with the names of its channels and how many of them share a sequence.

    Attributes:
        lookback: Rows before each part that may be read.
    """

    names: list[str]
    per_sequence: int
    lookback: int


class Past(np.ndarray):
    """The end of a series, to be forecast: an array that knows whose it is and what times come next.

    Attributes:
        id: What the id columns say.
        next: Cells of the time columns, one dict a step of the horizon; without a time ``step``, from 1.
        times: Of the steps read and those of the horizon, datetime64 or numbers.
        time_axis: Which of its axes is time.
    """

    id: dict[str, Any]
    next: list[dict[str, Any]]
    times: np.ndarray
    time_axis: int


def firsts(rows: np.ndarray, ends: Sequence[int], lookback: int, horizon: int, stride: int) -> np.ndarray:
    """Rows at which windows begin that stay within a series and have a value both to read and to forecast.

    Args:
        rows: All series, one behind the other (T, C).
        ends: The row behind each.
        lookback, horizon: Rows to read, and rows to forecast.
        stride: Rows from one window to the next.
    """
    starts = [0, *ends[:-1]]
    pairs = zip(starts, ends, strict=True)
    found = np.concatenate([np.arange(first, end - lookback - horizon + 1, stride) for first, end in pairs])
    if not np.isnan(rows).any():
        return found
    seen = np.concatenate([[0], np.cumsum(np.isfinite(rows).any(1))])
    past = seen[found + lookback] > seen[found]
    future = seen[found + lookback + horizon] > seen[found + lookback]
    kept: np.ndarray = found[past & future]
    return kept


def in_a_row(futures: Sequence[Any], horizon: int) -> np.ndarray:
    """Futures (C, H) one behind the other, (C, T). Raises ValueError if one has another shape."""
    arrays = [np.asarray(future, dtype=np.float64) for future in futures]
    wrong = next((array.shape for array in arrays if array.shape != (len(arrays[0]), horizon)), None)
    if wrong is not None:
        raise ValueError(f"A future is {wrong}; expected (channels, {horizon}), the horizon, of each.")
    return np.concatenate(arrays, axis=1)
