"""Labelled images of MedMNIST's files, grey or in colour."""

from pathlib import Path
from typing import Any

import numpy as np

from metatx.errors import SampleError
from metatx.examples import Examples
from metatx.reading.arrays import npz_arrays
from metatx.reading.bounds import check_bound

__all__ = ["read_medmnist"]

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # names of splits in MedMNIST and in metatx


def read_medmnist(path: Path) -> dict[str, Examples]:
    """Read the splits of a MedMNIST file: arrays ``{train,val,test}_images`` and ``_labels`` (B, 1).

    Images are (B, H, W), or (B, H, W, 3) in colour. Labels (B, K) of zeros and ones, as in ChestMNIST, become lists of
    the columns that are 1, counted from 0 as by its publishers.

    Raises:
        ValueError: If it is no such file.
    """
    try:
        arrays: dict[str, Any] = npz_arrays(path)
    except SampleError as error:
        raise ValueError(f"{path} is {error}.") from None
    splits = {}
    for name, split in SPLITS.items():
        images = arrays.get(f"{name}_images")
        labels = arrays.get(f"{name}_labels")
        if images is None or labels is None:
            continue
        if images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
            expected = "(B, H, W), images of two dimensions, or (B, H, W, 3)"
            raise ValueError(f"{path}: {name}_images are {images.shape}; expected {expected}.")
        check_bound("samples", len(images), f"{path}: {name}_images")
        several = labels.ndim == 2 and labels.shape[1] > 1 and np.isin(labels, (0, 1)).all()
        if len(images) != len(labels) or (labels.size != len(labels) and not several):
            raise ValueError(
                f"{path}: {name}_labels are {labels.shape}; expected one, or zeros and ones, for each of {len(images)} "
                "images."
            )
        codes = [[str(k) for k in np.flatnonzero(row)] for row in labels] if several else labels.ravel().tolist()
        splits[split] = Examples(images, codes, str(path))
    if not splits:
        names = ", ".join(arrays) or "nothing"
        raise ValueError(f"{path} holds {names}; a MedMNIST file holds train_images, train_labels, val_images, ...")
    return splits
