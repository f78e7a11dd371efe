"""Module from images of one channel to tokens, shared by the tokenizers of such images."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone.stem import Stem
from metatx.errors import read_all
from metatx.layers.folding import folded_stem
from metatx.layers.hog import gradient_histograms
from metatx.padded import PaddedTokens
from metatx.reading.image import read_grey

__all__ = ["Augment", "Flips", "GreyImages", "Normalize"]

Normalize = Literal["training", "instance"]
Augment = Literal["none", "light", "strong"]
Flips = Literal["none", "horizontal", "both"]

PIXELS = 4096  # most pixels of an image that are used for the percentiles


class GreyImages(nn.Module):
    """Window of grey values between two percentiles, resizing to one size, and patches by a folded, trainable stem.

    Args:
        dim: Width of the backbone.
        stem: Stem of the backbone, which is folded to one channel; None for a random one.
        image_size: Side in pixels, or (height, width), multiples of the patch; by default the stem's own size. Images
            are resized, not cropped, so choose their proportions.
        percentiles: Two percentiles of the grey values, 0 to 100; values at or below the first become 0, at or above
            the second 1.
        normalize: ``"training"`` takes the percentiles of the training split, which keeps levels; ``"instance"`` those
            of each image, for sensors that scale each image by itself.
        augment: Strength of random shift, scale, rotation, brightness and contrast in training.
        flips: Mirror images that are used in training.
        freeze_stem: True keeps the folded stem fixed, so that features are computed once.
        read: Function from a sample to float32 (H, W).

    Raises:
        ValueError: If an option has another value than its choices.
    """

    window: Tensor
    # Largest shift (share of the side), change of scale, rotation (degrees), change of contrast and brightness.
    LEVELS = {"none": (0.0, 0.0, 0.0, 0.0), "light": (0.05, 0.1, 3.0, 0.1), "strong": (0.1, 0.2, 10.0, 0.25)}

    def __init__(
        self,
        dim: int,
        stem: Stem | None,
        image_size: int | Sequence[int] | None,
        percentiles: Sequence[float],
        normalize: Normalize,
        augment: Augment,
        flips: Flips,
        freeze_stem: bool,
        read: Callable[[Any], np.ndarray] = read_grey,
    ) -> None:
        super().__init__()
        if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError(f"percentiles are {percentiles}; expected two that rise, in 0..100.")
        self.stem = folded_stem(stem, dim).requires_grad_(not freeze_stem)
        size = image_size or self.stem.config.image_size
        self.height, self.width = (size, size) if isinstance(size, int) else (int(side) for side in size)
        self.grid = self.stem.grid(self.height, self.width)
        self.percentiles = list(percentiles)
        self.normalize = normalize
        self.read = read
        self.level = self.LEVELS[augment]
        self.flips = flips
        self.augments = augment != "none" or flips != "none"
        self.register_buffer("window", torch.tensor([0.0, 1.0], dtype=torch.float64))

    def fit(self, samples: Sequence[Any]) -> dict[str, Tensor]:
        """Learn the ``window`` from the training split; nothing where each picture has its own.

        Raises:
            ValueError: If no image can be read, or all pixels have the same value.
        """
        if self.normalize == "instance":
            return {}
        pixels = read_all(self._some_pixels, samples)
        low, high = np.percentile(np.concatenate(pixels).astype(np.float64), self.percentiles)
        if low == high:
            raise ValueError(f"Percentiles {self.percentiles} of all pixels are {low:g}; there is nothing to see.")
        return {"window": torch.tensor([low, high])}

    def _some_pixels(self, sample: Any) -> np.ndarray:
        """Grey values of at most about ``PIXELS`` pixels, evenly spread (N,)."""
        values = self.read(sample).ravel()
        return values[:: -(-len(values) // PIXELS)]

    def windowed(self, sample: Any) -> np.ndarray:
        """Grey values of a sample within the window, float32 (H, W) in 0..1. Raises SampleError."""
        values = self.read(sample)
        if self.normalize == "training":
            low, high = self.window.tolist()
        else:
            low, high = np.percentile(values, self.percentiles).tolist()
        scaled: np.ndarray = np.clip((values - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
        return scaled

    def sized(self, values: np.ndarray) -> Tensor:
        """Resize values (H, W) in 0..1 to the size of the tokens' grid (1, S, S'); float16 keeps about 11 bits."""
        resample = Image.Resampling[self.stem.config.interpolation.upper()]
        if values.shape != (self.height, self.width):
            values = np.array(Image.fromarray(values).resize((self.width, self.height), resample))
        return torch.from_numpy(values.clip(0, 1))[None].half()

    def forward(self, images: Tensor) -> PaddedTokens:
        """Map images (B, 1, H, W) in 0..1 to a token for each patch, (B, N, D)."""
        return PaddedTokens(self.stem(images.float()), grid=self.grid)

    def vary(self, image: Tensor) -> dict[str, Tensor]:
        """Vary an image (1, H, W) by torch's global generator; adds its ``view`` if only mirroring is on."""
        shift, zoom, turn, light = self.level
        random = (2 * torch.rand(6) - 1).tolist()
        values = image.float()
        if any(self.level):
            scale = 1 + zoom * random[2]
            angle = math.radians(turn * random[3])
            cos = scale * math.cos(angle)
            sin = scale * math.sin(angle)
            ratio = self.height / self.width
            theta = [[cos, -sin * ratio, 2 * shift * random[0]], [sin / ratio, cos, 2 * shift * random[1]]]
            where = F.affine_grid(torch.tensor([theta]), [1, 1, self.height, self.width], align_corners=False)
            values = F.grid_sample(values[None], where, padding_mode="border", align_corners=False)[0]
            values = ((values - 0.5) * (1 + light * random[4]) + 0.5 + light * random[5] / 2).clamp(0, 1)
        flipped = torch.rand(2) < 0.5
        axes = {"none": [], "horizontal": [2], "both": [1, 2]}[self.flips]
        mirrored = [axis for axis in axes if flipped[axis - 1]]
        varied = {"image": values.flip(mirrored).to(image.dtype)}
        if any(self.level):
            return varied
        across = 2 in mirrored
        down = 1 in mirrored
        return varied | {"view": torch.tensor([across, down, not across, not down]).float()}

    def baseline_features(self, values: np.ndarray) -> np.ndarray:
        """Gradient histograms and a thumbnail of values (H, W) in 0..1, resized to about 1,024 pixels."""
        rows = round(32 * math.sqrt(self.height / self.width) / 4) * 4
        small = Image.fromarray(values).resize((1024 // rows // 4 * 4, rows), Image.Resampling.BILINEAR)
        thumbnail = np.asarray(small.reduce(2), dtype=np.float32)
        histograms = gradient_histograms(np.asarray(small)[..., None])
        return np.concatenate([histograms, thumbnail.ravel(), [values.mean(), values.std()]])
