"""Pixel counts of AVIF and JPEG 2000 files from their coded data, which may differ from what their boxes declare."""

import struct
from collections.abc import Iterator

from metatx.reading.bounds import check_bound

__all__ = ["av1_pixels", "jpeg2000_pixels"]

SAMPLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")  # path of boxes to the table of a track's frames
SEQUENCE = 1  # type of the unit that declares the size of an AV1 image
# Images in a usual file: colours, transparency, depth, thumbnails; twice in animated ones.
TOGETHER = 8


class _Bits:
    """Stream of bits, most significant bit of each byte first."""

    def __init__(self, content: bytes) -> None:
        self.value = int.from_bytes(content)
        self.left = 8 * len(content)

    def __call__(self, count: int) -> int:
        """Read the next ``count`` bits as a number. Raises ValueError if fewer are left."""
        self.left -= count
        if self.left < 0:
            raise ValueError("the AV1 sequence header ends early")
        return (self.value >> self.left) & ((1 << count) - 1)


def jpeg2000_pixels(content: bytes) -> int:
    """Count the pixels of the largest codestream of a JP2 file. Raises ValueError or struct.error without one."""
    sizes = [_pixels_of_siz(payload) for kind, payload in _boxes(content) if kind == b"jp2c"]
    if not sizes:
        raise ValueError("no codestream was found")
    return max(sizes)


def _pixels_of_siz(stream: bytes) -> int:
    right, bottom, left, top = map(int, struct.unpack_from(">8x4I", stream))
    if not stream.startswith(b"\xff\x4f\xff\x51") or right <= left or bottom <= top:
        raise ValueError("the codestream does not begin with its size")
    return (right - left) * (bottom - top)


def av1_pixels(content: bytes) -> int:
    """Count the pixels of the largest image of an AVIF file, or an eighth of all pixels if that is more (a grid).

    Args:
        content: Bytes of the file.

    Raises:
        ValueError, IndexError, struct.error: If the file is damaged, or an image does not declare its size.
    """
    sizes = []
    left = TOGETHER * len(content)
    for stream in _av1_streams(content):
        left -= len(stream)
        if left < 0:
            raise ValueError("its images take more than the file holds")
        sizes.append(_pixels_of_units(stream))
    if not sizes:
        raise ValueError("no AV1 image was found")
    return max(*sizes, sum(sizes) // TOGETHER, 0)


def _pixels_of_units(stream: bytes) -> int:
    """Upper bound on the pixels of a frame: the largest sequence header."""
    at = 0
    most = 0
    units = 0
    while at < len(stream):
        head = stream[at]
        units += 1
        check_bound("parts", units, "the AV1 stream")
        at += 2 if head & 4 else 1
        size = len(stream) - at
        if head & 2:
            size, at = _leb128(stream, at)
        if head >> 3 & 15 == SEQUENCE:
            most = max(most, _pixels_of_sequence(_Bits(stream[at : at + size][:1_000])))
        at += size
    if not most:
        raise ValueError("an AV1 image does not say its size")
    return most


def _leb128(stream: bytes, at: int) -> tuple[int, int]:
    """Read a number in LEB128 (7 bits a byte, lowest first); return it and the place behind it."""
    value = 0
    for shift in range(0, 56, 7):
        value |= (stream[at] & 127) << shift
        at += 1
        if stream[at - 1] < 128:
            return value, at
    raise ValueError("a size in the AV1 stream is damaged")


def _pixels_of_sequence(bits: _Bits) -> int:
    """Largest width x height of a sequence header (AV1 specification, section 5.5)."""
    bits(4)  # profile, still image
    if bits(1):  # reduced header
        bits(5)
    else:
        delay = 0
        if bits(1):  # timing
            bits(64)
            if bits(1):
                zeros = 0
                while not bits(1):
                    zeros += 1
                bits(zeros)
            if bits(1):  # model of the decoder
                delay = bits(5) + 1
                bits(42)
        display = bits(1)
        for _ in range(bits(5) + 1):
            bits(12)
            if bits(5) > 7:
                bits(1)
            if delay and bits(1):
                bits(2 * delay + 1)
            if display and bits(1):
                bits(4)
    width_bits = bits(4) + 1
    height_bits = bits(4) + 1
    return (bits(width_bits) + 1) * (bits(height_bits) + 1)


def _av1_streams(content: bytes) -> Iterator[bytes]:
    """Coded data of each image, and of the first frame of each track."""
    for meta in _within(content, b"meta"):
        yield from _images(content, meta[4:])
    for table in _within(content, *SAMPLES):
        boxes = list(_boxes(table))
        if any(kind == b"stsd" and b"av01" in inner for kind, inner in boxes):
            yield _first_frame(content, boxes)


def _images(content: bytes, meta: bytes) -> Iterator[bytes]:
    """Coded data of the images that a ``meta`` box lists."""
    boxes: dict[bytes, bytes] = {}
    for kind, payload in _boxes(meta):
        if kind in (b"iinf", b"iloc", b"idat") and kind in boxes:
            raise ValueError(f"it has the box {kind.decode()} twice")
        boxes[kind] = payload
    information = boxes.get(b"iinf", bytes(6))
    images = set()
    for kind, entry in _boxes(information[8 if information[0] else 6 :]):
        number = ">I" if entry[0] > 2 else ">H"
        if kind == b"infe" and entry[6 + struct.calcsize(number) :][:4] == b"av01":
            images.add(struct.unpack_from(number, entry, 4)[0])
    for item, inside, parts in _locations(boxes.get(b"iloc", bytes(8))):
        if item in images:
            source = boxes[b"idat"] if inside else content
            lengths = [size or max(0, len(source) - at) for at, size in parts]
            if sum(lengths) > len(content):
                raise ValueError("an image takes more than the file holds")
            yield b"".join(source[at : at + size] for (at, _), size in zip(parts, lengths, strict=True))


def _locations(table: bytes) -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
    """Items of an ``iloc`` box: number, whether the data lie in the box ``idat``, places and lengths of the parts."""
    version = table[0]
    at = 6

    def number(size: int) -> int:
        """Read a number of ``size`` bytes."""
        nonlocal at
        at += size
        if at > len(table):
            raise ValueError("the table of places ends early")
        return int.from_bytes(table[at - size : at])

    item_size = 4 if version == 2 else 2
    place_size = table[4] >> 4
    length_size = table[4] & 15
    base_size = table[5] >> 4
    index_size = table[5] & 15 if version else 0
    for _ in range(number(item_size)):
        item = number(item_size)
        inside = bool(version and number(2) & 15)
        number(2)
        start = number(base_size)
        parts = []
        for _ in range(number(2)):
            number(index_size)
            place = start + number(place_size)
            parts.append((place, number(length_size)))
        yield item, inside, parts


def _first_frame(content: bytes, boxes: list[tuple[bytes, bytes]]) -> bytes:
    """Coded data of the first frame of a track. Raises ValueError unless the track has one table of its frames."""
    sizes = [inner for kind, inner in boxes if kind == b"stsz"]
    places = [(kind, inner) for kind, inner in boxes if kind in (b"stco", b"co64")]
    if len(sizes) != 1 or len(places) != 1:
        raise ValueError("a track has not just one table of its frames")
    same, _, first = struct.unpack_from(">4x3I", sizes[0] + bytes(4))  # equal sizes are stored once
    (place,) = struct.unpack_from(">8xQ" if places[0][0] == b"co64" else ">8xI", places[0][1])
    return content[place : place + (same or first)]


def _within(content: bytes, kind: bytes, *path: bytes) -> Iterator[bytes]:
    """Contents of the boxes at the end of a path of kinds."""
    for box_kind, payload in _boxes(content):
        if box_kind == kind:
            yield from _within(payload, *path) if path else (payload,)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of consecutive boxes."""
    at = 0
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, at + 8)
            head = 16
        end = at + size if size else len(content)
        if end < at + head:
            raise ValueError(f"a box is shorter than its own header: {size} bytes")
        yield kind, content[at + head : end]
        at = end
