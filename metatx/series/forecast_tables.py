"""Tables for the forecasting head: channels, windows, the ends of series to forecast, rows to hold out."""

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
LOOKED_AT = 1000  # rows by which a table is recognised
MOST_STEPS = 24  # longest horizon that is chosen by default
LEARNED = 0.72  # share of a table that is left to train on
HELD_OUT = 0.08  # share of a table that is left to validate on


def is_series_table(table: "Dataset", target: str | None) -> bool:
    """Return whether cells are single values, and a column can be forecast: ``target``, or one with a usual name."""
    frame = table.select(range(min(len(table), LOOKED_AT))).to_pandas()
    if any(isinstance(value, list | dict | np.ndarray) for value in frame.iloc[0]):
        return False
    numbers = number_columns(frame)
    if target is None:
        targets = [name for name in numbers if name.lower() in FORECAST]
        if len(targets) != 1:
            return False
    else:
        targets = [target] if target in frame.columns else target.split(",")
    if not set(targets) <= set(numbers):
        return False
    others = [name for name in frame.columns if name not in targets]
    return not others or any(True for _ in clocks(frame, others))


@dataclass(frozen=True)
class TableOptions:
    """Options of the forecasting head about its table; what is None is inferred.

    Attributes:
        time: Columns of the time, or ``"none"``.
        series: Columns that tell series apart, or ``"none"``.
        fill: Treatment of missing steps, see ``read_series``.
        season: Number of steps of a season.
        horizon: Number of steps to forecast.
    """

    time: str | list[str] | None
    series: str | list[str] | None
    fill: Fill
    season: int | None
    horizon: int | None


@dataclass(frozen=True)
class Plan:
    """Choices by which a table is read and forecast, as JSON values.

    Attributes:
        layout: Columns of time, ids and targets, see ``Layout.options``.
        inputs: Columns that are read.
        lookback: Number of steps to read.
        horizon: Number of steps to forecast.
        notes: Sentences that the user should read.
    """

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
    """Choose what the user left open about a training table.

    Args:
        frame: Training table.
        inputs: Columns to read that the user named; None chooses.
        target: Column, or columns with commas, to forecast that the user named; None chooses.
        named: Further options that the user gave.
        lookback: Number of steps to read; None chooses lookback and horizon by the length of the series.
        horizon: Number of steps to forecast, if the lookback is given.

    Raises:
        ValueError: If the columns of time or ids are not clear, times are out of order, or no column can be forecast.
    """
    layout = find_layout(frame, inputs or (), named.time, named.series)
    channels, left = (list(inputs), []) if inputs else channels_of(frame, layout)
    targets = targets_of(frame, target, channels)
    channels += [name for name in targets or () if name not in channels]
    table = read_series(frame, layout, channels, named.fill, len(frame))
    steps = sorted(len(series.values) for series in table.series)
    notes = [f"Not read: {', '.join(left)}."] if left else []
    if lookback is None:
        lookback, horizon = _lengths(steps[len(steps) // 2], named.horizon, named.season)
        notes.append(f"Reads {lookback} steps to forecast {horizon} (--tokenizer.lookback, --head.horizon).")
    if layout.ids:
        short = sum(length < lookback + horizon for length in steps)
        end = f"; {short} are too short for a window and left out." if short else "."
        notes.append(f"{len(steps)} series by {', '.join(layout.ids)}, of {steps[0]} to {steps[-1]} steps{end}")
    others = [name for name in channels if name not in (targets or channels)]
    if others and targets:
        notes.append(f"Forecasts {', '.join(targets)}; reads also {', '.join(others)}.")
    options = layout.options() | ({"targets": targets} if targets else {})
    return Plan(options, channels, lookback, horizon, [*notes, *table.notes])


def channels_of(frame: "pd.DataFrame", layout: Layout) -> tuple[list[str], list[str]]:
    """Columns of numbers without time and ids; and the columns that are left out, with the reason in brackets.

    Raises:
        ValueError: If there is no such column.
    """
    free = [name for name in frame.columns if name not in layout.columns]
    numbers = [name for name in free if name in number_columns(frame)]
    channels = [name for name in numbers if not is_identity(frame[name])]
    if not channels:
        raise ValueError(f"No column holds numbers to forecast; columns: {', '.join(map(str, frame.columns))}.")
    reasons = {name: "an id" if name in numbers else "no numbers" for name in free if name not in channels}
    return channels, [f"{name} ({reason})" for name, reason in reasons.items()]


def targets_of(frame: "pd.DataFrame", target: str | None, inputs: Sequence[str]) -> list[str] | None:
    """Columns to forecast: those named, or the only one of several inputs with a usual name; None for all inputs.

    Raises:
        ValueError: If a named column holds no numbers.
    """
    if target is None:
        usual = [name for name in inputs if name.lower() in USUAL_TARGETS]
        return usual if len(usual) == 1 < len(inputs) else None
    targets = [target] if target in frame.columns else [name.strip() for name in target.split(",")]
    numbers = number_columns(frame)
    wrong = next((name for name in targets if name not in numbers), None)
    if wrong is not None:
        raise ValueError(f"{wrong} cannot be forecast; columns of numbers: {', '.join(numbers)}.")
    return targets


def lookback_of(tokenizer: "Tokenizer") -> int:
    """Number of steps that a window reads. Raises ValueError if the tokenizer was not told."""
    if tokenizer.lookback is None:
        raise ValueError(
            "How many steps may a forecast read? Set the tokenizer's option lookback: "
            f"{tokenizer.option_prefix}.lookback 96 (and --head.horizon 24 for how many it forecasts)."
        )
    return tokenizer.lookback


def _lengths(steps: int, horizon: int | None, season: int | None) -> tuple[int, int]:
    """Choose lookback and horizon for series of ``steps`` steps; a horizon that is given stays.

    Raises:
        ValueError: If the series is too short.
    """
    horizon = horizon or max(1, min(MOST_STEPS, int(HELD_OUT * steps)))
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
    """Windows to read (C, lookback) and windows to forecast (C, horizon), all that lie within a series.

    Raises:
        ValueError: If there is none.
    """
    lengths = [len(series.values) for series in read.series]
    rows = np.concatenate([series.values for series in read.series])
    begin = firsts(rows, np.cumsum(lengths).tolist(), lookback, horizon, stride)
    if not len(begin):
        which = f"{lengths[0]} rows" if len(lengths) == 1 else f"{len(lengths)} series of up to {max(lengths)} rows"
        raise ValueError(
            f"{source} has {which}; a window takes {lookback + horizon}: "
            f"a lookback of {lookback} and a horizon of {horizon}."
        )
    future = Future(rows, begin + lookback, horizon)
    future.names = inputs
    future.lookback = lookback
    return Windows(rows, begin, lookback), future


def pasts_of(read: SeriesTable, lookback: int, horizon: int, time_axis: int) -> list[np.ndarray]:
    """Last ``lookback`` steps of each series that is long enough, as ``Past``.

    Raises:
        ValueError: If no series is long enough.
    """
    pasts = [
        _past(read, series, lookback, horizon, time_axis) for series in read.series if len(series.values) >= lookback
    ]
    if not pasts:
        longest = max(len(series.values) for series in read.series)
        if len(read.series) == 1:
            raise ValueError(f"The table has {longest} rows; a forecast reads the last {lookback}.")
        raise ValueError(
            f"The longest of {len(read.series)} series has {longest} rows; a forecast reads the last {lookback}."
        )
    return pasts


def _past(read: SeriesTable, series: Series, lookback: int, horizon: int, time_axis: int) -> np.ndarray:
    """End of one series, with the times that follow."""
    part = series.values[-lookback:]
    past = (part if time_axis == 0 else part.T).view(Past)
    numbers = np.arange(1 - lookback, horizon + 1)
    past.id = series.id
    past.times = numbers
    past.time_axis = time_axis
    past.next = [{"step": int(number)} for number in numbers[lookback:]]
    if read.layout.clock and read.step and series.times is not None:
        times = read.step.beside(series.times[-1], numbers)
        past.times = times - series.ahead if times.dtype.kind == "M" else times
        past.next = read.layout.clock.write(past.times[lookback:], series.last)
    return past


def held_rows(series: Sequence[Series], fraction: float, lookback: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out the last ``fraction`` of each series; of many series, those that are too short stay whole.

    Args:
        series: Series of a table.
        fraction: Share of each series, 0 to 1.
        lookback: Number of steps to read.
        horizon: Number of steps to forecast.

    Returns:
        Row numbers to train on; row numbers held out, with the ``lookback`` steps before them to read.

    Raises:
        ValueError: If all series are too short.
    """
    kept = []
    held_out = []
    for member in series:
        total = len(member.rows)
        last = round(fraction * total)
        last = last if len(series) == 1 else max(last, horizon)
        if last < horizon or total - last < 1 or member.at[total - last - 1] + 1 < lookback + horizon:
            kept.append(member.rows)
            continue
        kept.append(member.rows[: total - last])
        held_out.append(member.rows[member.at >= member.at[total - last] - lookback])
    if not held_out:
        total = max(len(member.rows) for member in series)
        last = round(fraction * total)
        which = f"{total} rows" if len(series) == 1 else f"{len(series)} series of up to {total} rows"
        raise ValueError(
            f"The last {fraction:.0%} of {which} cannot be held out: that leaves {total - last} and "
            f"{last} rows, where a lookback of {lookback} and a horizon of {horizon} need "
            f"{lookback + horizon} and {horizon}."
        )
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held_out))


def rows_of(records: Sequence[dict[str, Any]], queries: Sequence[Any], names: dict[str, str]) -> list[dict[str, Any]]:
    """Convert records of forecasts to one row a step, with ids and times of a ``Past``, or numbers of sample and step.

    Args:
        records: Lists of H values by name, one record a query.
        queries: Raw samples that were forecast.
        names: Column for each name of a record.
    """
    rows = []
    for number, (record, query) in enumerate(zip(records, queries, strict=True)):
        is_past = isinstance(query, Past)
        identity = query.id if is_past else {"sample": number + 1} if len(records) > 1 else {}
        steps = range(len(next(iter(record.values()))))
        times = query.next if is_past else [{"step": step + 1} for step in steps]
        for step in steps:
            values = {names[name]: forecast[step] for name, forecast in record.items()}
            rows.append(identity | times[step] | values)
    return rows


def written_names(channels: Sequence[str], quantiles: Sequence[float] | None) -> dict[str, str]:
    """Column of a file for each name of a record: ``load-q-0.9`` for ``load q0.9``; the median has no mark."""
    pairs = [(name, level) for name in channels for level in quantiles or [0.5]]
    marks = [("", "") if level == 0.5 else (f" q{level:g}", f"-q-{level:g}") for _, level in pairs]
    return {name + short: name + long for (name, _), (short, long) in zip(pairs, marks, strict=True)}
