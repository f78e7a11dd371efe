"""Audio from files, bytes and arrays, as one channel of floats."""

import io
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from metatx.errors import SampleError, decoded, decoding
from metatx.reading.arrays import as_array
from metatx.reading.audio_headers import begins_as_audio, missing_bytes, uncounted, with_count, with_size
from metatx.reading.bounds import bound, check_bound
from metatx.reading.file_samples import file_of_sample, is_file_sample

if TYPE_CHECKING:
    from soundfile import SoundFile

__all__ = ["RATES", "SUFFIXES", "read_audio"]

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".mp3", ".opus", ".oga", ".aiff", ".aif", ".aifc"),
    *(".au", ".snd", ".caf", ".w64", ".rf64", ".wave"),
)
# libsndfile's names of the formats with these suffixes; other formats are refused, whatever the name of the file.
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF")
RATES = 1_000, 768_000  # lowest and highest sampling rate, in Hz
BLOCK = 1 << 16  # frames that are read and mixed to one channel at once
LOUDEST = 16.0  # larger floats are not in the range -1..1, but in another unit
WHOLE = 0.9  # least share of the promised frames that must be there: headers of compressed files only estimate them
ACCEPTED = "expected a path, bytes, an array (time) or (channels, time), or a dict with array and sampling_rate"
MISSING = "Reading audio files needs soundfile: pip install 'metatx[audio]'"


def read_audio(sample: Any, rate: int) -> tuple[np.ndarray, int]:
    """Read audio as float32 (L,), channels averaged, full scale 1; return it and its sampling rate in Hz.

    Args:
        sample: Path, bytes of a file, array or tensor (time), (channels, time) or (time, channels); or a dict
            ``{"bytes", "path"}`` or ``{"array", "sampling_rate"}``, the forms of Hugging Face's audio columns.
        rate: Sampling rate of an array that comes without one, in Hz.

    Raises:
        SampleError: If the sample cannot be read; the message names the file, if there is one.
        ImportError: If the sample is a file and soundfile is missing.
    """
    if isinstance(sample, dict) and {"array", "sampling_rate"} <= set(sample):
        name = "the clip"
        values = _from_array(sample["array"])
        rate = _whole_rate(sample["sampling_rate"], name)
    elif is_file_sample(sample):
        source, name = file_of_sample(sample, "audio", "the clip")
        return _decode(source if isinstance(source, bytes) else source.read_bytes(), name)
    elif isinstance(sample, np.ndarray | Tensor | list):
        name = "the clip"
        values = _from_array(sample)
    else:
        raise SampleError(f"audio is a {type(sample).__name__}; {ACCEPTED}")
    _check_size(values.shape[0], values.shape[1], rate, name)
    return _mixed([values], rate, name), rate


def _mixed(blocks: Iterable[np.ndarray], rate: int, name: str) -> np.ndarray:
    """Mix consecutive blocks (channels, L) to one channel (L,)."""
    mono = [np.zeros(0, np.float32)]
    length = 0
    loudest = 0.0
    for block in blocks:
        if not np.isfinite(block).all():
            at = (length + np.argwhere(~np.isfinite(block))[0][1]) / rate
            raise SampleError(f"{name} is NaN or infinite at {at:.3f} s; expected finite numbers")
        length += block.shape[1]
        loudest = max(loudest, float(np.abs(block).max()))
        mono.append(block.mean(0, dtype=np.float32))
    if loudest > LOUDEST:
        raise SampleError(f"{name} reaches {loudest:g}; expected floats in -1..1, or int16")
    return np.concatenate(mono)


def _whole_rate(rate: Any, name: str) -> int:
    """Sampling rate as int, from any type of number, such as 16000.0."""
    if isinstance(rate, Tensor | np.ndarray) and rate.ndim == 0:
        rate = rate.item()
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise SampleError(f"{name} has a sampling rate of {rate!r}; expected {RATES[0]} to {RATES[1]} Hz")
    if not float(rate).is_integer():
        raise SampleError(f"{name} has a sampling rate of {rate:g} Hz; expected a whole number: resample it, or round")
    return int(float(rate))


def _check_size(channels: int, length: int, rate: int, name: str) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise SampleError(f"{name} has a sampling rate of {rate!r}; expected {RATES[0]} to {RATES[1]} Hz")
    if not length:
        raise SampleError(f"{name} holds no audio; expected at least one sample")
    check_bound("audio_seconds", length / rate, name)
    check_bound("audio_values", channels * length, name)


def _from_array(sample: Any) -> np.ndarray:
    """Convert an array (L,), (channels, L) or (L, channels) to float32 (channels, L)."""
    try:
        values = as_array(sample)
    except (ValueError, TypeError):
        raise SampleError(f"audio is a list of unequal lengths; {ACCEPTED}") from None
    if values.ndim not in (1, 2):
        raise SampleError(f"audio is an array {values.shape}; {ACCEPTED}")
    values = np.atleast_2d(values)
    if values.shape[0] > values.shape[1] > 0:
        values = values.T
    if values.dtype in (np.int16, np.int32):
        return values.astype(np.float32) / -np.iinfo(values.dtype).min
    if not np.issubdtype(values.dtype, np.floating):
        if not values.size:
            raise SampleError("the clip holds no audio; expected at least one sample")
        raise SampleError(f"audio is an array of {values.dtype}; expected floats in -1..1, int16 or int32")
    return values.astype(np.float32)


def _decode(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """Decode the bytes of a file to float32 (L,), channels averaged; return it and its sampling rate in Hz."""
    try:
        import soundfile
    except ImportError as error:
        raise ImportError(MISSING) from error
    if not content:
        raise SampleError(f"audio file {name} is empty")
    trouble = f"audio file {name} is damaged, or none of {', '.join(SUFFIXES)}"
    if not begins_as_audio(content):
        raise SampleError(trouble)
    missing = missing_bytes(content)
    if missing:
        whole = len(content) + missing
        raise SampleError(f"audio file {name} is truncated: {len(content)} of {whole} bytes")
    begin = uncounted(content)
    promised = begin is None
    content = with_size(content) if begin is None else with_count(content, begin)
    with decoding(trouble):
        file = soundfile.SoundFile(io.BytesIO(content))
    with file:
        rate = file.samplerate
        channels = file.channels
        if file.format not in FORMATS:
            raise SampleError(trouble)
        _check_size(channels, file.frames if promised else 1, rate, name)
        most = min(bound("audio_seconds") * rate, bound("audio_values") // channels) + 1
        expected = min(file.frames, int(most))
        mono = _mixed(decoded(_blocks(file, expected), trouble), rate, name)
    _check_size(channels, len(mono), rate, name)
    if promised and len(mono) < WHOLE * expected:
        raise SampleError(f"audio file {name} is truncated: {len(mono) / rate:.2f} of {expected / rate:.2f} s")
    return mono, rate


def _blocks(file: "SoundFile", count: int) -> Iterator[np.ndarray]:
    """Blocks (channels, L) of the first ``count`` frames of a file; fewer if the file ends before."""
    # soundfile seeks to its position after each block if it can, and MP3 decodes differently after a seek.
    file.seekable = lambda: False
    for start in range(0, count, BLOCK):
        # Codecs that cannot be wound back (GSM 6.10) need the number of frames.
        values = file.read(min(BLOCK, count - start), dtype="float32", always_2d=True)
        if not len(values):
            return
        yield values.T
