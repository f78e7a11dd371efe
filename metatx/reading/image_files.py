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
TILE_SIDES = {322, 323}  # tags
# Tags that readers must understand alike: sides, samples of a pixel, rows of a strip; and the bits of each sample.
SINGLE = {256, 257, 277, 278, *TILE_SIDES}
PLAIN_NUMBERS = {258, *SINGLE}
BYTES, NUMBERS = (1, 2, 6, 7), {3: "H", 4: "I"}  # types of a tag's values
LONG8 = {16: "Q"}
ENTRIES = (1 << 16) - 1
PLAIN = (b"P1", b"P2", b"P3")  # PNM in words
COMMENTS = 1_000  # in such, each of which PIL cuts out by copying a megabyte


@dataclass(frozen=True)
class ImageHeader:
    """What the header of a picture file says.

    Attributes:
        format: PIL's name of it.
        width: In pixels, as stored: EXIF data may turn the picture.
        height: In pixels, as stored.
    """

    format: str
    width: int
    height: int


class Tiff(TiffImageFile):
    """PIL's reader for TIFF, without its look at PIL's own limit of pixels before it decodes."""

    def load_prepare(self) -> None:
        """Take the memory for the pixels."""
        try:
            with warnings.catch_warnings(action="ignore"):
                super().load_prepare()
        except Image.DecompressionBombError:
            self.im = Image.new(self.mode, self._tile_size).im
            ImageFile.ImageFile.load_prepare(self)


def image_header(source: Path | bytes, name: str) -> ImageHeader:
    """What a picture file is and how large, by its header alone. Raises SampleError as ``opened_image``."""
    with opened_image(source, name) as picture:
        return ImageHeader(str(picture.format), *picture.size)


@contextmanager
def opened_image(source: Path | bytes, name: str) -> Iterator[Image.Image]:
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
                picture = _opened(file)
            except Image.DecompressionBombError:  # of WebP and some GIFs, by PIL's own limit
                raise SampleError(f"image file {name} has more pixels than PIL reads of its format") from None
            if picture is None:
                raise SampleError(f"{name} is no image that can be read; {KNOWN}")
            stack.enter_context(picture)
            check_bound("pixels", picture.width * picture.height, f"image file {name}")
        yield picture


def _opened(file: BinaryIO) -> ImageFile.ImageFile | None:
    """A picture by PIL's reader for it, or None; unlike ``Image.open``, it leaves the bound of pixels to the caller."""
    Image.init()
    prefix = file.read(16)
    for form in FORMATS:
        reader, accepts = Image.OPEN[form]
        reader = Tiff if form == "TIFF" else reader
        accepted = accepts is None or accepts(prefix)
        if not accepted or isinstance(accepted, str):  # a text says why not
            continue
        file.seek(0)
        try:
            return reader(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # how PIL's readers say that it is not theirs
            continue
    return None


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
    """Refuse tiles larger than a picture may be, longer lists than PIL can keep, and tags that readers differ on."""
    entry, counted, place = (f"{order}HHQ8s", f"{order}Q", 8) if big else (f"{order}HHI4s", f"{order}H", 4)
    offset, numbers = f"{order}{'Q' if big else 'I'}", NUMBERS | (LONG8 if big else {})
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
