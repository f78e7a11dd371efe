"""Pictures, sound, films, DICOM, texts and molecules with damage of all kinds: an answer, or one SampleError.

Nothing else may be raised, no program started, and no file opened but the one that was given.
"""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from metatx.data.byte_pairs import clip_tokens
from metatx.errors import SampleError
from metatx.layers.molecules import parsed
from metatx.reading import audio as sound
from metatx.reading import image_files as picture_files
from metatx.reading.audio import read_audio
from metatx.reading.dicom import read_radiograph
from metatx.reading.image import read_grey, read_image, upright_size
from metatx.reading.video import read_video
from tests.fuzz import EXAMPLES
from tests.reading.dicom_files import RAMP, dicom, jpeg, packed
from tests.tokenizers.films import shades, write_film

BOUNDS = "pixels=1000000,frame_pixels=1000000,video_pixels=50000000,audio_values=3000000,unpacked_mb=10"
STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "socket.connect")
QUICK = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
NOISE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
SEEN: list[tuple[str, str]] = []  # what the interpreter tells of files and programs
WATCHING: list[bool] = []  # whether it matters: what it tells cannot be stopped


def _told(event: str, args: tuple[Any, ...]) -> None:
    if WATCHING and (event == "open" or event in STARTS):
        SEEN.append((event, str(args[0]) if args else ""))


@pytest.fixture(scope="module", autouse=True)
def bounded() -> Iterator[None]:
    sys.addaudithook(_told)
    clip_tokens("words", 9)  # what is loaded once is loaded now
    parsed("CCO", descriptors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METATX_BOUNDS", BOUNDS)
        WATCHING.append(True)
        yield
        WATCHING.clear()


def pictures() -> dict[str, bytes]:
    found = {}
    for form in picture_files.FORMATS:
        Image.fromarray(NOISE).save(file := io.BytesIO(), form)
        found[form] = file.getvalue()
    Image.fromarray(NOISE).save(file := io.BytesIO(), "JPEG", progressive=True, exif=Image.Exif().tobytes())
    Image.fromarray(NOISE).save(tiff := io.BytesIO(), "TIFF", compression="tiff_deflate")
    return {
        **found,
        "progressive": file.getvalue(),
        "deflate": tiff.getvalue(),
        "words": b"P3\n2 1\n255\n1 2 3 4 5 6\n",
    }


def sounds() -> dict[str, bytes]:
    found = {}
    for form in sound.FORMATS:
        soundfile.write(file := io.BytesIO(), np.sin(np.arange(4_000) / 9)[:, None] * [0.1, 0.2], 16_000, format=form)
        found[form] = file.getvalue()
    return found


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder, found = tmp_path_factory.mktemp("films"), {}
    for ending, codec in ((".mp4", "h264"), (".avi", "mpeg4"), (".webm", "vp8"), (".mkv", "h264"), (".mpegts", "h264")):
        found[ending] = write_film(folder / f"a{ending}", shades(12, 32, 32), codec).read_bytes()
    frames = [Image.new("P", (32, 32), shade) for shade in range(5)]
    frames[0].save(file := io.BytesIO(), "GIF", save_all=True, append_images=frames[1:])
    return {**found, ".gif": file.getvalue()}


def scans() -> dict[str, bytes]:
    from pydicom import uid

    return {"plain": dicom(RAMP, WindowCenter=9, WindowWidth=40), "jpeg": packed(uid.JPEGBaseline8Bit, jpeg(8))}


@st.composite
def damaged(draw: st.DrawFn, contents: dict[str, bytes]) -> bytes:
    """One of some files, with bytes changed, in front more often, and perhaps the end cut off."""
    content = bytearray(contents[draw(st.sampled_from(sorted(contents)))])
    for _ in range(draw(st.integers(0, 4))):
        end = draw(st.sampled_from([32, 128, len(content)]))
        at = draw(st.integers(0, min(end, len(content)) - 1))
        new = draw(st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0"])))
        content[at : at + len(new)] = new
    return bytes(content[: draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])


@contextmanager
def confined(path: Path | None = None) -> Iterator[None]:
    """Only SampleError passes, and only ``path`` is opened; what Python opens to import is its own."""
    SEEN.clear()
    try:
        yield
    except SampleError as error:
        assert "\n" not in str(error)
    own = (".py", ".pyc", ".so")
    assert [seen for seen in SEEN if seen[1] != str(path) and not seen[1].endswith(own)] == []


def tried(read: Callable[[Any], Any], content: bytes, path: Path) -> None:
    path.write_bytes(content)
    for sample in (content, str(path)):
        with confined(path):
            read(sample)


@pytest.mark.parametrize("name", sorted(pictures()))
def test_pictures(name: str, tmp_path: Path) -> None:
    @QUICK
    @given(damaged({name: pictures()[name]}))
    def run(content: bytes) -> None:
        tried(read_image, content, tmp_path / "a.png")
        tried(read_grey, content, tmp_path / "a.png")
        with confined(tmp_path / "a.png"):
            upright_size(tmp_path / "a.png")

    run()


@pytest.mark.parametrize("name", sorted(sounds()))
def test_sounds(name: str, tmp_path: Path) -> None:
    @QUICK
    @given(damaged({name: sounds()[name]}))
    def run(content: bytes) -> None:
        tried(lambda sample: read_audio(sample, 16_000), content, tmp_path / "a.wav")

    run()


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".webm", ".mkv", ".mpegts", ".gif"])
def test_films(ending: str, films: dict[str, bytes], tmp_path: Path) -> None:
    av.logging.set_level(None)

    @QUICK
    @given(damaged({ending: films[ending]}))
    def run(content: bytes) -> None:
        tried(lambda sample: read_video(sample, 3, (8, 8)), content, tmp_path / "a.mp4")

    run()


def test_radiographs(tmp_path: Path) -> None:
    contents = scans()

    @QUICK
    @given(damaged(contents))
    def run(content: bytes) -> None:
        tried(read_radiograph, content, tmp_path / "a.dcm")

    run()


@QUICK
@given(st.one_of(st.text(max_size=300), st.text("&#;x41Ãâ€\n\r\x85 \x1b[", max_size=300)))
def test_texts(text: str) -> None:
    with confined():
        clip_tokens(text, 50)


@QUICK
@given(st.one_of(st.text("CNOc()[]=#123%@+-./\\", max_size=60), st.text(max_size=30)))
def test_molecules(smiles: str) -> None:
    with confined():
        parsed(smiles, descriptors=True, most=50)
