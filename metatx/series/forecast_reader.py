"""Reader of tables in time order, from the table to windows to learn from and series to forecast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.examples import Examples
from metatx.progress import tell
from metatx.series.forecast_tables import (
    Plan,
    TableOptions,
    channels_of,
    held_rows,
    lookback_of,
    pasts_of,
    plan_table,
    windows_of,
)
from metatx.series.layouts import Layout, find_layout
from metatx.series.table import SeriesTable, read_series

if TYPE_CHECKING:
    from datasets import Dataset

    from metatx.tokenizer import Tokenizer

__all__ = ["ForecastReader"]


@dataclass(frozen=True)
class ForecastReader:
    """Reader of a forecasting head's tables.

    Attributes:
        options: Options of the head that say how a table is read.
        horizon: Steps to forecast.
        stride: Rows from one window to the next.
        layout: Layout of the training table; None before it is known.
    """

    options: TableOptions
    horizon: int
    stride: int
    layout: dict[str, Any] | None

    def plan(self, table: "Dataset", inputs: Sequence[str] | None, target: str | None, lookback: int | None) -> Plan:
        """Layout, inputs, lookback and horizon of a training table. Raises ValueError as ``plan_table``."""
        return plan_table(table.to_pandas(), inputs, target, self.options, lookback, self.horizon)

    def inputs(self, table: "Dataset") -> list[str]:
        """Every column of numbers but the time and ids."""
        frame = table.to_pandas()
        return channels_of(frame, find_layout(frame, (), self.options.time, self.options.series))[0]

    def examples(self, table: "Dataset", inputs: list[str], tokenizer: "Tokenizer", source: str) -> Examples:
        """All windows of a table, views of its rows.

        Raises:
            ValueError: If times are not increasing, a value is no finite number, or there are too few rows.
        """
        lookback = lookback_of(tokenizer)
        read = self.read(table, inputs, lookback)
        season = self.options.season
        if season is not None and season > lookback:
            raise ValueError(f"A season of {season} steps does not fit a lookback of {lookback}.")
        past, future = windows_of(read, inputs, lookback, self.horizon, self.stride, source)
        past.time_axis = tokenizer.time_axis
        future.per_sequence = len(inputs) if tokenizer.mixes_channels else 1
        return Examples(past, future, source)

    def queries(self, table: "Dataset", inputs: list[str], tokenizer: "Tokenizer") -> list[np.ndarray]:
        """Last ``lookback`` steps of each series, as a ``Past``; shorter series are left out and told.

        Raises:
            ValueError: If no series has as many steps.
        """
        lookback = lookback_of(tokenizer)
        read = self.read(table, inputs, lookback)
        found = pasts_of(read, lookback, self.horizon, tokenizer.time_axis)
        left_out = len(read.series) - len(found)
        if left_out:
            tell(f"Left out, of fewer than {lookback} steps: {left_out} series.")
        for note in read.notes:
            tell(note)
        return found

    def split(self, table: "Dataset", tokenizer: "Tokenizer", fraction: float) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers in two parts, see ``held_rows``. Raises ValueError if either part is too short."""
        lookback = lookback_of(tokenizer)
        return held_rows(self.read(table, (), lookback).series, fraction, lookback, self.horizon)

    def read(self, table: "Dataset", inputs: Sequence[str], lookback: int) -> SeriesTable:
        """Series of a table, read in the layout of the training table where that fits, else in its own."""
        frame = table.to_pandas()
        time = self.options.time
        series = self.options.series
        layout = Layout.of(self.layout) if self.layout else find_layout(frame, inputs, time, series)
        if self.layout and layout.written_otherwise(frame):
            layout = find_layout(frame, inputs, self.layout["time"], self.layout["series"] or "none")
        return read_series(frame, layout, list(inputs), self.options.fill, lookback + self.horizon)
