"""Columns of a table that hold the time, and ids that tell series apart."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.registry import unknown
from metatx.series.clocks import Clock, clocks, named_clock, usual
from metatx.series.steps import clock_changes, usual_step

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Layout", "check_times", "find_layout", "groups_of", "is_identity", "number_columns", "shown"]

IDS = (
    *("id", "uid", "key", "code", "series", "item", "product", "sku", "article", "store", "shop", "branch", "outlet"),
    *("station", "sensor", "meter", "device", "machine", "site", "location", "city", "region", "state", "country"),
    *("group", "entity", "symbol", "ticker", "stock", "customer", "user", "patient", "household", "building", "dept"),
)
COUNTERS = ("id", "index", "no", "nr", "row", "unnamed")
SURE = ("item_id", "series_id", "unique_id")  # names of ids in libraries for forecasting
SHORTEST = 3  # least mean length of the series by an id with a usual name
FEWEST = 5  # least mean length of the series by an id with another name


@dataclass(frozen=True)
class Layout:
    """Columns of a table that are no measurements.

    Attributes:
        clock: Columns of the time; None without a time.
        ids: Columns that tell series apart.
    """

    clock: Clock | None = None
    ids: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """Layout as JSON values."""
        clock = self.clock
        return {
            "time": [] if clock is None else list(clock.columns),
            "forms": [] if clock is None else list(clock.forms),
            "series": list(self.ids),
        }

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Layout":
        """Create from the values of ``options``."""
        clock = Clock(tuple(options["time"]), tuple(options["forms"])) if options["time"] else None
        return cls(clock, tuple(options["series"]))

    @property
    def columns(self) -> list[str]:
        """Names of all columns that are no measurements."""
        return [*(self.clock.columns if self.clock else ()), *self.ids]

    def written_otherwise(self, frame: "pd.DataFrame") -> bool:
        """Return whether a table has these columns, but no time in it can be read in the clock's forms."""
        if self.clock is None or not set(self.columns) <= set(frame.columns):
            return False
        return bool(len(frame) and np.isnan(self.clock.read(frame)).all())

    def within(self, frame: "pd.DataFrame") -> "Layout":
        """Layout without the columns that a table lacks."""
        clock = self.clock if self.clock and set(self.clock.columns) <= set(frame.columns) else None
        return Layout(clock, self.ids if set(self.ids) <= set(frame.columns) else ())


def find_layout(frame: "pd.DataFrame", inputs: Sequence[str], time: Any, series: Any) -> Layout:
    """Find the columns of time and ids that the user did not name.

    A time is a column, or several together, that can be read as a time in every row and rises: over all rows, or within
    the series that a column with a usual name tells apart. Without a time, rows are taken in the order of the file.

    Args:
        frame: Table.
        inputs: Columns that are measurements.
        time: Names of the columns of time; ``"none"`` for no time; None to search.
        series: Names of the columns of ids; ``"none"`` for a single series; None to search.

    Raises:
        ValueError: If the named columns cannot be used, a clear time is out of order, or a column looks like an id so
            that the user must decide.
    """
    free = [name for name in frame.columns if name not in inputs]
    ids = _named(frame, series, "series")
    named = _named(frame, time, "time")
    if time == "none":
        candidates: list[Clock] = []
    elif named:
        candidates = named_clock(frame, named)
    else:
        candidates = list(clocks(frame, [name for name in free if name not in (ids or ())]))
    read = [(clock, clock.read(frame)) for clock in candidates]
    keys = [ids] if ids is not None else [*_sure_ids(frame, free), (), *_id_columns(frame, free)]
    for key in keys:
        groups = groups_of(frame, key)
        if ids is None and key and len(groups) * SHORTEST > len(frame):
            continue
        rising = [(clock, times) for clock, times in read if not set(clock.columns) & set(key) and _rise(times, groups)]
        if rising:
            return Layout(_likeliest(rising, groups), tuple(key))
    _refuse_disorder(frame, read, free, ids, clear=bool(named))
    if ids is None:
        _ask_for_ids(frame, [name for name in free if name not in (named or ())])
    return Layout(None, tuple(ids or ()))


def number_columns(frame: "pd.DataFrame") -> list[str]:
    """Columns of numbers that may be measurements; booleans are not."""
    import pandas as pd

    def measured(column: "pd.Series[Any]") -> bool:
        if pd.api.types.is_numeric_dtype(column):
            return not pd.api.types.is_bool_dtype(column)
        first = column.dropna().head(1)
        return bool(len(first)) and isinstance(first.iloc[0], Decimal)

    return [name for name in frame.columns if measured(frame[name])]


def is_identity(column: "pd.Series[Any]") -> bool:
    """Return whether a column of numbers only counts the rows, or is one id for all, by its name and its values."""
    words = _words(str(column.name))
    values = column.to_numpy(np.float64, na_value=np.nan) if column.dtype.kind in "iu" else np.array([0.5])
    steps = np.diff(values)
    counts = len(steps) > 0 and (steps == 1).all() and not words.isdisjoint(COUNTERS)
    same = len(steps) > 0 and (steps == 0).all() and not words.isdisjoint(IDS) and (values % 1 == 0).all()
    return bool(counts or same)


def check_times(frame: "pd.DataFrame", clock: Clock, times: np.ndarray, groups: list[np.ndarray]) -> None:
    """Raise ValueError, with row and values, if a row has no time, or times do not rise within a series."""
    bad = np.isnan(times)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(f"Column {clock.name}, row {row + 1}: {shown(frame, clock, row)!r} is no time.")
    for rows in groups:
        late = _late(times[rows])
        if late is not None:
            raise ValueError(_disorder(frame, clock, rows, late))


def shown(frame: "pd.DataFrame", clock: Clock, row: int) -> str:
    """Text of the cells that hold the time of a row."""
    return " ".join(str(frame[name].iloc[row]) for name in clock.columns)


def _named(frame: "pd.DataFrame", names: Any, what: str) -> tuple[str, ...] | None:
    """Columns that an option names; () for ``"none"``, None for None."""
    if names is None:
        return None
    if names == "none" and "none" not in frame.columns:
        return ()
    columns = (names,) if isinstance(names, str) else tuple(names)
    if len(columns) == 1 and columns[0] not in frame.columns:
        columns = tuple(columns[0].split(","))
    for name in columns:
        if name not in frame.columns:
            raise ValueError(unknown(f"{what} column", name, list(frame.columns)))
    return columns


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def _whole(column: "pd.Series[Any]") -> bool:
    """Return whether a column holds words, or whole numbers without a gap, as ids do."""
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column):
        return bool(column.map(lambda value: isinstance(value, str)).all())
    return bool(column.notna().all() and (column.to_numpy(np.float64) % 1 == 0).all())


def _id_columns(frame: "pd.DataFrame", free: list[str]) -> Iterator[tuple[str, ...]]:
    """Columns with a usual name of an id: each alone, then in pairs and threes."""
    candidates = [name for name in free if not _words(name).isdisjoint(IDS) and _whole(frame[name])]
    for size in range(1, min(len(candidates), 3) + 1):
        yield from combinations(candidates, size)


def _sure_ids(frame: "pd.DataFrame", free: list[str]) -> list[tuple[str, ...]]:
    return [(name,) for name in free if name.lower() in SURE and _whole(frame[name])]


def groups_of(frame: "pd.DataFrame", ids: Sequence[str]) -> list[np.ndarray]:
    """Row numbers of each series, in the order of the file."""
    if not ids:
        return [np.arange(len(frame))]
    codes = frame.groupby(list(ids), sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _rise(times: np.ndarray, groups: list[np.ndarray]) -> bool:
    """Return whether times rise from row to row within each group, changes of the clock aside."""
    return not np.isnan(times).any() and all(_late(times[rows]) is None for rows in groups)


def _late(times: np.ndarray) -> int | None:
    """First index whose time is not later than the one before; None if all rise."""
    times = clock_changes(times)[0]
    late = ~(times[1:] > times[:-1])
    return int(late.argmax()) + 1 if late.any() else None


def _likeliest(rising: list[tuple[Clock, np.ndarray]], groups: list[np.ndarray]) -> Clock:
    """Choose the first clock, or of several for its columns (is 02/01 in January?) that with the fewest gaps."""

    def gaps(times: np.ndarray) -> float:
        step = usual_step([times[rows] for rows in groups])
        missing = [None if step is None else step.missing(times[rows]) for rows in groups]
        regular = [behind for behind in missing if behind is not None]
        return float("inf") if len(regular) < len(missing) else sum(float(behind.sum()) for behind in regular)

    same = [(clock, times) for clock, times in rising if clock.columns == rising[0][0].columns]
    return rising[0][0] if len(same) == 1 else min(same, key=lambda pair: gaps(pair[1]))[0]


def _disorder(frame: "pd.DataFrame", clock: Clock, rows: np.ndarray, late: int) -> str:
    cells = [shown(frame, clock, rows[at]) for at in (late, late - 1)]
    return (
        f"Column {clock.name}, row {rows[late] + 1}: {cells[0]} does not come after {cells[1]}; "
        "sort the rows by time, one row a time."
    )


def _way_out(times: np.ndarray, ids: tuple[str, ...] | None, apart: str | None, clear: bool) -> str:
    """Advice for times that do not rise: name the column of ids, or say that the column is no time."""
    many = ids is None and (apart is not None or len(np.unique(times)) < len(times))
    hint = f" If it holds many series, name the column that tells them apart: --head.series {apart or 'NAME'}."
    return (hint if many else "") + ("" if clear else " If it is no time: --head.time none.")


def _refuse_disorder(
    frame: "pd.DataFrame",
    read: list[tuple[Clock, np.ndarray]],
    free: list[str],
    ids: tuple[str, ...] | None,
    clear: bool,
) -> None:
    """Raise ValueError if a column is clearly the time, but out of order; name the column that may be the id."""
    groups = groups_of(frame, ids or ())
    for clock, times in read:
        if np.isnan(times).any():
            continue
        others = [name for name in free if name not in clock.columns and ids is None]
        apart = next((name for name in others if _tells_apart(frame, name, times)), None)
        whole = clear or len(clock.columns) > 1 or usual(clock.columns[0])
        if apart is None and not whole:
            continue
        rows = next(rows for rows in groups if _late(times[rows]) is not None)
        late = _late(times[rows])
        assert late is not None
        raise ValueError(_disorder(frame, clock, rows, late) + _way_out(times[rows], ids, apart, clear))
    for name in free:
        if not clear and usual(name) and _starts_as_time(frame, name):
            named_clock(frame, [name])


def _starts_as_time(frame: "pd.DataFrame", name: str) -> bool:
    return any(True for _ in clocks(frame[[name]].head(1), [name])) and not any(
        True for _ in clocks(frame[[name]], [name])
    )


def _tells_apart(frame: "pd.DataFrame", name: str, times: np.ndarray) -> bool:
    if not _whole(frame[name]):
        return False
    groups = groups_of(frame, [name])
    return 1 < len(groups) <= len(frame) / FEWEST and _rise(times, groups)


def _ask_for_ids(frame: "pd.DataFrame", free: list[str]) -> None:
    """Raise ValueError if, in a table without a time, a column looks like an id, so that the user must decide."""
    for name in free:
        if usual(name, parts=True) or not _whole(frame[name]):
            continue
        runs = np.flatnonzero(frame[name].ne(frame[name].shift()).to_numpy())
        lengths = np.diff([*runs, len(frame)])
        distinct = frame[name].nunique()
        stacked = distinct == len(runs) and (np.ptp(lengths) == 0 and lengths[0] >= 2 * FEWEST)
        usual_id = not _words(name).isdisjoint(IDS) and distinct <= len(frame) / FEWEST
        if distinct > 1 and (stacked or usual_id):
            first = frame[name].iloc[0]
            raise ValueError(
                f"Column {name} is {first} for {lengths[0]} rows, then {frame[name].iloc[runs[1]]}: does it tell "
                f"series apart? Give --head.series {name}, or --head.series none."
            )
