import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from metatx.parts.windows import Windows, read_rows, time_column


def frame(rows: int = 9) -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=rows, freq="h")
    return pd.DataFrame({"time": times, "load": np.arange(float(rows)), "oil": 1.0})


def table(data: pd.DataFrame) -> Dataset:
    return Dataset.from_pandas(data, preserve_index=False)


def test_rows_are_the_inputs_in_their_order():
    data = frame().assign(whole=range(9))
    data.loc[3, "load"] = None
    rows = read_rows(table(data), ["whole", "load"])
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows[:, 0], range(9))
    assert np.flatnonzero(np.isnan(rows[:, 1])).tolist() == [3]


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
        read_rows(table(data), ["load", "oil"])


def test_the_time_is_found_by_its_values_or_its_name():
    data = frame().assign(site="A")
    assert time_column(table(data.rename(columns={"time": "when"})), []) == "when"
    assert time_column(table(data.assign(time=data["time"].astype(str))), []) == "time"
    assert time_column(table(data.assign(time=range(9))), []) == "time"
    assert time_column(table(data.drop(columns="time")), []) is None
    assert time_column(table(data), ["time"]) is None


def test_windows_are_views_of_the_table():
    rows = np.arange(20.0).reshape(10, 2)
    windows = Windows(rows, 1, 3, 2, 4)
    assert [part.tolist() for part in windows] == [part.tolist() for part in windows[:]]
    assert windows[1].tolist() == [[6, 8, 10], [7, 9, 11]]
    assert windows[-1].tolist() == [[14, 16, 18], [15, 17, 19]]
    assert Windows(rows, 1, 3, 2, 4, time_axis=0)[1].tolist() == [[6, 7], [8, 9], [10, 11]]
    assert np.shares_memory(windows[2], rows)
    with pytest.raises(IndexError):
        windows[4]
