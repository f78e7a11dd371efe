"""Predicted masks as image files, or as arrays where a sample is no image."""

from collections.abc import Sequence
from colorsys import hsv_to_rgb
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["write_masks"]


def write_masks(
    folder: Path, samples: Sequence[Any], masks: Sequence[np.ndarray], colours: np.ndarray | None = None
) -> None:
    """Write the codes of each sample into a new folder: (H, W) as PNG with a palette, (N,) as npy.

    Files are named as the sample's own, or numbered. With ``colours`` (K, 3), masks hold numbers of classes, and
    images are written in RGB. Samples whose mask is None get no file.

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
        if mask is None:
            continue
        name = Path(sample).stem if isinstance(sample, str) else f"{number:0{digits}}"
        if (folder / f"{name}.png").exists() or (folder / f"{name}.npy").exists():
            name = f"{name}-{number}"
        if mask.ndim == 1:
            np.save(folder / f"{name}.npy", mask)
            continue
        if colours is not None:
            Image.fromarray(colours[mask]).save(folder / f"{name}.png")
            continue
        image = Image.fromarray(mask)
        image.putpalette(np.concatenate(hues).tobytes())
        image.save(folder / f"{name}.png")
