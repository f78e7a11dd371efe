"""Baselines that forecast from windows of a series: the last value or season, ridge regression, Holt-Winters."""

import warnings
from typing import Any, Self

import numpy as np

from metatx.series.windows import Future, Windows

__all__ = ["HoltWinters", "Repeat", "WindowRidge", "first_map", "ridge"]

MOST_WINDOWS = 10_000  # most windows that the start of a linear map is fitted to
FITTED = 16  # training series that Holt-Winters learns its smoothing from
SMOOTHING = ("smoothing_level", "smoothing_trend", "smoothing_seasonal")
ALPHAS = 10.0 ** np.arange(-2, 6)  # penalties to choose from, on sums over standardised values


class Repeat:
    """The last ``season`` steps of each window, over and over.

    Args:
        season: Steps that are repeated.
        horizon: Steps to forecast, H.
    """

    def __init__(self, season: int, horizon: int) -> None:
        self.season = season
        self.horizon = horizon

    def fit(self, windows: np.ndarray, futures: np.ndarray) -> Self:
        """Learn nothing. Raises ValueError if a window is shorter than the season."""
        if windows.shape[-1] < self.season:
            raise ValueError(f"A season of {self.season} steps does not fit a lookback of {windows.shape[-1]}.")
        return self

    def predict(self, windows: np.ndarray) -> np.ndarray:
        """Windows (B, C, L) to forecasts (B, C, H)."""
        last: np.ndarray = _filled(windows)[..., -self.season :]
        return last[..., np.arange(self.horizon) % self.season]


class WindowRidge:
    """Ridge regression, in closed form, of the steps to come on those read, both less the last value read.

    One set of weights serves all channels.
    """

    def fit(self, windows: np.ndarray, futures: np.ndarray) -> Self:
        """Learn from windows (B, C, L) and futures (B, C, H), in time order."""
        filled = _filled(windows)
        self.weights = ridge(_design(filled), futures - filled[..., -1:])
        return self

    def predict(self, windows: np.ndarray) -> np.ndarray:
        """Windows (B, C, L) to forecasts (B, C, H)."""
        filled = _filled(windows)
        forecast: np.ndarray = _design(filled) @ self.weights + filled[..., -1:]
        return forecast


class HoltWinters:
    """Level, trend and season of each window, smoothed exponentially (Holt 1957, Winters 1960), by statsmodels.

    The rates of smoothing are medians over some training windows, the same for all. Windows that do not hold two
    seasons get level and trend alone.

    Args:
        season: Steps of a season.
        horizon: Steps to forecast, H.
    """

    def __init__(self, season: int, horizon: int) -> None:
        self.season = season
        self.horizon = horizon

    def fit(self, windows: np.ndarray, futures: np.ndarray) -> Self:
        """Learn the rates of smoothing from windows (B, C, L)."""
        series = _filled(windows).reshape(-1, windows.shape[-1])
        found = [self._fitted(series[i]).params for i in np.linspace(0, len(series) - 1, FITTED).astype(int)]
        smoothing = SMOOTHING if self._seasonal(series[0]) else SMOOTHING[:2]
        self.rates = {name: float(np.nanmedian([params[name] for params in found])) for name in smoothing}
        return self

    def predict(self, windows: np.ndarray) -> np.ndarray:
        """Windows (B, C, L) to forecasts (B, C, H)."""
        series = _filled(windows).reshape(-1, windows.shape[-1])
        forecasts = [self._fitted(one, optimized=False, **self.rates).forecast(self.horizon) for one in series]
        return np.stack(forecasts).reshape(*windows.shape[:-1], self.horizon)

    def _seasonal(self, series: np.ndarray) -> bool:
        return len(series) >= 2 * self.season

    def _fitted(self, series: np.ndarray, **rates: Any) -> Any:
        from statsmodels.tsa.holtwinters import ExponentialSmoothing

        season = {"seasonal": "add", "seasonal_periods": self.season} if self._seasonal(series) else {}
        model = ExponentialSmoothing(series, trend="add", initialization_method="heuristic", **season)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fits that did not converge: the median takes no harm
            return model.fit(**rates)


def _design(filled: np.ndarray) -> np.ndarray:
    """Windows (..., L) less their last value, with ones in its place."""
    return np.concatenate([filled[..., :-1] - filled[..., -1:], np.ones_like(filled[..., :1])], axis=-1)


def first_map(targets: Future, channels: list[int], spread: np.ndarray, size: int) -> np.ndarray:
    """Ridge regression on the training windows, for a linear map of the last ``size`` steps to start from.

    Args:
        targets: Futures of the training split.
        channels: Numbers of the K channels that are forecast.
        spread: Standard deviation of each (K, 1).
        size: Steps that the map reads.

    Returns:
        Weights (size + 1, H), the last row the bias, for windows less their mean.
    """
    every = max(1, len(targets) // MOST_WINDOWS)
    begin = targets.firsts[::every][: len(targets) // every]
    windows = np.stack(list(Windows(targets.rows, begin - targets.lookback, targets.lookback)))[:, channels]
    futures = np.stack(list(Windows(targets.rows, begin, targets.size)))[:, channels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of channels that a window has no value of
        loc = np.nan_to_num(np.nanmean(windows, axis=-1, keepdims=True))
        free = np.nan_to_num(np.nanstd(windows, axis=-1, keepdims=True)) / spread
    recent = np.nan_to_num((windows - loc) / spread)[..., -size:]
    return ridge(np.concatenate([recent, free], axis=-1), (futures - loc) / spread)


def ridge(inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Weights (P, H) of ridge regression from inputs (B, C, P), the last of them free, to answers (B, C, H).

    The penalty is the best of ``ALPHAS`` on the last fifth of B, when fitted to the others. Answers with a missing
    value are left out.
    """
    cut = len(inputs) - len(inputs) // 5
    gram, cross = _sums(*_known(inputs[:cut], answers[:cut]))
    last_inputs, last_answers = _known(inputs[cut:], answers[cut:])
    if not len(last_inputs):
        return _solve(gram, cross, ALPHAS[-1])
    errors = [((last_inputs @ _solve(gram, cross, alpha) - last_answers) ** 2).mean() for alpha in ALPHAS]
    last_gram, last_cross = _sums(last_inputs, last_answers)
    return _solve(gram + last_gram, cross + last_cross, ALPHAS[int(np.argmin(errors))])


def _known(inputs: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, P) and answers (n, H) whose answer has no missing value."""
    known = np.isfinite(answers).all(-1)
    return inputs[known], answers[known]


def _sums(inputs: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gram matrix (P, P) of the inputs, and their products with the answers (P, H)."""
    return inputs.T @ inputs, inputs.T @ answers


def _solve(gram: np.ndarray, cross: np.ndarray, alpha: float) -> np.ndarray:
    penalty = np.full(len(gram), alpha)
    penalty[-1] = 1e-6  # the intercept is free
    solved: np.ndarray = np.linalg.solve(gram + np.diag(penalty), cross)
    return solved


def _filled(windows: np.ndarray) -> np.ndarray:
    """Windows without gaps: a missing value is the last before it, else the first observed, else 0."""
    if not np.isnan(windows).any():
        return windows
    length = windows.shape[-1]
    known = np.isfinite(windows)
    at = np.maximum.accumulate(np.where(known, np.arange(length), -1), axis=-1)
    at = np.where(at < 0, known.argmax(-1)[..., None], at)
    filled: np.ndarray = np.nan_to_num(np.take_along_axis(windows, at, axis=-1))
    return filled
