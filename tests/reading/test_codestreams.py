"""Coded pictures whose boxes say something else than they hold."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageFile

from metatx.errors import SampleError
from metatx.reading.codestreams import av1_pixels, jpeg2000_pixels
from metatx.reading.image import read_image

SIZES = [(1, 1), (17, 33), (640, 480)]
FILM = {"save_all": True, "append_images": [Image.new("RGB", (640, 480))]}


def saved(form: str, size: tuple[int, int], mode: str = "RGB", **options) -> bytes:
    options = {"speed": 10, **options} if form == "AVIF" else options
    values = np.random.default_rng(0).integers(0, 255, (*size[::-1], 4), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(file := io.BytesIO(), form, **options)
    return file.getvalue()


def lying(content: bytes, box: bytes, sides: bytes) -> bytes:
    """The file with other sides in all boxes of a kind."""
    at = content.find(box)
    while at >= 0:
        start = at + 4 + (4 if box == b"ispe" else 0)
        content = content[:start] + sides + content[start + 8 :]
        at = content.find(box, at + 4)
    return content


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_usual_files_say_what_they_hold(size: tuple[int, int], mode: str) -> None:
    others = [Image.new(mode, size)] * 2
    for options in ({}, {"subsampling": "4:4:4"}, {"save_all": True, "append_images": others}):
        content = saved("AVIF", size, mode, **options)
        assert av1_pixels(content) == size[0] * size[1]
        assert read_image(content).size == size
    content = saved("JPEG2000", size, mode)
    assert jpeg2000_pixels(saved("JPEG2000", size, mode)) == size[0] * size[1]
    assert read_image(content).size == size


@pytest.mark.parametrize(
    "content",
    [
        lying(saved("AVIF", (640, 480)), b"ispe", struct.pack(">II", 16, 16)),
        lying(saved("AVIF", (640, 480), "RGBA"), b"ispe", struct.pack(">II", 16, 16)),
        lying(
            saved("AVIF", (640, 480), save_all=True, append_images=[Image.new("RGB", (640, 480))]), b"ispe", b"\0" * 8
        ),
        lying(saved("JPEG2000", (640, 480)), b"ihdr", struct.pack(">II", 16, 16)),
    ],
)
def test_what_is_coded_counts_before_anything_is_decoded(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METATX_BOUNDS", "pixels=307199")
    monkeypatch.setattr(ImageFile.ImageFile, "__init__", lambda *_: pytest.fail("was opened"))
    with pytest.raises(SampleError, match=r"stream, has 307,200 pixels of an image; expected at most 307,199"):
        read_image(content)


def item(places: list[tuple[int, int]], kind: bytes = b"av01") -> bytes:
    """The box of one picture, with the places and lengths of its parts."""

    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), name) + content

    entry = box(b"infe", struct.pack(">BxxxHH4s", 2, 1, 0, kind))
    table = struct.pack(">IBBHHHH", 0, 0x44, 0, 1, 1, 0, len(places)) + b"".join(
        struct.pack(">II", *place) for place in places
    )
    return box(b"ftyp", b"avif") + box(
        b"meta", bytes(4) + box(b"iinf", struct.pack(">IH", 0, 1) + entry) + box(b"iloc", table)
    )


def test_a_picture_in_several_parts_is_read() -> None:
    """And of several sequence headers, the largest counts."""
    whole = saved("AVIF", (17, 33))
    stream = whole[whole.index(b"\x12\0\x0a") :]
    start = len(item([(0, 0), (0, 0)]))
    assert av1_pixels(item([(start, 5), (start + 5, 0)]) + stream) == 17 * 33
    larger = saved("AVIF", (640, 480))
    larger = larger[larger.index(b"\x12\0\x0a") :]
    start = len(item([(0, 0)]))
    for units in (stream[: stream[3] + 4] + larger, larger[: larger[3] + 4] + stream):
        assert av1_pixels(item([(start, 0)]) + units) == 640 * 480


def test_a_film_without_a_picture_beside_it_is_read() -> None:
    assert av1_pixels(saved("AVIF", (640, 480), **FILM).replace(b"meta", b"free")) == 640 * 480


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (item([(0, 0)], b"hvc1"), "no AV1 image was found"),
        (item([(5000, 9)]), "does not say its size"),
        (item(200 * [(0, 0)]), "takes more than the file holds"),
        (item([(0, 0)])[:-9], "ends early"),
        (struct.pack(">I4s", 8, b"ftyp") + struct.pack(">I4s", 7, b"meta"), "shorter than its own header"),
    ],
)
def test_files_that_say_no_size_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        av1_pixels(content)
    with pytest.raises(SampleError, match=f"truncated or damaged .*{message}"):
        read_image(content)


@pytest.mark.parametrize("stream", [b"", b"\xff\x4f\xff\x52" + bytes(40), b"\xff\x4f\xff\x51" + bytes(40)])
def test_a_codestream_without_its_size_is_refused(stream: bytes) -> None:
    with pytest.raises((ValueError, struct.error)):
        jpeg2000_pixels(struct.pack(">I4s", 0, b"jp2c") + stream)
    with pytest.raises(ValueError, match="no codestream"):
        jpeg2000_pixels(struct.pack(">I4s", 8, b"jp2h"))
