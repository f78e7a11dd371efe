"""Types of a table's columns: inference of the type, its bins or categories, and reading of cells by type."""

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from metatx.data.spellings import BOOLEANS
from metatx.errors import PlacedError, SampleError
from metatx.examples import cells_of
from metatx.progress import tell
from metatx.values import plain_cell

__all__ = [
    *("CYCLES", "LARGEST", "READERS", "TYPES"),
    *("category_of", "cell_of", "cycles_of", "learn_columns", "moment_of"),
]

TYPES = ("numeric", "boolean", "date", "categorical")  # the order of the tokens
MAX_CATEGORIES = 10_000  # most categories of a column; rarer ones count as unknown
NEARLY = 0.9  # share of distinct texts above which they are no categories; share of dates that makes a date column
FEW = 20  # rows below which texts that all differ may still be categories
LARGEST = 1e150  # largest number: differences of larger ones may overflow
CYCLES = 6  # sine and cosine of the time of year, of week and of day
NAMED = 8  # most columns that advice lists
# "1,234.56", "12,5 %", "$ 3", "5 kg": numbers to a person, but not to float().
LIKE_NUMBER = re.compile(
    r"[^\w\s]{0,2}\s*[+-]?(\d+([.,]\d+)?|\d{1,3}([.,' ]\d{3})+([.,]\d+)?)([eE][+-]?\d+)?\s*([^\W\d]{0,3}|[%°$€£¥])"
)

PADDED = re.compile(r"\s*0\d")
LIKE_DATE = re.compile(r"\d{1,4}([-/. ])(\d{1,2}|\w{3,9})\1\d{1,4}([ T,].*)?")

Learned = tuple[dict[str, Any], np.ndarray]  # entry of a column in the schema, and its bin edges

# Learning columns


def learn_columns(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], kinds: Mapping[str, str], bins: int
) -> list[Learned]:
    """Learn columns from training rows; the type of a column that ``kinds`` does not name is inferred.

    Args:
        rows: Rows, column to cell.
        names: Columns to learn.
        kinds: Types by column.
        bins: Most bins of a number.

    Raises:
        PlacedError: If a column has only missing values, a value that is no single number, text or date, or texts that
            nearly all differ; the message names all such columns, and how to leave them out.
    """
    learned: list[Learned] = []
    bad: dict[str, PlacedError] = {}
    for name in names:
        # A row that lacks the column is reported when rows are encoded.
        numbers, cells = cells_of(rows, name)
        try:
            learned.append(_learn(name, kinds.get(name), list(map(plain_cell, cells)), bins, numbers))
        except PlacedError as error:
            bad[name] = error
    if bad:
        parts: list[str | int] = []
        for problem in bad.values():
            parts += [". " if parts else "", *problem.parts]
        raise PlacedError(*parts, ". ", _advice(list(bad), [name for name in names if name not in bad]))
    return learned


def _advice(bad: list[str], good: list[str]) -> str:
    """Sentence on how to leave columns out."""
    ignored = json.dumps(dict.fromkeys(bad, "ignore"), ensure_ascii=False)
    other = f"or ignore {'it' if len(bad) == 1 else 'them'}: --tokenizer.columns '{ignored}'"
    if not 0 < len(good) <= NAMED:
        return f"Leave {'it' if len(bad) == 1 else 'them'} out of --inputs, {other}."
    kept = shlex.quote(",".join(good))
    return f"Leave {'it' if len(bad) == 1 else 'them'} out of --inputs, as in --inputs {kept}; {other}."


def _learn(name: str, kind: str | None, values: list[Any], bins: int, rows: Sequence[int]) -> Learned:
    """Entry in the schema and bin edges of a column, from its values in these rows."""
    present = [value for value in values if value is not None]
    if not present:
        raise PlacedError(f"Column {name} has only missing values in the {len(values)} training rows")
    kind = kind or _infer(name, present)
    # A value that cannot be read teaches nothing; its row is a bad sample, which encode refuses.
    cells = [cell for value in present if (cell := _read(kind, name, value)) is not None]
    if not cells:
        raise PlacedError(
            f"Column {name} is declared {kind}, but none of its values is that, such as {present[0]!r:.60}; give it "
            "another type"
        )
    entry: dict[str, Any] = {"name": name, "type": kind}
    if kind == "categorical":
        # A missing value is a category if the training rows have one, else it is unknown.
        missing = [None] if len(present) < len(values) else []
        return entry | {"categories": [*missing, *_categories(name, values, rows)]}, np.empty(0)
    if kind == "boolean":
        return entry | {"centre": 0.0, "scale": 1.0, "bins": 1}, np.array([0, 1], dtype=np.float32)
    # Scaled in float64: float32 would lose the digits of large numbers that lie close together.
    numbers = np.array(cells)
    centre = float(np.median(numbers))
    scale = float(np.abs(numbers - centre).max()) or 1.0
    edges = _edges((numbers - centre) / scale, bins)
    return entry | {"centre": centre, "scale": scale, "bins": len(edges) - 1}, edges


def _infer(name: str, present: list[Any]) -> str:
    """Type of a column, from its values that are not missing.

    Texts are numeric if all are numbers, and dates if nearly all are ISO 8601 dates. Numbers with leading zeros that
    repeat are codes: categories.
    """
    if all(isinstance(value, bool) for value in present):
        return "boolean"
    if all(isinstance(value, int | float | Decimal) for value in present):
        return "numeric"
    if all(isinstance(value, date) for value in present):
        return "date"
    strange = [value for value in present if not isinstance(value, str | int | float | Decimal)]
    if strange:
        raise PlacedError(
            f"Column {name} holds a {type(strange[0]).__name__}, {strange[0]!r:.60}; expected one number, "
            "text or boolean a cell, or dates throughout"
        )
    counts = Counter(present)
    if all(_read("numeric", name, value) is not None for value in counts):
        padded = any(isinstance(value, str) and PADDED.match(value) for value in counts)
        return "categorical" if padded and len(counts) <= NEARLY * len(present) else "numeric"
    dates = sum(count for value, count in counts.items() if _read("date", name, value) is not None)
    return "date" if dates >= NEARLY * len(present) else "categorical"


def _categories(name: str, values: list[Any], rows: Sequence[int]) -> list[str]:
    """Distinct texts of a column, frequent ones first. Raises PlacedError if nearly all of them differ."""
    counts = Counter(cell for value in values if (cell := _read("categorical", name, value)) is not None)
    different = len(counts) > NEARLY * counts.total() and counts.total() >= FEW
    unread = [text for text in counts if _read("numeric", name, text) is None]
    like = sum(LIKE_NUMBER.fullmatch(text) is not None for text in counts) >= NEARLY * len(counts)
    if like and unread and len(counts) > FEW:
        if different:
            at = next(i for i, value in enumerate(values) if value == unread[0])
            raise PlacedError(
                *(f"Column {name} looks like numbers, but ", rows[at], f" says {unread[0]!r:.60}; "),
                "a number is written 1234.56, without unit, and a missing one left empty",
            )
        tell(f"Column {name} is read as categories: {unread[0]!r:.60} is no number, which is written 1234.56.")
    elif different:
        first = next(iter(counts))
        if LIKE_DATE.fullmatch(first):
            raise PlacedError(
                f"Column {name} looks like dates, such as {first!r:.60}; write 2024-05-31 or 2024-05-31 14:30"
            )
        raise PlacedError(
            f"Column {name} has {len(counts)} different texts in {counts.total()} training rows, such as "
            f"{first!r:.60}; that is no category"
        )
    return [value for value, _ in counts.most_common(MAX_CATEGORIES)]


def _edges(numbers: np.ndarray, bins: int) -> np.ndarray:
    """Bin edges, ascending, float32: all distinct numbers if they are few, otherwise quantiles.

    In the quantiles no number counts more than one bin's share: a number that fills most of a column (no capital gain)
    would otherwise leave a handful of bins for all others.
    """
    different, counts = np.unique(numbers.astype(np.float32), return_counts=True)
    if len(different) <= bins + 1:
        return different
    share = np.minimum(counts, len(numbers) / bins).cumsum()
    edges = np.interp(np.linspace(share[0], share[-1], bins + 1), share, different)
    return np.unique(edges.astype(np.float32))


# Readers of cells, one for each type; each returns None or NaN for a missing value, and raises SampleError


def _read(kind: str, name: str, value: Any) -> Any:
    """Read a cell by type; None if it cannot be read."""
    try:
        return READERS[kind](name, value)
    except SampleError:
        return None


def cell_of(sample: dict[str, Any], name: str) -> Any:
    """Plain cell of a row. Raises SampleError if the row lacks the column."""
    try:
        return plain_cell(sample[name])
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
    if isinstance(value, int | float | Decimal) and value in (0, 1):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in BOOLEANS:
        return float(BOOLEANS[value.strip().lower()])
    raise _refusal(name, value, "true or false")


def moment_of(name: str, value: Any) -> datetime | None:
    """Read a date and time from a cell; None if missing. Raises SampleError if the cell holds none."""
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _refusal(name, value, "a date such as 2024-05-31 or 2024-05-31 14:30 (ISO 8601)") from None


def _days(name: str, value: Any) -> float:
    """Days since the year 1, by the clock of the date's own time zone."""
    moment = moment_of(name, value)
    return math.nan if moment is None else moment.toordinal() + _time_of_day(moment)


def _time_of_day(moment: datetime) -> float:
    return (moment.hour * 3600 + moment.minute * 60 + moment.second) / 86_400


def cycles_of(moment: datetime | None) -> list[float]:
    """Time of year, of week and of day, each as sine and cosine, ``CYCLES`` numbers; zeros if missing."""
    if moment is None:
        return [0.0] * CYCLES
    day = _time_of_day(moment)
    year = (moment.timetuple().tm_yday - 1 + day) / 366
    turns = (year, (moment.weekday() + day) / 7, day)
    return [wave(2 * math.pi * turn) for turn in turns for wave in (math.sin, math.cos)]


def category_of(name: str, value: Any) -> str | None:
    """Text of a cell; 3.0 gives "3", for pandas converts whole numbers to floats if one of a column is missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float | Decimal | date):
        return str(value)
    raise _refusal(name, value, "one text or number")


READERS: dict[str, Any] = {"numeric": _number, "boolean": _boolean, "date": _days, "categorical": category_of}
