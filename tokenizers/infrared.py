"""Thermal and near infrared pictures -> tokens: radiometric windowing, the backbone's stem folded to one channel."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from metatx.backbone.stem import Stem
from metatx.json_schema import image_schema
from metatx.layers.grey import Augment, Flips, GreyImages, Normalize
from metatx.padded import PaddedTokens
from metatx.places import PicturePlaces, Places, patch_names
from metatx.reading.image import SUFFIXES, contrasted, is_image, read_grey
from metatx.reading.signatures import signatures_of
from metatx.sequence import TokenSequence
from metatx.tokenizer import Batch, Tokenizer

__all__ = ["InfraredTokenizer"]


class InfraredTokenizer(Tokenizer):
    """One token per patch of a one-channel picture, by the backbone's stem, folded and trained on.

    Grey values are radiation: 8- and 16-bit counts, or floats in any unit (temperatures), are windowed between
    percentiles of the training split, so that a value means the same in all pictures. A warm spot is as warm in the
    mirror: where the scene has no side either, ``flips`` multiplies the training pictures.

    Args:
        dim: Width of the backbone.
        stem: ``backbone.stem``.
        image_size: Side in pixels, or [height, width], multiples of the patch; by default the stem's own. Pictures
            are stretched to it, nothing is cut away.
        percentiles: Percentiles of the grey values that become 0 and 1; wide, as the hottest pixels matter most.
        normalize: Percentiles of the ``"training"`` split, or of each picture (``"instance"``) where a camera's
            automatic gain has scaled each by itself already.
        augment: Random shift, scale, turn, gain and offset in training: ``"light"`` or ``"strong"``.
        flips: In training: ``"horizontal"`` where up is up (streets), ``"both"`` for what is seen from above.
        freeze_stem: Leave the folded stem as it is, so that features are computed once.

    Raises:
        ValueError: If an option is none of its choices.
    """

    guessed_from = None
    tunable = {"freeze_stem": (False, True)}
    suffixes = SUFFIXES
    stem = "image"
    signatures = signatures_of(suffixes)
    default_head = "classification"

    def __init__(
        self,
        dim: int,
        stem: Stem | None,
        image_size: int | Sequence[int] | None = None,
        percentiles: Sequence[float] = (0.1, 99.9),
        normalize: Normalize = "training",
        augment: Augment = "none",
        flips: Flips = "none",
        freeze_stem: bool = False,
    ) -> None:
        super().__init__(dim)
        self.uses_stem_tokens = stem is not None
        self.pictures = GreyImages(dim, stem, image_size, percentiles, normalize, augment, flips, freeze_stem)
        self.augments = self.pictures.augments

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """Pictures, names of picture files, and the dicts of Hugging Face's image columns."""
        return is_image(value)

    @classmethod
    def preview(cls, sample: Any) -> Image.Image:
        """The picture, stretched to its own contrast."""
        return contrasted(read_grey(sample))

    def fit(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Learn the window. Raises ValueError if no picture can be read, or all pixels have the same value."""
        return {f"pictures.{name}": value for name, value in self.pictures.fit(samples).items()}

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A picture, in any form ``read_grey`` knows, to ``image`` float16 (1, H, W) in 0..1."""
        return {"image": self.pictures.sized(self.pictures.windowed(sample))}

    def json_schema(self) -> dict[str, Any]:
        """Pixels."""
        return image_schema()

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """A random variation of the picture."""
        return self.pictures.vary(encoded["image"])

    def forward(self, batch: Batch) -> TokenSequence:
        """Pictures (B, 1, H, W) to a token per patch."""
        return self.padded(batch).packed()

    def padded(self, batch: Batch) -> PaddedTokens:
        """A token for each patch, (B, N, D)."""
        tokens: PaddedTokens = self.pictures(batch["image"])
        return tokens

    def dense_values(self, sample: Any) -> np.ndarray:
        """The pixels of the picture (H, W, 1), in 0..1."""
        return self.pictures.windowed(sample)[..., None]

    def token_places(self, sample: Any) -> Places:
        """The patches of the picture, as it is resized."""
        return PicturePlaces(
            patch_names(*self.pictures.grid), self.encode(sample)["image"].float().numpy(), self.pictures.grid
        )

    def baseline_features(self, sample: Any) -> np.ndarray:
        """Histograms of oriented gradients, a thumbnail, mean and deviation."""
        return self.pictures.baseline_features(self.pictures.windowed(sample))
