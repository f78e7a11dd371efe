"""X-ray pictures -> tokens: photometric interpretation, windowing, the backbone's stem folded to one channel."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from metatx.backbone.stem import Stem
from metatx.json_schema import image_schema
from metatx.layers.grey import Augment, GreyImages, Normalize
from metatx.padded import PaddedTokens
from metatx.places import PicturePlaces, Places, patch_names
from metatx.reading import dicom
from metatx.reading.image import SUFFIXES, contrasted, is_image
from metatx.reading.medmnist import read_medmnist
from metatx.reading.signatures import signatures_of
from metatx.sequence import TokenSequence
from metatx.tokenizer import Batch, Tokenizer

__all__ = ["XRayTokenizer"]


class XRayTokenizer(Tokenizer):
    """One token per patch of a radiograph, by the backbone's stem, folded and trained on.

    Reads pictures of 8 and 16 bits, DICOM files as a viewer shows them, and MedMNIST's npz files. Which side is left
    matters here, so training pictures are never mirrored.

    Args:
        dim: Width of the backbone.
        stem: ``backbone.stem``.
        image_size: Side in pixels, or [height, width], multiples of the patch; by default the stem's own. Pictures
            are stretched to it, nothing is cut away.
        photometric: DICOM's photometric interpretation: ``"MONOCHROME2"`` where dense tissue is bright,
            ``"MONOCHROME1"`` where it is dark; such pictures are inverted. DICOM files say it themselves.
        percentiles: Percentiles of the grey values that become 0 and 1; markers and collimator edges lie outside.
        normalize: Percentiles of the ``"training"`` split, or of each picture (``"instance"``) where exposures differ.
        augment: Random shift, scale, turn, contrast and brightness in training: ``"light"`` or ``"strong"``.
        freeze_stem: Leave the folded stem as it is, so that features are computed once.

    Raises:
        ValueError: If an option is none of its choices.
    """

    guessed_from = None
    tunable = {"freeze_stem": (False, True)}
    suffixes = (*SUFFIXES, *dicom.SUFFIXES)
    readers = {".npz": read_medmnist}
    stem = "image"
    signatures = signatures_of((*suffixes, *readers))
    default_head = "classification"

    def __init__(
        self,
        dim: int,
        stem: Stem | None,
        image_size: int | Sequence[int] | None = None,
        photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
        percentiles: Sequence[float] = (0.5, 99.5),
        normalize: Normalize = "training",
        augment: Augment = "none",
        freeze_stem: bool = False,
    ) -> None:
        super().__init__(dim)
        self.uses_stem_tokens = stem is not None
        self.photometric = photometric
        self.pictures = GreyImages(
            dim, stem, image_size, percentiles, normalize, augment, "none", freeze_stem, dicom.read_radiograph
        )
        self.augments = self.pictures.augments

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """Pictures, names of picture files, and the dicts of Hugging Face's image columns."""
        return is_image(value, cls.suffixes)

    @classmethod
    def preview(cls, sample: Any) -> Image.Image:
        """The picture, stretched to its own contrast."""
        return contrasted(dicom.read_radiograph(sample))

    def fit(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Learn the window. Raises ValueError if no picture can be read, or all pixels have the same value."""
        return {f"pictures.{name}": value for name, value in self.pictures.fit(samples).items()}

    def _windowed(self, sample: Any) -> np.ndarray:
        values = self.pictures.windowed(sample)
        inverted = self.photometric == "MONOCHROME1" and not dicom.is_dicom(sample)
        return 1 - values if inverted else values

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A picture, in any form ``read_radiograph`` knows, to ``image`` float16 (1, H, W), dense tissue towards 1."""
        return {"image": self.pictures.sized(self._windowed(sample))}

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
        return self._windowed(sample)[..., None]

    def token_places(self, sample: Any) -> Places:
        """The patches of the picture, as it is resized."""
        return PicturePlaces(
            patch_names(*self.pictures.grid), self.encode(sample)["image"].float().numpy(), self.pictures.grid
        )

    def baseline_features(self, sample: Any) -> np.ndarray:
        """Histograms of oriented gradients, a thumbnail, mean and deviation."""
        return self.pictures.baseline_features(self._windowed(sample))
