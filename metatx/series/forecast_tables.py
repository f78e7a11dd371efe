"""What a forecasting head makes of a table: channels, windows, the ends to forecast, rows to hold out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.series.clocks import clocks
from metatx.series.layouts import Layout, find_layout, is_identity, number_columns
from metatx.series.table import Fill, Series, SeriesTable, read_series
from metatx.series.windows import Future, Past, Windows, firsts

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from metatx.tokenizer import Tokenizer

__all__ = [
    "TableOptions",
    "channels_of",
    "held_rows",
    "is_series_table",
    "lookback_of",
    "pasts_of",
    "plan_table",
    "rows_of",
    "windows_of",
    "written_names",
]

USUAL_TARGETS = ("y", "target")
FORECAST = (*USUAL_TARGETS, "value")  # columns that make a table of single numbers one to forecast
LOOKED_AT = 1000  # rows that show what kind of table it is
MOST_STEPS = 24  # of a horizon that nobody named
LEARNED, HELD = 0.72, 0.08  # shares of a table that are left to train on, and to validate on


def is_series_table(table: "Dataset", target: str | None) -> bool:
    """Whether a table holds a number a row, and a column of them to forecast: ``target``, or one with a usual name."""
    frame = table.select(range(min(len(table), LOOKED_AT))).to_pandas()
    if any(isinstance(value, list | dict | np.ndarray) for value in frame.iloc[0]):
        return False
    numbers = number_columns(frame)
    if target is None:
        found = [name for name in numbers if name.lower() in FORECAST]
        if len(found) != 1:
            return False
    else:
        found = [target] if target in frame.columns else target.split(",")
    if not set(found) <= set(numbers):
        return False
    others = [name for name in frame.columns if name not in found]
    return not others or any(True for _ in clocks(frame, others))


@dataclass(frozen=True)
class TableOptions:
    """What the user said of a table, as options of the forecasting head; None where nothing."""

    time: str | list[str] | None
    series: str | list[str] | None
    fill: Fill
    season: int | None
    horizon: int | None


@dataclass(frozen=True)
class Plan:
    """How a table is read and forecast, as JSON values, with what the user should know of it, a line each."""

    layout: dict[str, Any]
    inputs: list[str]
    lookback: int
    horizon: int
    notes: list[str]


def plan_table(
    frame: "pd.DataFrame",
    inputs: Sequence[str] | None,
    target: str | None,
    named: TableOptions,
    lookback: int | None,
    horizon: int,
) -> Plan:
    """Find what the user did not say of a training table.

    Args:
        frame: The table.
        inputs, target: Columns that the user named.
        named: What else was said.
        lookback: Steps to read, where the user named them; None finds lookback and horizon by the series' length.
        horizon: Steps to forecast, where the lookback is given.

    Raises:
        ValueError: If columns of time or ids are not clear, or out of order, or none can be forecast.
    """
    layout = find_layout(frame, inputs or (), named.time, named.series)
    found, left = (list(inputs), []) if inputs else channels_of(frame, layout)
    targets = targets_of(frame, target, found)
    found += [name for name in targets or () if name not in found]
    read = read_series(frame, layout, found, named.fill, len(frame))
    steps = sorted(len(one.values) for one in read.series)
    notes = [f"Not read: {', '.join(left)}."] if left else []
    if lookback is None:
        lookback, horizon = _lengths(steps[len(steps) // 2], named.horizon, named.season)
        notes.append(f"Reads {lookback} steps to forecast {horizon} (--tokenizer.lookback, --head.horizon).")
    if layout.ids:
        short = sum(length < lookback + horizon for length in steps)
        end = f"; {short} are too short for a window and left out." if short else "."
        notes.append(f"{len(steps)} series by {', '.join(layout.ids)}, of {steps[0]} to {steps[-1]} steps{end}")
    others = [name for name in found if name not in (targets or found)]
    if others and targets:
        notes.append(f"Forecasts {', '.join(targets)}; reads also {', '.join(others)}.")
    told = layout.options() | ({"targets": targets} if targets else {})
    return Plan(told, found, lookback, horizon, [*notes, *read.notes])


def channels_of(frame: "pd.DataFrame", layout: Layout) -> tuple[list[str], list[str]]:
    """The columns of numbers, less time and ids; and those that are left out, with the reason.

    Raises:
        ValueError: If there is none.
    """
    free = [name for name in frame.columns if name not in layout.columns]
    numbers = [name for name in free if name in number_columns(frame)]
    found = [name for name in numbers if not is_identity(frame[name])]
    if not found:
        raise ValueError(f"No column holds numbers to forecast; columns: {', '.join(map(str, frame.columns))}.")
    reasons = {name: "an id" if name in numbers else "no numbers" for name in free if name not in found}
    return found, [f"{name} ({reason})" for name, reason in reasons.items()]


def targets_of(frame: "pd.DataFrame", target: str | None, inputs: Sequence[str]) -> list[str] | None:
    """The columns to forecast: those named, or one with a usual name among others; None for all inputs.

    Raises:
        ValueError: If one that is named holds no numbers.
    """
    if target is None:
        usual = [name for name in inputs if name.lower() in USUAL_TARGETS]
        return usual if len(usual) == 1 < len(inputs) else None
    found = [target] if target in frame.columns else [name.strip() for name in target.split(",")]
    numbers = number_columns(frame)
    wrong = next((name for name in found if name not in numbers), None)
    if wrong is not None:
        raise ValueError(f"{wrong} cannot be forecast; columns of numbers: {', '.join(numbers)}.")
    return found


def lookback_of(tokenizer: "Tokenizer") -> int:
    """Steps that a window reads. Raises ValueError if the tokenizer was not told."""
    if tokenizer.lookback is None:
        raise ValueError(
            "How many steps may a forecast read? Say so with the option lookback of the tokenizer: "
            "--tokenizer.lookback 96 (and --head.horizon 24 for how many it forecasts)."
        )
    return tokenizer.lookback


def _lengths(steps: int, horizon: int | None, season: int | None) -> tuple[int, int]:
    """Lookback and horizon for series of so many steps, where the user named neither or only the horizon.

    Raises:
        ValueError: If the series is too short for any.
    """
    horizon = horizon or max(1, min(MOST_STEPS, int(HELD * steps)))
    room = int(LEARNED * steps) - horizon
    lookback = min(max(4 * horizon, 8, 2 * (season or 1)), room // 2)
    if lookback < 1:
        raise ValueError(
            f"Series of {steps} steps are too short to forecast {horizon}; give more rows, or a shorter --head.horizon."
        )
    return lookback, horizon


def windows_of(
    read: SeriesTable, inputs: list[str], lookback: int, horizon: int, stride: int, source: str
) -> tuple[Windows, Future]:
    """All windows that stay within a series: what is read (C, lookback), and what comes (C, horizon).

    Raises:
        ValueError: If there is none.
    """
    lengths = [len(one.values) for one in read.series]
    rows = np.concatenate([one.values for one in read.series])
    begin = firsts(rows, np.cumsum(lengths).tolist(), lookback, horizon, stride)
    if not len(begin):
        which = f"{lengths[0]} rows" if len(lengths) == 1 else f"{len(lengths)} series of up to {max(lengths)} rows"
        raise ValueError(
            f"{source} has {which}; a window takes {lookback + horizon}: "
            f"a lookback of {lookback} and a horizon of {horizon}."
        )
    future = Future(rows, begin + lookback, horizon)
    future.names, future.lookback = inputs, lookback
    return Windows(rows, begin, lookback), future


def pasts_of(read: SeriesTable, lookback: int, horizon: int, time_axis: int) -> list[np.ndarray]:
    """The last ``lookback`` steps of each series that has as many, with the times that come next.

    Raises:
        ValueError: If none has.
    """
    found = [
        _past(read, series, lookback, horizon, time_axis) for series in read.series if len(series.values) >= lookback
    ]
    if not found:
        longest = max(len(series.values) for series in read.series)
        if len(read.series) == 1:
            raise ValueError(f"The table has {longest} rows; a forecast reads the last {lookback}.")
        raise ValueError(
            f"The longest of {len(read.series)} series has {longest} rows; a forecast reads the last {lookback}."
        )
    return found


def _past(read: SeriesTable, series: Series, lookback: int, horizon: int, time_axis: int) -> np.ndarray:
    part = series.values[-lookback:]
    past = (part if time_axis == 0 else part.T).view(Past)
    numbers = np.arange(1 - lookback, horizon + 1)
    past.id, past.times, past.time_axis = series.id, numbers, time_axis
    past.next = [{"step": int(number)} for number in numbers[lookback:]]
    if read.layout.clock and read.step and series.times is not None:
        times = read.step.beside(series.times[-1], numbers)
        past.times = times - series.ahead if times.dtype.kind == "M" else times
        past.next = read.layout.clock.write(past.times[lookback:], series.last)
    return past


def held_rows(series: Sequence[Series], fraction: float, lookback: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a table, the last ``fraction`` of each series held out, with ``lookback`` steps before to read.

    Of many series, one that is too short to hold a horizon out stays whole.

    Raises:
        ValueError: If all are too short.
    """
    kept, held = [], []
    for one in series:
        total = len(one.rows)
        last = round(fraction * total)
        last = last if len(series) == 1 else max(last, horizon)
        if last < horizon or total - last < 1 or one.at[total - last - 1] + 1 < lookback + horizon:
            kept.append(one.rows)
            continue
        kept.append(one.rows[: total - last])
        held.append(one.rows[one.at >= one.at[total - last] - lookback])
    if not held:
        total = max(len(one.rows) for one in series)
        last = round(fraction * total)
        which = f"{total} rows" if len(series) == 1 else f"{len(series)} series of up to {total} rows"
        raise ValueError(
            f"The last {fraction:.0%} of {which} cannot be held out: that leaves {total - last} and "
            f"{last} rows, where a lookback of {lookback} and a horizon of {horizon} need "
            f"{lookback + horizon} and {horizon}."
        )
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))


def rows_of(records: Sequence[dict[str, Any]], queries: Sequence[Any], names: dict[str, str]) -> list[dict[str, Any]]:
    """Records of forecasts as one row a step: ids and times of a ``Past``, or else numbers of sample and step.

    Args:
        records: Lists of H values by name.
        queries: What was asked about.
        names: Columns by the names of the records.
    """
    rows = []
    for number, (record, query) in enumerate(zip(records, queries, strict=True)):
        known = isinstance(query, Past)
        own = query.id if known else {"sample": number + 1} if len(records) > 1 else {}
        steps = range(len(next(iter(record.values()))))
        times = query.next if known else [{"step": step + 1} for step in steps]
        rows += [own | times[step] | {names[name]: values[step] for name, values in record.items()} for step in steps]
    return rows


def written_names(channels: Sequence[str], quantiles: Sequence[float] | None) -> dict[str, str]:
    """Columns of a file by the names of a record: ``load-q-0.9`` by ``load q0.9``; the median has no mark."""
    pairs = [(name, level) for name in channels for level in quantiles or [0.5]]
    marks = [("", "") if level == 0.5 else (f" q{level:g}", f"-q-{level:g}") for _, level in pairs]
    return {name + short: name + long for (name, _), (short, long) in zip(pairs, marks, strict=True)}
