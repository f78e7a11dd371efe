"""Images from files, bytes, PIL images and arrays: as 8-bit RGB, or as one channel of full depth."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from metatx.errors import SampleError, decoding
from metatx.reading.arrays import as_array
from metatx.reading.bounds import check_bound
from metatx.reading.file_samples import file_of_sample, is_file_sample
from metatx.reading.image_files import SUFFIXES, opened_image, refuse_format

__all__ = ["SUFFIXES", "contrasted", "fit_image", "is_image", "open_image", "read_grey", "read_image", "upright_size"]

CHANNELS = (1, 3, 4)
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601), PIL's too
ACCEPTED = "expected a path, bytes, a PIL image, or an array (H, W), (H, W, C) or (C, H, W)"
RANGES = "expected 0..1, or uint8: scale them; the tokenizers of one channel take any unit"


def is_image(value: Any, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Return whether a cell looks like an image: one of PIL's, a file's name, or a dict of Hugging Face datasets."""
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:
        return value["path"] is None or is_image(value["path"], suffixes)
    return isinstance(value, Image.Image) or (isinstance(value, str) and value.lower().endswith(suffixes))


def read_image(sample: Any) -> Image.Image:
    """Read an image as an RGB PIL image, turned upright by its EXIF data, transparency over white.

    Args:
        sample: Path, bytes of a file, PIL image, array, or a dict ``{"bytes", "path"}`` of Hugging Face
            datasets. 16-bit values are divided by 257; floats must lie in 0..1.

    Raises:
        SampleError: If the image cannot be read; the message names the file, if there is one.
    """
    return _rgb(open_image(sample))


def read_grey(sample: Any) -> np.ndarray:
    """Read an image as one channel (H, W), float32 (float64 stays), turned upright by its EXIF data.

    Whole numbers are divided by the largest number of their type, so that 8 and 16 bits give the same values 0..1;
    floats (temperatures, say) keep their unit. Colours are converted to luma; transparency is ignored.

    Args:
        sample: Any form of ``read_image``; floats may be any finite numbers.

    Raises:
        SampleError: If the image cannot be read; the message names the file, if there is one.
    """
    image = open_image(sample)
    if isinstance(image, Image.Image):
        deep = image.mode == "F" or image.mode.startswith("I")
        image = as_array(np.asarray(image if deep else _converted(image, "L")))
    wide = np.issubdtype(image.dtype, np.float64)  # float32 would lose small differences between large values
    floating = np.issubdtype(image.dtype, np.floating)
    values = image.astype(np.float64 if wide else np.float32) if floating else _shares(image)
    if not np.isfinite(values).all():
        raise SampleError("image holds NaN or infinite values; expected finite numbers")
    if values.ndim == 3:
        values = values[..., 0] if values.shape[2] == 1 else values[..., :3] @ np.array(LUMA, np.float32)
    return values


def contrasted(values: np.ndarray) -> Image.Image:
    """Grey values (H, W) of any unit as an 8-bit picture, black and white at percentiles 0.5 and 99.5."""
    low, high = np.percentile(values, (0.5, 99.5))
    shares = (values - low) / ((high - low) or 1)
    return Image.fromarray((255 * shares.clip(0, 1)).astype(np.uint8))


def open_image(sample: Any) -> Image.Image | np.ndarray:
    """Decode an image in its own mode, upright; an array becomes (H, W) or (H, W, C). Raises SampleError."""
    if is_file_sample(sample):
        source, name = file_of_sample(sample, "image", "the image")
        with opened_image(source, name) as image:
            return _upright(image, name)
    if isinstance(sample, Image.Image):
        refuse_format(sample)
        check_bound("pixels", sample.width * sample.height, "the image")
        return _upright(sample, "the image")
    if isinstance(sample, np.ndarray | Tensor | list | tuple):
        try:
            array = as_array(sample)
        except (TypeError, ValueError, OverflowError):
            raise SampleError(f"image is a list of unequal lengths, or not of numbers; {ACCEPTED}") from None
        return _channels_last(array)
    raise SampleError(f"image is a {type(sample).__name__}; {ACCEPTED}")


def upright_size(path: Path) -> tuple[int, int] | None:
    """Width and height of the upright image in pixels, from its header alone; None if it cannot be read."""
    try:
        with opened_image(path, path.name) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return image.size[::-1] if turned else image.size
    except Exception:  # libraries raise anything on damaged files; reading the image reports the fault
        return None


def _upright(image: Image.Image, name: str) -> Image.Image:
    """Decode the pixels and turn them by the EXIF data."""
    with decoding(f"image file {name} is truncated or damaged"):
        image.load()
        return ImageOps.exif_transpose(image)


def _rgb(image: Image.Image | np.ndarray) -> Image.Image:
    """Convert an image of any mode, or an array, to 8-bit RGB."""
    if isinstance(image, np.ndarray):
        values = np.ascontiguousarray(_eight_bits(image.squeeze(2) if image.shape[2:] == (1,) else image))
        image = Image.fromarray(values)
    if image.mode == "RGB":
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _rgb(as_array(np.asarray(image)))
    if image.has_transparency_data:
        image = _converted(image, "RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return _converted(image, "RGB")


def _converted(image: Image.Image, mode: str) -> Image.Image:
    with decoding(f"image is of mode {image.mode}; expected grey levels, RGB or CMYK: save it so"):
        # PIL converts LAB to RGB only.
        return (image.convert("RGB") if image.mode == "LAB" else image).convert(mode)


def _channels_last(array: np.ndarray) -> np.ndarray:
    """Move channels to the end: (H, W) or (H, W, C). Raises SampleError for other shapes."""
    if array.ndim not in (2, 3) or not array.size:
        raise SampleError(f"image is an array {array.shape}; {ACCEPTED}, none of them 0")
    if array.ndim == 3 and array.shape[2] not in CHANNELS:
        if array.shape[0] not in CHANNELS:
            raise SampleError(f"image is an array {array.shape}; expected 1, 3 or 4 channels, first or last")
        array = array.transpose(1, 2, 0)
    return array


def _shares(array: np.ndarray) -> np.ndarray:
    """Divide whole numbers of any type by the largest of their range. Raises SampleError if the range is not clear."""
    if array.dtype != np.bool_ and not np.issubdtype(array.dtype, np.integer):
        raise SampleError(f"image is an array of {array.dtype}; expected uint8, uint16 or floats")
    # PIL gives 16-bit greyscale as int32; other wide integers are taken for 8 bits that were widened.
    most = 1 if array.dtype == np.bool_ else 65535 if array.dtype in (np.uint16, np.int32) else 255
    if array.min() < 0 or array.max() > most:
        raise SampleError(
            f"image holds {array.dtype} from {array.min()} to {array.max()}; expected 0..{most}, uint16 or floats"
        )
    return array.astype(np.float32) / np.float32(most)


def _eight_bits(array: np.ndarray) -> np.ndarray:
    """Convert pixel values of any type to uint8. Raises SampleError if their range is not clear."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(array.dtype, np.integer) and not np.issubdtype(array.dtype, np.floating):
        raise SampleError(f"image is an array of {array.dtype}; expected uint8, uint16 or floats")
    low = array.min()
    high = array.max()
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite([low, high]).all():
            raise SampleError("image holds NaN or infinite values; expected floats in 0..1")
        if low < 0 or high > 1:
            raise SampleError(f"image holds floats from {low:g} to {high:g}; {RANGES}")
        # Half precision is too coarse for values up to 255.
        return np.round(array.astype(np.result_type(array, np.float32)) * 255).astype(np.uint8)
    # PIL gives 16-bit greyscale as int32; other wide integers are taken for 8 bits that were widened.
    sixteen = array.dtype in (np.uint16, np.int32)
    if low < 0 or high > (65535 if sixteen else 255):
        raise SampleError(f"image holds {array.dtype} from {low} to {high}; expected 0..255, or uint16")
    return (array // 257 if sixteen else array).astype(np.uint8)


def fit_image(image: Image.Image, size: int, interpolation: str, crop_pct: float, crop_mode: str) -> Image.Image:
    """Resize and crop to ``size`` x ``size``, as timm and open_clip do when they evaluate models.

    Args:
        image: Image of any size.
        size: Side of the result in pixels.
        interpolation: Name of PIL's filter.
        crop_pct: Share of the resized image's side that is kept.
        crop_mode: ``"center"`` resizes the shorter side to ``size / crop_pct`` and crops the rest; ``"squash"`` resizes
            both sides to it, then crops.
    """
    resample = Image.Resampling[interpolation.upper()]
    scaled = math.floor(size / crop_pct)
    if crop_mode == "squash":
        width = height = scaled
    else:
        image = _without_ends(image)
        short = min(image.size)
        width, height = (int(scaled * side / short) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), resample)
    left = round((width - size) / 2)
    top = round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _without_ends(image: Image.Image, longest: int = 4) -> Image.Image:
    """Crop an image to ``longest`` times its shorter side: the ends are cropped later, and resizing them costs much."""
    width, height = image.size
    limit = longest * min(width, height)
    if max(width, height) <= limit:
        return image
    left = max(0, width - limit) // 2
    top = max(0, height - limit) // 2
    return image.crop((left, top, left + min(width, limit), top + min(height, limit)))
