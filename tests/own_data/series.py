"""What tests of series share: tables, what is read of them, a head and its tokenizer."""

from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from metatx.registry import create
from metatx.series.layouts import find_layout
from metatx.series.table import SeriesTable, read_series

LOOKBACK, HORIZON = 24, 6


def read(
    columns: dict[str, Any],
    time: Any = None,
    series: Any = None,
    fill: Any = "missing",
    inputs: tuple[str, ...] = ("v",),
) -> SeriesTable:
    frame = table(pd.DataFrame(columns)).to_pandas()
    return read_series(frame, find_layout(frame, inputs, time, series), list(inputs), fill, 1000)


def table(frame: pd.DataFrame) -> Dataset:
    return Dataset.from_pandas(frame, preserve_index=False)


def coming(found: SeriesTable, count: int = 2, number: int = 0) -> list[dict[str, Any]]:
    """The times behind a series, as cells."""
    series = found.series[number]
    times = found.step.beside(series.times[-1], np.arange(1, count + 1))
    return found.layout.clock.write(times - series.ahead if times.dtype.kind == "M" else times, series.last)


def noise(rows: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=rows)


HOURS = pd.date_range("2024-01-30", periods=98, freq="h")


def head_and_tokenizer(**options: Any) -> tuple[Any, Any]:
    tokenizer = create("tokenizers", "time_series", 16, lookback=LOOKBACK, patch_size=8, stride=8)
    return create("heads", "forecasting", 16, horizon=HORIZON, **options), tokenizer


def long_table(lengths: tuple[int, ...] = (90, 70, 10)) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "item_id": i + 1,
                "timestamp": pd.date_range("2024-01-01", periods=n, freq="h"),
                "target": 1000.0 * i + np.arange(n),
            }
        )
        for i, n in enumerate(lengths)
    ]
    return pd.concat(parts).sort_values("timestamp", kind="stable").reset_index(drop=True)
