"""Tables -> tokens: one token per column of a row."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from metatx.errors import SampleError
from metatx.registry import unknown
from metatx.tokenizer import Batch, Tokenizer

__all__ = ["TabularTokenizer"]

TYPES = ("numeric", "boolean", "date", "categorical")  # the order of the tokens
MAX_CATEGORIES = 10_000  # of a column; rarer ones count as unknown
NEARLY = 0.9  # this share of different texts is no category, of readable dates a date column
FEW = 20  # rows; in fewer, texts that all differ may still be categories
CYCLES = 6  # sine and cosine of the time of year, of week and of day


class TabularTokenizer(Tokenizer):
    """One token per column: what the cell says, plus an embedding of the column it is in.

    A number is encoded piecewise linearly on quantile bins of the training split and mapped to
    ``dim`` by a linear map of its column (Gorishniy et al. 2022, arXiv 2203.05556); one beyond the
    training range counts as the end of the range. A boolean is a number of one bin. A date is a
    number, in days, with the time of year, of week and of day as points on circles beside it. Each
    category has an embedding; those that the training split does not show share one, "unknown".
    A missing value has a learned token of its column. Tokens come in the order numeric, boolean,
    date, categorical.

    Args:
        dim: Width of the backbone.
        bins: Quantile bins of a numeric column; fewer where it has fewer different values.
        hide: Probability that training sees a cell as unknown (a category) or missing (the rest).
            It is what trains these tokens where the training split lacks them.
        columns: Types that are not to be inferred: column to ``"numeric"``, ``"categorical"``,
            ``"boolean"``, ``"date"`` or ``"ignore"``.
        schema: What ``fit`` learned of each column; not for users to write.
    """

    row = True
    classical: ClassVar[Literal["linear", "boosting"]] = "boosting"
    left: Tensor
    width: Tensor
    unknown: Tensor

    def __init__(
        self,
        dim: int,
        bins: int = 64,
        hide: float = 0.02,
        columns: dict[str, str] | None = None,
        schema: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(dim)
        if bins < 1:
            raise ValueError(f"bins is {bins}; a numeric column needs at least 1.")
        if not 0 <= hide < 1:
            raise ValueError(f"hide is {hide}; it must be a probability below 1.")
        self.bins, self.hide, self.given = bins, hide, columns or {}
        for name, kind in self.given.items():
            if kind not in (*TYPES, "ignore"):
                raise ValueError(unknown(f"type of column {name}", kind, [*TYPES, "ignore"]))
        self.schema: list[dict[str, Any]] = []
        if schema is not None:
            self._build(schema)

    # Columns

    def fit(self, samples: Sequence[Any]) -> Self:
        """Learn types, bins and vocabularies from rows, dicts of column to value.

        Raises:
            ValueError: If a column has only missing values, values that are no single number, text
                or date, or texts that are nearly all different; or if there is no column.
        """
        names = list(dict.fromkeys(name for sample in samples for name in sample))
        for name in self.given:
            if name not in names:
                raise ValueError(unknown("column", name, names) + " Its type was given.")
        read = [name for name in names if self.given.get(name) != "ignore"]
        if not read:
            raise ValueError("There is no input column; name one or more with --inputs.")
        entries, edges = [], []
        for name in read:
            values = [_plain(sample[name]) for sample in samples if name in sample]
            entry, bounds = _learn(name, self.given.get(name), values, self.bins)
            entries.append(entry)
            edges.append(bounds)
        order = sorted(range(len(entries)), key=lambda i: TYPES.index(entries[i]["type"]))
        self._build([entries[i] for i in order])
        for row, i in enumerate(order[: len(self.scaled)]):
            bins = len(edges[i]) - 1
            self.left[row, :bins] = torch.as_tensor(edges[i][:-1])
            self.width[row, :bins] = torch.as_tensor(np.diff(edges[i]))
        return self

    def _build(self, schema: list[dict[str, Any]]) -> None:
        """Make the parameters that these columns need."""
        self.schema = self.options["schema"] = schema
        self.scaled = [entry for entry in schema if entry["type"] != "categorical"]
        self.dates = [entry["name"] for entry in schema if entry["type"] == "date"]
        categorical = [entry for entry in schema if entry["type"] == "categorical"]
        # Bins that a column lacks are infinitely wide: no value ever gets into them.
        shape = (len(self.scaled), max([1, *(entry["bins"] for entry in self.scaled)]))
        self.register_buffer("left", torch.zeros(shape))
        self.register_buffer("width", torch.full(shape, math.inf))
        self.weight = _orthogonal(*shape, self.dim)
        self.cycle_weight = _orthogonal(len(self.dates), CYCLES, self.dim)
        self.missing = nn.Parameter(torch.randn(len(self.scaled), self.dim) * self.dim**-0.5)
        # Codes number the categories of all columns, the unknown one first in each.
        self.codes: list[tuple[str, int, dict[Any, int]]] = []
        size = 0
        for entry in categorical:
            known = {value: size + 1 + i for i, value in enumerate(entry["categories"])}
            self.codes.append((entry["name"], size, known))
            size += 1 + len(known)
        firsts = torch.tensor([first for _, first, _ in self.codes], dtype=torch.int64)
        self.register_buffer("unknown", firsts, persistent=False)
        self.categories = nn.Parameter(torch.randn(size, self.dim) * self.dim**-0.5)
        self.column = nn.Parameter(torch.randn(len(schema), self.dim) * self.dim**-0.5)

    # Rows

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A row to ``numbers`` (C,), scaled, NaN where missing; ``cycles`` (dates, 6); ``codes`` (C').

        Raises:
            SampleError: If a column is absent or holds what its type cannot be.
        """
        if not self.schema:
            raise ValueError("The tokenizer knows no columns yet; call fit with the training rows.")
        if not isinstance(sample, dict):
            raise SampleError(f"found a {type(sample).__name__}, expected a row (dict of columns)")
        encoded = {}
        if self.scaled:
            numbers = [
                (READERS[c["type"]](c["name"], _cell(sample, c["name"])) - c["centre"]) / c["scale"]
                for c in self.scaled
            ]
            encoded["numbers"] = torch.tensor(numbers, dtype=torch.float32)
        if self.dates:
            cycles = [_cycles(_moment(name, sample[name])) for name in self.dates]
            encoded["cycles"] = torch.tensor(cycles, dtype=torch.float32)
        if self.codes:
            codes = [
                known.get(_category(name, _cell(sample, name)), first)
                for name, first, known in self.codes
            ]
            encoded["codes"] = torch.tensor(codes)
        return encoded

    def forward(self, batch: Batch) -> Tensor:
        """Encoded rows to one token per column (B, N, D)."""
        tokens = []
        if self.scaled:
            numbers = self._hidden(batch["numbers"], math.nan)
            # Piecewise-linear encoding: the share of each bin that lies below the number.
            below = (numbers.nan_to_num()[..., None] - self.left) / self.width
            scaled = torch.einsum("bck,ckd->bcd", below.clamp(0, 1), self.weight)
            if self.dates:
                cycles = torch.einsum("bck,ckd->bcd", batch["cycles"], self.cycle_weight)
                plain = scaled.shape[1] - len(self.dates)
                scaled = torch.cat([scaled[:, :plain], scaled[:, plain:] + cycles], dim=1)
            tokens.append(torch.where(numbers.isnan()[..., None], self.missing, scaled))
        if self.codes:
            tokens.append(self.categories[self._hidden(batch["codes"], self.unknown)])
        return torch.cat(tokens, dim=1) + self.column

    def _hidden(self, cells: Tensor, instead: Tensor | float) -> Tensor:
        """Some cells (B, C) replaced, in training only."""
        if not self.training or not self.hide:
            return cells
        return torch.where(torch.rand(cells.shape, device=cells.device) < self.hide, instead, cells)

    def describe(self, sample: Any) -> dict[str, Any]:
        """A row as named values: numbers (NaN if missing), dates as four numbers, categories as text or None."""
        row: dict[str, Any] = {}
        for entry in self.schema:
            name, kind = entry["name"], entry["type"]
            value = _cell(sample, name)
            if kind == "categorical":
                row[name] = _category(name, value)
                continue
            row[name] = READERS[kind](name, value)
            if kind == "date":
                moment = _moment(name, value)
                row[f"{name} month"] = float(moment.month) if moment else math.nan
                row[f"{name} weekday"] = float(moment.weekday()) if moment else math.nan
                row[f"{name} hour"] = float(moment.hour) if moment else math.nan
        return row


def _orthogonal(columns: int, inputs: int, dim: int) -> nn.Parameter:
    """A linear map (inputs, dim) for each column, orthogonal at first."""
    weight = torch.empty(columns, inputs, dim)
    for matrix in weight:
        nn.init.orthogonal_(matrix)
    return nn.Parameter(weight)


# Learning a column


def _learn(
    name: str, kind: str | None, values: list[Any], bins: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Schema entry and bin edges (scaled, ascending) of a column; its type, if None, from its values."""
    known = [value for value in values if value is not None]
    if not known:
        raise ValueError(
            f"Column {name} has only missing values in the {len(values)} training rows; "
            "leave it out of --inputs."
        )
    kind = kind or _infer(name, known)
    # What cannot be read is a bad sample, which encode refuses by its row; nothing is learned of it.
    cells = [cell for value in known if (cell := _read(kind, name, value)) is not None]
    if not cells:
        raise ValueError(
            f"Column {name} is to be {kind}, but no value can be read so, such as {known[0]!r:.60}; "
            "give it another type, or leave it out of --inputs."
        )
    entry: dict[str, Any] = {"name": name, "type": kind}
    if kind == "categorical":
        counts = Counter(cells)
        if len(cells) >= FEW and len(counts) > NEARLY * len(cells):
            raise ValueError(
                f"Column {name} has {len(counts)} different texts in {len(cells)} training rows, such "
                f"as {cells[0]!r:.60}; that is no category. Leave it out of --inputs."
            )
        # A missing value is a category like others where training shows it, else it is unknown.
        missing = [None] if len(known) < len(values) else []
        categories = [value for value, _ in counts.most_common(MAX_CATEGORIES)]
        return entry | {"categories": [*missing, *categories]}, np.empty(0)
    if kind == "boolean":
        return entry | {"centre": 0.0, "scale": 1.0, "bins": 1}, np.array([0.0, 1.0])
    numbers = np.array(cells, dtype=np.float64)
    # Scaled before they become float32, so that a column of large, close numbers keeps its digits.
    centre = float(np.median(numbers))
    scale = float(np.abs(numbers - centre).max()) or 1.0
    edges = _edges((numbers - centre) / scale, bins)
    return entry | {"centre": centre, "scale": scale, "bins": len(edges) - 1}, edges


def _edges(numbers: np.ndarray, bins: int) -> np.ndarray:
    """Every different number where there are few; quantiles otherwise. Ascending, float32."""
    edges = np.unique(numbers.astype(np.float32))
    if len(edges) <= bins + 1:
        return edges
    quantiles = np.quantile(numbers, np.linspace(0, 1, bins + 1))
    return np.unique(quantiles.astype(np.float32))


def _infer(name: str, known: list[Any]) -> str:
    """Type of a column from what is not missing in it.

    Text is numeric where all of it is numbers and a date where nearly all of it is ISO 8601 dates.
    """
    if all(isinstance(value, bool) for value in known):
        return "boolean"
    if all(isinstance(value, int | float | Decimal) for value in known):
        return "numeric"
    if all(isinstance(value, date) for value in known):
        return "date"
    strange = [value for value in known if not isinstance(value, str | int | float | Decimal)]
    if strange:
        raise ValueError(
            f"Column {name} holds a {type(strange[0]).__name__}; a cell must be one number, text, boolean or "
            "date, and dates cannot be mixed with others. Leave it out of --inputs."
        )
    counts = Counter(known)
    if all(_read("numeric", name, value) is not None for value in counts):
        return "numeric"
    dates = sum(n for value, n in counts.items() if _read("date", name, value) is not None)
    return "date" if dates >= NEARLY * len(known) else "categorical"


def _read(kind: str, name: str, value: Any) -> Any:
    """A cell as its type reads it, None if it cannot be."""
    try:
        return READERS[kind](name, value)
    except SampleError:
        return None


# Reading a cell


def _plain(value: Any) -> Any:
    """A cell without the wrappings of numpy and pandas; None if it is missing."""
    if type(value) in (str, int, bool):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.datetime64):
        return _plain(pd.Timestamp(value))
    return _plain(value.item()) if isinstance(value, np.generic) else value


def _cell(sample: dict[str, Any], name: str) -> Any:
    if name not in sample:
        found = ", ".join(map(str, sample)) or "none"
        raise SampleError(
            f"column {name} is absent; columns found: {found}; expected every column of the training split, "
            "None where a value is missing"
        )
    return _plain(sample[name])


def _refused(name: str, value: Any, expected: str) -> SampleError:
    return SampleError(f"column {name}: found {value!r:.60}, expected {expected}, or None if missing")


def _number(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _refused(name, value, "a finite number")
    return number


def _boolean(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, int | float) and value in (0, 1):
        return float(value)
    raise _refused(name, value, "true or false")


def _moment(name: str, value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _refused(name, value, "a date (ISO 8601, such as 2024-05-31 or 2024-05-31 14:30)") from None


def _days(name: str, value: Any) -> float:
    """Days since the year 1, by the clock and calendar that the date itself names."""
    moment = _moment(name, value)
    return math.nan if moment is None else moment.toordinal() + _time_of_day(moment)


def _time_of_day(moment: datetime) -> float:
    return (moment.hour * 3600 + moment.minute * 60 + moment.second) / 86400


def _cycles(moment: datetime | None) -> list[float]:
    if moment is None:
        return [0.0] * CYCLES
    day = _time_of_day(moment)
    year = (moment.timetuple().tm_yday - 1 + day) / 366
    turns = (year, (moment.weekday() + day) / 7, day)
    return [wave(2 * math.pi * turn) for turn in turns for wave in (math.sin, math.cos)]


def _category(name: str, value: Any) -> str | None:
    """Text of a category; 3 and 3.0 are the same, for whole numbers turn into floats where some are missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float | Decimal | date):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    raise _refused(name, value, "one text, number or date")


READERS: dict[str, Any] = {"numeric": _number, "boolean": _boolean, "date": _days, "categorical": _category}
