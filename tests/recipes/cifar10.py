"""A few images of each class of CIFAR-10, real where they are at hand."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests.recipes.common import real

COUNTS = {"train": 12, "val": 3, "test": 8}  # of each class


def few_images(folder: Path) -> Path:
    """``folder``, with train, val and test in it, each of one folder a class."""
    there = real("image/cifar10_subset")
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for label in range(10) if there is None else sorted(path.name for path in (there / split).iterdir()):
            (folder / split / str(label)).mkdir(parents=True)
            for i in range(count):
                target = folder / split / str(label) / f"{i}.jpg"
                if there is None:
                    colour = np.array([label * 25, 255 - label * 25, label % 2 * 255])
                    picture = (colour + rng.normal(size=(32, 32, 3)) * 30).clip(0, 255).astype(np.uint8)
                    Image.fromarray(picture).save(target)
                else:
                    shutil.copy(sorted((there / split / label).iterdir())[i], target)
    return folder
