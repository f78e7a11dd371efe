import numpy as np
import pytest

from metatx.baselines.forecasting import ALPHAS, HoltWinters, Repeat, WindowRidge


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
