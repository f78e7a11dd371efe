"""X-ray pictures -> tokens: photometric interpretation, windowing, the backbone's stem folded to one channel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from torch import Tensor

from metatx.errors import SampleError
from metatx.examples import Examples
from metatx.parts.grey import Augment, GreyPictures, Normalize
from metatx.parts.schemas import picture_schema
from metatx.reading.arrays import npz_arrays
from metatx.reading.pictures import SUFFIXES, is_picture
from metatx.sequence import TokenSequence
from metatx.stem import Stem
from metatx.tokenizer import Batch, Tokenizer

__all__ = ["XRayTokenizer"]

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # MedMNIST's names and ours


def read_medmnist(path: Path) -> dict[str, Examples]:
    """The splits of a MedMNIST file: arrays ``{train,val,test}_images`` (B, H, W) and ``_labels`` (B, 1).

    ChestMNIST's labels (B, 14), of zeros and ones, become lists of the columns that are 1, counted from 0 as its
    publishers do.

    Raises:
        ValueError: If it is no such file.
    """
    try:
        held: dict[str, Any] = npz_arrays(path)
    except SampleError as error:
        raise ValueError(f"{path} is {error}.") from None
    splits = {}
    for name, split in SPLITS.items():
        images, labels = held.get(f"{name}_images"), held.get(f"{name}_labels")
        if images is None or labels is None:
            continue
        if images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
            raise ValueError(
                f"{path}: {name}_images are {images.shape}; expected (B, H, W), pictures of two dimensions."
            )
        several = labels.ndim == 2 and labels.shape[1] > 1 and np.isin(labels, (0, 1)).all()
        if len(images) != len(labels) or (labels.size != len(labels) and not several):
            raise ValueError(
                f"{path}: {name}_labels are {labels.shape}; expected one, or zeros and ones, for each of {len(images)} "
                "pictures."
            )
        codes = [[str(k) for k in np.flatnonzero(row)] for row in labels] if several else labels.ravel().tolist()
        splits[split] = Examples(images, codes, str(path))
    if not splits:
        names = ", ".join(held) or "nothing"
        raise ValueError(f"{path} holds {names}; a MedMNIST file holds train_images, train_labels, val_images, ...")
    return splits


class XRayTokenizer(Tokenizer):
    """One token per patch of a radiograph, by the backbone's stem, folded and trained on.

    Reads pictures of 8 and 16 bits, and MedMNIST's npz files as they are. Which side is left matters here, so training
    pictures are never mirrored.

    Args:
        dim: Width of the backbone.
        stem: ``backbone.stem``.
        image_size: Side in pixels, or [height, width], multiples of the patch; by default the stem's own. Pictures
            are stretched to it, nothing is cut away.
        photometric: As DICOM names it: ``"MONOCHROME2"`` where dense tissue is bright, ``"MONOCHROME1"`` where it is
            dark; such pictures are inverted.
        percentiles: Of the grey values, that become 0 and 1; burnt-in markers and collimator edges lie outside.
        normalize: Percentiles of the ``"training"`` split, or of each picture (``"instance"``) where exposures differ.
        augment: Random shift, scale, turn, contrast and brightness in training: ``"light"`` or ``"strong"``.
        freeze_stem: Leave the folded stem as it is, so that features are computed once.

    Raises:
        ValueError: If an option is none of its choices.
    """

    suffixes = SUFFIXES
    containers = {".npz": read_medmnist}
    default_head = "classification"
    PHOTOMETRIC: ClassVar[tuple[str, ...]] = ("MONOCHROME1", "MONOCHROME2")

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
        if photometric not in self.PHOTOMETRIC:
            raise ValueError(f"photometric is {photometric!r}; choose one of {', '.join(self.PHOTOMETRIC)}.")
        self.native = stem is not None
        self.photometric = photometric
        self.pictures = GreyPictures(dim, stem, image_size, percentiles, normalize, augment, "none", freeze_stem)
        self.augments = self.pictures.augments

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """Pictures, names of picture files, and the dicts of Hugging Face's image columns."""
        return is_picture(value)

    def fit(self, samples: Sequence[Any]) -> Self:
        """Learn the window. Raises ValueError if no picture can be read, or all pixels have the same value."""
        self.pictures.fit(samples)
        return self

    def _windowed(self, sample: Any) -> np.ndarray:
        values = self.pictures.windowed(sample)
        return 1 - values if self.photometric == "MONOCHROME1" else values

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A picture, in any form ``read_grey`` knows, to ``image`` float16 (1, H, W), dense tissue towards 1."""
        return {"image": self.pictures.sized(self._windowed(sample))}

    def json_schema(self) -> dict[str, Any]:
        """Pixels."""
        return picture_schema()

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """A random variation of the picture."""
        return self.pictures.vary(encoded["image"])

    def forward(self, batch: Batch) -> TokenSequence:
        """Pictures (B, 1, H, W) to a token per patch."""
        sequence: TokenSequence = self.pictures(batch["image"])
        return sequence

    def sites(self, sample: Any) -> np.ndarray:
        """The pixels of the picture (H, W, 1), in 0..1."""
        return self._windowed(sample)[..., None]

    def describe(self, sample: Any) -> np.ndarray:
        """Histograms of oriented gradients, a thumbnail, mean and deviation."""
        return self.pictures.describe(self._windowed(sample))
