"""Times of a table's rows: the columns that can hold them, the forms they are written in, and writing in that form."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Clock", "clocks", "named_clock", "usual"]

USUAL = ("date", "datetime", "ds", "epoch", "time", "timestamp", "ts", "unix", "unixtime", "utc")  # names of a time
PARTS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")  # names of a part, or of a feature
SHORT = {"yr": "year", "mon": "month", "hr": "hour", "min": "minute", "sec": "second"}
EPOCHS = {"s": (1e8, 1e10), "ms": (1e11, 1e13), "us": (1e14, 1e16), "ns": (1e17, 1e19)}  # 1973 to 2286
DATES = (
    *("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y-%m-%d", "%Y%m%d"),
    *("%d.%m.%y", "%m/%d/%y", "%d/%m/%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),
    *("%b %Y", "%B %Y", "%b-%Y", "%b-%y", "%m/%Y", "%m-%Y", "%m.%Y", "%Y/%m", "%Y.%m"),
)
HOURS = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%H.%M", "%H.%M.%S")
OFFSET = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?: ?(?:[+-]\d\d(?::?\d\d)?|Z)| UTC)$")
MOMENT = re.compile(r"\d{1,2}[:.]\d\d([:.]\d\d(\.\d+)?)?$")  # a time of day
QUARTER = re.compile(r"(\d{4})-?Q([1-4])$")
LONGEST = 40  # most characters of a cell that may be a time


@dataclass(frozen=True)
class Clock:
    """Columns that hold the time of each row, and their forms.

    Attributes:
        columns: Columns that hold a time together: one, or a date and an hour, or year, month, ...
        forms: Form of each column: ``datetime``, ``iso``, ``yearquarter``, a format of ``strptime``, ``number``, a unit
            of an epoch (``s``, ``ms``, ``us``, ``ns``), ``moment`` (a time of day), or a part of a date (``year``,
            ...).
    """

    columns: tuple[str, ...]
    forms: tuple[str, ...]

    @property
    def name(self) -> str:
        """Names of the columns, for messages."""
        return " + ".join(self.columns)

    def read(self, frame: "pd.DataFrame") -> np.ndarray:
        """Times of the rows: datetime64[us], in UTC if cells have offsets, or float64; NaT or NaN if unreadable."""
        if len(self.columns) == 1:
            return _read(frame[self.columns[0]], self.forms[0])
        cells = {form: frame[name] for name, form in zip(self.columns, self.forms, strict=True)}
        times = _read(frame[self.columns[0]], self.forms[0]) if "year" not in cells else _dates(cells)
        for form, unit in (("hour", "h"), ("minute", "m"), ("second", "s")):
            if form in cells:
                times = times + _numbers(cells[form]).astype(f"timedelta64[{unit}]")
        return times + _moments(cells["moment"]) if "moment" in cells else times

    def write(self, times: np.ndarray, like: "pd.Series[Any]") -> list[dict[str, Any]]:
        """Write times as cells of the columns, in the form of the row ``like``; one dict a time."""
        pairs = list(zip(self.columns, self.forms, strict=True))
        if "week" in self.forms:  # a week belongs to the year of its Thursday
            pairs = [(name, "weekyear" if form == "year" else form) for name, form in pairs]
        return [{name: _cell(time, form, like[name]) for name, form in pairs} for time in times]


def usual(name: str, *, parts: bool = False) -> bool:
    """Return whether a column's name is that of a time; with ``parts``, also that of a part such as an hour."""
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    if parts:
        return not {*USUAL, *PARTS}.isdisjoint(words)
    return name.lower().replace("_", "").replace(" ", "") in USUAL or _only(words)


def _only(words: list[str]) -> bool:
    """Return whether the words of a name mean a time and nothing else: unix_time, time_ms."""
    return not set(USUAL).isdisjoint(words) and {*USUAL, *EPOCHS, "idx", "index", "local", "stamp"}.issuperset(words)


def clocks(frame: "pd.DataFrame", names: Sequence[str]) -> Iterator[Clock]:
    """Candidate clocks among the columns ``names``, the likeliest first."""
    names = sorted(names, key=lambda name: (not usual(name), not usual(name, parts=True)))
    dates = [Clock((name,), (form,)) for name in names for form in _date_forms(frame[name])]
    yield from dates
    numbers = [(name, _number_form(frame[name])) for name in names if usual(name, parts=True)]
    for name, form in numbers:
        if form is not None and (form != "number" or usual(name)):
            yield Clock((name,), (form,))
            dates += [Clock((name,), (form,))] if form == "%Y%m%d" else []
    yield from _together(frame, names, dates)
    # A part alone, such as an hour, comes last: it may be a feature.
    yield from (Clock((name,), (form,)) for name, form in numbers if form == "number" and name.lower() in PARTS)


def named_clock(frame: "pd.DataFrame", names: Sequence[str]) -> list[Clock]:
    """Clocks of the columns that the user named as the time.

    Raises:
        ValueError: If they cannot be read as times; the message names the row.
    """
    if len(names) > 1:
        together = [clock for clock in clocks(frame, names) if set(clock.columns) == set(names)]
        if not together:
            raise ValueError(
                f"Columns {', '.join(names)} form no time together, as year and month, or date and hour, would."
            )
        return together
    column = frame[names[0]]
    number = _number_form(column)
    forms = [number] if number else _date_forms(column)
    if not forms:
        first = _date_forms(column.iloc[:1]) or ["iso"]
        bad = np.isnat(_read(column, first[0])) if not _numeric(column) else column.isna().to_numpy()
        row = int(bad.argmax())
        raise ValueError(f"Column {names[0]}, row {row + 1}: {column.iloc[row]!r} is no time.")
    return [Clock((names[0],), (form,)) for form in forms]


def _numeric(column: "pd.Series[Any]") -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _date_forms(column: "pd.Series[Any]") -> list[str]:
    """Forms in which every cell of a column can be read as a time; none for a column of numbers."""
    import pandas as pd

    if not len(column) or pd.api.types.is_numeric_dtype(column) or column.isna().any():
        return []
    if pd.api.types.is_datetime64_any_dtype(column) or hasattr(column.iloc[0], "year"):
        return ["datetime"]
    first = column.iloc[0]
    if not isinstance(first, str) or len(first) > LONGEST or not re.search(r"\d", first):
        return []
    forms = [form for form in _first_forms(first.strip()) if not np.isnat(_read(column, form)).any()]
    return forms[:1] if forms[:1] == ["iso"] else forms


def _first_forms(text: str) -> list[str]:
    """Forms in which one text can be read as a time."""
    forms = ["iso"] if re.match(r"\d{4}(-|\d{4}$|$)", text) else []
    forms += ["yearquarter"] if QUARTER.match(text) else []
    for date, (gap, hours) in product(DATES, [("", ""), *product((" ", "T", ", "), HOURS)]):
        try:
            datetime.strptime(text, date + gap + hours)
        except ValueError:
            continue
        forms.append(date + gap + hours)
    return forms


def _number_form(column: "pd.Series[Any]") -> str | None:
    """Form in which the numbers of a column are times: an epoch, a date such as 20240131, or ``number``; else None."""
    if not len(column) or not _numeric(column) or column.isna().any():
        return None
    values = column.to_numpy(np.float64)
    for unit, (low, high) in EPOCHS.items():
        if low <= values.min() and values.max() < high:
            return unit
    for form, low, high in (("%Y%m%d", 1e7, 1e8), ("%Y%m", 190_001, 210_013)):
        whole = low <= values.min() and values.max() < high and (values % 1 == 0).all()
        if whole and not np.isnat(_read(column, form)).any():
            return form
    return "number" if np.isfinite(values).all() else None


def _together(frame: "pd.DataFrame", names: Sequence[str], dates: list[Clock]) -> Iterator[Clock]:
    """Clocks of several columns: date and hour, date and time of day, or year, month, ..."""
    parts: dict[str, str] = {}
    for name in names:
        part = SHORT.get(name.lower(), name.lower())
        if part in PARTS and part not in parts:
            parts[part] = name
    days = [part for part in ("hour", "minute", "second") if part in parts and _numeric(frame[parts[part]])]
    days = days if "hour" in days else []
    moments = [name for name in names if _all_moments(frame[name])]
    for date, moment in product(dates, moments):
        yield Clock((*date.columns, moment), (*date.forms, "moment"))
    for date in dates if days else []:
        yield Clock((*date.columns, *(parts[part] for part in days)), (*date.forms, *days))
    if "year" not in parts:
        return
    for finer in (("month", "day"), ("month",), ("quarter",), ("week",)):
        if all(part in parts for part in finer):
            forms = ["year", *finer, *(days if "day" in finer else [])]
            clock = Clock(tuple(parts[part] for part in forms), tuple(forms))
            if not np.isnat(clock.read(frame)).any():
                yield clock
            return


def _all_moments(column: "pd.Series[Any]") -> bool:
    first = column.iloc[0] if len(column) else None
    return isinstance(first, str) and bool(MOMENT.match(first)) and bool(column.astype(str).str.match(MOMENT).all())


def _read(column: "pd.Series[Any]", form: str) -> np.ndarray:
    """Times of a column in a form: datetime64[us], or float64 for numbers."""
    import pandas as pd

    if form == "number":
        return _numbers(column)
    if form in EPOCHS:
        scale = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}[form]
        return np.round(_numbers(column) * scale).astype("datetime64[us]")
    if form == "datetime":
        times = pd.to_datetime(column, utc=_has_zone(column), errors="coerce")
    elif form == "iso":
        aware = column.astype(str).str.contains(OFFSET)
        texts = column.astype(str).str.replace(" UTC", "Z") if aware.any() else column
        times = pd.to_datetime(texts, format="ISO8601", utc=bool(aware.any()), errors="coerce")
    elif form == "yearquarter":
        groups = column.astype(str).str.extract(QUARTER)
        return _dates({"year": groups[0], "quarter": groups[1]})
    elif _numeric(column):
        times = pd.to_datetime(column.astype(np.int64).astype(str), format=form, errors="coerce")
    else:
        times = pd.to_datetime(column.astype(str).str.strip(), format=form, errors="coerce")
    times = times.dt.tz_localize(None) if times.dt.tz is not None else times
    return times.to_numpy().astype("datetime64[us]")


def _has_zone(column: "pd.Series[Any]") -> bool:
    return getattr(column.dtype, "tz", None) is not None or getattr(column.iloc[0], "tzinfo", None) is not None


def _dates(cells: "dict[str, pd.Series[Any]]") -> np.ndarray:
    """Dates from year and quarter, month or week, and day if given; NaT if there is no such day."""
    import pandas as pd

    year = _numbers(cells["year"])
    if "week" in cells:
        texts = [f"{y:.0f}-{w:.0f}-1" for y, w in zip(year, _numbers(cells["week"]), strict=True)]
        return pd.to_datetime(pd.Series(texts), format="%G-%V-%u", errors="coerce").to_numpy().astype("datetime64[us]")
    month = 3 * _numbers(cells["quarter"]) - 2 if "quarter" in cells else _months(cells["month"])
    day = _numbers(cells["day"]) if "day" in cells else np.ones(len(year))
    texts = [f"{y:.0f}-{m:.0f}-{d:.0f}" for y, m, d in zip(year, month, day, strict=True)]
    return pd.to_datetime(pd.Series(texts), format="%Y-%m-%d", errors="coerce").to_numpy().astype("datetime64[us]")


def _months(column: "pd.Series[Any]") -> np.ndarray:
    """Months as numbers, from numbers or names."""
    import pandas as pd

    if _numeric(column):
        return _numbers(column)
    words = column.astype(str).str.strip()
    long = pd.to_datetime(words, format="%B", errors="coerce").dt.month
    short = pd.to_datetime(words, format="%b", errors="coerce").dt.month
    return long.fillna(short).to_numpy(np.float64, na_value=np.nan)


def _moments(column: "pd.Series[Any]") -> np.ndarray:
    import pandas as pd

    texts = column.astype(str).str.replace(r"^(\d{1,2})[.:](\d\d)(?:[.:](\d\d))?", r"\1:\2:\3", regex=True)
    texts = texts.str.replace(r":$", ":00", regex=True)
    return pd.to_timedelta(texts, errors="coerce").to_numpy().astype("timedelta64[us]")


def _numbers(column: "pd.Series[Any]") -> np.ndarray:
    import pandas as pd

    numbers: np.ndarray = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return numbers


def _cell(time: Any, form: str, like: Any) -> Any:
    """Cell of a time in a form, written like the cell ``like``."""
    import pandas as pd

    if form == "number":
        whole = float(time).is_integer() and float(like).is_integer()
        return int(time) if whole else float(time)
    if form in EPOCHS:
        per = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}[form]
        value = time.astype(np.int64) / per
        return round(value) if float(like).is_integer() else value
    stamp = pd.Timestamp(time)
    if form in PARTS:
        if form == "month" and isinstance(like, str):
            return stamp.strftime("%b" if len(like.strip()) == 3 else "%B")
        return int(getattr(stamp, form))
    if form == "weekyear":
        return stamp.isocalendar().year
    if form == "moment":
        text = stamp.strftime("%H:%M" if len(like) <= len("00:00") else "%H:%M:%S")
        return text if ":" in like else text.replace(":", ".")
    if form == "yearquarter":
        return f"{stamp.year}{'-' if '-' in str(like) else ''}Q{stamp.quarter}"
    if form == "iso":
        return _iso(stamp, str(like))
    if form == "datetime":
        if isinstance(like, datetime) and like.tzinfo is not None:
            stamp = stamp.tz_localize("UTC").tz_convert(like.tzinfo)
        timed = isinstance(like, datetime) and pd.Timestamp(like) != pd.Timestamp(like).normalize()
        return str(stamp if timed or stamp != stamp.normalize() else stamp.date())
    text = stamp.strftime(form)
    return text if isinstance(like, str) else int(text)


def _iso(stamp: "pd.Timestamp", like: str) -> str:
    """Text of a time in ISO 8601, with the zone and the precision of the text ``like``."""
    import pandas as pd

    if OFFSET.search(like):
        zone = pd.Timestamp(like.replace(" UTC", "Z")).tz
        text = stamp.tz_localize("UTC").tz_convert(zone).isoformat(sep="T" if "T" in like else " ")
        return text.replace("+00:00", "Z") if like.endswith("Z") else text
    if len(like) <= len("2024-01-01"):
        return stamp.strftime({4: "%Y", 7: "%Y-%m", 8: "%Y%m%d"}.get(len(like), "%Y-%m-%d"))
    short = len(like) == len("2024-01-01 00:00") and not stamp.second
    return stamp.isoformat(sep="T" if "T" in like else " ", timespec="minutes" if short else "auto")
