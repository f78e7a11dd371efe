"""A table in time order as windows of past and future."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

__all__ = ["Future", "Windows", "read_rows", "time_column"]

TIME_NAMES = ("date", "datetime", "day", "ds", "hour", "month", "time", "timestamp", "week", "year")


def time_column(table: "Dataset", inputs: list[str]) -> str | None:
    """The column that orders the rows: one of times, or else one with a usual name."""
    import pandas as pd

    first = table[0]
    others: list[str] = [name for name in table.column_names if name not in inputs]
    for name in others:
        value = first[name]
        if hasattr(value, "year") or (isinstance(value, str) and not pd.isna(pd.to_datetime(value, errors="coerce"))):
            return name
    return next((name for name in others if name.lower() in TIME_NAMES), None)


def read_rows(table: "Dataset", inputs: list[str]) -> np.ndarray:
    """The inputs of a table (T, C), float64, NaN where missing. Raises ValueError naming column and row."""
    import pandas as pd

    frame = table.to_pandas()
    time = time_column(table, inputs)
    if time is not None:
        _check_order(frame[time], time)
    columns = []
    for name in inputs:
        if frame[name].isna().all():
            raise ValueError(f"Column {name} has no value in {len(frame)} rows; leave it out, with --inputs.")
        numbers = pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        bad = (np.isnan(numbers) & frame[name].notna().to_numpy()) | np.isinf(numbers)
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"Column {name}, row {row + 1}: {frame[name].iloc[row]} is no finite number.")
        columns.append(numbers)
    return np.stack(columns, axis=1)


def _check_order(column: "pd.Series[Any]", name: str) -> None:
    import pandas as pd

    times = column if pd.api.types.is_numeric_dtype(column) else pd.to_datetime(column, errors="coerce")
    if times.isna().any():
        row = int(times.isna().to_numpy().argmax())
        raise ValueError(f"Column {name}, row {row + 1}: {column.iloc[row]!r} is no time.")
    late = (times.diff().iloc[1:] <= times.diff().iloc[1:] * 0).to_numpy()
    if late.any():
        row = int(late.argmax()) + 2
        raise ValueError(
            f"Column {name}, row {row}: {column.iloc[row - 1]} does not come after {column.iloc[row - 2]}; "
            "sort the rows by time, one row a time."
        )


class Windows(Sequence[np.ndarray]):
    """Overlapping parts of a table (T, C), each (C, size); views, so that they cost no memory.

    Args:
        rows: The table.
        start: Row at which the first begins.
        size: Rows of each.
        stride: Rows from one to the next.
        number: How many there are.
        time_axis: 0 for parts (size, C).
    """

    def __init__(
        self, rows: np.ndarray, start: int, size: int, stride: int, number: int, *, time_axis: int = 1
    ) -> None:
        self.rows, self.start, self.size, self.stride, self.number = rows, start, size, stride, number
        self.time_axis = time_axis

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(self.number)[at]]
        first = self.start + range(self.number)[at] * self.stride
        part = self.rows[first : first + self.size]
        return part if self.time_axis == 0 else part.T

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(self.number))


class Future(Windows):
    """What is to be forecast, with the names of its channels and how many of them share a sequence."""

    names: list[str]
    per_sequence: int
