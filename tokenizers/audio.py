"""Audio: log-mel spectrograms, read by convolutions over time and frequency or by the backbone's stem."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from metatx.backbone.stem import Stem
from metatx.errors import read_all
from metatx.json_schema import array_schema
from metatx.layers.folding import folded_stem
from metatx.layers.resampling import resample
from metatx.padded import PaddedTokens
from metatx.places import Places, TimePlaces
from metatx.reading.audio import RATES, SUFFIXES, read_audio
from metatx.reading.signatures import signatures_of
from metatx.sequence import TokenSequence, sent
from metatx.tokenizer import Batch, Tokenizer, orthogonal_linear, sinusoidal_positions

__all__ = ["AudioTokenizer"]

MISSING = "The audio tokenizer needs torchaudio and soundfile: pip install 'metatx[audio]'"
FITTED = 2_000  # clips, spread over the training split, that the statistics are learned from
FRAME = 0.025  # seconds of a frame, and from one to the next
HOP = 0.010
FLOOR = 1e-6  # added to the power of a band before the logarithm
PHOTO = 0.25  # deviation of a photograph's values in 0..1, which the stem was trained on
SHIFT = 0.1  # random variations in training: seconds and decibels, to either side
GAIN = 6.0
MASKS = 2  # stretches of bands that are masked, as many of frames; largest share of one
WIDEST = 0.08
COEFFICIENTS = 20  # cepstral, and in time, of the description
SEGMENTS = 16


class AudioTokenizer(Tokenizer):
    """Tokens of a log-mel spectrogram, each band standardised by the training split.

    ``"frames"``: one token for 40 ms of all bands, behind three convolutions over time and frequency (Xiao et al.
    2021, arXiv 2106.14881), with sinusoidal positions. ``"patches"``: squares of the spectrogram, by a copy of the
    backbone's stem folded to one channel, whose positions are resampled to the spectrogram's grid (AST, Gong et al.
    2021, arXiv 2104.01778). Both are trained.

    Clips of any rate are resampled, and mixed to one channel. What is longer than ``window`` becomes several sequences.

    Args:
        dim: Width of the backbone.
        stem: ``backbone.stem``; without one, patches start from filters of their own.
        tokens: ``"frames"``, ``"patches"`` or ``"both"``.
        sample_rate: Sample rate of the spectrogram, in Hz; also that of clips given as bare arrays.
        num_mels: Bands; for patches a multiple of their side.
        width: Channels of the first convolution of the frames.
        window: Seconds that one sequence spans at most.
        augment: In training: ``"none"``; ``"light"``: shift in time and change in loudness; ``"strong"``: also mask
            bands and frames (SpecAugment, Park et al. 2019, arXiv 1904.08779).
        token_rms_factor: RMS of the tokens at the start of training, in units of that of the stem's tokens, on a
            backbone that does not normalise its input.
            On a quarter of the speakers of ten Speech Commands, held out, ViT-Ti was right in .866 at 1, .923 at 4 and
            .877 at 16 (one seed each).
    """

    suffixes = SUFFIXES
    tunable = {"tokens": ("frames", "patches", "both"), "augment": ("none", "light", "strong")}
    stem = "image"
    signatures = signatures_of(suffixes)
    default_head = "classification"
    free_axes = {"waveform": {0: "samples"}}
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        dim: int,
        stem: Stem | None,
        tokens: Literal["frames", "patches", "both"] = "frames",
        sample_rate: int = 16_000,
        num_mels: int = 64,
        width: int = 32,
        window: float = 10.0,
        augment: Literal["none", "light", "strong"] = "strong",
        token_rms_factor: float = 4.0,
    ) -> None:
        super().__init__(dim)
        if not RATES[0] <= sample_rate <= RATES[1]:
            raise ValueError(f"sample_rate is {sample_rate}; it must be {RATES[0]} to {RATES[1]} Hz.")
        if not token_rms_factor > 0:
            raise ValueError(f"token_rms_factor is {token_rms_factor}; it must be above 0.")
        if window < 1:
            raise ValueError(f"window is {window:g} s; it must be at least 1.")
        self.sample_rate = sample_rate
        self.window = window
        self.masked = augment == "strong"
        self.augments = augment != "none"
        self.token_rms_factor = token_rms_factor
        self.hop = round(HOP * sample_rate)
        self.mel = _mel_spectrogram(sample_rate, num_mels, self.hop)
        self.register_buffer("centre", torch.zeros(num_mels, 1))  # of the log power of each band
        self.register_buffer("spread", torch.ones(num_mels, 1))
        self.views = nn.ModuleList()
        if tokens != "patches":
            self.views.append(_Frames(dim, num_mels, width))
        if tokens != "frames":
            self.views.append(_Patches(dim, stem, num_mels))
            self.not_exported = 'its patches lie on a grid that depends on the clip; train it with tokens="frames"'
        self.uses_stem_tokens = tokens == "patches" and stem is not None

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """Names of audio files, and the dicts of Hugging Face's audio columns."""
        if isinstance(value, dict):
            file = set(value) == {"bytes", "path"} and (value["path"] is None or cls.accepts(value["path"]))
            return file or {"array", "sampling_rate"} <= set(value)
        return super().accepts(value)

    @classmethod
    def preview(cls, sample: Any) -> tuple[np.ndarray, int]:
        """The clip (L,) and its rate; an array that comes without one is taken to have 16 kHz."""
        return read_audio(sample, 16_000)

    def fit(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Learn each band's mean and deviation over the frames of the training split.

        Raises:
            ValueError: If no clip can be used.
        """
        count = 0
        total = squares = torch.zeros(1).double()
        spread_out = (samples[i] for i in range(0, len(samples), -(-len(samples) // FITTED)))
        for frames, sums, sums_of_squares in read_all(self._sums, spread_out):
            count += frames
            total = total + sums
            squares = squares + sums_of_squares
        mean = total / count
        # Bands that never change (silence, or above what the files hold) are left as they are.
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        spread = torch.where(deviation > 1e-3, deviation, 1.0)
        return {"centre": mean[:, None], "spread": spread[:, None]}

    def _sums(self, sample: Any) -> tuple[int, Tensor, Tensor]:
        """Number of a clip's frames, and over them the sums of log powers and of their squares, each (M,)."""
        power = self.log_power(self.encode(sample)["waveform"][None])[0].double()
        return power.shape[1], power.sum(1), power.square().sum(1)

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A clip, in any form ``read_audio`` knows, to ``waveform`` (L,) at ``sample_rate``."""
        values, rate = read_audio(sample, self.sample_rate)
        return {"waveform": torch.from_numpy(resample(values, rate, self.sample_rate))}

    def json_schema(self) -> dict[str, Any]:
        """Values of -1..1, by themselves at ``sample_rate``, or with a rate of their own."""
        values = array_schema("time", cells={"type": "number", "minimum": -1, "maximum": 1})
        rate = {"type": "integer", "minimum": RATES[0], "maximum": RATES[1]}
        clip = {"type": "object", "properties": {"array": values, "sampling_rate": rate}}
        tone = [round(float(np.sin(0.7 * step)) / 2, 3) for step in range(200)]
        return {
            "description": f"Values -1..1 at {self.sample_rate} Hz, or with their own rate; easier sent as a file.",
            "anyOf": [values, {**clip, "required": ["array", "sampling_rate"]}],
            "examples": [{"array": tone, "sampling_rate": 2 * RATES[0]}],
        }

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """The waveform a little earlier or later, and louder or quieter."""
        if not self.augments:
            return encoded
        waveform = encoded["waveform"]
        most = min(round(SHIFT * self.sample_rate), len(waveform) - 1)
        shift = int(torch.randint(-most, most + 1, ()))
        loudness = 10 ** (GAIN / 20 * (2 * torch.rand(()) - 1))
        padded = F.pad(waveform, (max(shift, 0), max(-shift, 0)))
        start = max(-shift, 0)
        return {"waveform": padded[start : start + len(waveform)] * loudness}

    def forward(self, batch: Batch) -> TokenSequence:
        """Waveforms (B, L), or B of them (L,), to a sequence for each, or several where one is longer than a window."""
        cut = [waveform.split(self._span(len(waveform))) for waveform in batch["waveform"]]
        pieces = [piece for clip in cut for piece in clip]
        frames = torch.tensor([-(-len(piece) // self.hop) for piece in pieces])  # on the host, as all masks are
        spectrogram = (self.log_power(pad_sequence(pieces, batch_first=True)) - self.centre) / self.spread
        spectrogram = spectrogram * sent(_up_to(frames, spectrogram.shape[2]), spectrogram.device)[:, None]
        if self.training and self.masked:
            spectrogram = _masked(spectrogram, frames)
        tokens, masks = zip(*(view(spectrogram, frames) for view in self.views), strict=True)
        counts = tuple(map(len, cut)) if len(pieces) > len(cut) else None
        return TokenSequence.pack(torch.cat(tokens, dim=1), torch.cat(masks, dim=1), sequences_per_sample=counts)

    def padded(self, batch: Batch) -> PaddedTokens:
        """Tokens (B, N, D) of waveforms (B, L) of one length, no longer than a window: they have no end to mask.

        Raises:
            ValueError: If they are longer.
        """
        waveforms = batch["waveform"]
        most = round(self.window * self.sample_rate)
        if waveforms.shape[1] > most:
            raise ValueError(f"The waveforms have {waveforms.shape[1]} samples; expected a window of at most {most}.")
        spectrogram = (self.log_power(waveforms) - self.centre) / self.spread
        frames = torch.full((1,), spectrogram.shape[2])
        return PaddedTokens(torch.cat([view(spectrogram, frames)[0] for view in self.views], dim=1))

    def _span(self, length: int) -> int:
        """Length of each of the equal sequences that a clip is cut into: samples, a whole number of frames."""
        pieces = -(-length // round(self.window * self.sample_rate))
        return self.hop * -(-length // (pieces * self.hop))

    def log_power(self, waveforms: Tensor) -> Tensor:
        """Waveforms (S, L) to the log power of bands (S, M, L / hop), frames centred on their hop."""
        beyond = self.mel.n_fft - self.hop
        missing = -waveforms.shape[1] % self.hop
        with torch.autocast(waveforms.device.type, enabled=False):  # sums of powers need their digits
            power = self.mel(F.pad(waveforms.float(), (beyond // 2, beyond - beyond // 2 + missing)))
        logarithm: Tensor = (power + FLOOR).log()
        return logarithm

    def token_places(self, sample: Any) -> Places:
        """Seconds, of each sequence in turn; of patches also the bands."""
        waveform = self.encode(sample)["waveform"]
        spans: list[tuple[float, float]] = []
        names: list[str] = []
        start = 0
        for piece in torch.split(waveform, self._span(len(waveform))):
            frames = -(-len(piece) // self.hop)
            for view in self.views:
                assert isinstance(view, _Frames | _Patches)
                rows, columns = view.places(self.mel.n_mels, frames)
                step = view.step * HOP
                for row in range(rows):
                    begin = start / self.sample_rate + step * np.arange(columns)
                    spans += [(at, at + step) for at in begin]
                    bands = f", bands of row {row + 1} from below" if rows > 1 else ""
                    names += [f"{at:.2f} to {at + step:.2f} s{bands}" for at in begin]
            start += len(piece)
        everywhere = np.full(len(names), -1)
        return TimePlaces(names, waveform[None].numpy(), np.array(spans), everywhere, 1 / self.sample_rate, "s")

    def baseline_features(self, sample: Any) -> np.ndarray:
        """Cepstral coefficients: moments over time, and their course around the clip's centre of loudness."""
        from scipy.fft import dct

        power = self.log_power(self.encode(sample)["waveform"][None])[0]
        cepstrum = torch.from_numpy(dct(power.numpy(), axis=0, norm="ortho")[:COEFFICIENTS])
        loudness = power.exp().sum(0)
        centre = int((loudness * torch.arange(len(loudness))).sum() / loudness.sum())
        course = (cepstrum - cepstrum.mean(1, keepdim=True)).roll(len(loudness) // 2 - centre, dims=1)
        moments = cepstrum.mean(1), cepstrum.std(1, correction=0), cepstrum.amin(1), cepstrum.amax(1)
        return torch.cat([*moments, F.adaptive_avg_pool1d(course[None], SEGMENTS).flatten()]).numpy()


class _Frames(nn.Module):
    """Three convolutions that halve frequency, then one token a step.

    No norm between them: one over the channels of each place would take away how loud it is there (without it, and
    with He's initial weights, ten epochs on Speech Commands gave .68 validation accuracy in place of .46; both without
    a backbone, one seed).
    """

    def __init__(self, dim: int, num_mels: int, width: int) -> None:
        super().__init__()
        channels = (1, width, 2 * width, 2 * width)
        self.strides = (2, 2, 1)  # in time
        self.step = 4  # frames of a token
        self.convolutions = nn.ModuleList(
            _convolution(channels[i], channels[i + 1], stride) for i, stride in enumerate(self.strides)
        )
        self.proj = orthogonal_linear(channels[-1] * -(-num_mels // 8), dim)
        self.gain = nn.Parameter(torch.tensor(0.5))  # of the positions

    def places(self, num_mels: int, frames: int) -> tuple[int, int]:
        """Rows of bands and columns of time of the tokens for so many frames."""
        return 1, -(-frames // self.step)

    def forward(self, spectrogram: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(S, M, F) with so many frames each (S,) to (S, N, D) and a mask (S, N)."""
        x = spectrogram[:, None]  # (S, 1, M, F)
        for convolution, stride in zip(self.convolutions, self.strides, strict=True):
            frames = (frames + stride - 1) // stride
            x = F.gelu(convolution(x))
            x = (
                x * sent(_up_to(frames, x.shape[3]), x.device)[:, None, None]
            )  # beyond its end a clip is zero, whatever the padding
        tokens = self.proj(x.permute(0, 3, 1, 2).flatten(2))
        positions = sinusoidal_positions(torch.arange(x.shape[3], device=x.device), tokens.shape[2])
        return tokens + self.gain * positions, _up_to(frames, x.shape[3])


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, 3, (2, stride), 1)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution


class _Patches(nn.Module):
    """The stem, folded to one channel, on the spectrogram as a grey picture of a photograph's contrast."""

    def __init__(self, dim: int, stem: Stem | None, num_mels: int) -> None:
        super().__init__()
        self.stem = folded_stem(stem, dim).requires_grad_(True)
        self.side = self.step = self.stem.config.patch_size
        if num_mels % self.side:
            raise ValueError(f"num_mels is {num_mels}; patches of {self.side} need a multiple of that.")

    def places(self, num_mels: int, frames: int) -> tuple[int, int]:
        """Rows of bands and columns of time of the tokens for so many frames."""
        return num_mels // self.side, max(1, (frames + self.side // 2) // self.side)

    def forward(self, spectrogram: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(S, M, F) with so many frames each (S,) to (S, N, D) and a mask (S, N)."""
        # To the nearest whole number of patches: a last one that is nearly empty says little.
        columns = ((frames + self.side // 2) // self.side).clamp(min=1)
        most = int(columns.max())
        rows = spectrogram.shape[1] // self.side
        picture = 0.5 + PHOTO * F.pad(spectrogram, (0, max(0, most * self.side - spectrogram.shape[2])))[:, None]
        tokens = spectrogram.new_zeros(len(frames), rows * most, self.stem.proj.out_channels)
        for count in sorted(set(columns.tolist())):
            same = sent((columns == count).nonzero().flatten(), spectrogram.device)
            # Of one length at a time, for positions are resampled to the grid of the clip, not of the batch.
            found = self.stem(picture[same, :, :, : count * self.side])
            tokens[same, : rows * count] = found.to(tokens.dtype)
        return tokens, _up_to(rows * columns, rows * most)


def _up_to(counts: Tensor, size: int) -> Tensor:
    """The first so many of ``size`` (S, size), True."""
    return torch.arange(size, device=counts.device) < counts[:, None]


def _masked(spectrogram: Tensor, frames: Tensor) -> Tensor:
    """The spectrogram (S, M, F) with random stretches of bands and frames at their mean, of each sample its own."""
    bands = torch.full_like(frames, spectrogram.shape[1])
    for _ in range(MASKS):
        for axis, count in ((1, bands), (2, frames)):
            width, start = torch.rand(2, len(frames))
            width = width * WIDEST * count
            start = start * (count - width)
            at = torch.arange(spectrogram.shape[axis])
            hidden = (at >= start[:, None]) & (at < (start + width)[:, None])
            spectrogram = spectrogram.masked_fill(sent(hidden.unsqueeze(3 - axis), spectrogram.device), 0.0)
    return spectrogram


def _mel_spectrogram(sample_rate: int, num_mels: int, hop: int) -> Any:
    try:
        from torchaudio.transforms import MelSpectrogram
    except ImportError as error:
        raise ImportError(MISSING) from error
    length = round(FRAME * sample_rate)
    n_fft = 1 << (max(length, 8 * num_mels) - 1).bit_length()  # fine enough that no band is empty
    return MelSpectrogram(sample_rate, n_fft, length, hop, n_mels=num_mels, center=False)
