"""Hyperspectral scenes (H, W, bands) with masks of labels, from MATLAB and numpy files; their pixels as samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metatx.errors import SampleError
from metatx.examples import Examples
from metatx.progress import tell
from metatx.reading.arrays import mat_arrays, npz_arrays, shapes_of
from metatx.reading.bounds import check_bound
from metatx.reading.folders import visible
from metatx.reading.split_names import KNOWN, splits_of

__all__ = ["Pixel", "Pixels", "read_arrays", "read_cube", "scene_of", "spectra_of"]

EXPECTED = "a cube (H, W, bands) beside a mask (H, W) gt, or masks TR and TE; or spectra X (N, bands) and labels y"
TRUTHS = ("gt", "labels", "groundT", "ground_truth")
UNSIGNED = (255, 65535)  # -1 in unsigned types
FAR = 0.8  # an unsigned -1 means "no label" if all labels are below this share of it
# Names of the masks of each split in a file.
MASKS = {"train": ("TR", "train"), "validation": ("VA", "val", "validation"), "test": ("TE", "test")}


@dataclass(frozen=True)
class Pixel:
    """One pixel of a scene, with its surroundings.

    Attributes:
        cube: Scene (H, W, C), shared by all of its pixels.
        row: Row of the pixel, counted from 0.
        column: Column of the pixel, counted from 0.
        wavelengths: Wavelengths of the bands in nm (C,); None if the file has none.
    """

    cube: np.ndarray
    row: int
    column: int
    wavelengths: np.ndarray | None = None

    def patch(self, size: int) -> np.ndarray:
        """Square (size, size, C) around the pixel, mirrored at the border of the scene."""
        reach = size // 2
        rows, columns = (
            np.pad(np.arange(side), reach, mode="symmetric")[at : at + size]
            for side, at in zip(self.cube.shape, (self.row, self.column), strict=False)
        )
        patch: np.ndarray = self.cube[np.ix_(rows, columns)]
        return patch


class Pixels(Sequence[Pixel]):
    """Pixels of a scene at rows and columns ``places`` (N, 2), made on access."""

    def __init__(self, cube: np.ndarray, places: np.ndarray, wavelengths: np.ndarray | None = None) -> None:
        self.cube = cube
        self.places = places
        self.wavelengths = wavelengths

    def everywhere(self) -> "Pixels":
        """All pixels of the scene, row by row."""
        return Pixels(self.cube, np.argwhere(np.ones(self.cube.shape[:2], dtype=bool)), self.wavelengths)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Pixels(self.cube, self.places[at], self.wavelengths)
        row, column = self.places[at].tolist()
        return Pixel(self.cube, row, column, self.wavelengths)


def scene_of(
    cube: np.ndarray, masks: dict[str, np.ndarray], source: str, wavelengths: np.ndarray | None = None
) -> dict[str, Examples]:
    """Labelled pixels of a scene by split; without masks, all pixels, without labels.

    Labels are counted from 1, and 0 means no label; if a mask holds -1, that means no label, and labels are counted
    from 0.

    Args:
        cube: Scene (H, W, C), or (C, H, W) if only that fits the masks.
        masks: Labels (H, W) by split.
        source: Name of the file, for messages.
        wavelengths: Wavelengths of the bands in nm (C,), if known.

    Raises:
        ValueError: If the scene does not hold numbers; if a mask does not hold whole numbers, has another size than the
            scene, or labels no pixel; if two masks label the same pixel.
    """
    _check_numbers(cube, "the scene", source)
    check_bound("pixels", cube.size // max(1, min(cube.shape)), f"{source}: the scene")
    if not masks:
        places = np.argwhere(np.ones(cube.shape[:2], dtype=bool))
        return {"all": Examples(Pixels(cube, places, wavelengths), None, source)}
    masks = {split: _labels(mask, f"the {split} mask", source) for split, mask in masks.items()}
    _check_unlabelled(masks, source)
    none = min(0, *(int(mask.min(initial=0)) for mask in masks.values()))
    if none < 0:
        tell(f"{source}: -1 is taken for no label, so 0 is taken for a label.")
    sizes = {mask.shape for mask in masks.values()}
    if sizes == {cube.shape[1:]} and sizes != {cube.shape[:2]}:
        cube = np.moveaxis(cube, 0, 2)  # the masks show that the bands come first
    seen = np.zeros(cube.shape[:2], dtype=bool)
    splits = {}
    for split, mask in masks.items():
        if mask.shape != cube.shape[:2]:
            raise ValueError(f"{source}: the {split} mask has {mask.shape} pixels, the scene {cube.shape[:2]}.")
        labelled = mask > none
        if not labelled.any():
            raise ValueError(f"{source}: the {split} mask labels no pixel; labels count from {none + 1}.")
        if (seen & labelled).any():
            raise ValueError(f"{source}: the {split} mask labels pixels that another split labels too.")
        seen |= labelled
        splits[split] = Examples(Pixels(cube, np.argwhere(labelled), wavelengths), mask[labelled].tolist(), source)
    return splits


def _labels(mask: np.ndarray, name: str, source: str) -> np.ndarray:
    """Convert a mask to whole numbers from -1 on. Raises ValueError for other numbers, and for words."""
    check_bound("pixels", mask.size, f"{source}: {name}")
    _check_numbers(mask, name, source, whole=True)
    if mask.size and mask.min() < -1:
        raise ValueError(
            f"{source}: {name} holds {mask.min():g}; expected labels from 0 or 1 on, -1 where there is none."
        )
    return mask.astype(int)


def _check_unlabelled(masks: dict[str, np.ndarray], source: str) -> None:
    """Refuse the largest number of an unsigned type, far above all labels: a -1 that was converted, meaning no label.

    Raises:
        ValueError: If a mask holds such a number.
    """
    codes = np.unique(np.concatenate([mask.ravel() for mask in masks.values()]))
    if len(codes) > 1 and codes[-1] in UNSIGNED and codes[-2] < FAR * codes[-1]:
        raise ValueError(
            f"{source}: the mask holds {codes[-1]} beside labels to {codes[-2]}; if it means no label, write -1 where "
            "0 is a label, else 0."
        )


def spectra_of(arrays: dict[str, np.ndarray], source: str) -> dict[str, Examples]:
    """Spectra ``X`` (N, bands) with labels ``y`` (N,) by split; ``split`` (N,), if there, names each one's split."""
    spectra = arrays["X"]
    labels = np.asarray(arrays["y"]).ravel()
    check_bound("samples", max(len(spectra), len(labels)), source)
    _check_numbers(spectra, "X", source)
    if not len(spectra):
        raise ValueError(f"{source} holds no spectra.")
    words = np.asarray(arrays.get("split", np.full(len(labels), "all"))).ravel()
    if not len(spectra) == len(labels) == len(words):
        raise ValueError(f"{source} has {len(spectra)} spectra, {len(labels)} labels and {len(words)} split names.")
    split_by_word = splits_of(str(word) for word in words)
    strange = sorted(set(map(str, words)) - {*split_by_word, "all"})
    if strange:
        raise ValueError(f"{source}: split holds {', '.join(strange[:3])}; accepted are {KNOWN}.")
    splits = np.array([split_by_word.get(str(word), "all") for word in words])
    return {
        split: Examples(spectra[splits == split], labels[splits == split].tolist(), source)
        for split in sorted(set(splits.tolist()))
    }


def _check_numbers(array: np.ndarray, name: str, source: str, whole: bool = False) -> None:
    """Refuse words and complex numbers, and fractions if numbers must be ``whole``. Raises ValueError."""
    if not np.issubdtype(array.dtype, np.integer) and not np.issubdtype(array.dtype, np.floating):
        if array.dtype != np.bool_:
            raise ValueError(f"{source}: {name} holds {array.dtype}; expected real numbers.")
    elif whole and not (array == np.round(array)).all():
        raise ValueError(f"{source}: {name} holds fractions or NaN; expected whole numbers, 0 where there is no label.")


def read_cube(path: Path) -> dict[str, Examples]:
    """Read the labelled pixels of a ``.mat`` or ``.npz`` file by split.

    Three published forms are read: a cube with masks ``TR`` and ``TE`` (or ``gt``) in one file; a cube whose ground
    truth lies beside it (``Indian_pines_corrected.mat`` and ``Indian_pines_gt.mat``); spectra ``X`` with ``y`` and
    ``split``.

    Raises:
        ValueError: If the file is damaged or has another form.
    """
    arrays = read_arrays(path)
    if "X" in arrays and "y" in arrays and arrays["X"].ndim == 2:
        return spectra_of(arrays, str(path))
    cubes = [name for name, array in arrays.items() if array.ndim == 3]
    if len(cubes) != 1:
        raise ValueError(f"{path} holds {shapes_of(arrays)}; expected {EXPECTED}.")
    cube = arrays[cubes[0]]
    masks = {split: arrays[name] for split, names in MASKS.items() for name in names if name in arrays}
    if "train" not in masks:
        truths = [arrays[name] for name in TRUTHS if name in arrays] or _truth_beside(path, cubes[0])
        masks = {"all": truths[0]} if truths else {}
        unread = [f"{name} {array.shape}" for name, array in arrays.items() if array.ndim == 2 and min(array.shape) > 1]
        if unread and not masks:
            names = f"called {', '.join(TRUTHS)}, or in a file {path.stem.removesuffix('_corrected')}_gt"
            tell(f"{path}: {', '.join(unread)} is not read; a mask of labels is {names}.")
    wavelengths = arrays.get("wavelengths")
    return scene_of(cube, masks, str(path), None if wavelengths is None else wavelengths.ravel())


def _truth_beside(path: Path, cube: str) -> list[np.ndarray]:
    """Arrays (H, W) of the file of labels beside a cube's file."""
    stem = path.stem.removesuffix("_corrected")
    files = {file.name.lower(): file for file in visible(path.parent)}
    for name in (f"{stem}_gt{suffix}".lower() for suffix in (path.suffix, ".mat", ".npz")):
        if name in files:
            return [array for array in read_arrays(files[name]).values() if array.ndim == 2]
    return []


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a ``.mat`` (up to version 7) or ``.npz`` file. Raises ValueError if that is not possible."""
    try:
        return npz_arrays(path) if path.suffix.lower() == ".npz" else mat_arrays(path)
    except SampleError as error:
        raise ValueError(f"{path} is {error}.") from None
