"""Reading films from whatever holds them: some frames, evenly spread, each resized as it is decoded."""

import bisect
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from metatx.errors import SampleError, decoded, decoding
from metatx.reading.arrays import as_array
from metatx.reading.bounds import bound, check_bound
from metatx.reading.file_samples import file_of_sample, is_file_sample
from metatx.reading.gifs import is_gif, read_gif
from metatx.reading.image import CHANNELS, read_image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["SUFFIXES", "evenly", "read_video"]

SUFFIXES = (
    *(".mp4", ".avi", ".webm", ".mkv", ".mov", ".gif", ".m4v", ".3gp", ".mpg", ".mpeg", ".ts", ".mts", ".flv"),
    ".wmv",
)
# No others: a playlist would lead the reader to other files.
FORMATS = "mov,mp4,avi,matroska,webm,mpeg,mpegts,flv,asf"
# Of these alone each packet says when its frame is shown, and a place can be found again by that time.
INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# No protocol, so that no file is opened from within one; nor does QuickTime follow its references to others.
CONFINED = {"format_whitelist": FORMATS, "protocol_whitelist": "none", "enable_drefs": "0"}
THREADS = 4  # of the decoder, at most
WHOLE = 0.9  # share of what its header promises, that a file must hold: headers are not exact
ACCEPTED = "expected a path, bytes, an array (T, H, W, 3), or a list of pictures"
MISSING = "Reading video files needs av: pip install 'metatx[video]'"

Opened = Callable[..., "AbstractContextManager[InputContainer]"]
Framed = Callable[[Image.Image], np.ndarray]


def evenly(total: int, count: int) -> np.ndarray:
    """Which ``count`` of ``total`` frames to take (count,): the middle ones of as many equal stretches.

    Where there are fewer than ``count``, they repeat.
    """
    middles: np.ndarray = (2 * np.arange(count) + 1) * total // (2 * count)
    return middles


def read_video(
    sample: Any, count: int, size: tuple[int, int], interpolation: str = "bicubic", time_axis: int = 0
) -> np.ndarray:
    """Frames of a film, evenly spread over it, as uint8 (count, H, W, 3).

    Only frames that are asked for are kept, and no others are decoded where the file lets them be skipped. Each is cut
    around its middle to the proportions of ``size``, and turned upright where the file says so.

    Args:
        sample: Path, bytes of a file, array or tensor (T, H, W, 3) or (T, 3, H, W) as ``read_image`` takes each
            frame, list of pictures in any form it takes, or, as Hugging Face's columns hold it, ``{"bytes", "path"}``.
        count: Frames to take; they repeat where the film has fewer.
        size: Height and width of the result.
        interpolation: Name of PIL's filter.
        time_axis: Of arrays: 0, or 1 for (3, T, H, W).

    Raises:
        SampleError: If it cannot be read, holds no picture, ends before its header says, or is beyond the limits of a
            frame's size or a film's length; names the file where there is one.
        ImportError: If a file is to be read, and av is missing.
    """
    resample = Image.Resampling[interpolation.upper()]

    def framed(picture: Image.Image) -> np.ndarray:
        return np.asarray(ImageOps.fit(picture, (size[1], size[0]), resample))

    if is_file_sample(sample):
        source, name = file_of_sample(sample, "video", "the film")
        if is_gif(source):  # whose frames FFmpeg tells apart by guessing
            return read_gif(source, name, lambda total: evenly(total, count).tolist(), framed)
        return _from_file(source, name, count, framed)
    if isinstance(sample, np.ndarray | Tensor):
        sample = as_array(sample)
        if sample.ndim != 4:
            raise SampleError(f"video is an array {sample.shape}; {ACCEPTED}")
        first, second, _, last = sample.shape
        if not time_axis and first in (1, 3) and second not in CHANNELS and last not in CHANNELS:
            found = f"video is an array {sample.shape}, with time behind the channels"
            raise SampleError(f"{found}; set time_axis=1 (--tokenizer.time_axis 1), or move the axis")
        sample = np.moveaxis(sample, time_axis, 0)
    elif not isinstance(sample, list | tuple):
        raise SampleError(f"video is a {type(sample).__name__}; {ACCEPTED}")
    return _from_images(sample, count, framed)


def _from_images(pictures: Sequence[Any] | np.ndarray, count: int, framed: Framed) -> np.ndarray:
    if not len(pictures):
        raise SampleError("the film has no frame; expected at least one")
    chosen, frames = evenly(len(pictures), count), {}
    for index in sorted(set(chosen.tolist())):
        try:
            frames[index] = framed(read_image(pictures[index]))
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

    trouble = f"video file {name} is damaged, or none of {', '.join(SUFFIXES)}"
    most = {"max_pixels": str(int(bound("frame_pixels")))}  # also where frames become larger on the way

    @contextmanager
    def opened(**options: str) -> "Iterator[InputContainer]":
        # Always a file that is open here, never a name, which FFmpeg might take for a protocol's.
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            with decoding(trouble):
                film = av.open(file, "r", options={**CONFINED, **most, **options}, metadata_errors="ignore")
            with film:
                yield film

    times, keys = _times(opened, name, trouble)
    # Opened anew, for not every format can be wound back.
    with opened() as film:
        stream = _video_stream(film, name)
        stream.codec_context.options = most
        stream.codec_context.thread_count = THREADS
        wanted = [times[index] for index in evenly(len(times), count).tolist()]
        pixels = stream.codec_context.width * stream.codec_context.height
        if not pixels:  # FFmpeg, which was told the bound, stopped at it
            raise SampleError(f"{trouble}, or has frames of more than {bound('frame_pixels'):,.0f} pixels")
        check_bound("video_pixels", pixels * _decoded_frames(times, keys, wanted), f"video file {name}")
        return _decode(film, stream, times[0], keys, wanted, framed, trouble)


def _video_stream(film: "InputContainer", name: str) -> "VideoStream":
    if not film.streams.video:
        raise SampleError(f"video file {name} holds no pictures, only {_kinds(film)}")
    stream = film.streams.video[0]
    if stream.codec_context is None:  # FFmpeg has no decoder, whatever PyAV's types say
        raise SampleError(f"video file {name} is written by a codec that is not known here; write it as H.264")
    check_bound("frame_pixels", stream.codec_context.width * stream.codec_context.height, f"video file {name}")
    lengths = (film.duration or 0) / 1e6, float((stream.duration or 0) * (stream.time_base or 0))
    check_bound("video_seconds", max(lengths), f"video file {name}")
    return stream


def _kinds(film: "InputContainer") -> str:
    return ", ".join(sorted({stream.type for stream in film.streams})) or "nothing"


def _times(opened: Opened, name: str, trouble: str) -> tuple[list[int], list[int]]:
    """When each frame is shown, and the times from which decoding can start; nothing is decoded for it.

    Where that is not known, the numbers of the frames, and no place to start from.
    """
    shown: list[int] = []
    keys: list[int] = []
    found = ends = 0
    with opened() as film:
        stream = _video_stream(film, name)
        known = film.format.name in INDEXED
        for packet in _packets(film, stream, name, trouble):
            found += 1
            if packet.pts is None:
                known = False
            elif not packet.is_discard:
                shown.append(packet.pts)
                keys += [packet.pts] if packet.is_keyframe else []
                ends = max(ends, packet.pts + (packet.duration or 0))
        promised, until = stream.frames, _seconds(stream.metadata.get("DURATION", ""))
        unit, rate = float(stream.time_base or 0), float(stream.average_rate or 0)
    if not found:
        raise SampleError(f"video file {name} holds no frame")
    # Frames that were dropped while it was recorded have a time, and nothing in the file.
    slots = round((ends - min(shown)) * unit * rate) if shown else 0
    if max(found, slots) < WHOLE * promised:
        # An edit list shows a part of the frames that are there.
        with opened(ignore_editlist="1") as film:
            there = sum(1 for _ in _packets(film, _video_stream(film, name), name, trouble))
        if there < WHOLE * promised:
            raise SampleError(f"video file {name} is truncated: {there} of {promised} frames")
    if not (known and shown):
        return list(range(found)), []
    first = min(shown)
    usual = (max(shown) - first) / (len(shown) - 1) if len(shown) > 1 else 0
    lasts, start = unit * (max(ends, max(shown) + usual) - first), unit * first
    # Matroska's duration is the time at which the last frame ends, but some programs write how long the film is.
    should = until - start if until > start else until
    if usual and lasts < WHOLE * should:
        raise SampleError(f"video file {name} is truncated: {lasts:.1f} of {should:.1f} s")
    return sorted(shown), sorted(keys)


def _packets(film: "InputContainer", stream: "VideoStream", name: str, trouble: str) -> Iterator["Packet[Any]"]:
    for number, packet in enumerate(decoded(film.demux(stream), trouble)):
        check_bound("frames", number, f"video file {name}")
        if packet.size:
            yield packet


def _seconds(clock: str) -> float:
    """``"00:01:02.5"``, as Matroska writes it, in seconds; 0 for what is none."""
    parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", clock.strip("\0 "))
    return float(parts[1]) * 3600 + float(parts[2]) * 60 + float(parts[3]) if parts else 0.0


def _decoded_frames(times: list[int], keys: list[int], wanted: list[int]) -> int:
    """How many of the frames at ``times`` have to be decoded for those that are wanted."""
    count = start = 0
    for time in sorted(set(wanted)):
        key = keys[max(0, bisect.bisect_right(keys, time) - 1)] if keys else times[0]
        end = bisect.bisect_right(times, time)
        start = max(start, bisect.bisect_left(times, key))
        count, start = count + max(0, end - start), max(start, end)
    return count


def _decode(
    film: "InputContainer",
    stream: "VideoStream",
    reached: int,
    keys: list[int],
    wanted: list[int],
    framed: Framed,
    trouble: str,
) -> np.ndarray:
    """The frames of those times; each that the decoder leaves out is the next one, or the last."""
    frames: dict[int, np.ndarray] = {}
    shown, frame = decoded(_numbered(film, stream, bool(keys)), trouble), None
    for time in sorted(set(wanted)):
        key = keys[max(0, bisect.bisect_right(keys, time) - 1)] if keys else reached
        if key > reached:
            with decoding(trouble):
                film.seek(key, stream=stream)
            shown = decoded(_numbered(film, stream, True), trouble)
        while reached < time or frame is None:
            following = next(shown, None)
            if following is None:
                break
            reached, frame = following
        if frame is None:
            raise SampleError("no frame of the film can be decoded")
        with decoding(trouble):
            picture = _upright(frame)
        frames[time] = framed(picture)
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
