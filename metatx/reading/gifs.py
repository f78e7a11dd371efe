"""Animated GIFs as videos: frames are counted without decoding, then decoded in order as far as needed."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from metatx.errors import SampleError, decoding
from metatx.reading.bounds import check_bound
from metatx.reading.image import read_image
from metatx.reading.image_files import opened_image

__all__ = ["is_gif", "read_gif"]

MAGIC = (b"GIF87a", b"GIF89a")
# First byte of each kind of block.
IMAGE = 0x2C
EXTENSION = 0x21
END_OF_BLOCKS = 0


def is_gif(source: Path | bytes) -> bool:
    """Return whether a file, or its bytes, begins as a GIF does."""
    if isinstance(source, bytes):
        return source.startswith(MAGIC)
    with source.open("rb") as file:
        return file.read(6) in MAGIC


def read_gif(
    source: Path | bytes, name: str, choose: Callable[[int], list[int]], framed: Callable[[Image.Image], np.ndarray]
) -> np.ndarray:
    """Read some frames of a GIF, stacked along the first axis.

    Args:
        source: File, or its bytes.
        name: Name of the file, for messages.
        choose: Function from the number of frames to the ascending indices of those to read.
        framed: Function from a frame to an array.

    Raises:
        SampleError: If the file is damaged, or beyond the bounds of a video.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    subject = f"video file {name}"
    count, pixels = _frames(content, subject)
    chosen = choose(count)
    check_bound("video_pixels", pixels * (max(chosen) + 1), subject)
    frames: dict[int, np.ndarray] = {}
    with opened_image(content, name) as image:
        for index in sorted(set(chosen)):
            with decoding(f"{subject} is truncated or damaged"):
                image.seek(index)
                whole = image.copy()
            frames[index] = framed(read_image(whole))
    return np.stack([frames[index] for index in chosen])


def _frames(content: bytes, subject: str) -> tuple[int, int]:
    """Count the whole frames and the pixels of the largest. Raises SampleError beyond the bounds of either."""
    count = 0
    at = 13 + _colours(content[10:11])
    screen = struct.unpack("<2H", content[6:10].ljust(4, b"\0"))
    check_bound("frame_pixels", screen[0] * screen[1], subject)
    while at < len(content) and content[at] in (IMAGE, EXTENSION, END_OF_BLOCKS):
        if content[at] == END_OF_BLOCKS:  # one too many; PIL skips it too
            at += 1
            continue
        is_image = content[at] == IMAGE
        if is_image:
            left, top, width, height = struct.unpack("<4H", content[at + 1 : at + 9].ljust(8, b"\0"))
            # PIL enlarges the canvas for a frame that lies beyond it.
            screen = max(screen[0], left + width), max(screen[1], top + height)
            check_bound("frame_pixels", screen[0] * screen[1], subject)
            at += 11 + _colours(content[at + 9 : at + 10])
        else:
            at += 2
        while at < len(content) and content[at]:
            at += content[at] + 1
        if at >= len(content):
            break
        at += 1
        count += is_image
        check_bound("frames", count, subject)
    if not count:
        raise SampleError(f"{subject} is damaged: it holds no whole frame")
    return count, screen[0] * screen[1]


def _colours(flags: bytes) -> int:
    """Bytes of the colour table that follows."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 128 else 0
