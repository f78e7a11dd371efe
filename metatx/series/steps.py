"""Usual step between the times of a series: which steps are missing, and which times follow the last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Step", "clock_changes", "usual_step"]

HOUR = np.timedelta64(3600, "s")
DAY = np.timedelta64(1, "D")
WORDS = {1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}
OFF = 0.3  # share of a step by which a time may miss it
MOST_OFF = 0.05  # share of times that may miss it by more


@dataclass(frozen=True)
class Step:
    """Usual step from one time to the next.

    Attributes:
        unit: ``months``, ``business`` (days from Monday to Friday), ``microseconds`` or ``number``.
        size: Size of the step in that unit.
        ends: True if the times are the last days of months.
    """

    unit: str
    size: float
    ends: bool = False

    def __str__(self) -> str:
        if self.unit == "number":
            return f"steps of {self.size:g}"
        if self.unit == "business":
            return "business days"
        if self.unit == "months":
            words = {1: "months", 3: "quarters", 12: "years"}
            return words.get(int(self.size), f"steps of {self.size:g} months")
        seconds = self.size / 1e6
        best = max((unit for unit in WORDS if seconds % unit == 0), default=1)
        return f"{WORDS[best]}s" if seconds == best else f"steps of {seconds / best:g} {WORDS[best]}s"

    def between(self, times: np.ndarray) -> np.ndarray:
        """Number of steps from each time to the next (M - 1,), with fractions."""
        if self.unit == "months":
            return np.asarray(np.diff(_months(times)) / self.size)
        if self.unit == "business":
            days = times.astype("datetime64[D]")
            return np.busday_count(days[:-1], days[1:]).astype(np.float64)
        steps: np.ndarray = np.diff(times).astype(np.float64) / self.size
        return steps

    def beside(self, time: Any, numbers: np.ndarray) -> np.ndarray:
        """Times that lie ``numbers`` of steps after ``time``; before it, if a number is negative."""
        if self.unit == "number":
            return np.asarray(time + numbers * self.size)
        if self.unit == "microseconds":
            return np.asarray(time + np.round(numbers * self.size).astype("timedelta64[us]"))
        day = time.astype("datetime64[D]")
        if self.unit == "business":
            return np.asarray(np.busday_offset(day, numbers, roll="backward") + (time - day))
        month = day.astype("datetime64[M]") + (numbers * int(self.size)).astype("timedelta64[M]")
        last = (month + 1).astype("datetime64[D]") - DAY
        wanted = month.astype("datetime64[D]") + (day - day.astype("datetime64[M]").astype("datetime64[D]"))
        days = last if self.ends else np.minimum(wanted, last)
        return np.asarray(days.astype("datetime64[us]") + (time - day))

    def missing(self, times: np.ndarray) -> np.ndarray | None:
        """Number of steps missing after each time but the last (M - 1,); None if the times follow no step."""
        between = self.between(times)
        whole = np.round(between)
        off = (whole < 1) | (np.abs(between - whole) > OFF)
        if off.mean() > MOST_OFF:
            return None
        return np.maximum(whole, 1).astype(np.int64) - 1


def usual_step(series: Sequence[np.ndarray]) -> Step | None:
    """Usual step of the rising times of one or more series; None if no series has two times."""
    parts = [np.diff(times) for times in series if len(times) > 1]
    if not parts:
        return None
    typical = np.median(np.concatenate(parts))
    if not isinstance(typical, np.timedelta64):
        return Step("number", float(typical))
    times = np.concatenate([times for times in series if len(times) > 1])
    days = times.astype("datetime64[D]")
    if typical >= 27 * DAY:
        months = np.concatenate([np.diff(_months(times)) for times in series if len(times) > 1])
        first = days.astype("datetime64[M]")
        day = (days - first.astype("datetime64[D]")).astype(np.int64) + 1
        left = ((first + 1).astype("datetime64[D]") - days).astype(np.int64)
        if months.min() >= 1 and (np.ptp(day) == 0 or left.max() <= 5 or day.max() <= 5):
            return Step("months", float(np.median(months)), ends=bool((left == 1).all()))
    if abs(typical - DAY) <= HOUR:
        if np.is_busday(days).all() and np.ptp(days).astype(np.int64) >= 7:
            return Step("business", 1)
        typical = DAY
    return Step("microseconds", float(typical.astype("timedelta64[us]").astype(np.int64)))


def clock_changes(times: np.ndarray) -> tuple[np.ndarray, np.timedelta64, int]:
    """Undo changes between summer and winter time in local times, if the order of the times shows them.

    Returns:
        Times without the changes; by how much they are ahead of the clock at the end; the number of changes, 0 if the
        times rise anyway or fall for another reason.
    """
    none = times, np.timedelta64(0, "us"), 0
    if times.dtype.kind != "M" or len(times) < 3:
        return none
    steps = np.diff(times)
    usual = np.median(steps)
    back = (steps == usual - HOUR) & _on_sunday_night(times[1:])
    if not np.timedelta64(0) < usual <= HOUR or not back.any() or (steps <= np.timedelta64(0))[~back].any():
        return none
    at = times[1:][back]
    if (np.diff(at) < 100 * DAY).any():
        return none
    forward = (steps == usual + HOUR) & _on_sunday_night(times[1:])
    shift = np.concatenate([[0], np.cumsum(back.astype(np.int64) - forward.astype(np.int64))]) * HOUR
    return times + shift, shift[-1], int(back.sum() + forward.sum())


def _on_sunday_night(times: np.ndarray) -> np.ndarray:
    """Flags of the times at which clocks are changed: the first four hours of Sundays in spring and autumn."""
    days = times.astype("datetime64[D]")
    sunday = (days.astype(np.int64) + 3) % 7 == 6  # 1970 began on a Thursday
    month = times.astype("datetime64[M]").astype(np.int64) % 12 + 1
    night: np.ndarray = sunday & (times - days <= 4 * HOUR) & np.isin(month, (3, 4, 9, 10, 11))
    return night


def _months(times: np.ndarray) -> np.ndarray:
    months: np.ndarray = times.astype("datetime64[M]").astype(np.int64)
    return months
