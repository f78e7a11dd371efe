"""Headers of audio files against their content, for decoders read a file that ends early as if it were whole."""

import struct
from typing import Literal

__all__ = ["begins_as_audio", "missing_bytes", "uncounted", "with_count", "with_size"]

# Larger sizes are placeholders of programs that write a stream and cannot return to the header (sox, arecord).
STREAMED = 0x7F000000
SLACK = 64  # bytes by which a size may be too large: some programs count their header

MP3_RATES = (44_100, 48_000, 32_000)
LEAST_FRAME = 24  # fewest bytes of an mp3 frame
MOST_CHUNKS = 10_000  # chunks of a file that are searched: a million of them take a second
BEGIN = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b".snd", b"dns.", b"fLaC", b"OggS", b"caff", b"ID3")
TRAILING = (b"LIST", b"fact", b"bext", b"cue ", b"id3 ", b"ID3 ", b"smpl", b"PEAK", b"JUNK", b"iXML")


def begins_as_audio(content: bytes) -> bool:
    """Return whether a file begins as an accepted format does; libsndfile itself would also open others."""
    mpeg = content[:1] == b"\xff" and content[1:2] >= b"\xe0"
    return mpeg or content.startswith(BEGIN) or (content[:4] == b"FORM" and content[8:12] in (b"AIFF", b"AIFC"))


def missing_bytes(content: bytes) -> int:
    """Count the bytes of samples that a wav, RF64, W64, aiff or au file declares but lacks; 0 for other files.

    Only the samples count, not what follows them in the file. A declared size of 0, or far beyond that of any clip,
    means "not known" and promises nothing.
    """
    place = _samples(content)
    if place is None:
        return 0
    start, size = place
    missing = start + size - len(content)
    return missing if 0 < size < STREAMED and missing > SLACK else 0


def with_size(content: bytes) -> bytes:
    """Write the size of the samples into the header of a wav or au file that was streamed and declares 0.

    Decoders believe the header and would read nothing.
    """
    start, size = _samples(content) or (len(content), 0)
    there = len(content) - start
    order = "<" if content[:4] == b"RIFF" else ">" if content[:4] in (b"RIFX", b".snd") else ""
    # A known chunk directly behind the empty one is no audio.
    if size or there <= 0 or not order or content[start : start + 4] in TRAILING:
        return content
    at = 8 if content[:4] == b".snd" else start - 4
    return content[:at] + struct.pack(f"{order}I", there) + content[at + 4 :]


def uncounted(content: bytes) -> int | None:
    """Place of the first frame of an mp3 file without a table of its frames; None for all other files."""
    begin = 0
    if content[:3] == b"ID3":
        begin = 10 + sum(byte << 7 * place for place, byte in enumerate(reversed(content[6:10])))  # seven bits each
    head = content[begin : begin + 4]
    # A frame begins with eleven set bits; the next ones say layer III.
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or head[2] & 0x0C == 0x0C:
        return None
    counted = any(name in content[begin : begin + 200] for name in (b"Xing", b"Info", b"VBRI"))
    return None if counted else begin


def with_count(content: bytes, begin: int) -> bytes:
    """Insert a table into an mp3 file, at ``begin``, that declares as many frames as the file can hold.

    Without a table, decoders estimate the length from the first frame, which is wrong for a variable bit rate.
    """
    head = content[begin : begin + 4]
    mpeg1 = head[1] & 0x18 == 0x18  # not MPEG-2 or 2.5
    mono = head[3] & 0xC0 == 0xC0
    rate = MP3_RATES[head[2] >> 2 & 3] // {0x18: 1, 0x10: 2}.get(head[1] & 0x18, 4)
    size = 144 * 128_000 // rate if mpeg1 else 72 * 80_000 // rate  # at the bit rate with index 9
    silent = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    frame = bytes([0xFF, head[1] | 1, 0x90 | head[2] & 0x0C, head[3]]) + bytes(silent)
    frame += b"Xing" + struct.pack(">II", 1, len(content) // LEAST_FRAME + 1)
    return content[:begin] + frame.ljust(size, b"\0") + content[begin:]


def _samples(content: bytes) -> tuple[int, int] | None:
    """Start of the samples and their size in bytes by the header; None if not known."""
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
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(content):
            break
        size = int.from_bytes(content[at + 4 : at + 8], order)
        if content[at : at + 4] == name:
            return at + 8, size
        at += 8 + size + size % 2
    return None


def _long_chunk(content: bytes, name: bytes) -> tuple[int, int] | None:
    """Start and size of a chunk of a W64 file: names of 16 bytes, sizes of 8 that count both, at multiples of 8."""
    at = 40
    for _ in range(MOST_CHUNKS):
        if at + 24 > len(content):
            break
        size = int.from_bytes(content[at + 16 : at + 24], "little")
        if content[at : at + 4] == name:
            return at + 24, size - 24
        at += max(24, (size + 7) // 8 * 8)
    return None
