"""Reading sound from whatever holds it, as one channel of floats."""

import io
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from metatx.errors import SampleError, decoding
from metatx.reading.arrays import as_array
from metatx.reading.sound_headers import missing_bytes, uncounted, with_count, with_size

__all__ = ["RATES", "SUFFIXES", "read_sound"]

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".mp3", ".opus", ".oga", ".aiff", ".aif", ".aifc"),
    *(".au", ".snd", ".caf", ".w64", ".rf64", ".wave"),
)
RATES = 1_000, 768_000  # Hz that sound may have
LONGEST = 600  # seconds
LOUDEST = 16.0  # floats beyond it are in another unit than -1..1
WHOLE = 0.9  # share of the frames that a header promises, that must be there: compressed files only estimate them
ACCEPTED = "expected a path, bytes, an array (time) or (channels, time), or a dict with array and sampling_rate"
MISSING = "Reading audio files needs soundfile: pip install 'metatx[audio]'"


def read_sound(sample: Any, rate: int) -> tuple[np.ndarray, int]:
    """Sound as float32 (L,), channels averaged, full scale 1; and its sampling rate in Hz.

    Args:
        sample: Path, bytes of a file, array or tensor (time), (channels, time) or (time, channels); or, as Hugging
            Face's audio columns hold it, a dict ``{"bytes", "path"}`` or ``{"array", "sampling_rate"}``.
        rate: Of bare arrays.

    Raises:
        SampleError: If it cannot be read; names the file where there is one.
        ImportError: If a file is to be read, and soundfile is missing.
    """
    if isinstance(sample, dict) and {"array", "sampling_rate"} <= set(sample):
        name = "the clip"
        values, rate = _from_array(sample["array"]), _whole_rate(sample["sampling_rate"], name)
    elif isinstance(sample, dict) and ("bytes" in sample or "path" in sample):
        if sample.get("bytes") is None:
            return read_sound(sample.get("path"), rate)
        name = Path(sample["path"]).name if sample.get("path") else "the clip"
        values, rate = _decode(sample["bytes"], name)
    elif isinstance(sample, str | Path):
        path, name = Path(sample), Path(sample).name
        if not path.is_file():
            raise SampleError(f"audio file {name} {'is a folder' if path.is_dir() else 'does not exist'}")
        values, rate = _decode(path.read_bytes(), name)
    elif isinstance(sample, bytes):
        name = "the clip"
        values, rate = _decode(sample, name)
    elif isinstance(sample, np.ndarray | Tensor | list):
        values, name = _from_array(sample), "the clip"
    else:
        raise SampleError(f"audio is a {type(sample).__name__}; {ACCEPTED}")
    return _checked(values, rate, name), rate


def _checked(values: np.ndarray, rate: int, name: str) -> np.ndarray:
    """(channels, L) to (L,)."""
    _check_size(values.shape[1], rate, name)
    if not np.isfinite(values).all():
        at = np.argwhere(~np.isfinite(values))[0][1] / rate
        raise SampleError(f"{name} is NaN or infinite at {at:.3f} s; expected finite numbers")
    if np.abs(values).max() > LOUDEST:
        raise SampleError(f"{name} reaches {np.abs(values).max():g}; expected floats in -1..1, or int16")
    mono: np.ndarray = values.mean(0, dtype=np.float32)
    return mono


def _whole_rate(rate: Any, name: str) -> int:
    """A sampling rate of any type of numbers, 16000.0 among them."""
    if isinstance(rate, Tensor | np.ndarray) and rate.ndim == 0:
        rate = rate.item()
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise SampleError(f"{name} has a sampling rate of {rate!r}; expected {RATES[0]} to {RATES[1]} Hz")
    if not float(rate).is_integer():
        raise SampleError(f"{name} has a sampling rate of {rate:g} Hz; expected a whole number: resample it, or round")
    return int(float(rate))


def _check_size(length: int, rate: int, name: str) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise SampleError(f"{name} has a sampling rate of {rate!r}; expected {RATES[0]} to {RATES[1]} Hz")
    if not length:
        raise SampleError(f"{name} holds no sound; expected at least one sample")
    if length > LONGEST * rate:
        raise SampleError(f"{name} is {length / rate:.0f} s long; expected at most {LONGEST} s: cut it into clips")


def _from_array(sample: Any) -> np.ndarray:
    """An array of either orientation as float32 (channels, L)."""
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
            raise SampleError("the clip holds no sound; expected at least one sample")
        raise SampleError(f"audio is an array of {values.dtype}; expected floats in -1..1, int16 or int32")
    return values.astype(np.float32)


def _decode(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """The bytes of a file as float32 (channels, L), and its rate."""
    try:
        import soundfile
    except ImportError as error:
        raise ImportError(MISSING) from error
    if not content:
        raise SampleError(f"audio file {name} is empty")
    missing = missing_bytes(content)
    if missing:
        whole = len(content) + missing
        raise SampleError(f"audio file {name} is truncated: {len(content)} of {whole} bytes")
    known = ", ".join(SUFFIXES)
    begin = uncounted(content)
    promised = begin is None
    content = with_size(content) if begin is None else with_count(content, begin)
    with decoding(f"audio file {name} is damaged, or none of {known}"):
        file = soundfile.SoundFile(io.BytesIO(content))
    with file:
        rate = file.samplerate
        _check_size(file.frames if promised else 1, rate, name)
        expected = min(file.frames, LONGEST * rate + 1)
        with decoding(f"audio file {name} is damaged, or none of {known}"):
            # How many must be said of codecs that cannot be wound back (GSM 6.10).
            values = file.read(expected, dtype="float32", always_2d=True)
    if promised and len(values) < WHOLE * expected:
        raise SampleError(f"audio file {name} is truncated: {len(values) / rate:.2f} of {expected / rate:.2f} s")
    return values.T, rate
