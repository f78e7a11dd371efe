"""Files by other people's programs: read right, or one bad sample with its name; arrays of any type and layout."""

import io
import re
import struct
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pydicom
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from metatx import SampleError, create
from metatx.data.tables import read_splits
from metatx.reading.audio import read_audio
from metatx.reading.dicom import read_radiograph
from metatx.reading.image import read_grey, read_image
from metatx.reading.point_cloud import read_cloud
from metatx.reading.video import read_video
from tests.tokenizers.films import numbers, shades

RATE = 16_000
RNG = np.random.default_rng(0)
TONE = (0.5 * np.sin(np.arange(RATE) / 9)).astype(np.float32)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# Sound


def encoded(kind, subtype, rate=RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, TONE, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "subtype", "rate"),
    [
        ("WAV", "GSM610", 8_000),
        ("WAV", "G721_32", 8_000),
        ("WAV", "PCM_U8", RATE),
        ("RF64", "PCM_16", RATE),
        ("W64", "PCM_16", RATE),
        ("AIFF", "PCM_16", RATE),
        ("AIFF", "GSM610", 8_000),
        ("AU", "ULAW", 8_000),
        ("CAF", "ALAC_16", RATE),
        ("OGG", "OPUS", 48_000),
        ("MP3", "MPEG_LAYER_III", RATE),
    ],
)
def test_sound_of_every_codec_is_read_whole(kind, subtype, rate):
    values, found = read_audio(encoded(kind, subtype, rate), 1_000)
    assert found == rate and abs(len(values) - RATE) <= 320
    assert np.corrcoef(values[:RATE], TONE[: len(values)])[0, 1] > 0.95


STREAMED = [0, 0xFFFFFFFF, 0x7FFFF024, 0x80000024, 0x7FFFFFFF, 0x7FFFF000, 0x80000000]


@FEW
@given(st.sampled_from([*STREAMED, 100, RATE * 2 + 36]), st.sampled_from(STREAMED))
def test_sizes_that_a_pipe_left_promise_nothing(riff, data):
    content = bytearray(encoded("WAV", "PCM_16"))
    at = content.index(b"data")
    content[4:8], content[at + 4 : at + 8] = struct.pack("<I", riff), struct.pack("<I", data)
    np.testing.assert_allclose(read_audio(bytes(content), 1)[0], TONE, atol=1e-4)


def test_an_empty_recording_with_notes_behind_it_holds_no_sound():
    buffer = io.BytesIO()
    soundfile.write(buffer, TONE[:0], RATE, format="WAV")
    with pytest.raises(SampleError, match="holds no audio"):
        read_audio(buffer.getvalue()[:44] + b"LIST\4\0\0\0INFO", 1)


@pytest.mark.parametrize(
    ("kind", "subtype"), [("WAV", "PCM_16"), ("RF64", "FLOAT"), ("W64", "PCM_16"), ("AU", "PCM_16")]
)
def test_half_a_file_is_truncated_and_a_missing_tail_is_none(kind, subtype):
    whole = encoded(kind, subtype)
    with pytest.raises(SampleError, match=f"is truncated: {len(whole) // 2} of"):
        read_audio(whole[: len(whole) // 2], 1)
    assert len(read_audio(whole[:-2], 1)[0]) >= RATE - 2
    assert len(read_audio(encoded("WAV", "PCM_16") + b"LIST\x40\0\0\0INFO", 1)[0]) == RATE


@pytest.mark.parametrize("loud", ["first", "last"])
def test_a_mp3_that_does_not_say_its_length_is_read_whole(loud):
    noise = np.concatenate([RNG.normal(size=2 * RATE) / 4, np.zeros(2 * RATE)])
    buffer = io.BytesIO()
    options = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE", "compression_level": 0.5}
    soundfile.write(buffer, noise if loud == "first" else noise[::-1], RATE, **options)
    content = buffer.getvalue()
    rest = content[content.index(content[:2], 4) :]  # without the frame that counts the others
    assert b"Xing" not in rest and b"Info" not in rest
    assert abs(len(read_audio(rest, 1)[0]) - 4 * RATE) < 2_500


@pytest.mark.parametrize("rate", [16_000, 16_000.0, np.float64(16_000), np.int32(16_000), np.float32(16_000)])
def test_whole_sampling_rates_of_any_type(rate):
    assert read_audio({"array": TONE, "sampling_rate": rate}, 1)[1] == RATE


@pytest.mark.parametrize("rate", [16_000.5, "16000", None, True, np.nan])
def test_other_sampling_rates_are_refused_in_words(rate):
    with pytest.raises(SampleError, match="sampling rate of .*; expected"):
        read_audio({"array": TONE, "sampling_rate": rate}, 1)


# Films


def film(path, shown, last=None, options=None):
    """A film whose frames are shown at such milliseconds."""
    with av.open(str(path), "w", options=options or {}) as written:
        stream = written.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        stream.codec_context.time_base = Fraction(1, 1000)
        packets = []
        for time, pixels in zip(shown, shades(len(shown)), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if last is not None:
            packets[-1].duration = last
        for packet in packets:
            written.mux(packet)
    return path


@pytest.mark.parametrize("start", [0, 400, 5_000, 3_600_000])
@pytest.mark.parametrize("live", [False, True])
def test_matroska_may_begin_at_any_time(tmp_path, start, live):
    path = film(tmp_path / "a.mkv", range(start, start + 2_000, 50), options={"live": "1"} if live else None)
    assert numbers(read_video(path, 4, (24, 32))) == [5, 15, 25, 35]
    if not live:
        with pytest.raises(SampleError, match=r"a.mkv is truncated: [\d.]+ of 2.0 s"):
            read_video({"bytes": path.read_bytes()[: path.stat().st_size // 2], "path": "a.mkv"}, 4, (24, 32))


def test_frames_that_last_long_and_films_of_one_frame_are_whole(tmp_path):
    assert numbers(read_video(film(tmp_path / "a.mkv", [0, 1_000], last=9_000), 4, (24, 32))) == [0, 0, 1, 1]
    assert numbers(read_video(film(tmp_path / "b.mkv", [700], last=9_000), 2, (24, 32))) == [0, 0]


def test_an_edit_list_shows_a_part_of_a_film(tmp_path):
    path = film(tmp_path / "a.mp4", range(5_000, 7_000, 50), options={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    entry = content.index(b"elst") + 24  # behind the one that delays the start
    content[entry : entry + 8] = struct.pack(">Ii", 200, 16_000)
    assert numbers(read_video(bytes(content), 4, (24, 32))) == [20, 21, 22, 23]
    with pytest.raises(SampleError, match="truncated"):
        read_video(bytes(content[: len(content) * 3 // 4]), 4, (24, 32))


@pytest.mark.parametrize(
    ("suffix", "codec", "form"),
    [(".ts", "h264", "mpegts"), (".mpg", "mpeg2video", "mpeg"), (".flv", "flv1", "flv"), (".wmv", "wmv2", "asf")],
)
def test_frames_of_other_containers_are_those_that_were_asked_for(tmp_path, suffix, codec, form):
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w", format=form) as written:
        stream = written.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        for pixels in shades():
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            written.mux(stream.encode(frame.reformat(format="yuv420p")))
        written.mux(stream.encode())
    assert numbers(read_video(path, 4, (24, 32))) == [5, 15, 25, 35]


# Pictures


GREY = RNG.integers(0, 4096, (6, 8)).astype(np.uint16)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_of_either_byte_order_are_the_same(tmp_path, order):
    Image.fromarray(GREY.astype(order)).save(tmp_path / "a.tif")
    np.testing.assert_allclose(read_grey(tmp_path / "a.tif") * 65_535, GREY, atol=1e-2)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.tif"))[..., 0], GREY // 257)


@pytest.mark.parametrize("suffix", [".gif", ".jp2", ".avif", ".ppm", ".jfif"])
def test_pictures_of_further_kinds_are_read(tmp_path, suffix):
    Image.new("RGB", (16, 12), (200, 100, 50)).save(tmp_path / f"a{suffix}")
    found = np.asarray(read_image(tmp_path / f"a{suffix}"), dtype=int)
    assert np.abs(found - [200, 100, 50]).max() < 12
    assert suffix in create("tokenizers", "image", 192, stem=None).suffixes


def test_floats_in_a_unit_say_what_to_do_with_them(tmp_path):
    Image.fromarray(np.full((4, 4), 300.0, np.float32)).save(tmp_path / "a.tif")
    assert read_grey(tmp_path / "a.tif").max() == 300
    with pytest.raises(
        SampleError, match="floats from 300 to 300; expected 0..1, or uint8: scale them; the tokenizers of"
    ):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("modality", ["image", "xray"])
@pytest.mark.parametrize("shape", [(28, 28, 3), (28, 28)])
def test_medmnist_in_colour_and_in_grey_is_read_by_both(tmp_path, modality, shape):
    parts = {f"{split}_images": RNG.integers(0, 255, (4, *shape), np.uint8) for split in ("train", "val", "test")}
    parts |= {f"{split}_labels": np.array([[0], [1], [2], [1]]) for split in ("train", "val", "test")}
    np.savez(tmp_path / "path.npz", **parts)
    kind = create("tokenizers", modality, 192, stem=None)
    splits = read_splits(tmp_path / "path.npz", kind.suffixes, None, kind.readers)
    assert set(splits) == {"train", "validation", "test"} and splits["train"].targets == [0, 1, 2, 1]
    kind.learn(splits["train"].inputs)
    assert kind.encode(splits["test"].inputs[0])["image"].ndim == 3


# Point clouds


POINTS = RNG.normal(size=(7, 3))


def test_numpy_and_scanner_files_are_clouds(tmp_path):
    np.save(tmp_path / "a.npy", POINTS.astype(">f4"))
    rows = "\n".join(" ".join(map(repr, row)) for row in POINTS.tolist())
    (tmp_path / "b.pts").write_text(f"7\n{rows}\n")
    (tmp_path / "c.asc").write_text("\ufeff" + rows.replace(" ", ";"), "utf-8")
    for name in ("a.npy", "b.pts", "c.asc"):
        np.testing.assert_allclose(read_cloud(tmp_path / name).points, POINTS, rtol=1e-6)


@pytest.mark.parametrize(
    ("head", "extra", "names"),
    [
        ("OFF", 0, ()),
        ("COFF", 4, ("red", "green", "blue", "alpha")),
        ("COFF", 3, ("red", "green", "blue")),
        ("NOFF", 3, ("nx", "ny", "nz")),
        ("CNOFF", 6, ("nx", "ny", "nz", "red", "green", "blue")),
        ("OFF", 3, ("red", "green", "blue")),
    ],
)
@pytest.mark.parametrize("joined", [False, True])
def test_off_files_may_have_normals_and_colours(tmp_path, head, extra, names, joined):
    table = np.hstack([POINTS, RNG.random((7, extra))])
    rows = "\n".join(" ".join(map(repr, row)) for row in table.tolist())
    (tmp_path / "a.off").write_text(f"{head}{'' if joined else chr(10)}7 0 0\n{rows}\n")
    found = read_cloud(tmp_path / "a.off")
    assert found.columns == ("x", "y", "z", *names)
    np.testing.assert_allclose(found.points, table)


def test_invalid_points_are_counted_and_left_out_by_option():
    points = POINTS.copy()
    points[[1, 4], 2] = np.nan, np.inf
    message = "point 2 is NaN or infinite in column 3, 1 more of 7 likewise; .*drop_invalid"
    with pytest.raises(SampleError, match=message):
        read_cloud(points)
    np.testing.assert_array_equal(read_cloud(points, drop_invalid=True).points, POINTS[[0, 2, 3, 5, 6]])
    with pytest.raises(SampleError, match="there are no points"):
        read_cloud(np.full((3, 3), np.nan), drop_invalid=True)
    tokenizer = create("tokenizers", "point_cloud", 192, groups=2, neighbours=2, drop_invalid=True).learn([points])
    assert len(tokenizer.encode(points)["points"]) == 5


# Whatever a library raises


def small_files(folder):
    """A reader and a small file of each kind."""
    picture = Image.fromarray(RNG.integers(0, 255, (9, 9, 3), np.uint8))
    found = []
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp", ".gif", ".jp2", ".avif", ".ppm"):
        picture.save(folder / f"p{suffix}")
        found.append((read_image, folder / f"p{suffix}"))
    sounds = {
        "wav": "PCM_16",
        "flac": "PCM_16",
        "ogg": "VORBIS",
        "mp3": "MPEG_LAYER_III",
        "aiff": "PCM_16",
        "caf": "ALAC_16",
    }
    for kind, subtype in sounds.items():
        soundfile.write(folder / f"s.{kind}", TONE[:900], RATE, format=kind.upper(), subtype=subtype)
        found.append((lambda path: read_audio(path, RATE), folder / f"s.{kind}"))
    for suffix in (".mp4", ".mkv", ".avi"):
        film(folder / f"f{suffix}", range(0, 120, 40))
        found.append((lambda path: read_video(path, 2, (24, 32)), folder / f"f{suffix}"))
    mr = Path(pydicom.__file__).with_name("data") / "test_files" / "MR_small.dcm"
    (folder / "d.dcm").write_bytes(mr.read_bytes())
    np.save(folder / "c.npy", POINTS)
    np.savez(folder / "c.npz", points=POINTS)
    (folder / "c.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    (folder / "c.ply").write_bytes(
        b"ply\nformat binary_little_endian 1.0\nelement vertex 7\nproperty float x\nproperty float y\n"
        b"property float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
        + POINTS.astype("<f4").tobytes()
        + b"\3"
        + np.array([0, 1, 2], "<i4").tobytes()
    )
    found += [(read_cloud, folder / f"c.{kind}") for kind in ("npy", "npz", "off", "ply")]
    return [*found, (read_radiograph, folder / "d.dcm")]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return small_files(tmp_path_factory.mktemp("files"))


@pytest.mark.filterwarnings("ignore")
@settings(FEW, max_examples=150)
@given(st.data())
def test_damaged_files_are_samples_or_bad_samples_and_nothing_else(files, data):
    read, path = data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = path.with_name(f"damaged{path.suffix}")
    damaged.write_bytes(content)
    try:
        with warnings.catch_warnings(action="ignore"):
            read(damaged)
    except SampleError as error:
        assert damaged.name in str(error) and "\n" not in str(error), error


@pytest.mark.parametrize("problem", [KeyError("x"), RuntimeError("two\nlines"), struct.error("short"), ValueError()])
def test_whatever_a_library_raises_names_the_file(tmp_path, monkeypatch, problem):
    def broken(*args, **kwargs):
        raise problem

    monkeypatch.setattr(soundfile, "SoundFile", broken)
    monkeypatch.setitem(Image.OPEN, "PNG", (broken, None))
    monkeypatch.setattr(av, "open", broken)
    reads = {"a.wav": lambda path: read_audio(path, 1), "a.mp4": lambda path: read_video(path, 1, (8, 8))}
    for name, read in {**reads, "a.png": read_image}.items():
        (tmp_path / name).write_bytes(b"content")
        with pytest.raises(SampleError, match=f"{name} is") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("passes", [MemoryError, ImportError, KeyboardInterrupt])
def test_what_is_no_fault_of_the_file_is_not_called_one(tmp_path, monkeypatch, passes):
    def broken(*args, **kwargs):
        raise passes

    monkeypatch.setitem(Image.OPEN, "PNG", (broken, None))
    (tmp_path / "a.png").write_bytes(b"content")
    with pytest.raises(passes):
        read_image(tmp_path / "a.png")


def test_film_of_an_unknown_codec_is_a_bad_sample(tmp_path):
    content = film(tmp_path / "a.mkv", range(0, 500, 50)).read_bytes()
    with pytest.raises(SampleError, match="codec that cannot be decoded here"):
        read_video(re.sub(rb"(V_).{5}", rb"\1XXXXX", content, count=1, flags=re.S), 2, (24, 32))


def test_frames_that_were_dropped_do_not_cut_a_film_short(tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as file:
        stream = file.add_stream("mpeg4", rate=20, width=32, height=32, pix_fmt="yuv420p")
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 2 * number, Fraction(1, 20)  # every second one
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    assert read_video(tmp_path / "a.avi", 4, (32, 32)).mean((1, 2, 3)) == pytest.approx([20, 70, 120, 170], abs=4)


@pytest.mark.parametrize("between", ["; ", ";", " ", "\t"])
def test_decimal_commas_of_clouds_are_decimal(tmp_path, between):
    points = np.random.default_rng(0).normal(size=(9, 3)).round(4)
    points[0] = [-1, 2, 30]
    rows = [between.join(f"{value:g}".replace(".", ",") for value in row) for row in points]
    (tmp_path / "a.txt").write_text(f"X{between}Y{between}Z\n" + "\n".join(rows))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.txt").points, points)


@pytest.mark.parametrize("line", ["1,2,3", "1, 2, 3", "1;2;3", "1 2 3", "1.0, 2.0; 3.0"])
def test_commas_between_numbers_of_clouds_part_them(tmp_path, line):
    (tmp_path / "a.txt").write_text("\n".join([line] * 3))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.txt").points, [[1, 2, 3]] * 3)


def test_pictures_in_lab_are_those_in_rgb():
    picture = Image.linear_gradient("L").resize((8, 8)).convert("RGB")
    np.testing.assert_allclose(read_grey(picture.convert("LAB")), read_grey(picture), atol=0.02)
    np.testing.assert_allclose(read_image(picture.convert("LAB")), read_image(picture), atol=5)
