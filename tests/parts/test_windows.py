import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from metatx.parts.windows import ALPHAS, HoltWinters, Repeat, WindowRidge, Windows, read_rows, time_column


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


@pytest.mark.parametrize(("season", "wanted"), [(1, [6, 6, 6, 6, 6]), (3, [4, 5, 6, 4, 5])])
def test_repeat(season, wanted):
    windows = np.array([[[3.0, 4, 5, 6]]])
    repeat = Repeat(season, 5).fit(windows, np.zeros((1, 1, 5)))
    assert repeat.predict(windows)[0, 0].tolist() == wanted


def test_a_season_longer_than_the_lookback_is_refused():
    with pytest.raises(ValueError, match="season of 5 steps does not fit a lookback of 4"):
        Repeat(5, 3).fit(np.zeros((1, 1, 4)), np.zeros((1, 1, 3)))


def test_repeat_fills_what_is_missing():
    windows = np.array([[[np.nan, 4, np.nan, np.nan], [np.nan] * 4]])
    assert Repeat(4, 4).fit(windows, np.zeros((1, 2, 4))).predict(windows)[0].tolist() == [[4] * 4, [0] * 4]


def process(windows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """An autoregression of order two at two levels: windows (B, 2, 8) and futures (B, 2, 3)."""
    random = np.random.default_rng(0)
    values = np.zeros((2, windows + 20))
    for t in range(2, values.shape[1]):
        values[:, t] = 1.6 * values[:, t - 1] - 0.8 * values[:, t - 2] + random.normal(size=2)
    values += np.array([[0.0], [100.0]])
    return tuple(np.stack([values[:, i + a : i + b] for i in range(windows)]) for a, b in ((0, 8), (8, 11)))


def test_window_ridge_is_ridge_regression_on_differences_to_the_last_value():
    from sklearn.linear_model import Ridge

    windows, futures = process()
    found = WindowRidge().fit(windows, futures).predict(windows)
    last = windows[..., -1:]
    inputs, wanted = (windows - last)[..., :-1].reshape(-1, 7), (futures - last).reshape(-1, 3)
    models = [Ridge(alpha).fit(inputs, wanted) for alpha in ALPHAS]
    forecasts = [model.predict(inputs).reshape(futures.shape) + last for model in models]
    differences = [np.abs(forecast - found).max() for forecast in forecasts]
    assert min(differences) < 1e-6
    assert max(differences) > 0.1
    assert ((found - futures)[..., 0] ** 2).mean() == pytest.approx(1, rel=0.2)  # the noise, which none can know


def test_window_ridge_bears_missing_values():
    windows, futures = process()
    whole = WindowRidge().fit(windows, futures).predict(windows[-1:])
    windows[3, 0, :5] = windows[4, 1, 7] = windows[5] = futures[6, 0, 2] = np.nan
    holed = WindowRidge().fit(windows, futures)
    assert np.isfinite(holed.predict(windows)).all()
    assert 0 < np.abs(whole - holed.predict(windows[-1:])).max() < 0.5


@pytest.mark.parametrize("length", [48, 20])
def test_holt_winters_is_statsmodels_own(length):
    """With the rates that it learned; windows without two seasons have level and trend alone."""
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    rng = np.random.default_rng(0)
    waves = 5 + np.sin(np.arange(200) * np.pi / 6) + 0.1 * rng.normal(size=(2, 200))
    past = np.stack([waves[:, i : i + length] for i in range(0, 100, 9)])
    model = HoltWinters(12, 6).fit(past, past)
    season = {"seasonal": "add", "seasonal_periods": 12} if length == 48 else {}
    own = ExponentialSmoothing(past[3, 1], trend="add", initialization_method="heuristic", **season)
    expected = own.fit(optimized=False, **model.rates).forecast(6)
    np.testing.assert_allclose(model.predict(past)[3, 1], expected)
    if season:
        future = np.stack([waves[:, i + length : i + length + 6] for i in range(0, 100, 9)])
        assert ((model.predict(past) - future) ** 2).mean() < 0.05


def test_holt_winters_of_a_constant_goes_on():
    past = np.full((3, 1, 24), 7.0)
    np.testing.assert_allclose(HoltWinters(6, 4).fit(past, past).predict(past), np.full((3, 1, 4), 7.0), atol=1e-6)
