"""Small films for tests, written by PyAV."""

from pathlib import Path

import av
import numpy as np

STEP = 6  # by which each frame's grey is lighter than the last


def shades(count=40, height=48, width=64):
    """Frames (T, H, W, 3), each of one grey, that tells its number."""
    return np.repeat(np.arange(count, dtype=np.uint8) * STEP, height * width * 3).reshape(count, height, width, 3)


def numbers(frames):
    """Of frames (T, H, W, 3) of ``shades``: which they are."""
    return np.round(frames.mean((1, 2, 3)) / STEP).astype(int).tolist()


def write_film(path: Path, frames=None, codec="mpeg4", pixels="yuv420p", group=8):
    """A film whose every ``group``th frame is whole."""
    frames = shades() if frames is None else frames
    early = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    form = {".mkv": "matroska"}.get(path.suffix, path.suffix[1:])
    with av.open(str(path), "w", format=form, options=early) as film:
        stream = film.add_stream(codec, rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.gop_size, stream.bit_rate = pixels, group, 4_000_000
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixels)
            film.mux(stream.encode(picture))
        film.mux(stream.encode())
    return path


def write_sound(path: Path):
    """A film of half a second with nothing to see."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream("aac", rate=16_000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8_000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16_000
        film.mux(stream.encode(sound))
        film.mux(stream.encode())
    return path
