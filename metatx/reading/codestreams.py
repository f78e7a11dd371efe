"""Pixels that the coded data of AVIF and JPEG 2000 files hold, whatever the boxes around them say."""

import struct
from collections.abc import Iterator

from metatx.reading.bounds import check_bound

__all__ = ["av1_pixels", "jpeg2000_pixels"]

SAMPLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")  # the way to the table of a track's frames
SEQUENCE = 1  # type of the unit that says the size of an AV1 picture
TOGETHER = 8  # pictures that a usual file holds: colours, transparency, depth, thumbnails; in films, twice


class _Bits:
    """A stream of bits, the highest of each byte first."""

    def __init__(self, content: bytes) -> None:
        self.value, self.left = int.from_bytes(content), 8 * len(content)

    def __call__(self, count: int) -> int:
        """The next bits as a number. Raises ValueError behind the end."""
        self.left -= count
        if self.left < 0:
            raise ValueError("the AV1 sequence header ends early")
        return (self.value >> self.left) & ((1 << count) - 1)


def jpeg2000_pixels(content: bytes) -> int:
    """Pixels of the largest codestream of a JP2 file. Raises ValueError or struct.error if there is none."""
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
    """Pixels of the largest picture of an AVIF file, or a share of all where there are many (as in a grid).

    Args:
        content: The file.

    Raises:
        ValueError, IndexError, struct.error: If it is damaged, or a picture does not say its size.
    """
    found = []
    left = TOGETHER * len(content)
    for stream in _av1_streams(content):
        left -= len(stream)
        if left < 0:
            raise ValueError("its pictures take more than the file holds")
        found.append(_pixels_of_units(stream))
    if not found:
        raise ValueError("no AV1 picture was found")
    return max(*found, sum(found) // TOGETHER, 0)


def _pixels_of_units(stream: bytes) -> int:
    """Pixels of a frame, at most, as the largest of the sequence headers says."""
    at, most, units = 0, 0, 0
    while at < len(stream):
        head, units = stream[at], units + 1
        check_bound("parts", units, "the AV1 stream")
        at += 2 if head & 4 else 1
        size = len(stream) - at
        if head & 2:
            size, at = _leb128(stream, at)
        if head >> 3 & 15 == SEQUENCE:
            most = max(most, _pixels_of_sequence(_Bits(stream[at : at + size][:1_000])))
        at += size
    if not most:
        raise ValueError("an AV1 picture does not say its size")
    return most


def _leb128(stream: bytes, at: int) -> tuple[int, int]:
    """A number in bytes of 7 bits, the lowest first, and the place behind it."""
    value = 0
    for shift in range(0, 56, 7):
        value |= (stream[at] & 127) << shift
        at += 1
        if stream[at - 1] < 128:
            return value, at
    raise ValueError("a size in the AV1 stream is damaged")


def _pixels_of_sequence(bits: _Bits) -> int:
    """Width x height, at most, as section 5.5 of the AV1 specification lays them out."""
    bits(4)  # profile, still picture
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
    wide, high = bits(4) + 1, bits(4) + 1
    return (bits(wide) + 1) * (bits(high) + 1)


def _av1_streams(content: bytes) -> Iterator[bytes]:
    """Coded data of each picture, and of the first frame of each track."""
    for meta in _within(content, b"meta"):
        yield from _pictures(content, meta[4:])
    for table in _within(content, *SAMPLES):
        boxes = list(_boxes(table))
        if any(kind == b"stsd" and b"av01" in inner for kind, inner in boxes):
            yield _first_frame(content, boxes)


def _pictures(content: bytes, meta: bytes) -> Iterator[bytes]:
    boxes: dict[bytes, bytes] = {}
    for kind, payload in _boxes(meta):
        if kind in (b"iinf", b"iloc", b"idat") and kind in boxes:
            raise ValueError(f"it has the box {kind.decode()} twice")
        boxes[kind] = payload
    information = boxes.get(b"iinf", bytes(6))
    pictures = set()
    for kind, entry in _boxes(information[8 if information[0] else 6 :]):
        number = ">I" if entry[0] > 2 else ">H"
        if kind == b"infe" and entry[6 + struct.calcsize(number) :][:4] == b"av01":
            pictures.add(struct.unpack_from(number, entry, 4)[0])
    for item, inside, parts in _locations(boxes.get(b"iloc", bytes(8))):
        if item in pictures:
            source = boxes[b"idat"] if inside else content
            lengths = [size or max(0, len(source) - at) for at, size in parts]
            if sum(lengths) > len(content):
                raise ValueError("a picture takes more than the file holds")
            yield b"".join(source[at : at + size] for (at, _), size in zip(parts, lengths, strict=True))


def _locations(table: bytes) -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
    """Number of each item, whether it lies in the box of data beside, and places and lengths of its parts."""
    version, at = table[0], 6

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > len(table):
            raise ValueError("the table of places ends early")
        return int.from_bytes(table[at - size : at])

    wide = 4 if version == 2 else 2
    places, lengths, base, index = table[4] >> 4, table[4] & 15, table[5] >> 4, table[5] & 15 if version else 0
    for _ in range(number(wide)):
        item = number(wide)
        inside = bool(version and number(2) & 15)
        number(2)
        start = number(base)
        parts = []
        for _ in range(number(2)):
            number(index)
            place = start + number(places)
            parts.append((place, number(lengths)))
        yield item, inside, parts


def _first_frame(content: bytes, boxes: list[tuple[bytes, bytes]]) -> bytes:
    sizes = [inner for kind, inner in boxes if kind == b"stsz"]
    places = [(kind, inner) for kind, inner in boxes if kind in (b"stco", b"co64")]
    if len(sizes) != 1 or len(places) != 1:
        raise ValueError("a track has not just one table of its frames")
    same, _, first = struct.unpack_from(">4x3I", sizes[0] + bytes(4))  # where all are equal, none is listed
    (place,) = struct.unpack_from(">8xQ" if places[0][0] == b"co64" else ">8xI", places[0][1])
    return content[place : place + (same or first)]


def _within(content: bytes, kind: bytes, *path: bytes) -> Iterator[bytes]:
    """Contents of the boxes at the end of a path of kinds."""
    for found, payload in _boxes(content):
        if found == kind:
            yield from _within(payload, *path) if path else (payload,)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes one behind the other."""
    at = 0
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", content, at + 8), 16
        end = at + size if size else len(content)
        if end < at + head:
            raise ValueError(f"a box is shorter than its own header: {size} bytes")
        yield kind, content[at + head : end]
        at = end
