"""Reading of a table as one or more series, each in time order, with missing steps inserted."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from metatx.series.clocks import Clock
from metatx.series.layouts import Layout, check_times, groups_of, shown
from metatx.series.steps import Step, clock_changes, usual_step
from metatx.values import plain_value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Fill", "Series", "SeriesTable", "read_series"]

Fill = Literal["missing", "linear", "last", "none"]


@dataclass(frozen=True)
class Series:
    """One series of a table.

    Attributes:
        id: Cells of the id columns, by name.
        rows: Numbers of the table's rows that belong to the series (M,).
        at: Step of each of those rows (M,).
        values: Values (T, C) of T steps in time order, NaN where missing.
        times: Times of the rows (M,), without changes between summer and winter time; None without a time.
        ahead: Time by which ``times`` are ahead of the clock at the end.
        last: Last row.
    """

    id: dict[str, Any]
    rows: np.ndarray
    at: np.ndarray
    values: np.ndarray
    times: np.ndarray | None
    ahead: np.timedelta64
    last: "pd.Series[Any]"


@dataclass(frozen=True)
class SeriesTable:
    """All series of a table, in the order of their first rows.

    Attributes:
        series: Series of the table.
        layout: Columns of time and ids that the table has.
        step: Usual step from one time to the next; None without times.
        notes: Sentences on times and steps that the user should read.
    """

    series: list[Series]
    layout: Layout
    step: Step | None
    notes: list[str]


def read_series(frame: "pd.DataFrame", layout: Layout, inputs: list[str], fill: Fill, most: int) -> SeriesTable:
    """Read a table as series.

    Args:
        frame: Table to read.
        layout: Columns of time and ids, see ``find_layout``.
        inputs: Names of the C columns to read.
        fill: Values of missing steps: ``"missing"`` (NaN), ``"linear"`` interpolation, the ``"last"`` value; ``"none"``
            inserts no steps.
        most: Most missing steps that are inserted at one place, such as the length of a window.

    Raises:
        ValueError: If a cell is no finite number or no time, or times do not rise; the message names column and row.
    """
    values = _numbers(frame, inputs)
    layout = layout.within(frame)
    groups = groups_of(frame, layout.ids)
    still = np.timedelta64(0, "us")
    if layout.clock is None:
        series = [_series(frame, layout, rows, values[rows], None, None, still) for rows in groups]
        return SeriesTable(series, layout, None, [])
    times = layout.clock.read(frame)
    check_times(frame, layout.clock, times, groups)
    changed = [clock_changes(times[rows]) for rows in groups]
    step = usual_step([even for even, _, _ in changed])
    missing, notes = _missing(frame, layout.clock, groups, changed, step, fill, most)
    series = []
    for rows, (even, ahead, _), behind in zip(groups, changed, missing, strict=True):
        steps = _filled(values[rows], behind, fill)
        series.append(_series(frame, layout, rows, steps, behind, even, ahead))
    return SeriesTable(series, layout, step, notes)


def _missing(
    frame: "pd.DataFrame",
    clock: Clock,
    groups: list[np.ndarray],
    changed: list[tuple[np.ndarray, np.timedelta64, int]],
    step: Step | None,
    fill: Fill,
    most: int,
) -> tuple[list[np.ndarray | None], list[str]]:
    """Number of steps to insert after each row of each series, None for none anywhere; and notes for the user."""
    notes = []
    times = sum(count for _, _, count in changed)
    if times:
        changes = "clocks were changed once" if times == 1 else f"clocks were changed {times} times"
        notes.append(f"Column {clock.name}: {changes}; rows are taken as even steps.")
    nothing: list[np.ndarray | None] = [None] * len(groups)
    if step is None:
        return nothing, notes
    gaps = [step.missing(even) for even, _, _ in changed]
    regular = [behind for behind in gaps if behind is not None]
    number = sum(int(np.minimum(behind, most).sum()) for behind in regular)
    if len(regular) < len(gaps) or number > len(frame):
        notes.append(f"Times in column {clock.name} follow no step; each row is taken as one.")
        return nothing, notes
    if number:
        notes.append(_gap_note(frame, clock, groups, regular, step, fill))
    return (nothing if fill == "none" else [np.minimum(behind, most) for behind in regular]), notes


def _series(
    frame: "pd.DataFrame",
    layout: Layout,
    rows: np.ndarray,
    values: np.ndarray,
    before: np.ndarray | None,
    times: np.ndarray | None,
    ahead: np.timedelta64,
) -> Series:
    at = np.arange(len(rows)) if before is None else _at(before)
    last = frame.iloc[rows[-1]]
    return Series({name: plain_value(last[name]) for name in layout.ids}, rows, at, values, times, ahead, last)


def _at(missing: np.ndarray) -> np.ndarray:
    """Step of each row (M,), from the steps missing after each row but the last (M - 1,)."""
    return np.asarray(np.arange(len(missing) + 1) + np.concatenate([[0], np.cumsum(missing)]))


def _filled(values: np.ndarray, missing: np.ndarray | None, fill: Fill) -> np.ndarray:
    """Insert the missing steps after each row of values (M, C)."""
    import pandas as pd

    if missing is None or not missing.any():
        return values
    at = _at(missing)
    steps = np.full((at[-1] + 1, values.shape[1]), np.nan)
    steps[at] = values
    if fill in ("linear", "last"):
        frame = pd.DataFrame(steps)
        filled = (frame.interpolate(limit_area="inside") if fill == "linear" else frame.ffill()).to_numpy()
        new = np.ones(len(steps), dtype=bool)
        new[at] = False
        steps[new] = filled[new]
    return steps


def _gap_note(
    frame: "pd.DataFrame", clock: Clock, groups: list[np.ndarray], missing: list[np.ndarray], step: Step, fill: Fill
) -> str:
    """Sentence on the missing steps and how they are filled."""
    number = sum(int(behind.sum()) for behind in missing)
    rows, behind = next(pair for pair in zip(groups, missing, strict=True) if pair[1].any())
    cell = shown(frame, clock, rows[int((behind > 0).argmax())])
    done = {
        "missing": "they are read as missing values",
        "linear": "they are interpolated",
        "last": "the last value is repeated",
        "none": "rows are taken as steps all the same",
    }
    return (
        f"{number:,} of {number + len(frame):,} {step} are missing, the first after {cell}; {done[fill]} "
        "(--head.fill missing, linear, last or none)."
    )


def _numbers(frame: "pd.DataFrame", inputs: list[str]) -> np.ndarray:
    """Values of the inputs (M, C), float64, NaN where missing. Raises ValueError for cells that are no numbers."""
    import pandas as pd

    columns = []
    for name in inputs:
        if frame[name].isna().all():
            raise ValueError(f"Column {name} has no value in {len(frame)} rows; leave it out, with --inputs.")
        numbers = pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        bad = (np.isnan(numbers) & frame[name].notna().to_numpy()) | np.isinf(numbers)
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"Column {name}, row {row + 1}: {frame[name].iloc[row]} is no finite number.")
        columns.append(numbers)
    return np.stack(columns, axis=1) if columns else np.empty((len(frame), 0))
