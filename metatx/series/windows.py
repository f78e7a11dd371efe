"""Series as windows of past and future."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["Future", "Past", "Windows", "firsts", "in_a_row"]


class Windows(Sequence[np.ndarray]):
    """Overlapping parts (C, size) of a table (T, C), as views, which take no memory.

    Args:
        rows: Table (T, C).
        firsts: First row of each part.
        size: Number of rows of each part.
        time_axis: Axis of time in a part: 1, or 0 for parts (size, C).
    """

    def __init__(self, rows: np.ndarray, firsts: np.ndarray, size: int, *, time_axis: int = 1) -> None:
        self.rows = rows
        self.firsts = firsts
        self.size = size
        self.time_axis = time_axis

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
    """Windows of the values to forecast.

    Attributes:
        names: Names of the channels.
        per_sequence: Number of channels that share a sequence.
        lookback: Number of rows before each part that may be read.
    """

    names: list[str]
    per_sequence: int
    lookback: int


class Past(np.ndarray):
    """End of a series from which it is forecast: an array with the series' identity and the times that follow.

    Attributes:
        id: Cells of the id columns, by name.
        next: Cells of the time columns, one dict a step of the horizon; without a time ``step``, counted from 1.
        times: Times of the steps read and of the horizon, datetime64 or numbers.
        time_axis: Axis of time in the array.
    """

    id: dict[str, Any]
    next: list[dict[str, Any]]
    times: np.ndarray
    time_axis: int


def firsts(rows: np.ndarray, ends: Sequence[int], lookback: int, horizon: int, stride: int) -> np.ndarray:
    """First rows of the windows that lie within a series and have a value both to read and to forecast.

    Args:
        rows: All series, concatenated (T, C).
        ends: Row behind the last of each series.
        lookback: Number of rows to read.
        horizon: Number of rows to forecast.
        stride: Number of rows from one window to the next.
    """
    starts = [0, *ends[:-1]]
    pairs = zip(starts, ends, strict=True)
    begins = np.concatenate([np.arange(first, end - lookback - horizon + 1, stride) for first, end in pairs])
    if not np.isnan(rows).any():
        return begins
    seen = np.concatenate([[0], np.cumsum(np.isfinite(rows).any(1))])
    past = seen[begins + lookback] > seen[begins]
    future = seen[begins + lookback + horizon] > seen[begins + lookback]
    kept: np.ndarray = begins[past & future]
    return kept


def in_a_row(futures: Sequence[Any], horizon: int) -> np.ndarray:
    """Concatenate futures (C, H) to (C, T). Raises ValueError if one has another shape."""
    arrays = [np.asarray(future, dtype=np.float64) for future in futures]
    wrong = next((array.shape for array in arrays if array.shape != (len(arrays[0]), horizon)), None)
    if wrong is not None:
        raise ValueError(f"A future is {wrong}; expected (channels, {horizon}), the horizon, of each.")
    return np.concatenate(arrays, axis=1)
