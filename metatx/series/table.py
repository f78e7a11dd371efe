"""A table as series: one or many, each in time order, with steps that are missing put in."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from metatx.series.clocks import Clock
from metatx.series.layouts import Layout, check_times, groups_of, shown
from metatx.series.steps import Step, clock_changes, usual_step

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Fill", "Series", "SeriesTable", "read_series"]

Fill = Literal["missing", "linear", "last", "none"]


@dataclass(frozen=True)
class Series:
    """One series.

    Attributes:
        id: What its id columns say.
        rows: Its rows in the table (M,).
        at: At which step each of them is (M,).
        values: (T, C), T steps in time order, NaN where missing.
        times: Of its rows, where the table has a time; ahead of its clock at the end by ``ahead``.
        last: Its last row.
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
    """The series of a table, in the order of their first rows.

    Attributes:
        series: Of them all.
        layout: The columns of time and ids that the table has.
        step: From one time to the next, as usual; None without times.
        notes: What should be known of times and steps, a line each.
    """

    series: list[Series]
    layout: Layout
    step: Step | None
    notes: list[str]


def read_series(frame: "pd.DataFrame", layout: Layout, inputs: list[str], fill: Fill, most: int) -> SeriesTable:
    """Read a table as series.

    Args:
        frame: The table.
        layout: As ``find_layout``.
        inputs: The C columns.
        fill: What stands for a step that is missing: ``"missing"`` values, ``"linear"`` interpolation, the ``"last"``
            value; ``"none"`` takes rows as steps, whatever lies between.
        most: Missing steps that are put in at one place, at most: as far as a window reaches.

    Raises:
        ValueError: If a cell is no finite number, or no time, or times do not rise; names column and row.
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
    """How many steps are to be put in behind the rows of each series, None for none anywhere; and what to tell."""
    notes = []
    times = sum(count for _, _, count in changed)
    if times:
        changes = "clocks were changed once" if times == 1 else f"clocks were changed {times} times"
        notes.append(f"Column {clock.name}: {changes}; rows are taken as even steps.")
    nothing: list[np.ndarray | None] = [None] * len(groups)
    if step is None:
        return nothing, notes
    found = [step.missing(even) for even, _, _ in changed]
    known = [behind for behind in found if behind is not None]
    number = sum(int(np.minimum(behind, most).sum()) for behind in known)
    if len(known) < len(found) or number > len(frame):
        notes.append(f"Times in column {clock.name} follow no step; each row is taken as one.")
        return nothing, notes
    if number:
        notes.append(_gap_note(frame, clock, groups, known, step, fill))
    return (nothing if fill == "none" else [np.minimum(behind, most) for behind in known]), notes


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
    return Series({name: _plain(last[name]) for name in layout.ids}, rows, at, values, times, ahead, last)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _at(missing: np.ndarray) -> np.ndarray:
    return np.asarray(np.arange(len(missing) + 1) + np.concatenate([[0], np.cumsum(missing)]))


def _filled(values: np.ndarray, missing: np.ndarray | None, fill: Fill) -> np.ndarray:
    """Rows (M, C) with those put in that are missing behind each."""
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
    """The inputs (M, C), float64, NaN where missing."""
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
