"""Videos from files, bytes and arrays: some frames, evenly spread, each resized as it is decoded."""

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

__all__ = ["SUFFIXES", "decoded_frames", "evenly", "read_video"]

SUFFIXES = (
    *(".mp4", ".avi", ".webm", ".mkv", ".mov", ".gif", ".m4v", ".3gp", ".mpg", ".mpeg", ".ts", ".mts", ".flv"),
    ".wmv",
)
# FFmpeg's accepted formats. Others, such as playlists, could lead it to other files.
FORMATS = "mov,mp4,avi,matroska,webm,mpeg,mpegts,flv,asf"
# Formats whose packets hold the times of their frames, and in which such a time can be sought.
INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# Without protocols, no file can be opened from within another; QuickTime must not follow its references to others.
CONFINED = {"format_whitelist": FORMATS, "protocol_whitelist": "none", "enable_drefs": "0"}
THREADS = 4  # most threads of the decoder
WHOLE = 0.9  # least share of the promised frames that a file must hold: headers are not exact
ACCEPTED = "expected a path, bytes, an array (T, H, W, 3), or a list of images"
MISSING = "Reading video files needs av: pip install 'metatx[video]'"

Opened = Callable[..., "AbstractContextManager[InputContainer]"]
Framed = Callable[[Image.Image], np.ndarray]


def evenly(total: int, count: int) -> np.ndarray:
    """Indices (count,) of ``count`` of ``total`` frames: the centres of as many equal stretches.

    If there are fewer frames than ``count``, indices repeat.
    """
    centres: np.ndarray = (2 * np.arange(count) + 1) * total // (2 * count)
    return centres


def read_video(
    sample: Any, count: int, size: tuple[int, int], interpolation: str = "bicubic", time_axis: int = 0
) -> np.ndarray:
    """Read frames of a video, evenly spread over it, as uint8 (count, H, W, 3).

    Frames between them are not kept, and not decoded if the format allows to skip them. Each frame is turned upright
    by the file's rotation, and cropped around its centre to the proportions of ``size``.

    Args:
        sample: Path, bytes of a file, array or tensor (T, H, W, 3) or (T, 3, H, W), list of images in any form of
            ``read_image``, or a dict ``{"bytes", "path"}`` of Hugging Face datasets.
        count: Number of frames; frames repeat if the video has fewer.
        size: Height and width of the result in pixels.
        interpolation: Name of PIL's filter.
        time_axis: Axis of time in arrays: 0, or 1 for (3, T, H, W).

    Raises:
        SampleError: If the video cannot be read, holds no image, ends before its header says, or is beyond the bounds
            of a frame's size or a video's length; the message names the file, if there is one.
        ImportError: If the sample is a file and av is missing.
    """
    resample = Image.Resampling[interpolation.upper()]

    def framed(image: Image.Image) -> np.ndarray:
        return np.asarray(ImageOps.fit(image, (size[1], size[0]), resample))

    if is_file_sample(sample):
        source, name = file_of_sample(sample, "video", "the video")
        if is_gif(source):  # FFmpeg only guesses where the frames of a GIF begin
            return read_gif(source, name, lambda total: evenly(total, count).tolist(), framed)
        return _from_file(source, name, count, framed)
    if isinstance(sample, np.ndarray | Tensor):
        sample = as_array(sample)
        if sample.ndim != 4:
            raise SampleError(f"video is an array {sample.shape}; {ACCEPTED}")
        first, second, _, last = sample.shape
        if not time_axis and first in (1, 3) and second not in CHANNELS and last not in CHANNELS:
            raise SampleError(
                f"video is an array {sample.shape}, with time behind the channels; set time_axis=1 "
                "(--tokenizer.time-axis 1), or move the axis"
            )
        sample = np.moveaxis(sample, time_axis, 0)
    elif not isinstance(sample, list | tuple):
        raise SampleError(f"video is a {type(sample).__name__}; {ACCEPTED}")
    return _from_images(sample, count, framed)


def _from_images(images: Sequence[Any] | np.ndarray, count: int, framed: Framed) -> np.ndarray:
    """Frames of a video that is a sequence of images."""
    if not len(images):
        raise SampleError("the video has no frame; expected at least one")
    chosen = evenly(len(images), count)
    frames = {}
    for index in sorted(set(chosen.tolist())):
        try:
            frames[index] = framed(read_image(images[index]))
        except SampleError as error:
            raise SampleError(f"frame {index + 1} of {len(images)}: {error}") from None
    return np.stack([frames[index] for index in chosen.tolist()])


def _from_file(source: Path | bytes, name: str, count: int, framed: Framed) -> np.ndarray:
    """Frames of a video file, or its bytes."""
    try:
        import av
    except ImportError as error:
        raise ImportError(MISSING) from error
    if not (source if isinstance(source, bytes) else source.stat().st_size):
        raise SampleError(f"video file {name} is empty")

    trouble = f"video file {name} is damaged, or none of {', '.join(SUFFIXES)}"
    most = {"max_pixels": str(int(bound("frame_pixels")))}  # FFmpeg's bound, for frames that grow later in the video

    @contextmanager
    def opened(**options: str) -> "Iterator[InputContainer]":
        # An open file, never a name, in which FFmpeg might see a protocol.
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            with decoding(trouble):
                video = av.open(file, "r", options={**CONFINED, **most, **options}, metadata_errors="ignore")
            with video:
                yield video

    times, keys = _times(opened, name, trouble)
    # Opened again, for some formats cannot be rewound.
    with opened() as video:
        stream = _video_stream(video, name)
        stream.codec_context.options = most
        stream.codec_context.thread_count = THREADS
        wanted = [times[index] for index in evenly(len(times), count).tolist()]
        pixels = stream.codec_context.width * stream.codec_context.height
        if not pixels:  # FFmpeg stopped at its bound
            raise SampleError(f"{trouble}, or has frames of more than {bound('frame_pixels'):,.0f} pixels")
        check_bound("video_pixels", pixels * decoded_frames(times, keys, wanted), f"video file {name}")
        return _decode(video, stream, times[0], keys, wanted, framed, trouble)


def _video_stream(video: "InputContainer", name: str) -> "VideoStream":
    """First video stream of a file, checked against the bounds. Raises SampleError without one that can be decoded."""
    if not video.streams.video:
        raise SampleError(f"video file {name} holds no images, only {_kinds(video)}")
    stream = video.streams.video[0]
    if stream.codec_context is None:  # FFmpeg has no decoder; PyAV's types ignore that case
        raise SampleError(f"video file {name} is written by a codec that cannot be decoded here; write it as H.264")
    check_bound("frame_pixels", stream.codec_context.width * stream.codec_context.height, f"video file {name}")
    lengths = (video.duration or 0) / 1e6, float((stream.duration or 0) * (stream.time_base or 0))
    check_bound("video_seconds", max(lengths), f"video file {name}")
    return stream


def _kinds(video: "InputContainer") -> str:
    """Kinds of the streams in a file, for messages."""
    return ", ".join(sorted({stream.type for stream in video.streams})) or "nothing"


def _times(opened: Opened, name: str, trouble: str) -> tuple[list[int], list[int]]:
    """Times of all frames, and those from which decoding can start (key frames), both ascending; decodes nothing.

    If the format holds no times, the frames' numbers and an empty list.
    """
    shown: list[int] = []
    keys: list[int] = []
    count = ends = 0
    with opened() as video:
        stream = _video_stream(video, name)
        timed = video.format.name in INDEXED
        for packet in _packets(video, stream, name, trouble):
            count += 1
            if packet.pts is None:
                timed = False
            elif not packet.is_discard:
                shown.append(packet.pts)
                keys += [packet.pts] if packet.is_keyframe else []
                ends = max(ends, packet.pts + (packet.duration or 0))
        promised = stream.frames
        until = _seconds(stream.metadata.get("DURATION", ""))
        unit = float(stream.time_base or 0)  # seconds of one step of time
        rate = float(stream.average_rate or 0)  # frames a second
    if not count:
        raise SampleError(f"video file {name} holds no frame")
    # Frames that were dropped in recording take time, but have no packet in the file.
    slots = round((ends - min(shown)) * unit * rate) if shown else 0
    if max(count, slots) < WHOLE * promised:
        # An edit list may show only part of the frames in the file.
        with opened(ignore_editlist="1") as video:
            there = sum(1 for _ in _packets(video, _video_stream(video, name), name, trouble))
        if there < WHOLE * promised:
            raise SampleError(f"video file {name} is truncated: {there} of {promised} frames")
    if not (timed and shown):
        return list(range(count)), []
    first = min(shown)
    usual = (max(shown) - first) / (len(shown) - 1) if len(shown) > 1 else 0
    lasts = unit * (max(ends, max(shown) + usual) - first)
    start = unit * first
    # Matroska's duration is the time at which the last frame ends; some programs write the length of the video instead.
    should = until - start if until > start else until
    if usual and lasts < WHOLE * should:
        raise SampleError(f"video file {name} is truncated: {lasts:.1f} of {should:.1f} s")
    return sorted(shown), sorted(keys)


def _packets(video: "InputContainer", stream: "VideoStream", name: str, trouble: str) -> Iterator["Packet[Any]"]:
    """Packets of a stream that hold data, up to the bound of frames."""
    for number, packet in enumerate(decoded(video.demux(stream), trouble)):
        check_bound("frames", number, f"video file {name}")
        if packet.size:
            yield packet


def _seconds(clock: str) -> float:
    """Seconds of a duration such as ``"00:01:02.5"``, Matroska's form; 0 for another text."""
    parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", clock.strip("\0 "))
    return float(parts[1]) * 3600 + float(parts[2]) * 60 + float(parts[3]) if parts else 0.0


def decoded_frames(times: list[int], keys: list[int], wanted: list[int]) -> int:
    """Count the frames that must be decoded to get those at the wanted times."""
    count = start = 0
    for time in sorted(set(wanted)):
        key = keys[max(0, bisect.bisect_right(keys, time) - 1)] if keys else times[0]
        end = bisect.bisect_right(times, time)
        start = max(start, bisect.bisect_left(times, key))
        count += max(0, end - start)
        start = max(start, end)
    return count


def _decode(
    video: "InputContainer",
    stream: "VideoStream",
    reached: int,
    keys: list[int],
    wanted: list[int],
    framed: Framed,
    trouble: str,
) -> np.ndarray:
    """Decode the frames at the wanted times; for one that the decoder skips, take the next frame, or the last.

    Args:
        video: Open file.
        stream: Video stream of the file.
        reached: Time of the first frame.
        keys: Times from which decoding can start; none if frames have numbers instead of times.
        wanted: Times, or numbers, of the frames, ascending.
        framed: Function from a frame to an array.
        trouble: Beginning of the message about a damaged file.
    """
    frames: dict[int, np.ndarray] = {}
    shown = decoded(_numbered(video, stream, bool(keys)), trouble)
    frame = None
    for time in sorted(set(wanted)):
        key = keys[max(0, bisect.bisect_right(keys, time) - 1)] if keys else reached
        if key > reached:
            with decoding(trouble):
                video.seek(key, stream=stream)
            shown = decoded(_numbered(video, stream, True), trouble)
        while reached < time or frame is None:
            following = next(shown, None)
            if following is None:
                break
            reached, frame = following
        if frame is None:
            raise SampleError("no frame of the video can be decoded")
        with decoding(trouble):
            image = _upright(frame)
        frames[time] = framed(image)
    return np.stack([frames[time] for time in wanted])


def _numbered(video: "InputContainer", stream: "VideoStream", timed: bool) -> "Iterator[tuple[int, VideoFrame]]":
    """Decoded frames from the current position on, with their times if ``timed``, else numbered from 0."""
    for number, frame in enumerate(video.decode(stream)):
        if not timed:
            yield number, frame
        elif frame.pts is not None:
            yield frame.pts, frame


def _upright(frame: "VideoFrame") -> Image.Image:
    """Image of a frame, turned upright by the file's rotation."""
    turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return Image.fromarray(np.ascontiguousarray(turned))
