"""Reading films from whatever holds them: some frames, evenly spread, each resized as it is decoded."""

import bisect
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from metatx.errors import SampleError
from metatx.reading.pictures import read_picture

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["SUFFIXES", "evenly", "read_film"]

SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", ".mov", ".gif")
FORMATS = "mov,mp4,avi,matroska,webm,gif"  # no others: a playlist would lead the reader to other files
MOST_PIXELS = 1 << 26  # of a frame, such as 8192 x 8192
MOST_FRAMES = 1_000_000  # of a film: nine hours at 30 a second
WHOLE = 0.9  # share of what its header promises, that a file must hold: headers are not exact
ACCEPTED = "expected a path, bytes, an array (T, H, W, 3), or a list of pictures"
MISSING = "Reading video files needs av: pip install 'metatx[video]'"

Framed = Callable[[Image.Image], np.ndarray]


def evenly(total: int, count: int) -> np.ndarray:
    """Which ``count`` of ``total`` frames to take (count,): the middle ones of as many equal stretches.

    Where there are fewer than ``count``, they repeat.
    """
    middles: np.ndarray = (2 * np.arange(count) + 1) * total // (2 * count)
    return middles


def read_film(sample: Any, count: int, size: tuple[int, int], interpolation: str = "bicubic") -> np.ndarray:
    """Frames of a film, evenly spread over it, as uint8 (count, H, W, 3).

    Only frames that are asked for are kept, and no others are decoded where the file lets them be skipped. Each is cut
    around its middle to the proportions of ``size``, and turned upright where the file says so.

    Args:
        sample: Path, bytes of a file, array or tensor (T, H, W, 3) or (T, 3, H, W) as ``read_picture`` takes each
            frame, list of pictures in any form it takes, or, as Hugging Face's columns hold it, ``{"bytes", "path"}``.
        count: Frames to take; they repeat where the film has fewer.
        size: Height and width of the result.
        interpolation: Name of PIL's filter.

    Raises:
        SampleError: If it cannot be read, holds no picture, ends before its header says, or is beyond the limits of a
            frame's size or a film's length; names the file where there is one.
        ImportError: If a file is to be read, and av is missing.
    """
    resample = Image.Resampling[interpolation.upper()]

    def framed(picture: Image.Image) -> np.ndarray:
        return np.asarray(ImageOps.fit(picture, (size[1], size[0]), resample))

    if isinstance(sample, dict) and ("bytes" in sample or "path" in sample):
        content, path = sample.get("bytes"), sample.get("path")
        if content is None:
            return read_film(path, count, size, interpolation)
        return _from_file(content, Path(path).name if path else "the film", count, framed)
    if isinstance(sample, str | Path):
        path = Path(sample)
        if not path.is_file():
            raise SampleError(f"video file {path.name} {'is a folder' if path.is_dir() else 'does not exist'}")
        return _from_file(path, path.name, count, framed)
    if isinstance(sample, bytes):
        return _from_file(sample, "the film", count, framed)
    if isinstance(sample, np.ndarray | Tensor):
        sample = np.asarray(sample)
        if sample.ndim != 4:
            raise SampleError(f"video is an array {sample.shape}; {ACCEPTED}")
    elif not isinstance(sample, list | tuple):
        raise SampleError(f"video is a {type(sample).__name__}; {ACCEPTED}")
    return _from_pictures(sample, count, framed)


def _from_pictures(pictures: Sequence[Any] | np.ndarray, count: int, framed: Framed) -> np.ndarray:
    if not len(pictures):
        raise SampleError("the film has no frame; expected at least one")
    chosen, frames = evenly(len(pictures), count), {}
    for index in sorted(set(chosen.tolist())):
        try:
            frames[index] = framed(read_picture(pictures[index]))
        except SampleError as error:
            raise SampleError(f"frame {index + 1} of {len(pictures)}: {error}") from None
    return np.stack([frames[index] for index in chosen.tolist()])


def _from_file(source: Path | bytes, name: str, count: int, framed: Framed) -> np.ndarray:
    try:
        import av
    except ImportError as error:
        raise ImportError(MISSING) from error
    if not (source if isinstance(source, bytes) else source.stat().st_size):
        raise SampleError(f"video file {name} is empty")

    def opened() -> "InputContainer":
        file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        return av.open(file, "r", options={"format_whitelist": FORMATS}, metadata_errors="ignore")

    try:
        with opened() as film:
            times, keys = _times(film, _pictures_of(film, name), name)
        # Opened anew, for not every format can be wound back.
        with opened() as film:
            return _decode(film, _pictures_of(film, name), times, keys, count, framed)
    except av.FFmpegError as error:
        known = ", ".join(SUFFIXES)
        raise SampleError(f"video file {name} is damaged, or none of {known} ({error.strerror})") from None


def _pictures_of(film: "InputContainer", name: str) -> "VideoStream":
    if not film.streams.video:
        raise SampleError(f"video file {name} holds no pictures, only {_kinds(film)}")
    stream = film.streams.video[0]
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MOST_PIXELS:
        limit = f"at most {MOST_PIXELS:,} pixels"
        raise SampleError(f"video file {name} has frames of {width} x {height}; expected {limit}: make it smaller")
    return stream


def _kinds(film: "InputContainer") -> str:
    return ", ".join(sorted({stream.type for stream in film.streams})) or "nothing"


def _times(film: "InputContainer", stream: "VideoStream", name: str) -> tuple[list[int], list[int]]:
    """When each frame is shown, and the times from which decoding can start; nothing is decoded for it.

    Where that is not known, the numbers of the frames, and no place to start from.
    """
    shown: list[int] = []
    keys: list[int] = []
    found = 0
    known = film.format.name != "avi"  # which says when a frame is decoded, not when it is shown
    for packet in film.demux(stream):
        if not packet.size:
            continue
        found += 1
        if found > MOST_FRAMES:
            raise SampleError(f"video file {name} has more than {MOST_FRAMES:,} frames; cut it into clips")
        if packet.pts is None:
            known = False
        elif not packet.is_discard:
            shown.append(packet.pts)
            keys += [packet.pts] if packet.is_keyframe else []
    if not found:
        raise SampleError(f"video file {name} holds no frame")
    if found < WHOLE * stream.frames:
        raise SampleError(f"video file {name} is truncated: {found} of {stream.frames} frames")
    lasts = _seconds(stream.metadata.get("DURATION", ""))
    if not (known and shown):
        return list(range(found)), []
    if len(shown) > 1 and stream.time_base is not None:
        ends = float((max(shown) - min(shown)) * stream.time_base) * len(shown) / (len(shown) - 1)
        if ends < WHOLE * lasts:
            raise SampleError(f"video file {name} is truncated: {ends:.1f} of {lasts:.1f} s")
    return sorted(shown), sorted(keys)


def _seconds(clock: str) -> float:
    """``"00:01:02.5"``, as Matroska writes it, in seconds; 0 for what is none."""
    parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", clock.strip("\0 "))
    return float(parts[1]) * 3600 + float(parts[2]) * 60 + float(parts[3]) if parts else 0.0


def _decode(
    film: "InputContainer", stream: "VideoStream", times: list[int], keys: list[int], count: int, framed: Framed
) -> np.ndarray:
    """The frames of ``count`` of ``times``; each that the decoder leaves out is the next one, or the last."""
    wanted = [times[index] for index in evenly(len(times), count).tolist()]
    frames: dict[int, np.ndarray] = {}
    shown, decoded = _numbered(film, stream, bool(keys)), None
    reached = times[0]
    for time in sorted(set(wanted)):
        key = keys[max(0, bisect.bisect_right(keys, time) - 1)] if keys else reached
        if key > reached:
            film.seek(key, stream=stream)
            shown = _numbered(film, stream, True)
        while reached < time or decoded is None:
            following = next(shown, None)
            if following is None:
                break
            reached, decoded = following
        if decoded is None:
            raise SampleError("no frame of the film can be decoded")
        frames[time] = framed(_upright(decoded))
    return np.stack([frames[time] for time in wanted])


def _numbered(film: "InputContainer", stream: "VideoStream", timed: bool) -> "Iterator[tuple[int, VideoFrame]]":
    """Decoded frames from here on, with their time, or else their number."""
    for number, frame in enumerate(film.decode(stream)):
        if not timed:
            yield number, frame
        elif frame.pts is not None:
            yield frame.pts, frame


def _upright(frame: "VideoFrame") -> Image.Image:
    turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return Image.fromarray(np.ascontiguousarray(turned))
