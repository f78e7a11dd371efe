"""Hyperspectral pixels -> tokens: overlapping groups of neighbouring bands, each with its place in the spectrum."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from metatx.errors import SampleError, read_all
from metatx.json_schema import array_schema
from metatx.places import Places, TimePlaces
from metatx.reading.arrays import as_array
from metatx.reading.hyperspectral import Pixel, read_cube
from metatx.reading.signatures import signatures_of
from metatx.tokenizer import Batch, Tokenizer, orthogonal_linear, sinusoidal_positions

__all__ = ["HyperspectralTokenizer"]

Augment = Literal["none", "light", "strong"]
FARTHEST = 1e15  # deviations from a band's mean: squares of more overflow in the backbone
MOST_BANDS = 10_000
EXPECTED = "expected a spectrum (bands,), a patch (rows, columns, bands), or a pixel of a scene"


class HyperspectralTokenizer(Tokenizer):
    """One token per group of neighbouring bands (SpectralFormer, Hong et al. 2022, arXiv 2107.02988).

    A sample is a spectrum, or a pixel with the square of pixels around it. Each band is standardised by mean and
    deviation of the training pixels, those in the middle of their patches. A token is a linear map of a group's
    standardised values plus the group's position: a sinusoid of its mean wavelength (DOFA, Xiong et al. 2024), or
    of its number where wavelengths are not known. The last token holds the whole spectrum.

    Args:
        dim: Width of the backbone.
        group_size: Bands of a token.
        stride: Bands from one group to the next; less than ``group_size`` lets them overlap. The last group ends with
            the last band.
        patch_size: Side in pixels of the square around a pixel, odd. 1 reads the pixel alone, which is the honest
            choice where training and test pixels are neighbours.
        wavelengths: Wavelength of each band, in nm; by default those of the file, where it has them.
        augment: Random brightness, tilt and noise of the training spectra: ``"light"`` or ``"strong"``.
        token_rms_factor: RMS of the tokens at the start of training, in units of that of the stem's tokens, on a
            backbone that does not normalise its input. The finest differences between spectra, which decide,
            pass through larger ones.
        band_axis: Where the bands of a patch stand: 2 for (rows, columns, bands), 0 for (bands, rows, columns).

    Raises:
        ValueError: If an option is out of its range.
    """

    guessed_from = None
    tunable = {"group_size": (4, 8, 16)}
    readers = {".mat": read_cube, ".npz": read_cube}
    signatures = signatures_of(readers)
    stacks = True
    default_head = "classification"
    # Deviation of gain, of tilt along the spectrum, and of noise, in deviations of the training pixels.
    LEVELS = {"none": (0.0, 0.0, 0.0), "light": (0.05, 0.05, 0.02), "strong": (0.15, 0.15, 0.05)}
    groups: Tensor
    places: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        dim: int,
        group_size: int = 8,
        stride: int = 4,
        patch_size: int = 1,
        wavelengths: Sequence[float] | None = None,
        augment: Augment = "none",
        token_rms_factor: float = 16.0,
        band_axis: Literal[0, 2] = 2,
    ) -> None:
        super().__init__(dim)
        if not 1 <= stride <= group_size:
            raise ValueError(f"stride is {stride}; choose 1 to group_size, {group_size}, so that every band is read.")
        if not token_rms_factor > 0:
            raise ValueError(f"token_rms_factor is {token_rms_factor}; it must be above 0.")
        if patch_size < 1 or patch_size % 2 == 0:
            raise ValueError(f"patch_size is {patch_size}; a pixel in the middle needs an odd one: 1, 3, 5, ...")
        self.group_size = group_size
        self.stride = stride
        self.patch_size = patch_size
        self.wavelengths = wavelengths
        self.level = self.LEVELS[augment]
        self.augments = augment != "none"
        self.token_rms_factor = token_rms_factor
        self.band_axis = band_axis
        self.num_bands = 0

    def build(self, num_bands: int, wavelengths: list[float] | None = None) -> None:
        """Make the maps for ``num_bands`` bands; ``wavelengths`` are those of the training file, where it has them."""
        self.wavelengths = wavelengths or self.wavelengths
        if num_bands < self.group_size:
            raise ValueError(f"The samples have {num_bands} bands, fewer than group_size, {self.group_size}.")
        if self.wavelengths is not None and len(self.wavelengths) != num_bands:
            raise ValueError(f"There are {len(self.wavelengths)} wavelengths for {num_bands} bands.")
        self.num_bands = num_bands
        starts = [*range(0, num_bands - self.group_size, self.stride), num_bands - self.group_size]
        self.register_buffer("groups", torch.tensor(starts)[:, None] + torch.arange(self.group_size), persistent=False)
        at = torch.arange(num_bands) if self.wavelengths is None else torch.tensor(self.wavelengths)
        self.register_buffer("places", at.float()[self.groups].mean(1), persistent=False)
        self.register_buffer("mean", torch.zeros(num_bands, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(num_bands, dtype=torch.float64))
        self.bands = orthogonal_linear(self.patch_size**2 * self.group_size, self.dim)
        self.spectrum = orthogonal_linear(num_bands, self.dim)
        self.place_scale = nn.Parameter(torch.tensor(1.0))
        self.last = nn.Parameter(torch.zeros(self.dim))  # what tells the spectrum's token from a group's

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """Lists of numbers: spectra in a table."""
        return isinstance(value, Pixel) or (isinstance(value, list | np.ndarray) and np.ndim(value) in (1, 3))

    def fit(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Learn the number of bands, their wavelengths, and each band's mean and deviation.

        Raises:
            ValueError: If no spectrum can be read, or they differ in their bands.
        """
        spectra = read_all(lambda sample: self._middle(self._read(sample)), samples)
        counts = sorted({len(spectrum) for spectrum in spectra})
        if len(counts) > 1:
            raise ValueError(f"Spectra of {counts[0]} and of {counts[-1]} bands are mixed; give one sensor's.")
        learned: dict[str, Any] = {"num_bands": counts[0]}
        first = samples[0]
        if self.wavelengths is None and isinstance(first, Pixel) and first.wavelengths is not None:
            learned["wavelengths"] = first.wavelengths.tolist()
        deviation = np.where(np.ptp(spectra, axis=0) > 0, np.std(spectra, axis=0), 0)  # which rounding alone may be
        # A band that never varies (water absorption, one sample only) says nothing, and must not blow up.
        deviation = np.where(deviation > 0, deviation, np.inf)
        mean = np.mean(spectra, axis=0)
        return learned | {"mean": torch.from_numpy(mean), "deviation": torch.from_numpy(deviation)}

    def _read(self, sample: Any) -> np.ndarray:
        """A sample as float64 (P, P, C). Raises SampleError if it is none."""
        if isinstance(sample, Pixel):
            values = as_array(sample.patch(self.patch_size), np.float64)
        else:
            try:
                values = as_array(sample, np.float64)
            except (TypeError, ValueError, OverflowError):
                raise SampleError(f"spectrum is a {type(sample).__name__}; {EXPECTED}") from None
            if values.ndim == 3:
                values = np.moveaxis(values, self.band_axis, 2)
            values = values[None, None] if values.ndim == 1 else values
        if values.ndim != 3 or not values.size:
            raise SampleError(f"spectrum is an array {np.shape(sample)}; {EXPECTED}")
        if values.shape[2] > MOST_BANDS:
            most = f"{MOST_BANDS:,} (MOST_BANDS)"
            raise SampleError(f"the spectrum has {values.shape[2]:,} bands; expected at most {most}")
        if values.shape[:2] != (self.patch_size, self.patch_size):
            found = f"{values.shape[0]} x {values.shape[1]}"
            first = (values.shape if self.band_axis == 0 else values.shape[::-1])[:2] == (self.patch_size,) * 2
            axis = 2 - self.band_axis
            turn = f"; if bands stand elsewhere, set band_axis={axis} (--tokenizer.band-axis {axis})" if first else ""
            raise SampleError(f"the patch has {found} pixels; expected patch_size, {self.patch_size}, each way{turn}")
        if not np.isfinite(values).all():
            band = int(np.argwhere(~np.isfinite(values))[0, 2]) + 1
            where = f"row {sample.row + 1}, column {sample.column + 1}: " if isinstance(sample, Pixel) else ""
            raise SampleError(
                f"{where}band {band} holds NaN or infinite values; expected numbers: fill them, or drop the band"
            )
        return values

    def _middle(self, patch: np.ndarray) -> np.ndarray:
        middle: np.ndarray = patch[self.patch_size // 2, self.patch_size // 2]
        return middle

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A spectrum or pixel to ``patch`` (P * P, C), float32, each band standardised."""
        values = self._read(sample).reshape(self.patch_size**2, -1)
        if values.shape[1] != self.num_bands:
            raise SampleError(f"the spectrum has {values.shape[1]} bands; the task was trained with {self.num_bands}")
        with np.errstate(over="ignore"):  # which is looked for
            standardised = (values - self.mean.cpu().numpy()) / self.deviation.cpu().numpy()
            patch = standardised.astype(np.float32)
        if not (np.abs(patch) <= FARTHEST).all():
            pixel, band = np.argwhere(~(np.abs(patch) <= FARTHEST))[0]
            raise SampleError(
                f"band {band + 1} holds {values[pixel, band]:g}, too far from what the task was trained on"
            )
        return {"patch": torch.from_numpy(patch)}

    def json_schema(self) -> dict[str, Any]:
        """A spectrum; or the square of pixels around one."""
        bands = {"minItems": self.num_bands, "maxItems": self.num_bands}
        spectrum = {**array_schema("bands"), **bands}
        example = self.mean.tolist()
        if self.patch_size == 1:
            return {**spectrum, "examples": [example]}
        patch = array_schema("rows", "columns", cells=spectrum)
        side = {"minItems": self.patch_size, "maxItems": self.patch_size}
        patch["items"] |= side
        square = np.tile(np.array(example), (self.patch_size, self.patch_size, 1))
        if self.band_axis == 2:
            return {**patch, **side, "examples": [square.tolist()]}
        plane = {**array_schema("rows", "columns"), **side}
        plane["items"] |= side
        cube = {**array_schema("bands", cells=plane), **bands, "title": "bands x rows x columns"}
        return {**cube, "examples": [np.moveaxis(square, 2, 0).tolist()]}

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """The spectra brighter or darker, tilted, and with noise; alike for all pixels of a patch but for the noise."""
        patch = encoded["patch"]
        gain, tilt, noise = self.level
        along = torch.linspace(-1, 1, self.num_bands)
        brightness = gain * torch.randn(()) + tilt * torch.randn(()) * along
        return {"patch": patch + brightness + noise * torch.randn_like(patch)}

    def forward(self, batch: Batch) -> Tensor:
        """Patches (B, P * P, C) to tokens (B, groups + 1, D)."""
        patch = batch["patch"]
        grouped = patch[:, :, self.groups].transpose(1, 2).flatten(2)  # (B, N, P * P * group_size)
        tokens = self.bands(grouped) + self.place_scale * sinusoidal_positions(self.places, self.dim)
        whole = self.spectrum(patch[:, patch.shape[1] // 2]) + self.last
        return torch.cat([tokens, whole[:, None]], dim=1)

    def token_places(self, sample: Any) -> Places:
        """Groups of bands, which overlap, and the whole spectrum of the pixel."""
        patch = self.encode(sample)["patch"].numpy()
        first = self.groups[:, 0].cpu().numpy()
        spans = np.vstack([np.column_stack([first, first + self.group_size]), [[np.nan, np.nan]]])
        names = [f"bands {start + 1} to {start + self.group_size}" for start in first] + ["the whole spectrum"]
        return TimePlaces(names, patch[len(patch) // 2][None], spans, np.full(len(names), -1), unit="band")

    def baseline_features(self, sample: Any) -> np.ndarray:
        """The standardised spectrum of the pixel, and the mean of the patch's where there is one."""
        patch = self.encode(sample)["patch"].double().numpy()
        middle = patch[len(patch) // 2]
        return middle if len(patch) == 1 else np.concatenate([middle, patch.mean(0)])
