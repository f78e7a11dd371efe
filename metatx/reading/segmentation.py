"""Masks: files and arrays with a code or a colour for each pixel or point."""

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
    "GREY", "IGNORED", "NO_LABEL", "MaskSurvey", "coloured", "is_mask", "packed", "read_colours", "read_mask",
    "survey", "unpacked",
]  # fmt: skip

IGNORED = 255  # class number of places without a class, so that there can be 255 classes
NO_LABEL = -1  # code of places without a label: -1 or NaN in arrays
WHITE = 65535  # 255 in 16 bits
GREY = 0x010101  # factor from a grey level to its packed colour
BLURRED = 8  # codes that occur on single pixels only; as many mean a mask with smoothed edges
LOSSY = (".jpg", ".jpeg")
ADVICE = "in it; expected one a class. Save masks as PNG, resized to the nearest pixel, blurred ones with a threshold"


@dataclass(frozen=True)
class MaskSurvey:
    """Codes and colours of one mask.

    Attributes:
        axes: Number of axes: 2 for an image, 1 for points.
        codes: Number of places of each code; None if the mask has colours only.
        colours: Number of places of each packed colour; None if the mask has no colours.
        palette: Packed colour of each code in the mask; empty if the file has none.
    """

    axes: int
    codes: Counter[int] | None
    colours: Counter[int] | None
    palette: dict[int, int]


def is_mask(value: Any) -> bool:
    """Return whether a target looks like a mask: an image, its file's name, a ``.npy`` file's name, an array of codes.

    A list does not: it may be anything, so users name the head for it.
    """
    if isinstance(value, str) and value.lower().endswith(".npy"):
        return True
    if isinstance(value, np.ndarray):
        whole = value.dtype == np.bool_ or np.issubdtype(value.dtype, np.integer)
        return value.ndim > 0 and (whole or (value.ndim == 2 and np.issubdtype(value.dtype, np.floating)))
    return is_image(value)


def read_mask(target: Any) -> np.ndarray:
    """Read the codes of a mask, int16 (H, W) or (N,): 0 to 255, and -1 for no label (-1 or NaN).

    Grey that was saved as RGB gives the grey level, a palette the codes behind its colours.

    Raises:
        SampleError: If the mask cannot be read, has colours instead of codes, or holds anything but whole numbers from
            -1 to 255.
    """
    codes, colours = _opened(target)
    if codes is None:
        count = len(np.unique(packed(colours)))
        raise SampleError(f"mask has {count} colours; expected one channel, a code for each pixel, as other masks have")
    return codes


def read_colours(target: Any) -> np.ndarray:
    """Read the packed colours of a mask, int32 (H, W); -1 for no label.

    Raises:
        SampleError: If the mask cannot be read, or is of points.
    """
    codes, colours = _opened(target)
    if colours is not None:
        return packed(colours)
    if codes is None or codes.ndim != 2:
        raise SampleError("mask is of points; expected an image in colours, as other masks are")
    grey: np.ndarray = codes.astype(np.int32) * GREY
    grey[codes == NO_LABEL] = NO_LABEL
    return grey


def packed(colours: Any) -> np.ndarray:
    """Pack red, green, blue (..., 3), 0 to 255, into one number (...), int32, that keeps their order."""
    numbers: np.ndarray = np.asarray(colours, dtype=np.int32) @ np.array([0x10000, 0x100, 1], dtype=np.int32)
    return numbers


def unpacked(colours: Any) -> np.ndarray:
    """Unpack colours of ``packed`` to uint8 (..., 3)."""
    channels = np.asarray(colours, dtype=np.int32)[..., None] // np.array([0x10000, 0x100, 1]) % 0x100
    small: np.ndarray = channels.astype(np.uint8)
    return small


def survey(target: Any) -> MaskSurvey:
    """Count the codes and colours of a mask, from which classes are chosen.

    Raises:
        SampleError: If the mask cannot be read; if many codes or colours occur on single pixels only, which smoothed
            edges cause; if a JPEG has more than two.
    """
    codes, colours = _opened(target)
    palette = {}
    if codes is not None and colours is not None:
        distinct, first = np.unique(codes, return_index=True)
        palette = dict(zip(distinct.tolist(), packed(colours).ravel()[first].tolist(), strict=True))
    whole = codes if codes is not None else packed(colours)
    name = target.get("path") if isinstance(target, dict) else target
    if isinstance(name, str | Path) and str(name).lower().endswith(LOSSY) and len(np.unique(whole)) > 2:
        raise SampleError(f"mask is a JPEG, which blurs codes: {len(np.unique(whole))} {ADVICE}")
    return MaskSurvey(
        whole.ndim,
        None if codes is None else _counted(codes, "codes"),
        None if colours is None else _counted(packed(colours), "colours"),
        palette,
    )


def coloured(surveys: Sequence[MaskSurvey]) -> bool:
    """Return whether the colours of masks stand for classes, not their codes.

    They do if a mask has colours only. They also do if palettes give one code different colours in different files,
    and there are at most as many colours as codes: then each file numbers the same colours in its own order.
    """
    if any(mask.codes is None for mask in surveys):
        return True
    pairs = {pair for mask in surveys for pair in mask.palette.items()}
    codes, colours = ({pair[at] for pair in pairs} for at in (0, 1))
    return len(pairs) > len(codes) >= len(colours)


def _counted(values: np.ndarray, what: str) -> Counter[int]:
    """Count each value. Raises SampleError if most values of an image occur on single pixels."""
    distinct, counts = np.unique(values, return_counts=True)
    if values.ndim == 2 and len(distinct) >= BLURRED:
        beside = np.zeros(values.shape, dtype=bool)
        for across in (False, True):
            rows, marks = (values.T, beside.T) if across else (values, beside)
            equal = rows[1:] == rows[:-1]
            marks[1:] |= equal
            marks[:-1] |= equal
        alone = np.bincount(np.searchsorted(distinct, values[~beside]), minlength=len(distinct)) * 2 > counts
        if alone.sum() >= max(BLURRED, len(distinct) / 2):
            count = f"{len(distinct)} {what}, {alone.sum()} of them mostly on single pixels"
            raise SampleError(f"mask has smoothed edges, {count} {ADVICE}")
    return Counter(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))


def _opened(target: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Read codes int16 (H, W) or (N,) and colours uint8 (H, W, 3), one of which may be None. Raises SampleError."""
    if isinstance(target, str | Path) and str(target).lower().endswith(".npy"):
        try:
            values = npy_array(Path(target))
        except SampleError as error:
            raise SampleError(f"mask {Path(target).name} is {error}") from None
    elif is_image(target) or isinstance(target, str | Path | bytes):
        image = open_image(target)
        if isinstance(image, Image.Image) and image.mode == "P":
            return _codes(np.asarray(image)), np.asarray(image.convert("RGB"))
        values = _channels(image) if isinstance(image, Image.Image) else np.asarray(image)
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
        raise SampleError(f"mask is an array {values.shape}; expected (H, W) of an image or (N,) of points")
    return _codes(values), None


def _channels(image: Image.Image) -> np.ndarray:
    """Array of a PIL image: one channel (H, W), or colours with or without transparency (H, W, 3 or 4)."""
    if image.mode in ("LA", "PA"):
        image = image.convert("RGBA")
    if image.mode not in ("1", "L", "F", "RGB", "RGBA") and not image.mode.startswith("I"):
        raise SampleError(f"mask is an image of mode {image.mode}; expected grey levels, a palette or RGB")
    return np.asarray(image)


def _split(values: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Codes and colours of an image (H, W, 3 or 4); codes only if red, green and blue are equal everywhere."""
    if values.shape[2] == 4 and values[..., 3].min() != values[..., 3].max():
        raise SampleError("mask has a transparency that varies; expected colours alone, one a class: flatten it")
    if values.min() < 0 or values.max() > 255:
        raise SampleError(f"mask holds colours of {values.min()} to {values.max()}; expected 0 to 255")
    colours = values[..., :3].astype(np.uint8)
    grey = (colours == colours[..., :1]).all()
    return (_codes(colours[..., 0]) if grey else None), colours


def _codes(values: np.ndarray) -> np.ndarray:
    """Convert whole numbers of any type to int16, with -1 for no label. Raises SampleError for other values."""
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
