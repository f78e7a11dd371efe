"""Forecasts of the next steps of every channel of a series, with quantiles where they are asked for."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.baselines.forecasting import HoltWinters, Repeat, WindowRidge, first_map
from metatx.errors import SampleError
from metatx.layers.conformal import StepBounds, check_coverage, with_nones
from metatx.layers.linear import LinearBypass, zero_linear
from metatx.layers.losses import forecast_loss
from metatx.sequence import TokenSequence
from metatx.series.forecast_tables import lookback_of, rows_of, written_names
from metatx.series.series_head import SeriesHead
from metatx.series.table import Fill
from metatx.series.windows import Future, in_a_row
from metatx.writing.forecast_plot import draw_forecasts, need_matplotlib

if TYPE_CHECKING:
    from torchmetrics import Metric

    from metatx.tokenizer import Tokenizer

__all__ = ["ForecastingHead"]

MOST_SMOOTHED = 5_000  # most windows times channels that Holt-Winters, which is slow, forecasts as a baseline
ENDS = {"low": -1, "high": 1}  # of an interval
ROUNDING = 1e-14  # a spread so small beside the values is rounding: the channel is constant


class ForecastingHead(SeriesHead):
    """The last tokens side by side, one linear layer to the horizon, and back to the scale of the sample.

    A table in time order becomes windows: ``lookback`` rows (an option of the tokenizer) to read and the
    ``horizon`` rows behind them to forecast. A table may hold many series, one below the other or mixed, which a
    column tells apart (``item_id, timestamp, target``): no window crosses from one to another. The head is trained and
    measured on values standardised by mean and deviation of the training rows, channel by channel, as the literature
    on ETT reports errors; in float64, so that values far from 0 keep their digits.

    It reads what the ``time_series`` tokenizer leaves in ``TokenSequence.context``: ``loc``, ``scale``,
    ``mask`` and ``series``. A missing future value (NaN) is neither learned from nor measured.

    Args:
        dim: Width of the backbone.
        horizon: Steps to forecast, H.
        quantiles: Levels to forecast, between 0 and 1 (pinball loss; Koenker & Bassett 1978); they include 0.5, which
            is then the forecast. None forecasts the mean, by squared error.
        tokens: Number of last tokens that are read: the statistics and the most recent patches.
        linear: Number of last steps from which a linear map, past the backbone, adds to the forecast (as in DLinear,
            Zeng et al. 2023, arXiv 2205.13504). It starts as the ridge regression on the training windows, so that the
            backbone's path learns what the regression leaves. None: all steps that are read; 0: no such map.
        dropout: Dropout of the tokens, 0 to 1.
        season: Steps of a season; the trivial baseline then repeats the last season, not the last value, and
            Holt-Winters is a classical baseline, for up to 5,000 windows times channels (some 10 ms each).
        stride: Rows from one window of a table to the next, in every split.
        per_sequence: Channels forecast from one sequence: 1 where the tokenizer separates them, C where it mixes
            them; of a table it is found.
        time: Column or columns of the time (``["year", "month"]``); ``"none"``: rows are in order as they are. None
            looks for one that can be read as a time in every row and rises.
        series: Column or columns that tell series apart; ``"none"``: the table is one series. None looks for one with
            a usual name (item_id, unique_id, store, ...) where times repeat.
        fill: Values of a step that is missing: ``"missing"``, which are neither learned from nor measured, ``"linear"``
            interpolation, or the ``"last"`` value; ``"none"`` takes rows as steps, whatever time lies between.
        coverage: Promised share of values between ``NAME low`` and ``NAME high`` of ``records``, such as 0.9: split
            conformal prediction on the windows of the validation split, with a width for each channel and step. It
            holds about: windows overlap, the split chose the epoch too, and a series may change.

    Raises:
        ValueError: If a number is too small, or 0.5 is not among the quantiles.

    Attributes:
        channels: Names of the C channels.
        layout: Columns and forms of time, columns of ids, and as ``targets`` the channels to forecast where not all
            are; found in the training table. None for series that came without a table.
    """

    primary_metric = "mse"
    tunable = {"dropout": (0.0, 0.1, 0.3)}
    per_token = True
    output_suffixes = (".png",)
    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        dim: int,
        horizon: int = 24,
        quantiles: list[float] | None = None,
        tokens: int = 2,
        linear: int | None = None,
        dropout: float = 0.0,
        season: int | None = None,
        stride: int = 1,
        per_sequence: int = 1,
        time: str | list[str] | None = None,
        series: str | list[str] | None = None,
        fill: Fill = "missing",
        coverage: float | None = None,
    ) -> None:
        super().__init__(dim)
        check_coverage(coverage)
        self.coverage = coverage
        self.calibrates = coverage is not None
        self.time = time
        self.series = series
        self.fill = fill
        for name, value in (("horizon", horizon), ("tokens", tokens), ("stride", stride), ("season", season)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if quantiles is not None and (0.5 not in quantiles or not all(0 < q < 1 for q in quantiles)):
            raise ValueError(
                f"quantiles are {quantiles}; they lie between 0 and 1 and include 0.5, the forecast itself."
            )
        self.horizon = horizon
        self.tokens = tokens
        self.linear = linear
        self.season = season
        self.stride = stride
        self.per_sequence = per_sequence
        self.quantiles = None if quantiles is None else sorted(quantiles)
        self.dropout = nn.Dropout(dropout)
        self.channels: list[str] = []
        self.layout: dict[str, Any] | None = None

    def build(
        self,
        channels: list[str],
        per_sequence: int = 1,
        horizon: int = 24,
        linear: int | None = None,
        layout: dict[str, Any] | None = None,
    ) -> None:
        """Make the layers for the channels; the other facts are options as they were found in a table."""
        self.channels = channels
        self.per_sequence = per_sequence
        self.horizon = horizon
        self.linear = linear
        self.layout = layout
        steps = horizon * len(self.quantiles or [0.5])
        # Training starts from the mean of the steps that are read.
        self.output = zero_linear(self.tokens * self.dim, per_sequence * steps)
        self.skip = LinearBypass(linear, steps) if linear else None
        self.register_buffer("centre", torch.zeros(len(channels), 1, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(len(channels), 1, dtype=torch.float64))
        self.bounds = None if self.coverage is None else StepBounds(self.coverage, (len(channels), horizon))

    # The model

    def fit(self, targets: Sequence[Any]) -> dict[str, Any]:
        """Facts that ``build`` takes; ``centre`` and ``scale``; of a table also the start of the linear map.

        ``centre`` and ``scale``, float64 (C, 1), are mean and deviation of each channel, over the rows of the table
        (C, T) or else over the futures.

        Raises:
            ValueError: If a future has another shape than (C, H), or a channel has no value.
        """
        linear = self.linear
        per_sequence = self.per_sequence
        if isinstance(targets, Future):
            values = targets.rows.T
            channels = targets.names
            per_sequence = targets.per_sequence
            linear = targets.lookback if linear is None else linear
        else:
            values = in_a_row(targets, self.horizon)
            channels = [f"channel {i + 1}" for i in range(len(values))]
        known = np.isfinite(values)
        if not known.any(1).all():
            raise ValueError(f"{channels[known.any(1).argmin()]} has no value to learn from; leave it out.")
        mean = np.nanmean(values, axis=1)
        deviation = np.nanstd(values, axis=1)
        scale = np.where(deviation > ROUNDING * np.abs(mean), deviation, 1.0)[:, None]
        learned = {
            "channels": channels,
            "per_sequence": per_sequence,
            "horizon": self.horizon,
            "linear": linear,
            "layout": self.layout,
            "centre": torch.as_tensor(mean)[:, None],
            "scale": torch.as_tensor(scale),
        }
        if isinstance(targets, Future) and linear:
            forecast = self._forecast_among(channels)
            weights = first_map(targets, forecast, scale[forecast], linear)
            start = LinearBypass.start(weights, len(self.quantiles or [0.5]))
            learned |= {f"skip.{name}": tensor for name, tensor in start.items()}
        return learned

    def _forecast_among(self, channels: list[str]) -> list[int]:
        """Numbers of the channels that are forecast; the others are only read."""
        names = (self.layout or {}).get("targets") or channels
        return [channels.index(name) for name in names]

    @property
    def _targets(self) -> list[int]:
        return self._forecast_among(self.channels)

    def encode(self, target: Any) -> Tensor:
        """Future (C, H), NaN where missing, standardised, float64; NaN for channels that are only read.

        Raises:
            SampleError: If it has another shape, or holds infinite values.
        """
        try:
            values = np.asarray(target, dtype=np.float64)
        except (TypeError, ValueError):
            raise SampleError("future is no array of numbers; expected (channels x horizon)") from None
        wanted = (len(self.channels), self.horizon)
        if values.shape != wanted:
            raise SampleError(f"future is {values.shape}; expected (channels, horizon), {wanted}")
        if np.isinf(values).any():
            raise SampleError("future holds infinite values; expected finite numbers")
        encoded = np.full_like(values, np.nan)
        encoded[self._targets] = self._standardised(values)[self._targets]
        return torch.as_tensor(encoded)

    def _standardised(self, values: np.ndarray) -> np.ndarray:
        standardised: np.ndarray = (values - self.centre.cpu().numpy()) / self.scale.cpu().numpy()
        return standardised

    def forward(self, pooled: TokenSequence) -> Tensor:
        """Sequences behind the backbone to standardised forecasts (B, C, H), or (B, C, H, Q), in float64.

        Raises:
            ValueError: If the tokenizer's sequences do not fit ``per_sequence``, or the context is missing.
        """
        context = pooled.context
        channels = len(self.channels)
        if "loc" not in context or context["loc"].shape[1:] != (channels,):
            raise ValueError(
                f"The forecasting head needs a series of {channels} channels, from the time_series tokenizer."
            )
        last = pooled.slots()[:, -self.tokens :]  # (S, K, D)
        samples = context["loc"].shape[0]
        if last.shape[0] * self.per_sequence != samples * channels:
            raise ValueError(
                f"{last.shape[0]} sequences for {samples} samples of {channels} channels: "
                f"per_sequence is {self.per_sequence}; expected 1 (separate channels) or {channels} (mixed)."
            )
        last = F.pad(last, (0, 0, self.tokens - last.shape[1], 0))
        steps = self.output(self.dropout(last.flatten(1))).view(samples, channels, self.horizon, -1)
        if self.skip is not None:
            steps = steps + self.skip(context["series"]).view_as(steps)
        loc = context["loc"][..., None, None]
        scale = context["scale"][..., None, None]
        # Levels are subtracted from each other first: their difference is small and keeps its digits.
        forecast: Tensor = ((loc - self.centre[..., None]) + scale * steps) / self.scale[..., None]
        return forecast if self.quantiles else forecast.squeeze(-1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean squared error, or with quantiles the mean pinball loss, over the observed (B, C, H)."""
        return forecast_loss(output, target, self.quantiles)

    # Answers

    def decode(self, output: Tensor) -> np.ndarray:
        """Forecasts in the series' unit, (B, C, H), or (B, C, H, Q) with the quantiles in rising order.

        C counts the channels that are forecast, not those that are only read.
        """
        return np.asarray(self.exported(output)["forecast"].detach().cpu())

    def exported(self, output: Tensor) -> dict[str, Tensor]:
        """``forecast``, in the form and the unit of ``decode``, float64."""
        values = output.double().sort(-1).values if self.quantiles else output.double()[..., None]
        values = (values * self.scale[..., None] + self.centre[..., None])[:, self._targets]
        return {"forecast": values if self.quantiles else values.squeeze(-1)}

    def records(self, output: Tensor) -> list[dict[str, Any]]:
        """H forecasts by the name of the channel, and of a quantile by ``NAME q0.9``.

        With ``coverage`` the promised interval goes from ``NAME low`` to ``NAME high``; None where it has no end.
        """
        values = self.decode(output)
        names = [self.channels[at] for at in self._targets]
        shown = list(written_names(names, self.quantiles))
        rows = values.swapaxes(2, 3).reshape(len(values), len(shown), self.horizon) if self.quantiles else values
        found = [dict(zip(shown, sample.tolist(), strict=True)) for sample in rows]
        if self.bounds is not None:
            # As it was calibrated: levels that cross are sorted for the answers above.
            middle = self._in_unit(self._median(output))
            away = self._away(self.bounds)
            for end, sign in ENDS.items():
                for record, lists in zip(found, with_nones(middle + sign * away), strict=True):
                    record |= {f"{name} {end}": steps for name, steps in zip(names, lists, strict=True)}
        return found

    def _names(self) -> dict[str, str]:
        """Columns of a written forecast by the names of a record."""
        names = [self.channels[at] for at in self._targets]
        ends = {} if self.bounds is None else {f"{name} {end}": f"{name}-{end}" for name in names for end in ENDS}
        return written_names(names, self.quantiles) | ends

    def calibrate(self, output: Tensor, target: Tensor) -> None:
        """Fit the bounds of the errors to standardised forecasts (B, C, H), or (B, C, H, Q), and targets (B, C, H)."""
        if self.bounds is not None:
            self.bounds.fit(self._median(output).double(), target.to(output.device))

    def calibration_metrics(self) -> "dict[str, Metric]":
        """Share of values within the bounds, and the mean width of these, standardised."""
        if self.bounds is None:
            return {}
        from metatx.metrics.forecasts import interval_metrics

        return interval_metrics()

    def card_note(self) -> str:
        """Sentence that says what the intervals promise."""
        if self.bounds is None or not self.bounds.known:
            return ""
        return f"A value is between low and high for about {self.coverage:.0%} of those like the validation split's."

    def export_facts(self) -> dict[str, Any]:
        """``bound``: so far the promised interval lies on either side, by channel and step; None: none is promised."""
        return {"bound": None if self.bounds is None else with_nones(self._away(self.bounds))}

    def _away(self, bounds: StepBounds) -> np.ndarray:
        """Bounds (C, H) in the unit of the channels that are forecast."""
        return np.asarray((bounds.bound * self.scale)[self._targets].cpu())

    def _in_unit(self, forecast: Tensor) -> np.ndarray:
        """Standardised forecasts (B, C, H) in the unit of the channels that are forecast."""
        return np.asarray((forecast.detach().double() * self.scale + self.centre)[:, self._targets].cpu())

    def _median(self, output: Tensor) -> Tensor:
        return output[..., self.quantiles.index(0.5)] if self.quantiles else output

    def score(self, output: Tensor, target: Any) -> Tensor:
        """Mean of a sample's standardised forecasts (B,)."""
        return output.flatten(1).mean(1)

    def rows(self, records: Sequence[dict[str, Any]], queries: Sequence[Any]) -> list[dict[str, Any]]:
        """Rows of a file, one a step: ids, time, a column a channel, and ``NAME-q-0.9`` for a quantile."""
        return rows_of(records, queries, self._names())

    def check_writing(self, path: Path) -> None:
        """Raise ImportError if matplotlib is missing."""
        need_matplotlib()

    def write(self, path: Path, queries: Sequence[Any], answers: Sequence[Any]) -> None:
        """Draw the steps read and the forecast, a panel a channel, with the band of the quantiles."""
        draw_forecasts(path, queries, answers, self.channels, self._targets, self.quantiles)

    def metrics(self) -> "dict[str, Metric]":
        """Squared and absolute error of standardised values, and absolute error in the series' unit, in float64."""
        from metatx.metrics.forecasts import forecast_metrics

        return forecast_metrics()

    def metric_inputs(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Forecasts and targets (n, 2) of the n observed values: standardised, and in the unit less the mean.

        With ``coverage``, forecasts have the bound as a third column (n, 3).
        """
        known = target.isfinite()
        pairs = [
            torch.stack([v, v * self.scale], dim=-1)[known] for v in (self._median(output).double(), target.double())
        ]
        if self.bounds is None:
            return pairs[0], pairs[1]
        bound = self.bounds.bound.expand_as(target)[known][:, None]
        return torch.cat([pairs[0], bound.to(pairs[0])], dim=1), pairs[1]

    def baseline_features(self, tokenizer: "Tokenizer", sample: Any) -> np.ndarray:
        """Standardised window (C, lookback), NaN where missing."""
        values = np.asarray(sample, dtype=np.float64).reshape(-1, np.shape(sample)[-1])
        values = values.T if tokenizer.time_axis == 0 else values
        return self._standardised(values[:, -lookback_of(tokenizer) :])

    def trivial(self) -> tuple[str, Any]:
        """Estimator that repeats the last value, or the last season."""
        name = "last value" if self.season is None else f"last {self.season} steps"
        return name, Repeat(self.season or 1, self.horizon)

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Ridge regression of the window, shared by the channels; with a season, statsmodels' Holt-Winters."""
        found: dict[str, Any] = {"ridge on the window": WindowRidge()}
        few = count * len(self.channels) <= MOST_SMOOTHED
        if self.season is not None and self.season > 1 and few and find_spec("statsmodels"):
            found["Holt-Winters"] = HoltWinters(self.season, self.horizon)
        return found

    def baseline_predict(self, estimator: Any, features: Any) -> Tensor:
        """Forecasts of an estimator, in the shape of ``forward``'s; each of its quantiles is the forecast itself."""
        forecast = torch.as_tensor(np.asarray(estimator.predict(features), dtype=np.float64))
        return forecast[..., None].expand(-1, -1, -1, len(self.quantiles)) if self.quantiles else forecast
