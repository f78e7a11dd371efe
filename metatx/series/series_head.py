"""Base class of a head that reads tables in time order: each becomes windows of past and future steps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.examples import Examples
from metatx.head import Head
from metatx.progress import tell
from metatx.series.forecast_reader import ForecastReader
from metatx.series.forecast_tables import TableOptions, is_series_table
from metatx.series.table import Fill

if TYPE_CHECKING:
    from datasets import Dataset

    from metatx.tokenizer import Tokenizer

__all__ = ["SeriesHead"]


class SeriesHead(Head):
    """Head whose samples are windows of a table, and whose targets are the steps behind them.

    Attributes:
        time: Column or columns of the time, or ``"none"``; None: it is looked for.
        series: Column or columns that tell series apart, or ``"none"``; None: likewise.
        fill: Values of a step that is missing.
        horizon: Steps of a target, H.
        stride: Rows from one window to the next.
        season: Steps of a season, where it is known.
        layout: Columns and forms of time, ids and targets, found in the training table; None before.
    """

    needs_target = False
    time: str | list[str] | None
    series: str | list[str] | None
    fill: Fill
    horizon: int
    stride: int
    season: int | None
    layout: dict[str, Any] | None

    @classmethod
    def claims(cls, table: "Dataset", target: str | None) -> bool:
        """Tables of numbers in time order, a column of which is to be forecast."""
        return is_series_table(table, target)

    def columns(
        self, table: "Dataset", target: str | None, inputs: Sequence[str] | None, tokenizer: "Tokenizer"
    ) -> tuple[str | None, list[str]]:
        """No target, and all channels as inputs; ``layout`` names those that are forecast, columns of time and ids.

        What the user left open, lookback and horizon too, is found here, once, and told.

        Raises:
            ValueError: If columns of time or ids are not clear, or out of order, or none can be forecast.
        """
        plan = self.reader.plan(table, inputs, target, tokenizer.lookback)
        self.layout = plan.layout
        if tokenizer.lookback is None:
            self.horizon = plan.horizon
            tokenizer.read_last(plan.lookback)
        for note in plan.notes:
            tell(note)
        return None, plan.inputs

    def inputs(self, table: "Dataset", target: str | None, tokenizer: "Tokenizer") -> list[str]:
        """Every column of numbers but the time and ids."""
        return self.reader.inputs(table)

    def examples(
        self, table: "Dataset", inputs: list[str], target: str | None, tokenizer: "Tokenizer", source: str
    ) -> Examples:
        """All windows of a table in time order, views of its rows.

        Raises:
            ValueError: If times are not increasing, a value is no finite number, or there are too few rows.
        """
        if target is not None:
            raise ValueError(f"The forecasting head forecasts every input; name {target} with --inputs, not as target.")
        return self.reader.examples(table, inputs, tokenizer, source)

    def queries(self, table: "Dataset", inputs: list[str], tokenizer: "Tokenizer") -> Sequence[Any]:
        """Last ``lookback`` steps of each series, as a ``Past`` that knows what times come next.

        Raises:
            ValueError: If no series has as many steps.
        """
        return self.reader.queries(table, inputs, tokenizer)

    def split(
        self, table: "Dataset", target: str | None, tokenizer: "Tokenizer", fraction: float, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers in two parts, the second the last ``fraction`` of each series, with ``lookback`` steps before.

        Raises:
            ValueError: If either part is too short for one window.
        """
        return self.reader.split(table, tokenizer, fraction)

    @property
    def reader(self) -> ForecastReader:
        """Reader of tables, with the layout of the training table once it is known."""
        options = TableOptions(self.time, self.series, self.fill, self.season, self.options.get("horizon"))
        return ForecastReader(options, self.horizon, self.stride, self.layout)
