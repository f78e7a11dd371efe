"""Inertial signals: what each channel's values are, how they vary, and how they go in time."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.errors import SampleError, read_all
from metatx.json_schema import array_schema
from metatx.layers.resampling import LARGEST_RATIO, resample
from metatx.padded import PaddedTokens
from metatx.places import Places, TimePlaces
from metatx.progress import tell
from metatx.reading.arrays import as_array
from metatx.reading.imu import read_windows
from metatx.reading.signatures import signatures_of
from metatx.sequence import TokenSequence, sent
from metatx.tokenizer import Batch, Tokenizer, orthogonal_linear, sinusoidal_positions

__all__ = ["IMUTokenizer"]

ACCEPTED = "expected numbers (channels x time)"
RATE = "sampling_rate"  # the key by which a sample says its own
LONGEST = 20_000  # steps of a window
FITTED = 10_000  # windows, spread over the training split, that the statistics are learned from
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
SMALL = 1e-3  # below it, in the channel's unit, spreads are told apart no more
LARGEST = 1e6  # beyond it, squares lose their digits
FLOOR = 1e-4  # added to a spectrum's power before the logarithm


class IMUTokenizer(Tokenizer):
    """Statistics, short-time spectra and convolved patches of a window, each standardised by the training split.

    Where channels come in threes (x, y and z of a sensor), each sensor's magnitude is a further channel. Then there
    are, in this order: a token for the statistics of each channel (level, spread, quantiles, movement), which survive
    so, while patches that are normalised window by window lose them; a token for the log spectrum of all channels in
    each frame (in the spirit of SlotFM, arXiv 2509.21673); and a token for each patch of two convolutions over time
    (ImageBind, arXiv 2305.05665, has one).

    A sample is an array (channels, time), or a row whose columns are channels, or hold several of them; it may say its
    own ``sampling_rate``. An npz file may hold all windows as ``X`` and their labels as ``y``.

    Args:
        dim: Width of the backbone.
        sampling_rate: In Hz, of samples that do not say theirs; the others are resampled to it.
        patch_size: Steps of a patch.
        frame: Steps of a spectrum; frames overlap by half.
        width: Channels of the first convolution.
        rotation: In training, turn each window about a random axis by an angle of this standard deviation, in degrees,
            as if the device were worn so.
        time_axis: Axis of a two-dimensional window that is time: 1 for (channels, time), 0 for (time, channels).
        columns: Columns of a row that are channels, in order; by default all of the first training row.
    """

    guessed_from = None
    tunable = {"patch_size": (5, 10, 20)}
    takes_row = True
    readers = {".npz": read_windows}
    signatures = signatures_of(readers)
    default_head = "classification"
    free_axes = {"signal": {1: "steps"}}

    def __init__(
        self,
        dim: int,
        sampling_rate: float = 100.0,
        patch_size: int = 10,
        frame: int = 32,
        width: int = 64,
        rotation: float = 0.0,
        columns: list[str] | None = None,
        time_axis: Literal[0, 1] = 1,
    ) -> None:
        super().__init__(dim)
        for name, value in (("sampling_rate", sampling_rate), ("patch_size", patch_size), ("width", width)):
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive.")
        if frame < 4 or rotation < 0:
            name, value, least = ("frame", frame, 4) if frame < 4 else ("rotation", rotation, 0)
            raise ValueError(f"{name} is {value}; it must be at least {least}.")
        self.sampling_rate = sampling_rate
        self.patch_size = patch_size
        self.frame = frame
        self.width = width
        self.rotation = rotation
        self.columns = columns
        self.time_axis = time_axis
        self.augments = rotation > 0
        self.num_channels = 0

    def build(self, num_channels: int, columns: list[str] | None = None) -> None:
        """Make the maps for ``num_channels`` channels, held in these ``columns`` of a row."""
        self.num_channels = num_channels
        self.columns = columns or self.columns
        if self.augments and num_channels % 3:
            raise ValueError(f"rotation needs x, y and z of each sensor; there are {num_channels} channels.")
        channels = num_channels + _sensors(num_channels)
        dim = self.dim
        features = {"signal": 1, "statistics": len(QUANTILES) + 8, "spectrum": self.frame // 2}
        for name, size in features.items():
            self.register_buffer(f"{name}_centre", torch.zeros(channels, size))
            self.register_buffer(f"{name}_spread", torch.ones(channels, size))
        # A linear map for each channel: their statistics mean different things.
        self.statistics = nn.ModuleList(orthogonal_linear(features["statistics"], dim) for _ in range(channels))
        self.spectrum = orthogonal_linear(channels * features["spectrum"], dim)
        self.convolution = nn.Conv1d(channels, self.width, 5, padding=2)
        self.patches = orthogonal_linear(self.width * self.patch_size, dim)
        self.gain = nn.Parameter(torch.tensor(0.5))  # of the positions

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """A list of numbers, or of such lists."""
        first = value
        while isinstance(first, list | np.ndarray) and len(first):
            first = first[0]
        return first is not value and isinstance(first, float | int | np.number)

    def fit(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Learn columns and channels, and mean and deviation of every feature over the training split.

        Raises:
            ValueError: If no window can be used.
        """
        learned: dict[str, Any] = {}
        columns = self.columns
        if columns is None and isinstance(samples[0], dict):
            learned["columns"] = columns = [name for name in samples[0] if name != RATE]
        spread_out = (samples[i] for i in range(0, len(samples), -(-len(samples) // FITTED)))
        signals = read_all(lambda sample: self._read(sample, columns), spread_out)
        counts = [len(signal) for signal in signals]
        self._check_axes([signal.shape for signal in signals])
        num_channels = max(set(counts), key=lambda count: (counts.count(count), -count))
        learned["num_channels"] = num_channels
        found: dict[str, list[Tensor]] = {}
        for signal in signals:
            if len(signal) == num_channels:  # the others are bad, and named when they are encoded
                for name, values in self.features(torch.from_numpy(signal)[None]).items():
                    found.setdefault(name, []).append(values[0])
        for name, rows in found.items():
            values = torch.cat(rows, dim=1)  # (C, times of all windows, features)
            learned[f"{name}_centre"] = values.mean(1)
            deviation = values.double().std(1, correction=0)
            learned[f"{name}_spread"] = torch.where(deviation > SMALL, deviation, 1.0)
        return learned

    def _check_axes(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Refuse windows of many channels and one length, which are turned; say so where it only seems so."""
        counts = Counter(shape[0] for shape in shapes)
        lengths = {shape[1] for shape in shapes}
        axes = "time x channels" if self.time_axis else "channels x time"
        other = 1 - self.time_axis
        hint = f"set time_axis={other} (--tokenizer.time-axis {other})"
        if 2 * max(counts.values()) < len(shapes) and len(lengths) == 1:
            found = f"{min(counts)} to {max(counts)} channels and all {lengths.pop()} steps"
            raise ValueError(f"The windows have {found}: they look like {axes}; {hint}.")
        if min(counts) > max(lengths):
            found = f"{min(counts)} channels, but {max(lengths)} steps at most"
            tell(f"The windows have {found}. If they are {axes}, {hint}.")

    def _read(self, sample: Any, columns: Sequence[str] | None) -> np.ndarray:
        """A sample as float32 (C, L) at ``sampling_rate``."""
        rate = self.sampling_rate
        if isinstance(sample, dict):
            rate = sample.get(RATE, rate)
            columns = columns or [name for name in sample if name != RATE]
            if not columns:
                raise SampleError(f"found no column of a signal; {ACCEPTED}")
            missing = [name for name in columns if name not in sample]
            if missing:
                raise SampleError(f"column {missing[0]} is missing; found {', '.join(map(str, sample))}")
            sample = [self._channels(name, sample[name]) for name in columns]
            lengths = {part.shape[1] for part in sample}
            if len(lengths) > 1:
                raise SampleError(f"columns have {min(lengths)} to {max(lengths)} steps; expected as many in each")
            values = np.concatenate(sample)
        else:
            values = self._channels("signal", sample)
        shape = values.shape
        fastest = LARGEST_RATIO * self.sampling_rate
        if not isinstance(rate, float | int | np.number) or not 0 < rate <= fastest:
            raise SampleError(f"{RATE} is {rate!r}; expected a positive number of Hz, at most {fastest:g}")
        steps = max(values.shape[1], round(values.shape[1] * self.sampling_rate / rate))
        if steps > LONGEST:
            at = f"steps at {self.sampling_rate:g} Hz" if steps > values.shape[1] else "steps"
            raise SampleError(f"signal has {steps} {at}; expected at most {LONGEST}: cut it into windows")
        if not np.isfinite(values).all():
            channel, step = np.argwhere(~np.isfinite(values))[0]
            raise SampleError(f"signal is NaN or infinite in channel {channel + 1}, step {step + 1}; fill the gap")
        if np.abs(values).max(initial=0) > LARGEST:
            raise SampleError(f"signal reaches {np.abs(values).max():g}; expected at most {LARGEST:g}: check its unit")
        values = resample(values, rate, self.sampling_rate) if values.shape[1] else values
        least = max(self.patch_size, self.frame)
        if values.shape[1] < least:
            raise SampleError(
                f"signal has {values.shape[1]} steps at {self.sampling_rate:g} Hz; expected at least {least} "
                f"(patch_size and frame){self._turned(shape)}"
            )
        return values

    def _channels(self, name: str, value: Any) -> np.ndarray:
        """One channel, or several, as float32 (C, L)."""
        try:
            values = as_array(value, np.float32)
        except (TypeError, ValueError, OverflowError):
            found = f"{name} is a {type(value).__name__} that is no array"
            raise SampleError(f"{found}; {ACCEPTED}, of equal length") from None
        if values.ndim not in (1, 2):
            raise SampleError(f"{name} has {values.ndim} axes; {ACCEPTED}")
        return np.ascontiguousarray(values.T) if values.ndim == 2 and self.time_axis == 0 else np.atleast_2d(values)

    def _turned(self, shape: tuple[int, ...]) -> str:
        """The end of a message where channels and time look exchanged in a window (C, L); else empty."""
        channels, steps = shape
        if steps != self.num_channels and (self.num_channels or steps >= channels):
            return ""
        axes = "time x channels" if self.time_axis else "channels x time"
        other = 1 - self.time_axis
        return f"; it looks like {axes}: set time_axis={other} (--tokenizer.time-axis {other})"

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A window to ``signal`` (C, L) at ``sampling_rate``, in its unit."""
        values = self._read(sample, self.columns)
        if self.num_channels and len(values) != self.num_channels:
            shape = " channels x ".join(map(str, values.shape))
            turned = self._turned(values.shape)
            raise SampleError(f"signal is {shape} steps; expected {self.num_channels} channels{turned}")
        return {"signal": torch.from_numpy(values)}

    def json_schema(self) -> dict[str, Any]:
        """Channels over time; or columns of a row, with a sampling rate of their own."""
        least = max(self.patch_size, self.frame)
        value = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}
        time = {**array_schema("time", cells=value), "minItems": least, "maxItems": LONGEST}
        signal = {"minItems": self.num_channels, "maxItems": self.num_channels}
        example = [[round(float(np.sin(0.3 * t + c)), 3) for t in range(2 * least)] for c in range(self.num_channels)]
        if self.time_axis == 0:
            example = [list(step) for step in zip(*example, strict=True)]
            window = {**array_schema("time", cells={**array_schema("channels", cells=value), **signal})}
            forms = [{**window, "minItems": least, "maxItems": LONGEST, "title": "time x channels"}]
        else:
            forms = [{**array_schema("channels", cells=time), **signal, "title": "channels x time"}]
        columns: dict[str, Any] = {name: {"type": "array"} for name in self.columns or ()}
        if columns:
            rate = {"type": "number", "exclusiveMinimum": 0}
            forms.append({"type": "object", "properties": {**columns, RATE: rate}, "required": list(columns)})
        return {"description": f"At {self.sampling_rate:g} Hz.", "anyOf": forms, "examples": [example]}

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """The window as of a device turned about a random axis."""
        if not self.augments:
            return encoded
        axis = F.normalize(torch.randn(3), dim=0) * torch.randn(()) * self.rotation * torch.pi / 180
        turn = torch.linalg.matrix_exp(torch.linalg.cross(torch.eye(3), axis.expand(3, 3)))
        signal = encoded["signal"]
        return {"signal": (turn @ signal.view(-1, 3, signal.shape[1])).view_as(signal)}

    def forward(self, batch: Batch) -> TokenSequence:
        """Signals (B, C, L), or B of them (C, L), to C statistics, S spectra and N patches each."""
        if isinstance(batch["signal"], Tensor):
            return self.padded(batch).packed()
        signals = list(batch["signal"])
        lengths = [signal.shape[1] for signal in signals]
        tokens: list[Tensor] = signals.copy()
        for length in sorted(set(lengths)):
            # Of one length at a time: a window's statistics and spectra know of no padding then.
            same = [i for i, other in enumerate(lengths) if other == length]
            found = self._tokens(torch.stack([signals[i] for i in same]))
            for i, one in zip(same, found, strict=True):
                tokens[i] = one
        return TokenSequence(torch.cat(tokens), tuple(map(len, tokens)))

    def padded(self, batch: Batch) -> PaddedTokens:
        """Tokens (B, N, D) of signals of one length, (B, C, L)."""
        return PaddedTokens(self._tokens(batch["signal"]))

    def _tokens(self, signals: Tensor) -> Tensor:
        """(B, C, L) to (B, N, D)."""
        standard = {
            name: (values - self.get_buffer(f"{name}_centre")[:, None]) / self.get_buffer(f"{name}_spread")[:, None]
            for name, values in self.features(signals).items()
        }
        statistics = standard["statistics"].asinh()[:, :, 0]  # an outlier stays small
        each = [linear(statistics[:, i]) for i, linear in enumerate(self.statistics)]
        spectrum = self.spectrum(standard["spectrum"].transpose(1, 2).flatten(2))
        convolved = F.gelu(self.convolution(standard["signal"].squeeze(3)))
        patches = convolved.unfold(2, self.patch_size, self.patch_size).permute(0, 2, 1, 3).flatten(2)
        timed = [self._timed(spectrum), self._timed(self.patches(patches))]
        return torch.cat([torch.stack(each, dim=1), *timed], dim=1)

    def _timed(self, tokens: Tensor) -> Tensor:
        at = torch.arange(tokens.shape[1], device=tokens.device)
        return tokens + self.gain * sinusoidal_positions(at, self.dim)

    def features(self, signals: Tensor) -> dict[str, Tensor]:
        """(B, C, L) to features of each channel, magnitudes included, (B, C, times, features)."""
        if _sensors(signals.shape[1]):
            magnitudes = signals.reshape(signals.shape[0], -1, 3, signals.shape[2]).square().sum(2).sqrt()
            signals = torch.cat([signals, magnitudes], dim=1)
        return {
            "signal": signals[..., None],
            "statistics": _statistics(signals)[:, :, None],
            "spectrum": _spectrum(signals, self.frame),
        }

    def token_places(self, sample: Any) -> Places:
        """Channels' statistics, which are of no time, then frames of the spectrum and patches."""
        signal = self.encode(sample)["signal"].numpy()
        steps = signal.shape[1]
        frames = range(0, steps - self.frame + 1, self.frame // 2)
        patches = range(0, steps - self.patch_size + 1, self.patch_size)
        names = [f"statistics of channel {at + 1}" for at in range(len(self.statistics))]
        none = np.full((len(names), 2), np.nan)
        spans = np.array([[at, at + self.frame] for at in frames] + [[at, at + self.patch_size] for at in patches])
        spans = spans / self.sampling_rate
        kinds = ["spectrum"] * len(frames) + ["course"] * len(patches)
        names += [f"{kind}, {start:.2f} to {end:.2f} s" for kind, (start, end) in zip(kinds, spans, strict=True)]
        everywhere = np.full(len(names), -1)
        return TimePlaces(names, signal, np.vstack([none, spans]), everywhere, 1 / self.sampling_rate, "s")

    def baseline_features(self, sample: Any) -> np.ndarray:
        """Statistics and mean spectrum of each channel."""
        found = self.features(self.encode(sample)["signal"][None])
        return torch.cat([found["statistics"].flatten(), found["spectrum"].mean(2).flatten()]).numpy()


def _sensors(num_channels: int) -> int:
    """Number of sensors of three channels each, x, y and z; 0 where channels do not come in threes."""
    return num_channels // 3 if num_channels % 3 == 0 else 0


def _statistics(signals: Tensor) -> Tensor:
    """(B, C, L) to level, spread, quantiles and movement (B, C, F)."""
    mean = signals.mean(2, keepdim=True)
    spread = signals.std(2, correction=0, keepdim=True)
    steps = signals.diff(dim=2)
    half = signals.shape[2] // 2
    quantiles = _quantiles(signals)
    movement = steps.std(2, correction=0, keepdim=True)
    trend = signals[:, :, -half:].mean(2, keepdim=True) - signals[:, :, :half].mean(2, keepdim=True)
    crossings = (signals > mean).float().diff(dim=2).abs().mean(2, keepdim=True)
    logarithms = (spread + SMALL).log(), (movement + SMALL).log()
    around = steps.abs().mean(2, keepdim=True), movement, trend, crossings
    return torch.cat([mean, spread, quantiles, *around, *logarithms], dim=2)


def _quantiles(signals: Tensor) -> Tensor:
    """Quantiles (B, C, Q) of (B, C, L), as ``torch.quantile``, which looks at its argument's values, interpolates."""
    ranks = sent(torch.tensor(QUANTILES), signals.device) * (signals.shape[2] - 1)
    below = ranks.floor()
    ordered = signals.sort(dim=2).values
    return ordered[:, :, below.long()].lerp(ordered[:, :, ranks.ceil().long()], ranks - below)


def _spectrum(signals: Tensor, frame: int) -> Tensor:
    """(B, C, L) to the log power (B, C, S, frame / 2) of overlapping frames without their mean."""
    frames = signals.unfold(2, frame, frame // 2)
    frames = (frames - frames.mean(3, keepdim=True)) * torch.hann_window(frame, device=signals.device)
    power = torch.fft.rfft(frames, dim=3).abs().square()[..., 1 : frame // 2 + 1]
    logarithm: Tensor = (power + FLOOR).log()
    return logarithm
