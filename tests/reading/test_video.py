"""Films of every kind: the frames that were asked for, no more than needed, and refusal of what is none."""

import io
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metatx import SampleError
from metatx.reading.video import decoded_frames, evenly, read_video
from tests.tokenizers.films import numbers, shades, write_film, write_sound

RNG = np.random.default_rng(0)
SIZE = (24, 32)
KINDS = [
    (".mp4", "h264", "yuv420p"),
    (".mov", "mpeg4", "yuv420p"),
    (".avi", "mpeg4", "yuv420p"),
    (".avi", "h264", "yuv420p"),  # whose frames are stored in another order than they are shown
    (".webm", "libvpx", "yuv420p"),
    (".webm", "libvpx-vp9", "yuv420p"),
    (".mkv", "h264", "yuv420p"),
    (".gif", "gif", "rgb8"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A film of each kind, written once."""
    folder = tmp_path_factory.mktemp("films")
    return {kind: write_film(folder / f"{'-'.join(kind[1:])}{kind[0]}", None, *kind[1:]) for kind in KINDS}


# Which frames


@given(st.integers(1, 5_000), st.integers(1, 200))
def test_even_samples_are_spread_over_the_film(total, count):
    chosen = evenly(total, count)
    assert len(chosen) == count and 0 <= chosen.min() and chosen.max() < total
    assert (np.diff(chosen) >= 0).all()
    middles = (np.arange(count) + 0.5) * total / count
    assert (np.abs(chosen + 0.5 - middles) <= 0.5 + 1e-9).all()
    np.testing.assert_array_equal(evenly(total, 3 * count)[1::3], chosen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 4, 16, 40, 50])
def test_every_format_gives_the_frames_that_were_asked_for(made, kind, count):
    path = made[kind]
    found = read_video(path, count, SIZE)
    assert found.shape == (count, *SIZE, 3) and found.dtype == np.uint8
    assert numbers(found) == evenly(40, count).tolist()
    if count == 4:
        for sample in (str(path), path.read_bytes(), {"bytes": path.read_bytes(), "path": None}, {"path": str(path)}):
            np.testing.assert_array_equal(read_video(sample, count, SIZE), found)


def test_arrays_and_lists_are_the_same_film():
    film = RNG.integers(0, 256, (9, 40, 50, 3), dtype=np.uint8)
    expected = read_video(film, 4, SIZE)
    pictures = [Image.fromarray(frame) for frame in film]
    forms = [pictures, tuple(pictures), list(film), torch.tensor(film), film.transpose(0, 3, 1, 2), film / 255]
    for sample in forms:
        np.testing.assert_array_equal(read_video(sample, 4, SIZE), expected)
    np.testing.assert_array_equal(read_video(film, 9, (40, 50)), film)


def test_frames_are_cut_around_their_middle(made):
    wide = np.zeros((1, 20, 60, 3), np.uint8)
    wide[:, :, 20:40] = 200
    assert (read_video(wide, 1, (20, 20)) == 200).all()
    assert (read_video(wide, 1, (20, 60)) == wide).all()
    assert read_video(wide.transpose(0, 2, 1, 3), 1, (10, 10)).min() > 180  # bicubic, near the edge


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_films_of_phones_are_turned_upright(tmp_path, turn):
    film = np.zeros((4, 48, 64, 3), np.uint8)
    film[:, :24, :32] = 240  # bright in the corner at the top left
    content = bytearray(write_film(tmp_path / "a.mp4", film).read_bytes())
    # Eight bytes of the track's header lie before its matrix of nine 32-bit numbers, a b u c d v x y w.
    matrix = content.index(b"tkhd") + 4 + 40
    cos, sin = round(np.cos(np.radians(turn))), round(np.sin(np.radians(turn)))
    for at, value in ((0, cos), (4, -sin), (12, sin), (16, cos)):
        content[matrix + at : matrix + at + 4] = (value << 16).to_bytes(4, "big", signed=True)
    side = read_video(bytes(content), 1, (32, 32))[0, ..., 0].astype(int)
    upright = np.rot90(read_video(film, 1, (48, 64))[0, ..., 0], turn // 90)
    rows, columns = upright.shape
    corners = upright[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (rows > columns) == (turn != 180)
    np.testing.assert_allclose(side[[1, 1, -2, -2], [1, -2, 1, -2]], corners, atol=30)


def test_no_more_is_decoded_than_needed(made, monkeypatch):
    """Between whole frames 8 apart, the film is skipped."""
    decoded, turned = [], []
    opened, image = av.open, Image.fromarray

    class Counted:
        """An open film, whose frames are counted as they are decoded."""

        def __init__(self, *args, **options):
            self.film = opened(*args, **options)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.film.close()

        def __getattr__(self, name):
            return getattr(self.film, name)

        def decode(self, stream):
            for frame in self.film.decode(stream):
                decoded.append(frame)
                yield frame

    monkeypatch.setattr(av, "open", Counted)
    monkeypatch.setattr(Image, "fromarray", lambda pixels: turned.append(pixels) or image(pixels))
    read = read_video(made[KINDS[0]], 2, SIZE)
    assert len(turned) == 2 <= len(decoded) < 20
    assert numbers(read) == [10, 30]


def test_a_film_of_one_frame_and_of_fewer_than_asked_for(tmp_path):
    one = write_film(tmp_path / "one.mp4", shades(1) + 100)
    found = read_video(one, 5, SIZE)
    assert len(np.unique(found.round(-1))) == 1 and (found == found[0]).all()
    three = write_film(tmp_path / "three.avi", shades(3))
    assert numbers(read_video(three, 6, SIZE)) == [0, 0, 1, 1, 2, 2]


# What is wrong


def beginning(path, share):
    content = path.read_bytes()
    return content[: int(share * len(content))]


@pytest.mark.parametrize("kind", KINDS[:-1])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_files_that_end_early_are_refused(made, kind, share):
    message = r"a\.film is (truncated: [\d.]+ of 4.*|damaged, or none of .mp4.*)|a\.film holds no frame"
    with pytest.raises(SampleError, match=message):
        read_video({"bytes": beginning(made[kind], share), "path": "a.film"}, 8, SIZE)


def test_of_a_file_that_does_not_say_its_length_what_is_there_is_read(made):
    found = numbers(read_video(beginning(made[KINDS[-1]], 0.6), 8, SIZE))
    assert found == sorted(found) and 20 < found[-1] < 26


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mp4", b"", "a.mp4 is empty"),
        ("a.mp4", b"these are words", "a.mp4 is damaged, or none of .mp4, .avi"),
        ("a.avi", b"RIFF\x10\0\0\0AVI LIST", "a.avi is damaged, or none of"),
        ("a.mkv", b"#EXTM3U\n#EXTINF:9,\nhttp://example.org/a.ts\n", "a.mkv is damaged, or none of"),
        (
            "a.gif",
            b"GIF89a\x80\x3e\x80\x3e\0\0\0,",
            "256,000,000 pixels in a frame; expected at most 67,000,000",
        ),
    ],
)
def test_bad_files_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SampleError, match=message) as caught:
        read_video(str(tmp_path / name), 4, SIZE)
    assert "\n" not in str(caught.value)


def test_a_picture_behind_the_name_of_a_film_is_refused(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(shades(1)[0]).save(buffer, "PNG")
    (tmp_path / "a.mp4").write_bytes(buffer.getvalue())
    with pytest.raises(SampleError, match="a.mp4 is damaged, or none of"):
        read_video(tmp_path / "a.mp4", 4, SIZE)


def test_a_file_of_sound_alone_is_refused(tmp_path):
    with pytest.raises(SampleError, match="a.mp4 holds no images, only audio"):
        read_video(write_sound(tmp_path / "a.mp4"), 4, SIZE)


def test_what_is_decoded_is_counted():
    times, keys = list(range(0, 100, 2)), [0, 20, 40]
    for wanted, keyed, count in (([0], keys, 1), ([18], keys, 10), ([24, 26], keys, 4), ([18, 98], keys, 10 + 30)):
        assert decoded_frames(times, keyed, wanted) == count
    assert decoded_frames(times, [], [20, 98]) == 50


def test_a_stream_whose_frames_grow_stays_within_the_bound(tmp_path, monkeypatch):
    """The header says nothing of it: the decoder is told."""
    sides = {side: np.zeros((9, side, side, 3), np.uint8) for side in (64, 512)}
    small, large = (write_film(tmp_path / f"{side}.mpegts", sides[side], "h264") for side in sides)
    content = small.read_bytes() + large.read_bytes()
    assert read_video(content, 4, SIZE).shape == (4, *SIZE, 3)
    monkeypatch.setenv("METATX_BOUNDS", "frame_pixels=10000")
    assert read_video(small.read_bytes(), 4, SIZE).shape == (4, *SIZE, 3)
    with pytest.raises(SampleError, match="damaged"):
        read_video(content, 4, SIZE)


def test_no_other_file_and_no_protocol_is_opened(made, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(av, "open", lambda file, *_, **rest: opened.append((file, rest)) or pytest.fail("enough"))
    for sample in (str(made[KINDS[0]]), made[KINDS[0]].read_bytes()):
        with pytest.raises(pytest.fail.Exception, match="enough"):
            read_video(sample, 4, SIZE)
    for file, rest in opened:
        assert not isinstance(file, str | Path) and rest["options"]["protocol_whitelist"] == "none"


@pytest.mark.parametrize("held", [5, [1], "text", np.arange(8)])
def test_what_is_no_bytes_is_refused_in_words(held):
    for sample in ({"bytes": held}, {"bytes": held, "path": [1]}):
        with pytest.raises(SampleError, match=r"video file has (bytes|a path) that (are|is) "):
            read_video(sample, 4, SIZE)


def test_limits_are_named(made, monkeypatch):
    for bounds, found in (
        ("frames=39", "40 frames"),
        ("frame_pixels=3000", "3,072 pixels in a frame"),
        ("video_seconds=3", "4 seconds of video"),
        ("video_pixels=10000", r"[\d,]+ pixels in the frames that must be decoded"),
    ):
        monkeypatch.setenv("METATX_BOUNDS", bounds)
        with pytest.raises(SampleError, match=f"video file .* has {found}.*; expected at most"):
            read_video(made[KINDS[0]], 4, SIZE)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("nowhere.mp4", "video file nowhere.mp4 does not exist"),
        (".", "is a folder"),
        (np.zeros((8, 8, 3)), r"video is an array \(8, 8, 3\); expected a path"),
        (np.zeros((0, 8, 8, 3), np.uint8), "the video has no frame"),
        ([], "the video has no frame"),
        (np.zeros((4, 8, 8, 7), np.uint8), r"frame 2 of 4: image is an array \(8, 8, 7\)"),
        (np.full((4, 8, 8, 3), np.nan), "frame 2 of 4: image holds NaN"),
        ([1, 2], "frame 1 of 2: image is a int"),
        ([np.zeros((8, 8, 3), np.uint8), "nowhere.png"], "frame 2 of 2: image file nowhere.png does not exist"),
        (None, "video is a NoneType; expected a path"),
    ],
)
def test_bad_samples_are_named(sample, message):
    with pytest.raises(SampleError, match=message):
        read_video(sample, 2, SIZE)


def test_the_missing_package_is_told(monkeypatch, made):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"video files needs av: pip install 'metatx\[video\]'"):
        read_video(made[KINDS[0]], 4, SIZE)
    assert read_video(shades(4), 4, SIZE).shape == (4, *SIZE, 3)
    assert av.__version__
