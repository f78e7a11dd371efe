"""The one door for picture files: what they are by their content, and how large, before a pixel is decoded."""

import io
import math
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from metatx.errors import SampleError, decoding
from metatx.reading.bounds import check_bound

__all__ = ["SUFFIXES", "PictureHeader", "opened_picture", "picture_header", "refuse_format"]

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jfif", ".jpe", ".jp2", ".j2k", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
# PIL's names of the formats that end so. No others, whatever a file is called: some start a program (EPS) or open
# other files, and most have seen few hostile ones.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM")
SAFE = {*FORMATS, "MPO"}  # a JPEG with further ones behind it, which is opened as JPEG
KNOWN = f"known: {', '.join(SUFFIXES)}"

MARKER = re.compile(rb"\xff+([^\x00\xff])")  # what a JPEG's parts begin with
ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
SCAN, END = 0xDA, 0xD9
# The first bytes of a TIFF: the order of its bytes, and whether its places have 64 bits.
TIFF = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
TILE_SIDES = (322, 323)  # tags
BYTES, NUMBERS = (1, 2, 6, 7), {3: "H", 4: "I"}  # types of a tag's values
ENTRIES = 1 << 16
PLAIN = (b"P1", b"P2", b"P3")  # PNM in words
COMMENTS = 1_000  # in such, each of which PIL cuts out by copying a megabyte


@dataclass(frozen=True)
class PictureHeader:
    """What the header of a picture file says.

    Attributes:
        format: PIL's name of it.
        width: In pixels, as stored: EXIF data may turn the picture.
        height: In pixels, as stored.
    """

    format: str
    width: int
    height: int


def picture_header(source: Path | bytes, name: str) -> PictureHeader:
    """What a picture file is and how large, by its header alone. Raises SampleError as ``opened_picture``."""
    with opened_picture(source, name) as picture:
        return PictureHeader(str(picture.format), *picture.size)


@contextmanager
def opened_picture(source: Path | bytes, name: str) -> Iterator[Image.Image]:
    """A picture file, opened and checked against the bounds, not yet decoded; of an animation, its first frame.

    Args:
        source: The file, or its bytes.
        name: Of the file, for messages.

    Raises:
        SampleError: If it is of no known format, damaged, or beyond the bounds of pixels and scans.
    """
    with ExitStack() as stack:
        with decoding(f"image file {name} cannot be read"):
            file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
            stack.enter_context(file)
        with decoding(f"image file {name} is truncated or damaged"), warnings.catch_warnings(action="ignore"):
            _check_header(file, f"image file {name}")
            try:
                picture = stack.enter_context(Image.open(file, formats=FORMATS))
            except UnidentifiedImageError:
                raise SampleError(f"{name} is no image that can be read; {KNOWN}") from None
            except Image.DecompressionBombError:  # PIL's own limit, twice as high as its warning
                most = f"{2 * (Image.MAX_IMAGE_PIXELS or 0):,}"
                raise SampleError(f"image file {name} has more than {most} pixels; make it smaller") from None
            check_bound("pixels", picture.width * picture.height, f"image file {name}")
        yield picture


def refuse_format(picture: Image.Image) -> None:
    """Refuse a picture that a user opened himself in a format that is not read here; one without a format passes.

    Raises:
        SampleError: Such pictures are decoded late, and with PIL's reader for EPS that starts a program.
    """
    if picture.format not in (None, *SAFE):
        raise SampleError(
            f"image is a {picture.format} that PIL opened; {KNOWN}: save it so, or decode it yourself (image.copy())"
        )


def _check_header(file: BinaryIO, subject: str) -> None:
    """Refuse what takes long or much before PIL says how large the picture is."""
    head = file.read(4)
    file.seek(0)
    if head[:2] == b"\xff\xd8":
        check_bound("scans", _scans(file.read()), subject)
    elif head in TIFF:
        _check_tiff(file, *TIFF[head], subject)
    elif head[:2] in PLAIN and file.read().count(b"#") > COMMENTS:
        raise SampleError(f"{subject} has more than {COMMENTS:,} comments; expected fewer: save it as PNG")
    file.seek(0)


def _scans(content: bytes) -> int:
    """How often a JPEG goes over its pixels: each time takes as long as decoding all of a usual one."""
    count = at = 0
    while found := MARKER.search(content, at):
        marker, at = found[1][0], found.end()
        if marker == END:
            break
        if marker not in ALONE:
            at += int.from_bytes(content[at : at + 2])
        count += marker == SCAN
    return count


def _check_tiff(file: BinaryIO, order: str, big: bool, subject: str) -> None:
    """Refuse tiles that are larger than a picture may be, and lists of more parts than PIL can keep."""
    entry, counted, place = (f"{order}HHQ8s", f"{order}Q", 8) if big else (f"{order}HHI4s", f"{order}H", 4)
    offset = f"{order}{'Q' if big else 'I'}"
    with decoding(f"{subject} is truncated or damaged"):
        file.seek(place)
        file.seek(*struct.unpack(offset, file.read(struct.calcsize(offset))))
        (entries,) = struct.unpack(counted, file.read(struct.calcsize(counted)))
        directory = file.read(min(entries, ENTRIES) * struct.calcsize(entry))
        sides = {}
        for tag, kind, count, value in struct.iter_unpack(entry, directory):
            if kind not in BYTES:
                check_bound("parts", count, subject)
            if tag in TILE_SIDES and kind in NUMBERS:
                (sides[tag],) = struct.unpack_from(f"{order}{NUMBERS[kind]}", value)
    check_bound(
        "pixels", math.prod(sides.values()) if len(sides) == len(TILE_SIDES) else 0, f"{subject}, in each tile,"
    )
