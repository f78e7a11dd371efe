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
from metatx.parts.schemas import row_schema
from metatx.registry import unknown
from metatx.tokenizer import Batch, Tokenizer

__all__ = ["TabularTokenizer"]

TYPES = ("numeric", "boolean", "date", "categorical")  # the order of the tokens
MAX_CATEGORIES = 10_000  # of a column; rarer ones count as unknown
NEARLY = 0.9  # this share of different texts is no category, of readable dates a date column
FEW = 20  # rows; in fewer, texts that all differ may still be categories
LARGEST = 1e150  # beyond it, differences of two numbers may overflow
CYCLES = 6  # sine and cosine of the time of year, of week and of day


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
        bins: Most bins of a numeric column; one of fewer different values has an edge at each.
        hide: Probability that training sees a cell as unknown (a category) or missing (the rest).
            It is what trains these tokens where the training split lacks them.
        columns: Types that are not to be inferred: column to ``"numeric"``, ``"boolean"``,
            ``"date"``, ``"categorical"`` or ``"ignore"``.
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
        bins: int = 128,
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
        learned = []
        for name in names:
            if self.given.get(name) != "ignore":
                values = [_plain(row[name]) for row in samples if name in row]
                learned.append(_learn(name, self.given.get(name), values, self.bins))
        if not learned:
            raise ValueError("There is no input column; name one or more with --inputs.")
        learned.sort(key=lambda column: TYPES.index(column[0]["type"]))
        self._build([entry for entry, _ in learned])
        for i, (entry, edges) in enumerate(learned):
            if entry["type"] != "categorical":
                self.left[i, : entry["bins"]] = torch.from_numpy(edges[:-1])
                self.width[i, : entry["bins"]] = torch.from_numpy(np.diff(edges))
        return self

    def _build(self, schema: list[dict[str, Any]]) -> None:
        """Make the parameters that these columns need."""
        self.schema = self.options["schema"] = schema
        scaled = [entry for entry in schema if entry["type"] != "categorical"]
        categorical = [entry for entry in schema if entry["type"] == "categorical"]
        self.numbers = [(e["name"], READERS[e["type"]], e["centre"], e["scale"]) for e in scaled]
        self.dates = [entry["name"] for entry in schema if entry["type"] == "date"]
        self.codes: list[tuple[str, int, dict[Any, int]]] = []
        self.column = self._normal(len(schema))
        if scaled:
            # Bins that a column lacks are infinitely wide, so that no share of them is below a number.
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
                known = {value: size + 1 + i for i, value in enumerate(entry["categories"])}
                self.codes.append((entry["name"], size, known))
                size += 1 + len(known)
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
            numbers = [(read(n, _cell(sample, n)) - centre) / unit for n, read, centre, unit in self.numbers]
            encoded["numbers"] = torch.tensor(numbers, dtype=torch.float32)
        if self.dates:
            cycles = [_cycles(_moment(name, _cell(sample, name))) for name in self.dates]
            encoded["cycles"] = torch.tensor(cycles, dtype=torch.float32)
        if self.codes:
            codes = [known.get(_category(n, _cell(sample, n)), first) for n, first, known in self.codes]
            encoded["codes"] = torch.tensor(codes)
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

    def json_schema(self) -> dict[str, Any]:
        """A row."""
        return row_schema(self.schema, LARGEST)

    def _hidden(self, cells: Tensor, instead: Tensor | float) -> Tensor:
        """Cells (B, columns), in training some of them replaced."""
        if not self.training or not self.hide:
            return cells
        return torch.where(torch.rand(cells.shape, device=cells.device) < self.hide, instead, cells)

    def describe(self, sample: Any) -> dict[str, Any]:
        """A row as named values: numbers, NaN if missing; dates as four of them; categories, text or None."""
        row: dict[str, Any] = {}
        for entry in self.schema:
            name, value = entry["name"], _cell(sample, entry["name"])
            row[name] = READERS[entry["type"]](name, value)
            if entry["type"] == "date":
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


def _learn(name: str, kind: str | None, values: list[Any], bins: int) -> tuple[dict[str, Any], np.ndarray]:
    """What the schema says of a column, and its bin edges; its type, if None, from its values."""
    known = [value for value in values if value is not None]
    if not known:
        raise ValueError(
            f"Column {name} has only missing values in the {len(values)} training rows; leave it out of --inputs."
        )
    kind = kind or _infer(name, known)
    # What cannot be read is a bad sample, which encode refuses by its row; nothing is learned of it.
    cells = [cell for value in known if (cell := _read(kind, name, value)) is not None]
    if not cells:
        raise ValueError(
            f"Column {name} is to be {kind}, but none of its values can be read so, such as "
            f"{known[0]!r:.60}; give it another type, or leave it out of --inputs."
        )
    entry: dict[str, Any] = {"name": name, "type": kind}
    if kind == "categorical":
        # Missing is a category like others where training shows it, else it is unknown.
        missing = [None] if len(known) < len(values) else []
        return entry | {"categories": [*missing, *_categories(name, cells)]}, np.empty(0)
    if kind == "boolean":
        return entry | {"centre": 0.0, "scale": 1.0, "bins": 1}, np.array([0, 1], dtype=np.float32)
    # Scaled before they become float32, so that a column of large, close numbers keeps its digits.
    numbers = np.array(cells)
    centre = float(np.median(numbers))
    scale = float(np.abs(numbers - centre).max()) or 1.0
    edges = _edges((numbers - centre) / scale, bins)
    return entry | {"centre": centre, "scale": scale, "bins": len(edges) - 1}, edges


def _infer(name: str, known: list[Any]) -> str:
    """The type of a column from what is not missing in it.

    Text is numeric where all of it is numbers, and a date where nearly all of it is ISO 8601 dates.
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
            f"Column {name} holds a {type(strange[0]).__name__}, {strange[0]!r:.60}; expected one number, "
            "text or boolean a cell, or dates throughout. Leave it out of --inputs."
        )
    counts = Counter(known)
    if all(_read("numeric", name, value) is not None for value in counts):
        return "numeric"
    dates = sum(count for value, count in counts.items() if _read("date", name, value) is not None)
    return "date" if dates >= NEARLY * len(known) else "categorical"


def _categories(name: str, cells: list[str]) -> list[str]:
    """The different texts of a column, frequent ones first; ValueError if nearly all of them differ."""
    counts = Counter(cells)
    if len(cells) >= FEW and len(counts) > NEARLY * len(cells):
        raise ValueError(
            f"Column {name} has {len(counts)} different texts in {len(cells)} training rows, such as "
            f"{cells[0]!r:.60}; that is no category. Leave it out of --inputs."
        )
    return [value for value, _ in counts.most_common(MAX_CATEGORIES)]


def _edges(numbers: np.ndarray, bins: int) -> np.ndarray:
    """Bin edges, ascending, float32: every different number if they are few, otherwise quantiles.

    For the quantiles no number counts more than one bin's share: one that fills most of a column (no
    capital gain) would otherwise leave a handful of bins for all the others.
    """
    different, counts = np.unique(numbers.astype(np.float32), return_counts=True)
    if len(different) <= bins + 1:
        return different
    share = np.minimum(counts, len(numbers) / bins).cumsum()
    edges = np.interp(np.linspace(share[0], share[-1], bins + 1), share, different)
    return np.unique(edges.astype(np.float32))


# Reading a cell: each type's reader gives None or NaN for a missing value, and raises SampleError


def _read(kind: str, name: str, value: Any) -> Any:
    try:
        return READERS[kind](name, value)
    except SampleError:
        return None


def _plain(value: Any) -> Any:
    """A cell without the wrappings of numpy and pandas; None if it is missing."""
    if type(value) in (str, int, bool) or value is None:
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.datetime64):
        return _plain(pd.Timestamp(value))
    return _plain(value.item()) if isinstance(value, np.generic) else value


def _cell(sample: dict[str, Any], name: str) -> Any:
    try:
        return _plain(sample[name])
    except KeyError:
        raise SampleError(
            f"column {name}: absent from a row of {', '.join(map(str, sample)) or 'nothing'}; "
            "expected a value, or null (None) if it is missing"
        ) from None


def _refusal(name: str, value: Any, expected: str) -> SampleError:
    return SampleError(f"column {name}: found {value!r:.60}, expected {expected}, or null (None) if it is missing")


def _number(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _refusal(name, value, "a number") from None
    if not abs(number) <= LARGEST:
        raise _refusal(name, value, f"a number within {LARGEST:g}")
    return number


def _boolean(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, int | float) and value in (0, 1):
        return float(value)
    raise _refusal(name, value, "true or false")


def _moment(name: str, value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _refusal(name, value, "a date such as 2024-05-31 or 2024-05-31 14:30 (ISO 8601)") from None


def _days(name: str, value: Any) -> float:
    """Days since the year 1, by the clock that the date itself names."""
    moment = _moment(name, value)
    return math.nan if moment is None else moment.toordinal() + _time_of_day(moment)


def _time_of_day(moment: datetime) -> float:
    return (moment.hour * 3600 + moment.minute * 60 + moment.second) / 86_400


def _cycles(moment: datetime | None) -> list[float]:
    if moment is None:
        return [0.0] * CYCLES
    day = _time_of_day(moment)
    year = (moment.timetuple().tm_yday - 1 + day) / 366
    turns = (year, (moment.weekday() + day) / 7, day)
    return [wave(2 * math.pi * turn) for turn in turns for wave in (math.sin, math.cos)]


def _category(name: str, value: Any) -> str | None:
    """Text; that of 3.0 is "3", for whole numbers turn into floats where one of them is missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float | Decimal | date):
        return str(value)
    raise _refusal(name, value, "one text or number")


READERS: dict[str, Any] = {"numeric": _number, "boolean": _boolean, "date": _days, "categorical": _category}
