"""The next steps of every channel of a series, in its own scale, with quantiles where they are asked for."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.errors import SampleError
from metatx.examples import Examples
from metatx.head import Head
from metatx.parts.forecast_baselines import HoltWinters, Repeat, WindowRidge, ridge
from metatx.parts.windows import Future, Windows, read_rows, time_column
from metatx.sequence import TokenSequence

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import Metric

    from metatx.tokenizer import Tokenizer

__all__ = ["ForecastingHead"]

MOST_WINDOWS = 10_000  # that the linear map starts from
MOST_SMOOTHED = 5_000  # series that Holt-Winters, slow, forecasts as a baseline


class ForecastingHead(Head):
    """The last tokens side by side, one linear layer to the horizon, and back to the scale of the sample.

    A table in time order becomes windows: ``lookback`` rows (an option of the tokenizer) to read and the
    ``horizon`` rows behind them to forecast. Errors are measured, and the head is trained, on values
    standardised by mean and deviation of the training rows, channel by channel, as the literature on ETT
    reports them.

    It reads what the ``time_series`` tokenizer leaves in ``TokenSequence.context``: ``loc``, ``scale``,
    ``mask`` and ``series``. A missing future value (NaN) is neither learned from nor measured.

    Args:
        dim: Width of the backbone.
        horizon: Steps to forecast, H.
        quantiles: Forecast these (pinball loss; Koenker & Bassett 1978); they include 0.5, which is then the
            forecast. None forecasts the mean, by squared error.
        tokens: So many of the last tokens are read: the statistics and the most recent patches.
        linear: A linear map from the last so many steps straight to the horizon, past the backbone, is added
            (as in DLinear, Zeng et al. 2023, arXiv 2205.13504); it starts as the ridge regression on the training
            windows, so that the backbone's path learns what that leaves. None: from all that is read; 0: no such map.
        dropout: On the tokens.
        season: Steps of a season; the trivial baseline then repeats the last one, not the last value, and Holt-Winters
            is a classical one, for up to 5,000 windows and channels (some 10 ms each).
        stride: Rows from one window of a table to the next, in every split.
        per_sequence: Channels forecast from one sequence: 1 where the tokenizer separates them, C where it
            mixes them; set by ``fit`` for a table.
        channels: Names of the C channels; learned by ``fit``.

    Raises:
        ValueError: If a number is too small, or 0.5 is not among the quantiles.
    """

    primary = "mse"
    needs_target = False
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
        channels: list[str] | None = None,
    ) -> None:
        super().__init__(dim)
        for name, value in (("horizon", horizon), ("tokens", tokens), ("stride", stride), ("season", season)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if quantiles is not None and (0.5 not in quantiles or not all(0 < q < 1 for q in quantiles)):
            raise ValueError(
                f"quantiles are {quantiles}; they lie between 0 and 1 and include 0.5, the forecast itself."
            )
        self.horizon, self.tokens, self.linear, self.season, self.stride = (
            horizon,
            tokens,
            linear,
            season,
            stride,
        )
        self.quantiles = None if quantiles is None else sorted(quantiles)
        self.dropout = nn.Dropout(dropout)
        self.channels: list[str] = []
        if channels is not None:
            self._build(channels, per_sequence)

    def _build(self, channels: list[str], per_sequence: int) -> None:
        self.channels = self.options["channels"] = channels
        self.per_sequence = self.options["per_sequence"] = per_sequence
        steps = self.horizon * len(self.quantiles or [0.5])
        # Zero, so that training starts from the mean of what is read.
        self.output = _zeros(self.tokens * self.dim, per_sequence * steps)
        self.skip = _zeros(self.linear, steps) if self.linear else None
        self.register_buffer("centre", torch.zeros(len(channels), 1))
        self.register_buffer("scale", torch.ones(len(channels), 1))

    # From a table to windows

    def inputs(self, table: "Dataset", target: str | None, tokenizer: "Tokenizer") -> list[str]:
        """Every column of numbers but the time."""
        time = time_column(table, [])
        numbers = ("int", "uint", "float", "double", "decimal")
        kinds = {name: str(getattr(feature, "dtype", "")) for name, feature in table.features.items()}
        found = [name for name, kind in kinds.items() if name != time and kind.startswith(numbers)]
        if not found:
            raise ValueError(f"No column holds numbers to forecast; columns: {', '.join(table.column_names)}.")
        return found

    def examples(
        self, table: "Dataset", inputs: list[str], target: str | None, tokenizer: "Tokenizer", source: str
    ) -> Examples:
        """All windows of a table in time order, read from it when they are asked for.

        Raises:
            ValueError: If times are not increasing, a value is no finite number, or there are too few rows.
        """
        if target is not None:
            raise ValueError(f"The forecasting head forecasts every input; name {target} with --inputs, not as target.")
        rows, lookback = read_rows(table, inputs), _lookback(tokenizer)
        if self.season is not None and self.season > lookback:
            raise ValueError(f"A season of {self.season} steps does not fit a lookback of {lookback}.")
        count = (len(rows) - lookback - self.horizon) // self.stride + 1
        if count < 1:
            raise ValueError(
                f"{source} has {len(rows)} rows; a window takes {lookback + self.horizon}: "
                f"a lookback of {lookback} and a horizon of {self.horizon}."
            )
        mixed = tokenizer.options.get("channels") == "mixed"
        past = Windows(rows, 0, lookback, self.stride, count, time_axis=tokenizer.options.get("time_axis", 1))
        future = Future(rows, lookback, self.horizon, self.stride, count)
        future.names, future.per_sequence = inputs, len(inputs) if mixed else 1
        return Examples(past, future, source)

    def queries(self, table: "Dataset", inputs: list[str], tokenizer: "Tokenizer") -> Sequence[Any]:
        """One sample, the last ``lookback`` rows. Raises ValueError if there are fewer."""
        rows, lookback = read_rows(table, inputs), _lookback(tokenizer)
        if len(rows) < lookback:
            raise ValueError(f"The table has {len(rows)} rows; a forecast reads the last {lookback}.")
        return Windows(rows[-lookback:], 0, lookback, 1, 1, time_axis=tokenizer.options.get("time_axis", 1))

    def split(
        self, table: "Dataset", target: str | None, tokenizer: "Tokenizer", fraction: float, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers, the last ``fraction`` of them held out, with the ``lookback`` rows before them to read.

        Raises:
            ValueError: If either part is too short for one window.
        """
        lookback, total = _lookback(tokenizer), len(table)
        held = round(fraction * total)
        if held < self.horizon or total - held < lookback + self.horizon:
            raise ValueError(
                f"The last {fraction:.0%} of {total} rows cannot be held out: that leaves {total - held} and "
                f"{held} rows, where a lookback of {lookback} and a horizon of {self.horizon} need "
                f"{lookback + self.horizon} and {self.horizon}."
            )
        return np.arange(total - held), np.arange(total - held - lookback, total)

    # The model

    def fit(self, targets: Sequence[Any]) -> Self:
        """Mean and deviation of each channel, over the rows of the table (C, T) or else over the futures.

        Raises:
            ValueError: If a future has another shape than (C, H), or a channel has no value.
        """
        if isinstance(targets, Future):
            values, names, per_sequence = targets.rows.T, targets.names, targets.per_sequence
            if self.linear is None:
                self.linear = self.options["linear"] = targets.start
        else:
            futures = [np.asarray(target, dtype=np.float64) for target in targets]
            wrong = next((f.shape for f in futures if f.shape != (len(futures[0]), self.horizon)), None)
            if wrong is not None:
                raise ValueError(f"A future is {wrong}; expected (channels, {self.horizon}), the horizon, of each.")
            values = np.concatenate(futures, axis=1)
            names = self.channels or [f"channel {i + 1}" for i in range(len(values))]
            per_sequence = self.options.get("per_sequence", 1)
        known = np.isfinite(values)
        if not known.any(1).all():
            raise ValueError(f"{names[known.any(1).argmin()]} has no value to learn from; leave it out.")
        self._build(names, per_sequence)
        deviation = np.nanstd(values, axis=1)
        self.centre.copy_(torch.as_tensor(np.nanmean(values, axis=1))[:, None])
        self.scale.copy_(torch.as_tensor(np.where(deviation > 0, deviation, 1.0))[:, None])
        if isinstance(targets, Future) and self.skip is not None:
            self._start_linear(targets, self.skip)
        return self

    def _start_linear(self, targets: Future, skip: nn.Linear) -> None:
        """Ridge regression on the training windows, for the linear map to start from."""
        every = max(1, len(targets) // MOST_WINDOWS)
        past = Windows(targets.rows, 0, targets.start, targets.stride * every, len(targets) // every)
        windows, futures = np.stack(list(past)), np.stack(targets[::every])[: len(past)]
        loc = np.nan_to_num(np.nanmean(windows, axis=-1, keepdims=True))
        spread = self.scale.cpu().numpy()
        recent = np.nan_to_num((windows - loc) / spread)[..., -skip.in_features :]
        free = np.nan_to_num(np.nanstd(windows, axis=-1, keepdims=True)) / spread
        weights = torch.as_tensor(ridge(np.concatenate([recent, free], axis=-1), (futures - loc) / spread))
        weights = weights.repeat_interleave(skip.out_features // self.horizon, dim=1).float()
        with torch.no_grad():
            skip.weight.copy_(weights[:-1].T)
            skip.bias.copy_(weights[-1])

    def encode(self, target: Any) -> Tensor:
        """A future (C, H) in the series' unit, NaN where missing, to float32, standardised."""
        try:
            values = np.asarray(target, dtype=np.float64)
        except (TypeError, ValueError):
            raise SampleError("future is no array of numbers; expected (channels x horizon)") from None
        wanted = (len(self.channels), self.horizon)
        if values.shape != wanted:
            raise SampleError(f"future is {values.shape}; expected (channels, horizon), {wanted}")
        if np.isinf(values).any():
            raise SampleError("future holds infinite values; expected finite numbers")
        return torch.as_tensor(self._standardised(values), dtype=torch.float32)

    def _standardised(self, values: np.ndarray) -> np.ndarray:
        standardised: np.ndarray = (values - self.centre.cpu().numpy()) / self.scale.cpu().numpy()
        return standardised

    def forward(self, pooled: TokenSequence) -> Tensor:
        """Sequences behind the backbone to standardised forecasts (B, C, H), or (B, C, H, Q).

        Raises:
            ValueError: If the tokenizer's sequences do not fit ``per_sequence``, or the context is missing.
        """
        context, channels = pooled.context, len(self.channels)
        if "loc" not in context or context["loc"].shape != (len(pooled), channels):
            raise ValueError(
                f"The forecasting head needs a series of {channels} channels, from the time_series tokenizer."
            )
        if len(pooled.lengths) * self.per_sequence != len(pooled) * channels:
            raise ValueError(
                f"{len(pooled.lengths)} sequences for {len(pooled)} samples of {channels} channels: "
                f"per_sequence is {self.per_sequence}; expected 1 (separate channels) or {channels} (mixed)."
            )
        last = _slots(pooled)[:, -self.tokens :]  # (S, K, D)
        last = F.pad(last, (0, 0, self.tokens - last.shape[1], 0))
        steps = self.output(self.dropout(last.flatten(1))).view(len(pooled), channels, self.horizon, -1)
        if self.skip is not None:
            size = self.skip.in_features
            recent = context["series"][..., -size:]
            recent = F.pad(recent, (size - recent.shape[-1], 0))
            steps = steps + self.skip(recent).view_as(steps)
        loc, scale = context["loc"][..., None, None], context["scale"][..., None, None]
        forecast: Tensor = (loc + scale * steps - self.centre[..., None]) / self.scale[..., None]
        return forecast if self.quantiles else forecast.squeeze(-1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean squared error, or with quantiles the mean pinball loss, over the observed (B, C, H)."""
        known = target.isfinite()
        wanted = target.nan_to_num(0.0)
        if self.quantiles is None:
            errors = (output - wanted) ** 2
        else:
            levels = torch.tensor(self.quantiles, device=output.device)
            missed = wanted[..., None] - output
            errors = torch.maximum(levels * missed, (levels - 1) * missed).mean(-1)
        return (errors * known).sum() / known.sum().clamp(min=1)

    # Answers

    def decode(self, output: Tensor) -> np.ndarray:
        """Forecasts in the series' unit, (B, C, H), or (B, C, H, Q) with the quantiles in rising order."""
        values = output.float().sort(-1).values if self.quantiles else output.float()[..., None]
        values = values * self.scale[..., None] + self.centre[..., None]
        decoded: np.ndarray = (values if self.quantiles else values.squeeze(-1)).detach().cpu().numpy()
        return decoded

    def records(self, output: Tensor) -> list[dict[str, Any]]:
        """For each channel by name the H forecasts, and ``NAME q0.9`` for a quantile."""
        values = self.decode(output)
        if self.quantiles is None:
            return [dict(zip(self.channels, sample.tolist(), strict=True)) for sample in values]
        names = [name if q == 0.5 else f"{name} q{q:g}" for name in self.channels for q in self.quantiles]
        rows = values.swapaxes(2, 3).reshape(len(values), len(names), self.horizon)
        return [dict(zip(names, sample.tolist(), strict=True)) for sample in rows]

    # Measures

    def metrics(self) -> "dict[str, Metric]":
        """Squared and absolute error of standardised values, and absolute error in the series' unit."""
        from torchmetrics import MeanAbsoluteError, MeanSquaredError
        from torchmetrics.wrappers import LambdaInputTransformer

        class Unscaled(LambdaInputTransformer):
            higher_is_better = False

        def one(column: int) -> Any:
            return lambda values: values[:, column]

        def measure(metric: "Metric", column: int) -> "Metric":
            return Unscaled(metric, one(column), one(column))

        return {
            "mse": measure(MeanSquaredError(), 0),
            "mae": measure(MeanAbsoluteError(), 0),
            "mae_unscaled": measure(MeanAbsoluteError(), 1),
        }

    def scored(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The n observed values, standardised and in the series' unit: (n, 2), forecasts and targets."""
        if self.quantiles:
            output = output[..., self.quantiles.index(0.5)]
        known = target.isfinite()
        pairs = [torch.stack([v, v * self.scale + self.centre], dim=-1)[known] for v in (output.float(), target)]
        return pairs[0], pairs[1]

    # Baselines

    def describe(self, tokenizer: "Tokenizer", sample: Any) -> np.ndarray:
        """The standardised window (C, lookback) itself, NaN where missing."""
        values = np.asarray(sample, dtype=np.float64).reshape(-1, np.shape(sample)[-1])
        values = values.T if tokenizer.options.get("time_axis") == 0 else values
        return self._standardised(values[:, -_lookback(tokenizer) :])

    def trivial(self) -> tuple[str, Any]:
        """The last value, or the last season, for ever."""
        name = "last value" if self.season is None else f"last {self.season} steps"
        return name, Repeat(self.season or 1, self.horizon)

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Ridge regression of the window, shared by the channels; with a season, statsmodels' Holt-Winters."""
        found: dict[str, Any] = {"ridge on the window": WindowRidge()}
        few = count * len(self.channels) <= MOST_SMOOTHED
        if self.season is not None and self.season > 1 and few and find_spec("statsmodels"):
            found["Holt-Winters"] = HoltWinters(self.season, self.horizon)
        return found

    def estimate(self, estimator: Any, features: Any) -> Tensor:
        """An estimator's forecasts as ``forward``'s; each of its quantiles is the forecast itself."""
        forecast: Tensor = super().estimate(estimator, features)
        return forecast[..., None].expand(-1, -1, -1, len(self.quantiles)) if self.quantiles else forecast


def _slots(sequence: TokenSequence) -> Tensor:
    """Tokens (S, N, D) where the tokenizer's mask says they lay, the prefix left out; 0 where none was."""
    padded, mask = sequence.unpack()
    padded, mask = padded[:, sequence.prefix :], mask[:, sequence.prefix :]
    slots = sequence.context["mask"].flatten(0, 1)
    if slots.all():
        return padded
    empty = padded.new_zeros(*slots.shape, padded.shape[-1])
    return empty.masked_scatter(slots[..., None], padded[mask])


def _zeros(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _lookback(tokenizer: "Tokenizer") -> int:
    lookback = tokenizer.options.get("lookback")
    if lookback is None:
        raise ValueError("How many steps may a forecast read? Say so with the option lookback of the tokenizer.")
    return int(lookback)
