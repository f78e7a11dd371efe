"""The one door for pictures: a list of formats, and bounds that are looked at before a pixel is decoded."""

import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from metatx.errors import SampleError
from metatx.reading.image import open_image, read_image, upright_size
from metatx.reading.image_files import FORMATS, SUFFIXES, image_header, opened_image

OTHERS = {"TGA": "RGB", "ICO": "RGB", "PCX": "RGB", "SGI": "RGB", "DDS": "RGB", "MSP": "1", "XBM": "1"}
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def saved(form: str, mode: str = "RGB", **options) -> bytes:
    """A picture of 40 x 30 in a format of PIL's."""
    file = io.BytesIO()
    Image.new(mode, (40, 30)).save(file, form, **options)
    return file.getvalue()


def progressive(scans: int) -> bytes:
    """A JPEG of several scans, the last of which repeated."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    noise.save(file := io.BytesIO(), "JPEG", progressive=True)
    content = file.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + scans * last + content[-2:]


def tiff(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF of 10 x 10 that holds tags (number, type, count, value) beside the usual ones, and no pixels."""
    usual = [(256, 4, 1, 10), (257, 4, 1, 10), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted([*usual, *tags]))
    return b"II*\0" + struct.pack("<IH", 8, len(usual) + len(tags)) + entries + bytes(500)


@pytest.mark.parametrize("form", [*FORMATS, "MPO"])
def test_known_formats_are_read_under_any_ending(form: str, tmp_path: Path) -> None:
    content = saved(form)
    (tmp_path / "a.png").write_bytes(content)
    for sample in (content, bytearray(content), memoryview(content), {"bytes": content, "path": None}):
        assert read_image(sample).size == (40, 30)
    assert upright_size(tmp_path / "a.png") == read_image(tmp_path / "a.png").size == (40, 30)
    header = image_header(content, "a.png")
    assert (header.width, header.height) == (40, 30) and header.format in form.replace("MPO", "JPEG")


@pytest.mark.parametrize("form", [*OTHERS, "EPS"])
def test_other_formats_are_not_opened_under_any_ending(form: str, tmp_path: Path) -> None:
    content = EPS if form == "EPS" else saved(form, OTHERS[form])
    (tmp_path / "a.png").write_bytes(content)
    for sample in (content, {"bytes": content, "path": "a.png"}, str(tmp_path / "a.png")):
        with pytest.raises(SampleError, match="no image that can be read; known: .png"):
            open_image(sample)
    assert upright_size(tmp_path / "a.png") is None
    lazy = Image.open(io.BytesIO(content))  # as a user may have done
    with pytest.raises(SampleError, match=f"image is a {form} that PIL opened"):
        open_image(lazy)


def test_no_program_is_started_for_postscript(tmp_path: Path) -> None:
    """With a stand-in for Ghostscript in the path, which leaves a mark."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    (tmp_path / "a.png").write_bytes(EPS)
    code = f"""
import io
from PIL import Image
from metatx.reading.image import read_image
for sample in ({str(tmp_path / "a.png")!r}, {EPS!r}, Image.open(io.BytesIO({EPS!r}))):
    try:
        read_image(sample)
    except ValueError as error:
        print(error)
"""
    surroundings = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, check=True)
    assert len(ran.stdout.splitlines()) == 3 and not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (saved("PNG"), "1,200 pixels"),
        (tiff((322, 4, 1, 40), (323, 3, 1, 30)), "in each tile, has 1,200 pixels"),
        (tiff((273, 4, 101, 0)), "101 values in an entry of its header"),
        (progressive(10), "20 scans"),
    ],
)
def test_bounds_are_looked_at_before_pixels(content: bytes, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METATX_BOUNDS", "pixels=1199,parts=100,scans=19")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("was decoded"))
    with pytest.raises(SampleError, match=f"{found}.*expected at most .*METATX_BOUNDS"):
        open_image(content)


@pytest.mark.parametrize(
    "tags",
    [
        ((322, 9, 1, 16), (323, 4, 1, 16)),
        ((322, 8, 1, 16), (323, 4, 1, 16)),
        ((322, 16, 1, 16), (323, 4, 1, 16)),
        ((322, 3, 3, 16), (323, 4, 1, 16)),
        ((322, 4, 1, 60_000), (322, 4, 1, 16), (323, 4, 1, 16)),
        ((322, 4, 1, 16),),
        ((256, 4, 1, 5),),
        ((277, 3, 1, 1),),
        ((278, 9, 1, 5),),
    ],
)
def test_tags_that_readers_understand_differently_are_refused(tags: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "__init__", lambda *_: pytest.fail("was opened"))
    with pytest.raises(SampleError, match=r"has the tag \d+ twice, or not as a plain number|one side is missing"):
        open_image(tiff(*tags))


def test_tiles_of_a_big_tiff_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METATX_BOUNDS", "pixels=1199")
    sides = struct.pack("<HHQQ", 322, 16, 1, 40) + struct.pack("<HHQQ", 323, 4, 1, 30)
    with pytest.raises(SampleError, match="in each tile, has 1,200 pixels"):
        open_image(b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2) + sides + bytes(8))


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})])
def test_the_bound_may_lie_beyond_that_of_pil(form: str, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(form, "1", **options)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # 1,000 are an error
    assert read_image(content).size == (40, 30)
    assert Image.MAX_IMAGE_PIXELS == 500


def test_a_picture_that_pil_opened_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METATX_BOUNDS", "pixels=1199")
    with pytest.raises(SampleError, match="1,200 pixels"):
        open_image(Image.open(io.BytesIO(saved("PNG"))))


def test_scans_are_those_of_the_picture_itself() -> None:
    """Marks of scans in a thumbnail, or behind the end, are none."""
    content, thumbnail = progressive(0), b"\xff\xe1" + struct.pack(">H", 2 + 200) + 100 * b"\xff\xda"
    with opened_image(content[:2] + thumbnail + content[2:] + 2000 * b"\xff\xda\0\2", "a.jpg") as picture:
        assert picture.size == (64, 64)


def test_comments_that_take_long_to_cut_out_are_refused() -> None:
    assert read_image(b"P2 # a comment\n2 1 255\n# another\n7 8\n").size == (2, 1)
    with pytest.raises(SampleError, match="more than 1,000 comments"):
        read_image(b"P2 2 1 255\n" + 1001 * b"#\n" + b"7 8\n")


def test_only_the_first_frame_of_an_animation_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("P", (40, 30), color) for color in range(5)]
    frames[0].save(file := io.BytesIO(), "GIF", save_all=True, append_images=frames[1:])
    from PIL.GifImagePlugin import GifImageFile

    monkeypatch.setattr(GifImageFile, "seek", lambda self, frame: pytest.fail("went on to another frame"))
    assert read_image(file.getvalue()).size == (40, 30)


@pytest.mark.parametrize("held", [5, [1, 2], "text", np.arange(8), {"a": 1}, memoryview(np.arange(4))])
def test_what_is_no_bytes_is_refused_in_words(held) -> None:
    with pytest.raises(SampleError, match="bytes that are"):
        open_image({"bytes": held, "path": None})
    with pytest.raises(SampleError, match=r"bytes that are|path that is"):
        open_image({"bytes": held, "path": 5})


def test_names_that_no_file_can_have_are_refused() -> None:
    for name in (5000 * "a" + ".png", "a\0.png", "\ud800.png", "", ".", "/dev/zero"):
        with pytest.raises(SampleError, match=r"image file .* (does not exist|is a folder|cannot be opened: )"):
            open_image(name)


def test_every_ending_is_of_a_known_format() -> None:
    Image.init()
    known = {ending for ending, form in Image.EXTENSION.items() if form in FORMATS}
    assert set(SUFFIXES) <= known | {".j2k"}
