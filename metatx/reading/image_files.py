"""Image files, opened in one place: format by content, and size, are checked before a pixel is decoded."""

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

from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from metatx.errors import SampleError, decoding
from metatx.reading.bounds import check_bound
from metatx.reading.codestreams import av1_pixels, jpeg2000_pixels

__all__ = ["SUFFIXES", "ImageHeader", "opened_image", "image_header", "refuse_format"]

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jfif", ".jpe", ".jp2", ".j2k", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
# PIL's names of the formats with these suffixes. Other formats are refused, whatever the name of the file: some start a
# program (EPS) or open other files, and most readers were rarely tested on hostile files.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM")
SAFE = {*FORMATS, "MPO"}  # an MPO is a JPEG followed by others, and is opened as JPEG
KNOWN = f"known: {', '.join(SUFFIXES)}"

MARKER = re.compile(rb"\xff+([^\x00\xff])")  # beginning of a segment of a JPEG
ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
SCAN = 0xDA  # marker of a scan
END = 0xD9  # marker of the end of the image
# First bytes of a TIFF: its byte order, and whether its offsets have 64 bits.
TIFF = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
TILE_SIDES = {322, 323}  # tags of a tile's width and height
# Tags of one value that all readers must take alike: sides, samples of a pixel, rows of a strip.
SINGLE = {256, 257, 277, 278, *TILE_SIDES}
PLAIN_NUMBERS = {258, *SINGLE}  # 258 holds the bits of each sample
BYTES = (1, 2, 6, 7)  # types of a tag's values of one byte
NUMBERS = {3: "H", 4: "I"}  # types SHORT and LONG
LONG8 = {16: "Q"}
ENTRIES = (1 << 16) - 1
PLAIN = (b"P1", b"P2", b"P3")  # PNM files whose pixels are written as text
COMMENTS = 1_000  # most comments in such a file: PIL copies a megabyte to cut out each one


@dataclass(frozen=True)
class ImageHeader:
    """Format and size of an image file, by its header.

    Attributes:
        format: Name of the format in PIL.
        width: Width in pixels as stored; EXIF data may turn the image.
        height: Height in pixels as stored.
    """

    format: str
    width: int
    height: int


class Tiff(TiffImageFile):
    """PIL's reader for TIFF without PIL's own limit of pixels."""

    def load_prepare(self) -> None:
        """Allocate the memory for the pixels."""
        try:
            with warnings.catch_warnings(action="ignore"):
                super().load_prepare()
        except Image.DecompressionBombError:
            self.im = Image.new(self.mode, self._tile_size).im
            ImageFile.ImageFile.load_prepare(self)


def image_header(source: Path | bytes, name: str) -> ImageHeader:
    """Read the header of an image file. Raises SampleError in the cases of ``opened_image``."""
    with opened_image(source, name) as image:
        return ImageHeader(str(image.format), *image.size)


@contextmanager
def opened_image(source: Path | bytes, name: str) -> Iterator[Image.Image]:
    """Open an image file and check it against the bounds, without decoding it; an animation gives its first frame.

    Args:
        source: File, or its bytes.
        name: Name of the file, for messages.

    Raises:
        SampleError: If the format is not accepted, or the file is damaged or beyond the bounds of pixels and scans.
    """
    with ExitStack() as stack:
        with decoding(f"image file {name} cannot be read"):
            file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
            stack.enter_context(file)
        with decoding(f"image file {name} is truncated or damaged"), warnings.catch_warnings(action="ignore"):
            _check_header(file, f"image file {name}")
            try:
                image = _opened(file)
            except Image.DecompressionBombError:  # PIL's own limit, which it applies to WebP and some GIFs
                raise SampleError(f"image file {name} has more pixels than PIL reads of its format") from None
            if image is None:
                raise SampleError(f"{name} is no image that can be read; {KNOWN}")
            stack.enter_context(image)
            check_bound("pixels", image.width * image.height, f"image file {name}")
        yield image


def _opened(file: BinaryIO) -> ImageFile.ImageFile | None:
    """Open a file with PIL's reader for its format, or return None; unlike ``Image.open``, ignores PIL's limit."""
    Image.init()
    prefix = file.read(16)
    for form in FORMATS:
        reader, accepts = Image.OPEN[form]
        reader = Tiff if form == "TIFF" else reader
        accepted = accepts is None or accepts(prefix)
        if not accepted or isinstance(accepted, str):  # a text is a reason to refuse
            continue
        file.seek(0)
        try:
            return reader(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # PIL's readers raise these on foreign files
            continue
    return None


def refuse_format(image: Image.Image) -> None:
    """Refuse a PIL image that was opened in a format that is not accepted; an image without a format passes.

    PIL decodes late: decoding such an image here could start a program (EPS).

    Raises:
        SampleError: If the format is not accepted.
    """
    if image.format not in (None, *SAFE):
        raise SampleError(
            f"image is a {image.format} that PIL opened; {KNOWN}: save it so, or decode it yourself (image.copy())"
        )


def _check_header(file: BinaryIO, subject: str) -> None:
    """Refuse a file that takes much time or memory before PIL knows the size of the image. Raises SampleError."""
    head = file.read(12)
    file.seek(0)
    if head[:2] == b"\xff\xd8":
        check_bound("scans", _scans(file.read()), subject)
    elif head[:4] in TIFF:
        _check_tiff(file, *TIFF[head[:4]], subject)
    elif head[4:8] == b"ftyp":
        check_bound("pixels", av1_pixels(file.read()), f"{subject}, in its AV1 stream,")
    elif head[4:8] == b"jP  ":
        check_bound("pixels", jpeg2000_pixels(file.read()), f"{subject}, in its codestream,")
    elif head[:2] in PLAIN and file.read().count(b"#") > COMMENTS:
        raise SampleError(f"{subject} has more than {COMMENTS:,} comments; expected fewer: save it as PNG")
    file.seek(0)


def _scans(content: bytes) -> int:
    """Count the scans of a JPEG: each takes as long as decoding a whole usual image."""
    count = at = 0
    while segment := MARKER.search(content, at):
        marker = segment[1][0]
        at = segment.end()
        if marker == END:
            break
        if marker not in ALONE:
            at += int.from_bytes(content[at : at + 2])
        count += marker == SCAN
    return count


def _check_tiff(file: BinaryIO, order: str, big: bool, subject: str) -> None:
    """Refuse tiles beyond the bound of pixels, tags with too many values, and tags that readers interpret differently.

    Args:
        file: File to read.
        order: Byte order, ``"<"`` or ``">"``.
        big: True for offsets of 64 bits (BigTIFF).
        subject: Subject of the message.

    Raises:
        SampleError: If the file is refused, or damaged.
    """
    entry = f"{order}HHQ8s" if big else f"{order}HHI4s"
    counted = f"{order}Q" if big else f"{order}H"
    place = 8 if big else 4  # of the offset of the first list of tags
    offset = f"{order}{'Q' if big else 'I'}"
    numbers = NUMBERS | (LONG8 if big else {})
    sides: dict[int, int] = {}
    with decoding(f"{subject} is truncated or damaged"):
        file.seek(place)
        file.seek(*struct.unpack(offset, file.read(struct.calcsize(offset))))
        (entries,) = struct.unpack(counted, file.read(struct.calcsize(counted)))
        if entries > ENTRIES:
            raise SampleError(f"{subject} has {entries:,} tags; expected at most {ENTRIES:,}")
        seen = set()
        for tag, kind, count, value in struct.iter_unpack(entry, file.read(entries * struct.calcsize(entry))):
            if kind not in BYTES:
                check_bound("parts", count, subject)
            if tag in PLAIN_NUMBERS:
                if kind not in numbers or tag in seen or (tag in SINGLE and count != 1):
                    raise SampleError(
                        f"{subject} has the tag {tag} twice, or not as a plain number (type {kind}, {count:,} values); "
                        f"expected one of type SHORT or LONG: save it anew"
                    )
                seen.add(tag)
            if tag in TILE_SIDES:
                (sides[tag],) = struct.unpack_from(f"{order}{numbers[kind]}", value)
    if len(sides) == 1:
        raise SampleError(f"{subject} has tiles of which one side is missing; save it anew")
    check_bound("pixels", math.prod(sides.values()) if sides else 0, f"{subject}, in each tile,")
