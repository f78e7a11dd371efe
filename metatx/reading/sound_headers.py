"""What the header of a sound file promises, against what is there: decoders read a file that ends early as if whole."""

import struct
from typing import Literal

__all__ = ["missing_bytes", "promises_length", "with_size"]

STREAMED = 0x7F000000  # from here on sizes are what programs write that cannot come back to the header: sox, arecord
SLACK = 64  # bytes that a size may be too large: some programs count their header

TRAILING = (b"LIST", b"fact", b"bext", b"cue ", b"id3 ", b"ID3 ", b"smpl", b"PEAK", b"JUNK", b"iXML")


def missing_bytes(content: bytes) -> int:
    """Bytes that the sound of a wav, RF64, W64, aiff or au file should have and has not; 0 of any other file.

    The size of the sound counts, not that of the file: what stands behind the sound may be missing. Sizes that say
    "not known" (0, or far beyond what a clip may have) promise nothing.
    """
    found = _sound(content)
    if found is None:
        return 0
    start, size = found
    missing = start + size - len(content)
    return missing if 0 < size < STREAMED and missing > SLACK else 0


def with_size(content: bytes) -> bytes:
    """A wav or au file with the size of its sound, where a stream's header says 0, which decoders take by its word."""
    start, size = _sound(content) or (len(content), 0)
    there = len(content) - start
    order = "<" if content[:4] == b"RIFF" else ">" if content[:4] in (b"RIFX", b".snd") else ""
    # What is called a chunk behind an empty one is no sound.
    if size or there <= 0 or not order or content[start : start + 4] in TRAILING:
        return content
    at = 8 if content[:4] == b".snd" else start - 4
    return content[:at] + struct.pack(f"{order}I", there) + content[at + 4 :]


def promises_length(content: bytes) -> bool:
    """Whether a file says how long its sound is: all but mp3 files without a table of their frames."""
    mark = content[:3]
    if mark != b"ID3" and not (len(mark) == 3 and mark[0] == 0xFF and mark[1] >= 0xE0):
        return True
    sizes = content[6:10] if mark == b"ID3" else b"\0"  # of seven bits each
    begin = sum(byte << 7 * place for place, byte in enumerate(reversed(sizes)))
    return any(name in content[begin : begin + 1024] for name in (b"Xing", b"Info", b"VBRI"))


def _sound(content: bytes) -> tuple[int, int] | None:
    """Where the sound begins, and how many bytes it has by the header; None where that is not known."""
    mark = content[:4]
    if mark in (b"RIFF", b"RF64", b"BW64"):
        start, size = _chunk(content, b"data", "little") or (0, 0)
        if size == 0xFFFFFFFF and mark != b"RIFF":
            at, _ = _chunk(content, b"ds64", "little") or (0, 0)
            size = int.from_bytes(content[at + 8 : at + 16], "little") if at else 0
        return (start, size) if start else None
    if mark == b"RIFX":
        return _chunk(content, b"data", "big")
    if mark == b"FORM" and content[8:12] in (b"AIFF", b"AIFC"):
        return _chunk(content, b"SSND", "big")
    if mark == b".snd":
        return int.from_bytes(content[4:8], "big"), int.from_bytes(content[8:12], "big")
    if mark == b"riff":
        return _long_chunk(content, b"data")
    return None


def _chunk(content: bytes, name: bytes, order: Literal["big", "little"]) -> tuple[int, int] | None:
    """Start and size of a chunk of a RIFF or IFF file."""
    at = 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], order)
        if content[at : at + 4] == name:
            return at + 8, size
        at += 8 + size + size % 2
    return None


def _long_chunk(content: bytes, name: bytes) -> tuple[int, int] | None:
    """Start and size of a chunk of a W64 file: names of 16 bytes, sizes of 8 that count both, at multiples of 8."""
    at = 40
    while at + 24 <= len(content):
        size = int.from_bytes(content[at + 16 : at + 24], "little")
        if content[at : at + 4] == name:
            return at + 24, size - 24
        at += max(24, (size + 7) // 8 * 8)
    return None
