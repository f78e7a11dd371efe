"""Tables -> tokens: one token per column of a row."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from metatx.data.cell_types import (
    CYCLES,
    LARGEST,
    READERS,
    TYPES,
    category_of,
    cell_of,
    cycles_of,
    learn_columns,
    moment_of,
)
from metatx.data.spellings import Spellings
from metatx.errors import SampleError
from metatx.examples import column_names
from metatx.json_schema import row_schema
from metatx.places import Places
from metatx.registry import unknown
from metatx.tokenizer import Batch, Tokenizer

__all__ = ["TabularTokenizer"]

BINS = 2, 128  # fewest and most of a numeric column, where nobody said
ROWS_A_BIN = 150


class TabularTokenizer(Tokenizer):
    """One token per column: what the cell says, plus an embedding of the column it is in.

    A number is encoded piecewise linearly on quantile bins of the training split and mapped to
    ``dim`` by a linear map of its column (Gorishniy et al. 2022, arXiv 2203.05556); one beyond the
    training range counts as the end of the range. A boolean is a number of one bin. A date is a
    number, in days, with the time of year, of week and of day as points on circles beside it. Each
    category has an embedding; those that the training split does not show share one, "unknown".
    A missing value has a learned token of its column (a category that is never missing in training:
    "unknown"). Tokens come in the order numeric, boolean, date, categorical.

    Args:
        dim: Width of the backbone.
        bins: Most bins of a numeric column; one of fewer different values has an edge at each. None: one for each 150
            training rows, at least 2 and at most 128, so that few rows are not learnt by heart.
        hide: Probability that training sees a cell as unknown (a category) or missing (the rest).
            It is what trains these tokens where the training split lacks them.
        columns: Types that are not to be inferred: column to ``"numeric"``, ``"boolean"``,
            ``"date"``, ``"categorical"`` or ``"ignore"``.
    """

    guessed_from = "values"
    tunable = {"bins": (None, 16, 64), "hide": (0.0, 0.02, 0.1)}
    takes_row = True
    stacks = True
    classical: ClassVar[Literal["linear", "boosting"]] = "boosting"
    left: Tensor
    width: Tensor
    unknown: Tensor

    def __init__(
        self,
        dim: int,
        bins: int | None = None,
        hide: float = 0.02,
        columns: dict[str, str] | None = None,
    ) -> None:
        super().__init__(dim)
        if bins is not None and bins < 1:
            raise ValueError(f"bins is {bins}; a numeric column needs at least 1.")
        if not 0 <= hide < 1:
            raise ValueError(f"hide is {hide}; it must be a probability below 1.")
        self.bins = bins
        self.hide = hide
        self.given = columns or {}
        for name, kind in self.given.items():
            if kind not in (*TYPES, "ignore"):
                raise ValueError(unknown(f"type of column {name}", kind, [*TYPES, "ignore"]))
        self.schema: list[dict[str, Any]] = []

    # Columns

    def fit(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Learn types, bins and vocabularies from rows, dicts of column to value.

        Raises:
            ValueError: If columns have only missing values, values that are no single number, text
                or date, or texts that are nearly all different (all are named); or if there is no column.
        """
        names = column_names(samples)
        for name in self.given:
            if name not in names:
                raise ValueError(unknown("column", name, names) + " Its type was given.")
        taken = [name for name in names if self.given.get(name) != "ignore"]
        if not taken:
            raise ValueError("There is no input column; name one or more with --inputs.")
        learned = learn_columns(samples, taken, self.given, self.bins or _bins_for(len(samples)))
        learned.sort(key=lambda column: TYPES.index(column[0]["type"]))
        scaled = [(entry["bins"], edges) for entry, edges in learned if entry["type"] != "categorical"]
        found: dict[str, Any] = {"schema": [entry for entry, _ in learned]}
        if scaled:
            found |= _bins_of(scaled)
        return found

    def build(self, schema: list[dict[str, Any]]) -> None:
        """Make the parameters that these columns need.

        Args:
            schema: Name and type of each column, and what its type needs: bins, centre and scale, or categories.
        """
        self.schema = schema
        scaled = [entry for entry in schema if entry["type"] != "categorical"]
        categorical = [entry for entry in schema if entry["type"] == "categorical"]
        self.numbers = [(e["name"], READERS[e["type"]], e["centre"], e["scale"]) for e in scaled]
        self.dates = [entry["name"] for entry in schema if entry["type"] == "date"]
        self.codes: list[tuple[str, int, Spellings]] = []
        self.column = self._normal(len(schema))
        if scaled:
            shape = len(scaled), max(1, *(entry["bins"] for entry in scaled))
            self.register_buffer("left", torch.zeros(shape))
            self.register_buffer("width", torch.full(shape, math.inf))
            self.weight = _orthogonal(*shape, self.dim)
            self.missing = self._normal(len(scaled))
        if self.dates:
            self.cycle_weight = _orthogonal(len(self.dates), CYCLES, self.dim)
        if categorical:
            # Codes number the categories of all columns, the unknown one first in each.
            size = 0
            for entry in categorical:
                self.codes.append((entry["name"], size, Spellings(entry["categories"])))
                size += 1 + len(entry["categories"])
            self.register_buffer("unknown", torch.tensor([c[1] for c in self.codes]), persistent=False)
            self.categories = self._normal(size)

    def _normal(self, count: int) -> nn.Parameter:
        """Vectors (count, D) of about the length that a linear map of orthogonal rows gives."""
        return nn.Parameter(torch.randn(count, self.dim) * self.dim**-0.5)

    # Rows

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A row to ``numbers`` (columns,), NaN if missing, ``cycles`` (dates, 6) and ``codes`` (columns,).

        Raises:
            SampleError: If a column is absent, or holds what its type cannot read.
        """
        if not self.schema:
            raise ValueError("The tokenizer knows no columns yet; call fit with the training rows.")
        if not isinstance(sample, dict):
            raise SampleError(f"found a {type(sample).__name__}, expected a row (dict of column to value)")
        encoded = {}
        if self.numbers:
            numbers = [(read(n, cell_of(sample, n)) - centre) / unit for n, read, centre, unit in self.numbers]
            encoded["numbers"] = torch.tensor(numbers, dtype=torch.float32)
        if self.dates:
            cycles = [cycles_of(moment_of(name, cell_of(sample, name))) for name in self.dates]
            encoded["cycles"] = torch.tensor(cycles, dtype=torch.float32)
        if self.codes:
            # The first code of each column is that of the unknown.
            places = [(first, _place(name, known, sample)) for name, first, known in self.codes]
            encoded["codes"] = torch.tensor([first if at is None else first + 1 + at for first, at in places])
        return encoded

    def forward(self, batch: Batch) -> Tensor:
        """Encoded rows to one token per column (B, N, D)."""
        tokens = []
        if self.numbers:
            numbers = self._hidden(batch["numbers"], math.nan)
            # The share of each bin that lies below the number, (B, columns, bins).
            below = ((numbers.nan_to_num()[..., None] - self.left) / self.width).clamp(0, 1)
            scaled = torch.einsum("bck,ckd->bcd", below, self.weight)
            if self.dates:
                cycles = torch.einsum("bck,ckd->bcd", batch["cycles"], self.cycle_weight)
                scaled = scaled + nn.functional.pad(cycles, (0, 0, len(self.numbers) - len(self.dates), 0))
            tokens.append(torch.where(numbers.isnan()[..., None], self.missing, scaled))
        if self.codes:
            tokens.append(self.categories[self._hidden(batch["codes"], self.unknown)])
        return torch.cat(tokens, dim=1) + self.column

    def preparation(self) -> dict[str, Any]:
        """Columns of ``numbers``, ``cycles`` and ``codes`` in order, with what a cell becomes there."""
        first = {name: at for name, at, _ in self.codes}
        return {
            "numbers": [
                {"column": entry["name"], "type": entry["type"], "centre": entry["centre"], "scale": entry["scale"]}
                for entry in self.schema
                if entry["type"] != "categorical"
            ],
            "cycles": list(self.dates),
            "codes": [
                {"column": entry["name"], "unknown": first[entry["name"]], "categories": entry["categories"]}
                for entry in self.schema
                if entry["type"] == "categorical"
            ],
            "values": "numbers: (cell - centre) / scale, NaN if missing; codes: unknown + 1 + place in categories",
        }

    def text_columns(self, inputs: Sequence[str]) -> list[str]:
        """Columns of categories."""
        return [name for name, _, _ in self.codes] if self.schema else []

    def json_schema(self) -> dict[str, Any]:
        """A row."""
        return row_schema(self.schema, LARGEST)

    def _hidden(self, cells: Tensor, instead: Tensor | float) -> Tensor:
        """Cells (B, columns), in training some of them replaced."""
        if not self.training or not self.hide:
            return cells
        return torch.where(torch.rand(cells.shape, device=cells.device) < self.hide, instead, cells)

    def token_places(self, sample: Any) -> Places:
        """The columns."""
        return Places([str(entry["name"]) for entry in self.schema])

    def baseline_features(self, sample: Any) -> dict[str, Any]:
        """A row as named values: numbers, NaN if missing; dates as four of them; categories, text or None."""
        row: dict[str, Any] = {}
        for entry in self.schema:
            name = entry["name"]
            value = cell_of(sample, entry["name"])
            row[name] = READERS[entry["type"]](name, value)
            if entry["type"] == "date":
                moment = moment_of(name, value)
                row[f"{name} month"] = float(moment.month) if moment else math.nan
                row[f"{name} weekday"] = float(moment.weekday()) if moment else math.nan
                row[f"{name} hour"] = float(moment.hour) if moment else math.nan
        for name, _, known in self.codes:
            at = _place(name, known, sample)
            row[name] = row[name] if at is None else known.words[at]
        return row


def _place(name: str, known: Spellings, sample: dict[str, Any]) -> int | None:
    """Number of the learned category that a row's cell holds; None if it holds another."""
    value = cell_of(sample, name)
    category_of(name, value)  # refuses what is no text or number
    return known.find(value)


def _bins_for(rows: int) -> int:
    """Number of bins that so many training rows can fill."""
    return min(max(rows // ROWS_A_BIN, BINS[0]), BINS[1])


def _bins_of(columns: list[tuple[int, np.ndarray]]) -> dict[str, Tensor]:
    """The left ends and widths of columns' bins, from their numbers of bins and edges, each (columns, bins).

    Bins that a column lacks are infinitely wide, so that no share of them is below a number.
    """
    shape = len(columns), max(1, *(bins for bins, _ in columns))
    left = torch.zeros(shape)
    width = torch.full(shape, math.inf)
    for row, (bins, edges) in enumerate(columns):
        left[row, :bins] = torch.from_numpy(edges[:-1])
        width[row, :bins] = torch.from_numpy(np.diff(edges))
    return {"left": left, "width": width}


def _orthogonal(columns: int, inputs: int, dim: int) -> nn.Parameter:
    """A linear map (inputs, dim) for each column, orthogonal at first."""
    weight = torch.empty(columns, inputs, dim)
    for matrix in weight:
        nn.init.orthogonal_(matrix)
    return nn.Parameter(weight)
