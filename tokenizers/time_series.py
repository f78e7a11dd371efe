"""Time series of one or many channels, of any length, with gaps: patches of the normalised series."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.errors import SampleError, read_all, short
from metatx.json_schema import array_schema
from metatx.padded import PaddedTokens
from metatx.places import Places, TimePlaces
from metatx.progress import tell
from metatx.reading.arrays import as_array
from metatx.sequence import TokenSequence, sent
from metatx.tokenizer import Tokenizer, orthogonal_linear, sinusoidal_positions

__all__ = ["TimeSeriesTokenizer"]

LARGEST = float(np.finfo(np.float32).max)  # of a value: models answer in float32
LONGEST = 100_000  # steps that are read of a series
ROUNDING = 1e-14  # a spread so small beside the values is rounding: the series is constant


class TimeSeriesTokenizer(Tokenizer):
    """Overlapping patches (PatchTST, Nie et al. 2023, arXiv 2211.14730) of reversibly normalised series.

    Each channel of each sample is normalised by its own mean and standard deviation (RevIN, Kim et al. 2022).
    What that takes away, its level and scale, is the last token: as ``asinh`` of their z-scores over the
    training split, so that an outlier stays small. They also go to the head, in ``TokenSequence.context``:

    - ``loc``, ``scale`` (B, C), float64: mean and standard deviation of the sample, in its unit; a constant channel
      has scale 0, and one without any observed value the mean and deviation of the training split;
    - ``series`` (B, C, L): the normalised series, the most recent step last, 0 where nothing was observed;
    - ``mask`` (B, S / B, N): which of N slots, patches in time order and then the statistics, became a token.

    A missing value (NaN or None) is 0, the sample's own mean, with a flag beside it; a patch without any
    observed value gives no token. Patches are counted back from the most recent step, and so are their
    positions (sinusoidal): length does not move them, and a series longer than any in training has its own.
    A series that whole patches do not cover is continued into the past by missing values.

    Args:
        dim: Width of the backbone.
        patch_size: Steps of a token.
        stride: Steps from one patch to the next.
        lookback: Only the last so many steps of a sample are read; None reads it whole.
        channels: ``"separate"`` makes each channel a sequence of its own, all with the same weights;
            ``"mixed"`` makes one sequence of patches that span all channels.
        normalize: Reference of the values: ``"instance"`` shows the series relative to itself, ``"training"``
            relative to mean and deviation of the training split, where levels are what tells samples apart.
        time_axis: Axis of a two-dimensional sample that is time: 1 for (C, L), 0 for (L, C).

    Raises:
        ValueError: If an option is out of its range.
    """

    guessed_from = "numbers"
    tunable = {"channels": ("separate", "mixed"), "normalize": ("instance", "training")}
    default_head = "forecasting"
    free_axes = {"series": {1: "steps"}}
    stacks = True
    centre: Tensor
    spread: Tensor
    floor: Tensor
    deviation: Tensor

    def __init__(
        self,
        dim: int,
        patch_size: int = 16,
        stride: int = 8,
        lookback: int | None = None,
        channels: Literal["separate", "mixed"] = "separate",
        normalize: Literal["instance", "training"] = "instance",
        time_axis: Literal[0, 1] = 1,
    ) -> None:
        super().__init__(dim)
        for name, number in (("patch_size", patch_size), ("stride", stride), ("lookback", lookback)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}; it must be at least 1.")
        if stride > patch_size:
            raise ValueError(f"stride {stride} leaves steps between patches of {patch_size} unread; make it smaller.")
        self.patch_size = patch_size
        self.stride = stride
        self.lookback = lookback
        self.channels = channels
        self.normalize = normalize
        self.time_axis = time_axis
        self.mixes_channels = channels == "mixed"
        self.num_channels = 0

    def build(self, num_channels: int, lookback: int | None = None) -> None:
        """Make the maps for ``num_channels`` channels; ``lookback`` is what ``read_last`` was told."""
        self.num_channels = num_channels
        self.lookback = lookback or self.lookback
        together = num_channels if self.channels == "mixed" else 1
        self.patches = orthogonal_linear(2 * together * self.patch_size, self.dim)  # of values, and of flags
        self.statistics = orthogonal_linear(2 * together, self.dim)
        self.identity = nn.Parameter(torch.zeros(num_channels // together, self.dim))
        # Of the positions: a large and almost equal part of all tokens, so that a LayerNorm scales all
        # patches almost alike and leaves them their amplitudes.
        self.gain = nn.Parameter(torch.tensor(2.0))
        for name, value in (("centre", 0.0), ("spread", 1.0)):
            # Over the training split: of the level (row 0) and of the log of the scale (row 1).
            self.register_buffer(name, torch.full((2, num_channels), value, dtype=torch.float64))
        for name in ("floor", "deviation"):
            # Scales below the one are told apart no more; the other is of all values about the mean level.
            self.register_buffer(name, torch.ones(num_channels, dtype=torch.float64))

    def read_last(self, steps: int) -> None:
        """Read only the last so many steps of a sample."""
        self.lookback = steps

    def fit(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Learn the number of channels, and means and deviations of the samples' levels and scales.

        Raises:
            ValueError: If time and channels look swapped, no series is good, or a channel is never observed.
        """
        read = read_all(self._read, samples)
        num_channels = self._count_channels([values.shape for values in read])
        longest = max(values.shape[1] for values in read)
        if num_channels > longest > 1:
            tell(
                f"Series have {num_channels} channels and at most {longest} steps. If time comes first in them, "
                f"set time_axis (--tokenizer.time-axis {1 - self.time_axis})."
            )
        moments = [_moments(values[:, -(self.lookback or 0) :]) for values in read if len(values) == num_channels]
        loc, scale = (np.stack(rows) for rows in zip(*moments, strict=True))
        observed = np.isfinite(loc)
        if not observed.any(0).all():
            raise ValueError(
                f"Channel {observed.any(0).argmin() + 1} has no observed value in any series; leave it out."
            )
        typical = np.nanmedian(scale, axis=0)
        floor = np.where(typical > 0, 1e-3 * typical, 1.0)
        features = np.stack([loc, np.log(np.maximum(scale, floor))])  # (2, B, C)
        centre = np.nanmean(features, axis=1)
        spread = np.nanstd(features, axis=1)
        deviation = np.sqrt(np.nanmean(scale**2, axis=0) + spread[0] ** 2)
        spread[0] = np.where(spread[0] > ROUNDING * np.abs(centre[0]), spread[0], np.where(deviation > 0, deviation, 1))
        spread[1] = np.maximum(spread[1], 0.1)
        deviation = np.where(deviation > ROUNDING * np.abs(centre[0]), deviation, 1)
        learned = {"centre": centre, "spread": spread, "floor": floor, "deviation": deviation}
        statistics = {name: torch.as_tensor(value) for name, value in learned.items()}
        told = {} if self.lookback == self.options.get("lookback") else {"lookback": self.lookback}
        return {"num_channels": num_channels, **told, **statistics}

    def _count_channels(self, shapes: list[tuple[int, ...]]) -> int:
        counts = Counter(shape[0] for shape in shapes)
        lengths = {shape[1] for shape in shapes}
        if len(counts) > 1 and len(lengths) == 1:
            raise ValueError(
                f"The series have {min(counts)} to {max(counts)} channels and all {lengths.pop()} steps: "
                f"this looks like {'time x channels' if self.time_axis else 'channels x time'}; "
                f"set time_axis={1 - self.time_axis} (--tokenizer.time-axis {1 - self.time_axis})."
            )
        return counts.most_common(1)[0][0]  # a sample with another number is bad, and named when it is encoded

    def _read(self, sample: Any) -> np.ndarray:
        """A sample as float64 (C, L), NaN where it is missing."""
        try:
            values = as_array(sample, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise SampleError(
                f"series is {short(sample)}; expected numbers, (channels x time), of equal length"
            ) from None
        if values.ndim == 1:
            values = values[None]
        elif values.ndim == 2 and self.time_axis == 0:
            values = np.ascontiguousarray(values.T)  # sums of another order of numbers differ in the last digit
        if values.ndim != 2:
            raise SampleError(f"series has {values.ndim} axes; expected one (time) or two (channels x time)")
        if not values.size:
            raise SampleError("series is empty; expected at least one step")
        if np.isinf(values).any():
            channel, step = np.argwhere(np.isinf(values))[0]
            raise SampleError(f"series is infinite in channel {channel + 1}, step {step + 1}; expected finite numbers")
        beyond = np.abs(values) > LARGEST
        if beyond.any():
            channel, step = np.argwhere(beyond)[0]
            found = f"series reaches {values[channel, step]:g} in channel {channel + 1}, step {step + 1}"
            raise SampleError(f"{found}; expected at most {LARGEST:g}: check its unit")
        if np.isnan(values).all():
            raise SampleError(f"series has no observed value in {values.shape[1]} steps; expected at least one")
        return values

    def _window(self, sample: Any) -> np.ndarray:
        """The last steps of a sample, as many as are read, checked: float64 (C, L)."""
        values = self._read(sample)
        if self.num_channels and len(values) != self.num_channels:
            raise SampleError(
                f"series is {values.shape[0]} channels x {values.shape[1]} steps; expected {self.num_channels} channels"
            )
        values = values[:, -(self.lookback or 0) :]
        if values.shape[1] > LONGEST:
            raise SampleError(
                f"series has {values.shape[1]:,} steps; expected at most {LONGEST:,}: cut it, or give a lookback"
            )
        if np.isnan(values).all():
            raise SampleError(f"series has no observed value in its last {self.lookback} steps; expected at least one")
        return values

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A series to ``series`` (C, L), normalised, NaN where missing, with ``loc`` and ``scale`` (C,) in float64."""
        values = self._window(sample)
        loc, scale = _moments(values)
        # In float64, so that a small movement at a high level survives.
        series = (values - loc[:, None]) / np.where(scale > 0, scale, 1.0)[:, None]
        return {
            "series": torch.as_tensor(series, dtype=torch.float32),
            "loc": torch.as_tensor(loc),
            "scale": torch.as_tensor(scale),
        }

    def json_schema(self) -> dict[str, Any]:
        """Channels over time, null where a value is missing; one channel may come without its brackets."""
        axes = ("channels", "time") if self.time_axis else ("time", "channels")
        steps = np.arange(min(self.lookback or 4 * self.patch_size, LONGEST))
        level = self.centre[0, :, None].cpu().numpy()
        swing = self.spread[0, :, None].cpu().numpy()
        series = np.round(level + swing * np.sin(0.3 * steps), 4)
        series = series if self.time_axis else series.T
        number = {"type": ["number", "null"]}
        forms = [array_schema(*axes, cells=number)] + [array_schema("time", cells=number)] * (self.num_channels == 1)
        return {"anyOf": forms, "examples": [series.tolist()]}

    def forward(self, batch: dict[str, Any]) -> TokenSequence:
        """Encoded samples, of any lengths, to S = B C sequences (separate) or S = B (mixed)."""
        return self.padded(batch).packed()

    def padded(self, batch: dict[str, Any]) -> PaddedTokens:
        """Tokens (S, N + 1, D) of encoded samples, of any lengths, and which of them a sample has."""
        loc = batch["loc"]  # (B, C)
        scale = batch["scale"]
        series, ages, whole = self._align(batch["series"])
        observed = ~series.isnan()
        known = loc.isfinite()
        features = torch.stack([loc, torch.maximum(scale, self.floor).log()], dim=1)  # (B, 2, C)
        features = torch.where(known[:, None], (features - self.centre) / self.spread, 0.0).asinh().to(series.dtype)
        loc = torch.where(known, loc, self.centre[0])
        scale = torch.where(known, scale, self.deviation)
        series = series.nan_to_num(0.0)
        shown = series
        if self.normalize == "training":
            # In float64: levels are taken from each other before they are float32.
            shown = (series * scale[..., None] + (loc - self.centre[0])[..., None]) / self.deviation[:, None]
            shown = shown.to(series.dtype) * observed
        inputs = torch.stack([shown, (~observed).to(shown.dtype)], dim=2)  # (B, C, 2, L)
        inputs = inputs.unfold(-1, self.patch_size, self.stride).permute(0, 1, 3, 2, 4)  # (B, C, N, 2, P)
        seen = observed.unfold(-1, self.patch_size, self.stride).any(-1)  # (B, C, N)
        if self.channels == "mixed":
            inputs = inputs.permute(0, 2, 1, 3, 4)[:, None]
            seen = seen.any(1, keepdim=True)
            features = features.flatten(1)[:, None]  # (B, 1, 2 C)
        else:
            features = features.transpose(1, 2)  # (B, C, 2)
        tokens = self.patches(inputs.flatten(3)) + self.gain * sinusoidal_positions(ages, self.dim)
        last = self.statistics(features) + self.identity
        tokens = torch.cat([tokens, last[:, :, None]], dim=2)  # (B, S / B, N + 1, D)
        mask = F.pad(seen & whole[:, None], (0, 1), value=True)
        context = {"loc": loc, "scale": scale, "series": series, "mask": mask}
        each = tokens.shape[1] if self.channels == "separate" else None
        return PaddedTokens(tokens.flatten(0, 1), mask.flatten(0, 1), sequences_per_sample=each, context=context)

    def _align(self, series: Tensor | list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Series with their last steps side by side, missing values in front.

        Returns:
            Series (B, C, L), L covered by N patches; how many patches ago each lies (N,); which of them a
            sample has by its own length (B, N), so that a longer neighbour adds none.
        """
        lengths = [series.shape[-1]] if isinstance(series, Tensor) else [item.shape[-1] for item in series]
        counts = [1 + (max(length - self.patch_size, 0) + self.stride - 1) // self.stride for length in lengths]
        n = max(counts)
        size = self.patch_size + (n - 1) * self.stride
        if isinstance(series, Tensor):
            aligned = F.pad(series, (size - series.shape[-1], 0), value=torch.nan)
        else:
            aligned = torch.stack([F.pad(item, (size - item.shape[-1], 0), value=torch.nan) for item in series])
        ages = torch.arange(n - 1, -1, -1, device=aligned.device)
        if isinstance(series, Tensor):
            return aligned, ages, torch.ones_like(ages, dtype=torch.bool)[None]
        return aligned, ages, ages < sent(torch.tensor(counts)[:, None], aligned.device)

    def token_places(self, sample: Any) -> Places:
        """Stretches of steps, of one channel or of all, and the statistics behind them."""
        values = self._window(sample)
        mask = self.padded({name: part[None] for name, part in self.encode(sample).items()}).mask
        assert mask is not None
        sequences, slots = mask.shape
        first = (
            values.shape[1] - self.patch_size - (slots - 2) * self.stride
        )  # below 0: patches begin before the series
        starts = (first + self.stride * np.arange(slots - 1)).clip(0)
        ends = first + self.stride * np.arange(slots - 1) + self.patch_size
        spans = np.vstack([np.column_stack([starts, ends]), [[np.nan, np.nan]]])
        stretches = [f"steps {start + 1} to {end}" for start, end in zip(starts, ends, strict=True)] + [
            "level and scale"
        ]
        channels = [-1] if self.channels == "mixed" else range(sequences)
        kept = mask.flatten().cpu().numpy()
        names = [
            part if channel < 0 else f"channel {channel + 1}, {part}" for channel in channels for part in stretches
        ]
        shown = [name for name, keep in zip(names, kept, strict=True) if keep]
        of_channel = np.repeat(channels, slots)[kept]
        return TimePlaces(shown, values, np.tile(spans, (sequences, 1))[kept], of_channel)

    def baseline_features(self, sample: Any) -> np.ndarray:
        """Statistics of each channel, (9 C,): level, spread, movement and quantiles, in the series' unit."""
        values = self._window(sample)
        return np.concatenate([_summary(channel[np.isfinite(channel)]) for channel in values])


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel of (C, L): NaN where none was observed, 0 where it is constant."""
    observed = np.isfinite(values)
    count = observed.sum(1)
    first = np.take_along_axis(values, observed.argmax(1)[:, None], 1)  # sums of what is left of it round less
    with np.errstate(invalid="ignore"):
        loc = first[:, 0] + np.where(observed, values - first, 0.0).sum(1) / count
        away = np.where(observed, values - loc[:, None], 0.0)
        scale = np.sqrt((away**2).sum(1) / count)
    scale[scale <= ROUNDING * np.abs(loc)] = 0.0
    return loc, scale


def _summary(values: np.ndarray) -> np.ndarray:
    if not len(values):
        return np.full(9, np.nan)
    steps = np.diff(values) if len(values) > 1 else np.zeros(1)
    levels = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    return np.array([values.mean(), values.std(), steps.std(), np.abs(steps).mean(), *levels])
