"""Sound files: formats by their content, bounds before a value is read, channels averaged block by block."""

import io

import numpy as np
import pytest
import soundfile

from metatx.errors import SampleError
from metatx.reading import audio as sound
from metatx.reading.audio import FORMATS, read_audio
from metatx.reading.audio_headers import MOST_CHUNKS, missing_bytes

RNG = np.random.default_rng(0)


def encoded(form: str, values: np.ndarray, rate: int = 16_000, subtype: str | None = None) -> bytes:
    soundfile.write(file := io.BytesIO(), values, rate, format=form, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_known_formats_are_read_in_every_form_of_bytes(form: str) -> None:
    content = encoded(form, np.zeros((4_000, 2)))
    for sample in (content, bytearray(content), memoryview(content), {"bytes": content, "path": "a.wav"}):
        mono, rate = read_audio(sample, 1_000)
        assert len(mono) >= 4_000 and rate == 16_000 and not mono.any()


@pytest.mark.parametrize("form", sorted(set(soundfile.available_formats()) - {*FORMATS, "RAW", "SD2"}))
def test_other_formats_of_the_library_are_not_opened(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(form, np.zeros(4_000), 44_100 if form == "XI" else 8_000)
    monkeypatch.setattr(soundfile, "SoundFile", lambda file: pytest.fail("was opened"))
    with pytest.raises(SampleError, match="the clip is damaged, or none of .wav"):
        read_audio(content, 1_000)


def test_other_formats_behind_a_tag_are_refused() -> None:
    """libsndfile passes over what it takes for the tag of a mp3."""
    with pytest.raises(SampleError, match="damaged, or none of .wav"):
        read_audio(b"ID3\4\0\0\0\0\0\0" + encoded("AVR", np.zeros(4_000)), 1_000)


@pytest.mark.parametrize(
    ("values", "found"),
    [(np.zeros((2_001, 3)), "6,003 values of audio"), (np.zeros(4_001), "4 seconds of audio")],
)
def test_bounds_are_looked_at_before_values(values: np.ndarray, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METATX_BOUNDS", "audio_values=6000,audio_seconds=4")
    content = encoded("FLAC", values, 1_000)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(SampleError, match=f"the clip has {found}.*METATX_BOUNDS"):
        read_audio(content, 1_000)
    with pytest.raises(SampleError, match=f"the clip has {found}.*METATX_BOUNDS"):
        read_audio(values.T, 1_000)


def test_files_that_do_not_say_their_length_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded("MP3", RNG.normal(size=64_000) / 9).replace(b"Info", b"none").replace(b"Xing", b"none")
    assert len(read_audio(content, 1_000)[0]) > 60_000
    monkeypatch.setenv("METATX_BOUNDS", "audio_values=30000")
    with pytest.raises(SampleError, match="30,001 values of audio"):
        read_audio(content, 1_000)


@pytest.mark.parametrize(
    ("form", "subtype", "channels"),
    [("WAV", "PCM_16", 3), ("WAV", "GSM610", 1), ("FLAC", "PCM_16", 2), ("OGG", "VORBIS", 2), ("OGG", "OPUS", 2)]
    + [("MP3", "MPEG_LAYER_III", 2)],
)
def test_blocks_are_what_one_reading_of_all_gives(
    form: str, subtype: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = 48_000 if form == "OGG" else 16_000
    content = encoded(form, RNG.normal(size=(20_000, channels)) / 9, rate, subtype)
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        expected = file.read(file.frames, dtype="float32", always_2d=True).T.mean(0, dtype=np.float32)
    monkeypatch.setattr(sound, "BLOCK", 1_000)
    np.testing.assert_array_equal(read_audio(content, 1_000)[0], expected)


def test_where_a_value_is_bad_counts_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "BLOCK", 1_000)
    values = np.zeros((4_000, 2))
    values[3_500, 1] = np.nan
    with pytest.raises(SampleError, match=r"NaN or infinite at 0.219 s"):
        read_audio(encoded("WAV", values, subtype="FLOAT"), 1_000)


def test_chunks_without_end_are_not_looked_through() -> None:
    for count, missing in ((MOST_CHUNKS, 0), (MOST_CHUNKS - 1, 1 << 16)):
        content = b"RIFF\0\0\0\0WAVE" + count * b"none\0\0\0\0" + b"data\0\0\1\0"
        assert missing_bytes(content) == missing


@pytest.mark.parametrize("held", [5, [1, 2], "text", np.arange(8), {}])
def test_what_is_no_bytes_is_refused_in_words(held) -> None:
    with pytest.raises(SampleError, match="audio file has bytes that are"):
        read_audio({"bytes": held}, 1_000)
