import numpy as np
import pandas as pd
import pytest

from metatx.series.layouts import find_layout
from metatx.series.table import read_series


def frame(rows: int = 9) -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=rows, freq="h")
    return pd.DataFrame({"time": times, "load": np.arange(float(rows)), "oil": 1.0})


def read(data: pd.DataFrame, inputs: list[str], fill: str = "missing", most: int = 50):
    return read_series(data, find_layout(data, inputs, None, None), inputs, fill, most)


def test_rows_are_the_inputs_in_their_order():
    data = frame().assign(whole=range(9))
    data.loc[3, "load"] = None
    (series,) = read(data, ["whole", "load"]).series
    assert series.values.dtype == np.float64
    np.testing.assert_array_equal(series.values[:, 0], range(9))
    assert np.flatnonzero(np.isnan(series.values[:, 1])).tolist() == [3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            frame().iloc[[0, 1, 3, 2]],
            "time, row 4: 2024-01-01 02:00:00 does not come after 2024-01-01 03:00:00",
        ),
        (
            frame().iloc[[0, 1, 1, 2]],
            "time, row 3: 2024-01-01 01:00:00 does not come after 2024-01-01 01:00:00",
        ),
        (frame().assign(time=range(9, 0, -1)), "time, row 2: 8 does not come after 9"),
        (frame().assign(time=["2024-01-01", *["soon"] * 8]), "time, row 2: 'soon' is no time"),
        (frame().assign(load=["1", "2", "n/a", *"456789"]), "Column load, row 3: n/a is no finite number"),
        (frame().assign(oil=np.inf), "Column oil, row 1: inf is no finite number"),
    ],
)
def test_bad_tables_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        read(data.reset_index(drop=True), ["load", "oil"])


@pytest.mark.parametrize(
    ("fill", "wanted"),
    [
        ("missing", [0, 1, np.nan, np.nan, 4, 5, 6, 7, 8]),
        ("linear", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("last", [0, 1, 1, 1, 4, 5, 6, 7, 8]),
        ("none", [0, 1, 4, 5, 6, 7, 8]),
    ],
)
def test_missing_steps_are_filled_as_the_option_says(fill, wanted):
    found = read(frame().drop([2, 3]).reset_index(drop=True), ["load"], fill)
    np.testing.assert_array_equal(found.series[0].values[:, 0], wanted)
    assert found.notes[0].startswith("2 of 9 hours are missing, the first after 2024-01-01 01:00:00; ")


def test_a_long_gap_is_as_long_as_a_window_reaches():
    data = frame(40).drop(range(10, 30)).reset_index(drop=True)
    (series,) = read(data, ["load"], most=5).series
    assert len(series.values) == 25
    assert series.at.tolist() == [*range(10), *range(15, 25)]


def test_a_cell_that_is_missing_stays_so_beside_a_step_that_is_filled():
    data = frame().drop([5]).reset_index(drop=True)
    data.loc[2, "load"] = None
    (series,) = read(data, ["load"], "linear").series
    assert np.flatnonzero(np.isnan(series.values[:, 0])).tolist() == [2]
    assert series.values[5, 0] == 5
