"""Reading pictures from whatever holds them, as 8-bit RGB."""

import io
import math
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from metatx.errors import SampleError

__all__ = ["SUFFIXES", "fit_picture", "read_picture"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
CHANNELS = (1, 3, 4)
# What PIL's readers raise on files that are not whole.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
ACCEPTED = "expected a path, bytes, a PIL image, or an array (H, W), (H, W, C) or (C, H, W)"


def read_picture(sample: Any) -> Image.Image:
    """A picture as an RGB PIL image, turned upright where its EXIF data say so, transparency over white.

    Args:
        sample: Path, bytes of a file, PIL image, array, or a dict ``{"bytes", "path"}`` of Hugging Face
            datasets. 16-bit values are divided by 257; floats must lie in 0..1.

    Raises:
        SampleError: If it cannot be read; names the file where there is one.
    """
    if isinstance(sample, dict) and ("bytes" in sample or "path" in sample):
        content, path = sample.get("bytes"), sample.get("path")
        if content is None:
            return read_picture(path)
        return _decode(io.BytesIO(content), Path(path).name if path else "the image")
    if isinstance(sample, str | Path):
        path = Path(sample)
        if not path.is_file():
            reason = "is a folder" if path.is_dir() else "does not exist"
            raise SampleError(f"image file {path.name} {reason}")
        return _decode(path, path.name)
    if isinstance(sample, bytes):
        return _decode(io.BytesIO(sample), "the image")
    if isinstance(sample, Image.Image):
        return _loaded(sample, "the image")
    if isinstance(sample, np.ndarray | Tensor):
        return _from_array(np.asarray(sample))
    raise SampleError(f"image is a {type(sample).__name__}; {ACCEPTED}")


def _decode(source: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # PIL only warns between its limit and twice that; both are refused here.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                return _loaded(image, name)
    except SampleError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise SampleError(f"image file {name} has more than {limit} pixels; make it smaller") from None
    except UnidentifiedImageError:
        raise SampleError(f"{name} is no image that can be read; known: {', '.join(SUFFIXES)}") from None
    except DAMAGE as error:
        raise SampleError(f"image file {name} is truncated or damaged ({error})") from None


def _loaded(image: Image.Image, name: str) -> Image.Image:
    """Decode the pixels and bring them to RGB."""
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
    except DAMAGE as error:
        raise SampleError(f"image file {name} is truncated or damaged ({error})") from None
    if image.mode == "RGB":
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_array(np.asarray(image))
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return image.convert("RGB")


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim not in (2, 3) or not array.size:
        raise SampleError(f"image is an array {array.shape}; {ACCEPTED}, none of them 0")
    if array.ndim == 3 and array.shape[2] not in CHANNELS:
        if array.shape[0] not in CHANNELS:
            raise SampleError(f"image is an array {array.shape}; expected 1, 3 or 4 channels, first or last")
        array = array.transpose(1, 2, 0)
    values = np.ascontiguousarray(_eight_bits(array.squeeze(2) if array.shape[2:] == (1,) else array))
    return _loaded(Image.fromarray(values), "the image")


def _eight_bits(array: np.ndarray) -> np.ndarray:
    """Pixel values of any type as uint8. Raises SampleError where their range is not clear."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(array.dtype, np.integer) and not np.issubdtype(array.dtype, np.floating):
        raise SampleError(f"image is an array of {array.dtype}; expected uint8, uint16 or floats")
    low, high = array.min(), array.max()
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite([low, high]).all():
            raise SampleError("image holds NaN or infinite values; expected floats in 0..1")
        if low < 0 or high > 1:
            raise SampleError(f"image holds floats from {low:g} to {high:g}; expected 0..1, or uint8")
        return np.round(array * 255).astype(np.uint8)
    # PIL gives 16-bit greyscale as int32; other wide integers are taken for what they were widened from.
    sixteen = array.dtype in (np.uint16, np.int32)
    if low < 0 or high > (65535 if sixteen else 255):
        raise SampleError(f"image holds {array.dtype} from {low} to {high}; expected 0..255, or uint16")
    return (array // 257 if sixteen else array).astype(np.uint8)


def fit_picture(picture: Image.Image, size: int, interpolation: str, crop_pct: float, crop_mode: str) -> Image.Image:
    """Resize and crop to ``size`` x ``size``, as timm and open_clip evaluate their models.

    Args:
        picture: Any size.
        size: Side of the result.
        interpolation: Name of PIL's filter.
        crop_pct: Share of the resized picture's side that is kept.
        crop_mode: ``"center"``: the shorter side to ``size / crop_pct``, then crop; ``"squash"``: both sides.
    """
    resample = Image.Resampling[interpolation.upper()]
    scaled = math.floor(size / crop_pct)
    if crop_mode == "squash":
        width = height = scaled
    else:
        picture = _without_ends(picture)
        short = min(picture.size)
        width, height = (int(scaled * side / short) for side in picture.size)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), resample)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def _without_ends(picture: Image.Image, longest: int = 4) -> Image.Image:
    """Cut a very long picture to four times its width: the crop drops the ends, huge as they may get."""
    width, height = picture.size
    limit = longest * min(width, height)
    if max(width, height) <= limit:
        return picture
    left, top = max(0, width - limit) // 2, max(0, height - limit) // 2
    return picture.crop((left, top, left + min(width, limit), top + min(height, limit)))
