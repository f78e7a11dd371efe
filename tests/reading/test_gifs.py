"""Animated GIFs as films, whatever times their frames are given."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from metatx import SampleError
from metatx.reading.video import read_video


def gif(count: int = 6, sides: tuple[int, int] = (100, 120), **options) -> tuple[list[Image.Image], bytes]:
    """Frames of noise, and the file that PIL writes of them."""
    values = np.random.default_rng(0).integers(0, 255, (count, *sides), dtype=np.uint8)
    frames = [Image.fromarray(frame) for frame in values]
    frames[0].save(file := io.BytesIO(), "GIF", save_all=True, append_images=frames[1:], **options)
    return frames, file.getvalue()


@pytest.mark.parametrize("options", [{}, {"duration": 40}, {"duration": [0, 10, 500, 0, 1, 0], "loop": 0}])
@pytest.mark.parametrize("count", [1, 4, 6, 9])
def test_frames_are_those_that_were_written(options: dict, count: int) -> None:
    frames, content = gif(**options)
    np.testing.assert_array_equal(read_video(content, count, (100, 120)), read_video(frames, count, (100, 120)))


def test_no_frame_is_decoded_behind_the_last_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    sought, seek = [], GifImageFile.seek
    monkeypatch.setattr(GifImageFile, "seek", lambda self, frame: sought.append(frame) or seek(self, frame))
    read_video(gif()[1], 1, (10, 10))
    assert max(sought) == 3


@pytest.mark.parametrize(
    ("bounds", "found"),
    [
        ("frames=5", "6 frames"),
        ("frame_pixels=11999", "12,000 pixels in a frame"),
        ("video_pixels=71999", "72,000 pixels in the frames"),
    ],
)
def test_bounds_are_looked_at_before_a_frame_is_decoded(
    bounds: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METATX_BOUNDS", bounds)
    monkeypatch.setattr(GifImageFile, "load", lambda self: pytest.fail("was decoded"))
    with pytest.raises(SampleError, match=f"video file .* has {found}.*expected at most"):
        read_video(gif()[1], 6, (10, 10))


def test_a_frame_beyond_the_screen_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    content = gif(2, (8, 8))[1]
    at = content.rindex(b"\x2c\0\0\0\0\x08\0\x08\0")
    monkeypatch.setenv("METATX_BOUNDS", "frame_pixels=1000000")
    with pytest.raises(SampleError, match="16,0.* pixels in a frame"):
        read_video(content[:at] + struct.pack("<B4H", 0x2C, 3992, 3992, 8, 8) + content[at + 9 :], 2, (8, 8))


def test_frames_that_enlarge_the_screen_count_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    content = gif(2, (8, 8))[1]
    at = content.rindex(b"\x2c\0\0\0\0\x08\0\x08\0")
    content = content[:at] + struct.pack("<B4H", 0x2C, 12, 12, 8, 8) + content[at + 9 :]
    assert read_video(content, 2, (8, 8)).shape == (2, 8, 8, 3)
    monkeypatch.setenv("METATX_BOUNDS", "video_pixels=799")
    with pytest.raises(SampleError, match="800 pixels in the frames"):
        read_video(content, 2, (8, 8))


def test_an_end_too_many_between_frames_is_passed_over() -> None:
    frames, content = gif(3, (8, 8))
    at = content.index(b"\x21\xf9", content.index(b"\x2c\0\0\0\0"))
    assert content[at - 1] == 0
    found = read_video(content[:at] + b"\0" + content[at:], 3, (8, 8))
    np.testing.assert_array_equal(found, read_video(frames, 3, (8, 8)))


@pytest.mark.parametrize("length", [6, 12, 13, 800, 2_000])
def test_without_a_whole_frame_it_is_refused(length: int) -> None:
    with pytest.raises(SampleError, match="is damaged: it holds no whole frame"):
        read_video(gif()[1][:length], 2, (8, 8))


def test_of_a_file_that_ends_early_the_whole_frames_are_read() -> None:
    frames, content = gif()
    found = read_video(content[: len(content) * 3 // 4], 4, (100, 120))
    np.testing.assert_array_equal(found, read_video(frames[:4], 4, (100, 120)))
