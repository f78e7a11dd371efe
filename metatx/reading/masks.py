"""Masks: a code for each pixel or point, how they are read, and the forest that labels them for comparison."""

from collections.abc import Sequence
from colorsys import hsv_to_rgb
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from metatx.errors import SampleError
from metatx.reading.arrays import npy_array
from metatx.reading.pictures import is_picture, open_picture

__all__ = ["IGNORED", "SiteForest", "is_mask", "read_mask", "write_masks"]

IGNORED = 255  # the class number of places without a class; so there may be 255 classes
LEARNED = 500  # samples, evenly spread, that the forest learns from
DRAWN = 200  # places of each training sample that the forest learns from
REACH = 5  # pixels that its surroundings are wide


def is_mask(value: Any) -> bool:
    """Whether a target looks like a mask: the name of a picture or of a ``.npy`` file, a picture, an array of codes.

    A list may be anything, so the head has to be named for it.
    """
    if isinstance(value, str) and value.lower().endswith(".npy"):
        return True
    if isinstance(value, np.ndarray):
        return bool(np.issubdtype(value.dtype, np.integer))
    return is_picture(value)


def read_mask(target: Any) -> np.ndarray:
    """The codes of a mask (H, W) or (N,), 0 to 255.

    Raises:
        SampleError: If it cannot be read, has colours for codes, or holds anything but whole numbers to 255.
    """
    if isinstance(target, str | Path) and str(target).lower().endswith(".npy"):
        try:
            codes = npy_array(Path(target))
        except SampleError as error:
            raise SampleError(f"mask {Path(target).name} is {error}") from None
    elif is_picture(target) or isinstance(target, str | Path | bytes):
        picture = open_picture(target)
        if not isinstance(picture, Image.Image) or picture.mode not in ("1", "L", "P", "I", "I;16"):
            mode = picture.mode if isinstance(picture, Image.Image) else "an array"
            raise SampleError(f"mask is a picture of mode {mode}; expected one channel, a code for each pixel")
        codes = np.asarray(picture)
    else:
        try:
            codes = np.asarray(target)
        except ValueError:
            raise SampleError("mask is a list of rows that differ in length; expected (H, W) or (N,)") from None
    if codes.ndim not in (1, 2) or not codes.size:
        raise SampleError(f"mask is an array {codes.shape}; expected (H, W) of a picture or (N,) of points")
    if codes.dtype != np.bool_ and not np.issubdtype(codes.dtype, np.integer):
        raise SampleError(f"mask holds {codes.dtype}; expected whole numbers, a code for each place")
    if codes.min() < 0 or codes.max() > 255:
        raise SampleError(f"mask holds {codes.min()} to {codes.max()}; expected codes of 0 to 255")
    small: np.ndarray = codes.astype(np.uint8)
    return small


def write_masks(folder: Path, samples: Sequence[Any], masks: Sequence[np.ndarray]) -> None:
    """Write the codes of each sample into a new folder: (H, W) as PNG with a palette, (N,) as npy.

    Files are named as the sample's own, or numbered.

    Raises:
        FileExistsError: If there is such a folder, and it is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists; nothing was written. Give another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    # Neighbouring codes get colours far apart: steps of the golden section around the circle of hues.
    hues = [(np.array(hsv_to_rgb(code * 0.618 % 1, 0.65, 0.95)) * 255).astype(np.uint8) for code in range(256)]
    digits = len(str(len(masks)))
    for number, (sample, mask) in enumerate(zip(samples, masks, strict=True), start=1):
        name = Path(sample).stem if isinstance(sample, str) else f"{number:0{digits}}"
        if (folder / f"{name}.png").exists() or (folder / f"{name}.npy").exists():
            name = f"{name}-{number}"
        if mask.ndim == 1:
            np.save(folder / f"{name}.npy", mask)
            continue
        picture = Image.fromarray(mask)
        picture.putpalette(np.concatenate(hues).tobytes())
        picture.save(folder / f"{name}.png")


class SiteForest:
    """A random forest on single places: their values, where they are, mean and deviation around them.

    Args:
        trees: How many; with none, the most frequent class everywhere.
    """

    def __init__(self, trees: int) -> None:
        self.trees = trees

    def fit(self, features: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> Self:
        """Learn from some places of each sample: values (H, W, C) or (N, C), class numbers (H, W) or (N,)."""
        from sklearn.ensemble import RandomForestClassifier

        rng = np.random.default_rng(0)
        rows, labels = [], []
        for i in range(0, len(features), -(-len(features) // LEARNED)):
            values, numbers = features[i], answers[i]
            known = np.flatnonzero(numbers.ravel() != IGNORED)
            drawn = rng.choice(known, min(DRAWN, len(known)), replace=False)
            rows.append(_surroundings(values)[drawn])
            labels.append(numbers.ravel()[drawn])
        counts = np.bincount(np.concatenate(labels))
        self.shares = counts / counts.sum()
        if self.trees:
            forest = RandomForestClassifier(self.trees, min_samples_leaf=3, n_jobs=-1, random_state=0)
            self.forest = forest.fit(np.concatenate(rows), np.concatenate(labels))
        return self

    def predict_log_proba(self, features: Sequence[np.ndarray], classes: int) -> list[np.ndarray]:
        """Log-probabilities of each sample, float32 (K, H, W) or (K, N)."""
        found = []
        for values in features:
            shares = np.zeros((int(np.prod(values.shape[:-1])), classes), dtype=np.float32)
            if self.trees:
                shares[:, self.forest.classes_] = self.forest.predict_proba(_surroundings(values))
            else:
                shares[:, : len(self.shares)] = self.shares
            found.append(np.log(shares.T + 1e-6).reshape(classes, *values.shape[:-1]))
        return found


def _surroundings(values: np.ndarray) -> np.ndarray:
    """Features (P, F) of each place."""
    if values.ndim == 2:
        centred = values - values.mean(0)
        return np.concatenate([values, centred, np.linalg.norm(centred[:, :3], axis=1, keepdims=True)], 1)
    from scipy.ndimage import uniform_filter

    size = (REACH, REACH, 1)
    mean = uniform_filter(values, size)
    spread = np.sqrt(np.maximum(uniform_filter(values**2, size) - mean**2, 0))
    height, width, channels = values.shape
    down, across = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    layers = np.concatenate([values, mean, spread, down[..., None], across[..., None]], 2)
    return layers.reshape(-1, 3 * channels + 2)
