"""Masks: a code or a colour for each pixel, and how they are read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metatx.errors import SampleError
from metatx.reading.arrays import npy_array
from metatx.reading.image import is_image, open_image

__all__ = [
    "GREY", "IGNORED", "NO_LABEL", "Held", "coloured", "is_mask", "packed", "read_colours", "read_mask",
    "survey", "unpacked",
]  # fmt: skip

IGNORED = 255  # the class number of places without a class; so there may be 255 classes
NO_LABEL = -1  # the code of a place that has none: -1 or NaN in arrays
WHITE = 65535  # of 16 bits, is what 255 is of 8
GREY = 0x010101  # times a grey level is its colour, packed
BLURRED = 8  # codes that are on single pixels only, from which a mask is taken for one with smoothed edges
LOSSY = (".jpg", ".jpeg")
ADVICE = "in it; expected one a class. Save masks as PNG, resized to the nearest pixel, blurred ones with a threshold"


@dataclass(frozen=True)
class Held:
    """What one mask holds.

    Attributes:
        axes: 2 of a picture, 1 of points.
        codes: Places of each code; None where it says classes by colours.
        colours: Places of each packed colour; None where it has no colours.
        palette: Colours, packed, of the codes that it holds, where the file says such.
    """

    axes: int
    codes: Counter[int] | None
    colours: Counter[int] | None
    palette: dict[int, int]


def is_mask(value: Any) -> bool:
    """Whether a target looks like a mask: the name of a picture or of a ``.npy`` file, a picture, an array of codes.

    A list may be anything, so the head has to be named for it.
    """
    if isinstance(value, str) and value.lower().endswith(".npy"):
        return True
    if isinstance(value, np.ndarray):
        whole = value.dtype == np.bool_ or np.issubdtype(value.dtype, np.integer)
        return value.ndim > 0 and (whole or (value.ndim == 2 and np.issubdtype(value.dtype, np.floating)))
    return is_image(value)


def read_mask(target: Any) -> np.ndarray:
    """The codes of a mask, int16 (H, W) or (N,): 0 to 255, and -1 where there is no label (-1 or NaN).

    Grey that was saved as colours is read as grey, a palette as the codes behind it.

    Raises:
        SampleError: If it cannot be read, has colours for codes, or holds anything but whole numbers from -1 to 255.
    """
    codes, colours = _opened(target)
    if codes is None:
        count = len(np.unique(packed(colours)))
        raise SampleError(f"mask has {count} colours; expected one channel, a code for each pixel, as other masks have")
    return codes


def read_colours(target: Any) -> np.ndarray:
    """The colours of a mask, packed, int32 (H, W); -1 where there is no label. Raises SampleError as ``read_mask``."""
    codes, colours = _opened(target)
    if colours is not None:
        return packed(colours)
    if codes is None or codes.ndim != 2:
        raise SampleError("mask is of points; expected a picture in colours, as other masks are")
    grey: np.ndarray = codes.astype(np.int32) * GREY
    grey[codes == NO_LABEL] = NO_LABEL
    return grey


def packed(colours: Any) -> np.ndarray:
    """Red, green, blue (..., 3) of 0 to 255 as one number (...), int32, in the same order."""
    found: np.ndarray = np.asarray(colours, dtype=np.int32) @ np.array([0x10000, 0x100, 1], dtype=np.int32)
    return found


def unpacked(colours: Any) -> np.ndarray:
    """The inverse of ``packed``, uint8 (..., 3)."""
    parts = np.asarray(colours, dtype=np.int32)[..., None] // np.array([0x10000, 0x100, 1]) % 0x100
    found: np.ndarray = parts.astype(np.uint8)
    return found


def survey(target: Any) -> Held:
    """What a mask holds, for the choice of the classes.

    Raises:
        SampleError: As ``read_mask``, or if codes or colours lie scattered over single pixels, as smoothed edges leave
            them; or if a JPEG has more than two.
    """
    codes, colours = _opened(target)
    palette = {}
    if codes is not None and colours is not None:
        found, first = np.unique(codes, return_index=True)
        palette = dict(zip(found.tolist(), packed(colours).ravel()[first].tolist(), strict=True))
    whole = codes if codes is not None else packed(colours)
    name = target.get("path") if isinstance(target, dict) else target
    if isinstance(name, str | Path) and str(name).lower().endswith(LOSSY) and len(np.unique(whole)) > 2:
        raise SampleError(f"mask is a JPEG, which blurs codes: {len(np.unique(whole))} {ADVICE}")
    return Held(
        whole.ndim,
        None if codes is None else _counted(codes, "codes"),
        None if colours is None else _counted(packed(colours), "colours"),
        palette,
    )


def coloured(held: Sequence[Held]) -> bool:
    """Whether masks say their classes by colours, not by codes.

    They do where one has colours and no codes, and where palettes give a code another colour in another file without
    that there are more colours than codes: then each file numbers its colours for itself.
    """
    if any(mask.codes is None for mask in held):
        return True
    pairs = {pair for mask in held for pair in mask.palette.items()}
    codes, colours = ({pair[at] for pair in pairs} for at in (0, 1))
    return len(pairs) > len(codes) >= len(colours)


def _counted(values: np.ndarray, what: str) -> Counter[int]:
    """Places of each value. Raises SampleError where most values of a picture are on single pixels."""
    found, counts = np.unique(values, return_counts=True)
    if values.ndim == 2 and len(found) >= BLURRED:
        beside = np.zeros(values.shape, dtype=bool)
        for across in (False, True):
            rows, marks = (values.T, beside.T) if across else (values, beside)
            equal = rows[1:] == rows[:-1]
            marks[1:] |= equal
            marks[:-1] |= equal
        alone = np.bincount(np.searchsorted(found, values[~beside]), minlength=len(found)) * 2 > counts
        if alone.sum() >= max(BLURRED, len(found) / 2):
            raise SampleError(
                f"mask has smoothed edges, {len(found)} {what}, {alone.sum()} of them mostly on single pixels {ADVICE}"
            )
    return Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))


def _opened(target: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Codes int16 (H, W) or (N,), and colours (H, W, 3), of which one may be None. Raises SampleError."""
    if isinstance(target, str | Path) and str(target).lower().endswith(".npy"):
        try:
            values = npy_array(Path(target))
        except SampleError as error:
            raise SampleError(f"mask {Path(target).name} is {error}") from None
    elif is_image(target) or isinstance(target, str | Path | bytes):
        picture = open_image(target)
        if isinstance(picture, Image.Image) and picture.mode == "P":
            return _codes(np.asarray(picture)), np.asarray(picture.convert("RGB"))
        values = _channels(picture) if isinstance(picture, Image.Image) else np.asarray(picture)
    else:
        try:
            values = np.asarray(target)
        except ValueError:
            raise SampleError("mask is a list of rows that differ in length; expected (H, W) or (N,)") from None
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if values.ndim == 3 and values.shape[2] in (3, 4) and np.issubdtype(values.dtype, np.integer):
        return _split(values)
    if values.ndim not in (1, 2) or not values.size:
        raise SampleError(f"mask is an array {values.shape}; expected (H, W) of a picture or (N,) of points")
    return _codes(values), None


def _channels(picture: Image.Image) -> np.ndarray:
    """One channel (H, W), or colours with or without transparency (H, W, 3 or 4)."""
    if picture.mode in ("LA", "PA"):
        picture = picture.convert("RGBA")
    if picture.mode not in ("1", "L", "F", "RGB", "RGBA") and not picture.mode.startswith("I"):
        raise SampleError(f"mask is a picture of mode {picture.mode}; expected grey levels, a palette or RGB")
    return np.asarray(picture)


def _split(values: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Codes, where red, green and blue (H, W, 3 or 4) are the same everywhere, and colours."""
    if values.shape[2] == 4 and values[..., 3].min() != values[..., 3].max():
        raise SampleError("mask has a transparency that varies; expected colours alone, one a class: flatten it")
    if values.min() < 0 or values.max() > 255:
        raise SampleError(f"mask holds colours of {values.min()} to {values.max()}; expected 0 to 255")
    colours = values[..., :3].astype(np.uint8)
    grey = (colours == colours[..., :1]).all()
    return (_codes(colours[..., 0]) if grey else None), colours


def _codes(values: np.ndarray) -> np.ndarray:
    """Whole numbers of any type as int16, -1 where there is no label. Raises SampleError for others."""
    if np.issubdtype(values.dtype, np.floating):
        values = np.where(np.isnan(values), NO_LABEL, values.astype(np.float64))
        if (values != np.round(values)).any():
            strange = values[values != np.round(values)].flat[0]
            raise SampleError(f"mask holds {strange:g}; expected whole numbers, a code for each place")
    elif values.dtype != np.bool_ and not np.issubdtype(values.dtype, np.integer):
        raise SampleError(f"mask holds {values.dtype}; expected whole numbers, a code for each place")
    if values.max() == WHITE:
        values = np.where(values == WHITE, 255, values)
    if values.min() < NO_LABEL or values.max() > 255:
        raise SampleError(
            f"mask holds {values.min():g} to {values.max():g}; expected codes of 0 to 255, or -1 for no label"
        )
    small: np.ndarray = values.astype(np.int16)
    return small
