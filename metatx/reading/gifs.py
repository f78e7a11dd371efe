"""Reading animated GIFs as films: their frames counted without decoding, then decoded in order as far as needed."""

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
IMAGE, EXTENSION, END_OF_BLOCKS = 0x2C, 0x21, 0


def is_gif(source: Path | bytes) -> bool:
    """Whether a file, or its bytes, begins as a GIF does."""
    if isinstance(source, bytes):
        return source.startswith(MAGIC)
    with source.open("rb") as file:
        return file.read(6) in MAGIC


def read_gif(
    source: Path | bytes, name: str, choose: Callable[[int], list[int]], framed: Callable[[Image.Image], np.ndarray]
) -> np.ndarray:
    """Frames of a GIF, in the order of ``choose``, which rises.

    Args:
        source: The file, or its bytes.
        name: Of the file, for messages.
        choose: The numbers of the frames to take, of as many as there are.
        framed: Makes an array of each.

    Raises:
        SampleError: If it is damaged, or beyond the bounds of a film.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    subject = f"video file {name}"
    count, pixels = _frames(content, subject)
    chosen = choose(count)
    check_bound("video_pixels", pixels * (max(chosen) + 1), subject)
    frames: dict[int, np.ndarray] = {}
    with opened_image(content, name) as picture:
        for index in sorted(set(chosen)):
            with decoding(f"{subject} is truncated or damaged"):
                picture.seek(index)
                whole = picture.copy()
            frames[index] = framed(read_image(whole))
    return np.stack([frames[index] for index in chosen])


def _frames(content: bytes, subject: str) -> tuple[int, int]:
    """How many whole frames there are, and the most pixels of one. Raises SampleError beyond the bounds of both."""
    count, at = 0, 13 + _colours(content[10:11])
    screen = struct.unpack("<2H", content[6:10].ljust(4, b"\0"))
    check_bound("frame_pixels", screen[0] * screen[1], subject)
    while at < len(content) and content[at] in (IMAGE, EXTENSION, END_OF_BLOCKS):
        if content[at] == END_OF_BLOCKS:  # one too many, which PIL passes over too
            at += 1
            continue
        is_image = content[at] == IMAGE
        if is_image:
            left, top, width, height = struct.unpack("<4H", content[at + 1 : at + 9].ljust(8, b"\0"))
            # PIL enlarges the picture to what lies beyond it.
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
    """Bytes of the table of colours that follows."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 128 else 0
