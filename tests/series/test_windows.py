import numpy as np
import pytest

from metatx.series.windows import Windows, firsts


def test_windows_are_views_of_the_table():
    rows = np.arange(20.0).reshape(10, 2)
    windows = Windows(rows, 1 + 2 * np.arange(4), 3)
    assert [part.tolist() for part in windows] == [part.tolist() for part in windows[:]]
    assert windows[1].tolist() == [[6, 8, 10], [7, 9, 11]]
    assert windows[-1].tolist() == [[14, 16, 18], [15, 17, 19]]
    assert Windows(rows, 1 + 2 * np.arange(4), 3, time_axis=0)[1].tolist() == [[6, 7], [8, 9], [10, 11]]
    assert np.shares_memory(windows[2], rows)
    with pytest.raises(IndexError):
        windows[4]


def test_windows_begin_where_they_stay_within_a_series():
    rows = np.arange(20.0)[:, None]
    assert firsts(rows, [20], 4, 2, 3).tolist() == [0, 3, 6, 9, 12]
    assert firsts(rows, [8, 12, 20], 4, 2, 1).tolist() == [0, 1, 2, 12, 13, 14]


def test_windows_without_a_value_to_read_or_to_forecast_are_left_out():
    rows = np.arange(20.0)[:, None]
    rows[6:12] = np.nan
    assert firsts(rows, [20], 4, 2, 1).tolist() == [0, 1, 9, 10, 11, 12, 13, 14]
