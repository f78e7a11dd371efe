"""Predicted masks as image files, or as npy files if samples are no images."""

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
    """Write the mask of each sample into a new folder: codes (H, W) as PNG with a palette, codes (N,) as npy.

    Args:
        folder: Folder to create.
        samples: Raw samples; a file has the name of its sample, or else a number.
        masks: Mask of each sample; None for a sample without one, which gets no file.
        colours: Colours of the classes, uint8 (K, 3); masks then hold class numbers, and are written in RGB.

    Raises:
        FileExistsError: If the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists; nothing was written. Give another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    # Steps of the golden section around the circle of hues give neighbouring codes distinct colours.
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
