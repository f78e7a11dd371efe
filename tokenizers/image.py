"""Images -> tokens: the backbone's own stem."""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from metatx.backbone.stem import Stem
from metatx.json_schema import image_schema
from metatx.layers.folding import random_stem
from metatx.layers.hog import gradient_histograms
from metatx.layers.unregistered import Unregistered
from metatx.layers.views import coarser, random_view
from metatx.padded import PaddedTokens
from metatx.places import PicturePlaces, Places, patch_names
from metatx.reading.image import SUFFIXES, fit_image, is_image, read_image
from metatx.reading.medmnist import read_medmnist
from metatx.reading.signatures import signatures_of
from metatx.sequence import TokenSequence
from metatx.tokenizer import Batch, Tokenizer

__all__ = ["ImageTokenizer"]

# Random variations in training, each level with all of those before it.
FLIP = 0.5  # probability
RAND_AUGMENT = {"num_ops": 2, "magnitude": 9}  # Cubuk et al. 2020, arXiv 1909.13719


class ImageTokenizer(Tokenizer):
    """One token per patch, by the stem that the backbone was trained with, preprocessing included.

    Without a stem (the Meta-Transformer files have none) it has a random one of its own and trains that.

    Args:
        dim: Width of the backbone.
        stem: ``backbone.stem``.
        image_size: Side in pixels to which images are resized and cropped, a multiple of the patch, by default that
            of the weights; or [height, width], to which they are stretched, nothing cut away. Position embeddings
            are resampled.
        crop_pct: Share of the resized picture's side that the centre crop keeps; by default that of the weights, made
            for photographs with a margin. 1 keeps all of a picture.
        freeze_stem: Use the backbone's stem as it is; otherwise train a copy of it.
        augment: In training: ``"flip"`` left and right; ``"light"``: also crop and resize; ``"strong"``: also
            RandAugment.
        crop_area: Least and largest share of a picture's area that a crop keeps, in training.
        downscale: Probability that a picture is reduced to fewer pixels and enlarged again, in training, from
            ``"light"`` on: so the blurred pictures that enlarging small ones gives are known too.
    """

    suffixes = SUFFIXES
    tunable = {"augment": ("none", "flip", "light", "strong"), "freeze_stem": (True, False)}
    readers = {".npz": read_medmnist}
    stem = "image"
    signatures = signatures_of((*suffixes, *readers))
    default_head = "classification"
    stacks = True
    AUGMENTS: ClassVar[tuple[str, ...]] = ("none", "flip", "light", "strong")

    def __init__(
        self,
        dim: int,
        stem: Stem | None,
        image_size: int | Sequence[int] | None = None,
        crop_pct: float | None = None,
        freeze_stem: bool = True,
        augment: Literal["none", "flip", "light", "strong"] = "none",
        crop_area: Sequence[float] = (0.5, 1.0),
        downscale: float = 0.0,
    ) -> None:
        super().__init__(dim)
        if len(crop_area) != 2 or not 0 < crop_area[0] <= crop_area[1] <= 1:
            raise ValueError(f"crop_area is {list(crop_area)}; give two shares in ascending order, such as [0.5, 1].")
        if not 0 <= downscale <= 1:
            raise ValueError(f"downscale is {downscale:g}; a probability is between 0 and 1.")
        self.uses_stem_tokens = stem is not None
        # A frozen stem belongs to the backbone: kept out of this module's parameters and state.
        self._shared = Unregistered(stem) if stem is not None and freeze_stem else None
        if self._shared is None:
            self.own_stem = random_stem(dim) if stem is None else copy.deepcopy(stem)
            self.own_stem.requires_grad_(True)
        side = image_size or self.patch_stem.config.image_size
        self.side = side if isinstance(side, int) else None
        self.size = (side, side) if isinstance(side, int) else (side[0], side[1])
        self.grid = self.patch_stem.grid(*self.size)
        self.crop_warning = (
            "" if self.side is None else "give image_size as [height, width], such as --tokenizer.image-size [224,224]"
        )
        self.crop_pct = crop_pct or self.patch_stem.config.crop_pct
        self.augments = augment != "none"
        self.level = self.AUGMENTS.index(augment)
        self.crop_area = (crop_area[0], crop_area[1])
        self.downscale = downscale

    @property
    def patch_stem(self) -> Stem:
        """The backbone's, or this tokenizer's own."""
        return self.own_stem if self._shared is None else self._shared.module

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """Pictures, names of picture files, and the dicts of Hugging Face's image columns."""
        return is_image(value)

    @classmethod
    def preview(cls, sample: Any) -> Image.Image:
        """The picture."""
        return read_image(sample)

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """An image, in any form ``read_image`` knows, to ``image`` uint8 (3, H, W)."""
        config = self.patch_stem.config
        picture = read_image(sample)
        if self.side is None:
            picture = picture.resize(self.size[::-1], Image.Resampling[config.interpolation.upper()])
        else:
            picture = fit_image(picture, self.side, config.interpolation, self.crop_pct, config.crop_mode)
        return {"image": torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()}

    def json_schema(self) -> dict[str, Any]:
        """Pixels."""
        return image_schema()

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """A random variation of the image, as large as before; ``view`` as long as no RandAugment turned it."""
        if not self.level:
            return encoded
        image, view = random_view(encoded["image"], FLIP, self.crop_area if self.level > 1 else None)
        if self.level > 1 and torch.rand(()) < self.downscale:
            image = coarser(image)
        if self.level > 2:
            from torchvision.transforms import v2

            return {"image": v2.RandAugment(**RAND_AUGMENT)(image)}
        return {"image": image, "view": view}

    def forward(self, batch: Batch) -> TokenSequence:
        """Images uint8 (B, 3, H, W) to a token for each patch."""
        return self.padded(batch).packed()

    def padded(self, batch: Batch) -> PaddedTokens:
        """A token for each patch, (B, N, D)."""
        return PaddedTokens(self.patch_stem(batch["image"].float() / 255), grid=self.grid)

    def preparation(self) -> dict[str, Any]:
        """Size [height, width] of the picture that the graph takes, RGB, and the way there; it is normalised there."""
        config = self.patch_stem.config
        way = "stretch" if self.side is None else config.crop_mode
        return {
            "size": list(self.size),
            "resize": way,
            "crop_pct": self.crop_pct if self.side is not None else 1.0,
            "interpolation": config.interpolation,
            "values": "uint8 RGB, channels first; the graph scales and normalises them",
        }

    def dense_values(self, sample: Any) -> np.ndarray:
        """The pixels of the picture (H, W, 3), in 0..1."""
        return np.asarray(read_image(sample), dtype=np.float32) / 255

    def token_places(self, sample: Any) -> Places:
        """The patches of the picture, as it is resized and cropped."""
        picture = self.encode(sample)["image"].permute(1, 2, 0).numpy() / 255
        return PicturePlaces(patch_names(*self.grid), picture[None], self.grid)

    def baseline_features(self, sample: Any) -> np.ndarray:
        """Histograms of oriented gradients and of colours, of the picture resized to 32 x 32."""
        small = read_image(sample).resize((32, 32), Image.Resampling.BILINEAR)
        pixels = np.asarray(small, dtype=np.float32) / 255
        return np.concatenate([gradient_histograms(pixels), _colour_histogram(pixels)])


def _colour_histogram(pixels: np.ndarray, levels: int = 4) -> np.ndarray:
    """Square roots of the shares of levels ** 3 colours in (H, W, 3), values in 0..1."""
    bins = np.minimum((pixels * levels).astype(int), levels - 1) @ [levels**2, levels, 1]
    roots: np.ndarray = np.sqrt(np.bincount(bins.ravel(), minlength=levels**3) / bins.size)
    return roots
