"""Radiographs as DICOM files hold them, as grey values 0..1 in which dense tissue is bright."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.errors import SampleError, decoding
from metatx.reading.arrays import as_array
from metatx.reading.pictures import LUMA, read_grey

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["SUFFIXES", "is_dicom", "read_dicom", "read_radiograph"]

SUFFIXES = (".dcm", ".dicom")
GREY = ("MONOCHROME1", "MONOCHROME2")
MOST_PIXELS = 1 << 27  # of a picture, such as 8192 x 16384
MISSING = "Reading DICOM files needs pydicom: pip install 'metatx[dicom]'"
DECODERS = "save it uncompressed, or install its decoder: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


def is_dicom(sample: Any) -> bool:
    """Whether a sample, in any form that ``read_grey`` takes, is a DICOM file: by its suffix, or by its mark."""
    if isinstance(sample, dict):
        content, path = sample.get("bytes"), sample.get("path")
        return is_dicom(path) if content is None else is_dicom(content) or str(path or "").lower().endswith(SUFFIXES)
    if isinstance(sample, bytes):
        return sample[128:132] == b"DICM"
    if not isinstance(sample, str | Path):
        return False
    path = Path(sample)
    if path.suffix.lower() in SUFFIXES or path.suffix or not path.is_file():
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        return is_dicom(file.read(132))


def read_radiograph(sample: Any) -> np.ndarray:
    """A DICOM file as ``read_dicom``, anything else as ``read_grey``: float32 (H, W). Raises SampleError as they do."""
    if not is_dicom(sample):
        return read_grey(sample)
    if isinstance(sample, bytes):
        return read_dicom(sample, "the picture")
    if isinstance(sample, dict) and sample.get("bytes") is not None:
        return read_dicom(sample["bytes"], Path(sample["path"]).name if sample.get("path") else "the picture")
    path = Path(sample["path"] if isinstance(sample, dict) else sample)
    if not path.is_file():
        raise SampleError(f"DICOM file {path.name} {'is a folder' if path.is_dir() else 'does not exist'}")
    return read_dicom(path.read_bytes(), path.name)


def read_dicom(content: bytes, name: str) -> np.ndarray:
    """One picture (H, W) of float32 in 0..1, as a viewer shows it: its own window applied, MONOCHROME1 inverted.

    Stored values pass the modality's rescaling or table, then the first window or the VOI table; without these, all
    values that the stored bits can hold are the range. Of colours the luma counts.

    Raises:
        SampleError: If it cannot be read, holds no picture or several, or is compressed in a way that nothing here
            decodes; names the file.
        ImportError: If pydicom is missing.
    """
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise ImportError(MISSING) from error
    if not content:
        raise SampleError(f"DICOM file {name} is empty")
    with decoding(f"{name} is damaged, or no DICOM file"), warnings.catch_warnings(action="ignore"):
        # Files without the mark are common; what is none has no pixels.
        file = dcmread(io.BytesIO(content), force=True)
        frames, photometric = int(file.get("NumberOfFrames") or 1), str(file.get("PhotometricInterpretation"))
        empty = "PixelData" not in file
    if empty:
        raise SampleError(f"{name} holds no picture, or is no DICOM file")
    if frames > 1:
        raise SampleError(f"DICOM file {name} holds {frames} frames; expected one picture: save each as a file")
    with decoding(f"{name} is damaged, or no DICOM file"):
        size = int(file.Rows) * int(file.Columns)
    if size > MOST_PIXELS:
        raise SampleError(f"DICOM file {name} has {size:,} pixels; expected at most {MOST_PIXELS:,}: make it smaller")
    pixels = _pixels(file, name)
    if photometric in GREY:
        with (
            decoding(f"DICOM file {name} has no window or range that can be read"),
            warnings.catch_warnings(action="ignore"),
        ):
            shares = _shares(file, pixels)
    elif pixels.ndim == 3 and pixels.shape[2] == 3:
        shares = (pixels @ np.array(LUMA) / (2 ** int(file.BitsStored) - 1)).clip(0, 1)
    else:
        raise SampleError(f"DICOM file {name} is {photometric}; expected {', '.join(GREY)} or RGB")
    if shares.ndim != 2 or not shares.size:
        raise SampleError(f"DICOM file {name} holds pixels {shares.shape}; expected rows x columns")
    return (1 - shares if photometric == "MONOCHROME1" else shares).astype(np.float32)


def _pixels(file: "Dataset", name: str) -> np.ndarray:
    """Stored values, decompressed."""
    from pydicom import uid

    with decoding(f"{name} is damaged, or no DICOM file"):
        if "TransferSyntaxUID" not in file.file_meta:
            syntaxes: dict[Any, Any] = {
                (True, True): uid.ImplicitVRLittleEndian,
                (False, False): uid.ExplicitVRBigEndian,
            }
            file.file_meta.TransferSyntaxUID = syntaxes.get(file.original_encoding, uid.ExplicitVRLittleEndian)
        syntax = file.file_meta.TransferSyntaxUID
        compressed = syntax.is_compressed
    trouble = f"compressed as {syntax.name}, cannot be decoded; {DECODERS}" if compressed else "is damaged or truncated"
    with decoding(f"DICOM file {name}{',' if compressed else ''} {trouble}"), warnings.catch_warnings(action="ignore"):
        return as_array(file.pixel_array)


def _shares(file: "Dataset", pixels: np.ndarray) -> np.ndarray:
    """Stored values behind rescaling, window and tables, as shares of the range that they can have."""
    from pydicom.pixels.processing import apply_modality_lut, apply_windowing

    modality, voi = (_table(file, name) for name in ("ModalityLUTSequence", "VOILUTSequence"))
    if modality:
        values, low, high = modality.apply(pixels), 0.0, modality.most
    else:
        values = as_array(apply_modality_lut(pixels, file), np.float64)
        bits, signed = int(file.BitsStored), bool(file.get("PixelRepresentation"))
        low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
        if "RescaleSlope" in file and "RescaleIntercept" in file:
            low, high = (value * float(file.RescaleSlope) + float(file.RescaleIntercept) for value in (low, high))
    if voi:
        values, low, high = voi.apply(values), 0.0, voi.most
    elif file.get("WindowCenter") is not None and file.get("WindowWidth") is not None:
        values = apply_windowing(values, file)
    else:
        low, high = sorted((low, high))  # a negative slope turns them; a window has turned its answer too
    if not high > low:
        raise ValueError(f"its values are rescaled to {low:g} to {high:g}")
    shares: np.ndarray = ((values - low) / (high - low)).clip(0, 1)
    return shares


@dataclass(frozen=True)
class _Table:
    """A table from values, ``first`` and following, to ``entries``, of which ``most`` is the largest possible."""

    first: int
    entries: np.ndarray
    most: float

    def apply(self, values: np.ndarray) -> np.ndarray:
        # pydicom's own indexes tables of 8 bits by numbers of 8 bits, which wrap.
        places = np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        found: np.ndarray = self.entries[places]
        return found


def _table(file: "Dataset", name: str) -> _Table | None:
    """The first table of a sequence, if there is one with entries."""
    item = (file.get(name) or [None])[0]
    if item is None or item.get("LUTDescriptor") is None or item.get("LUTData") is None:
        return None
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if file.original_encoding[1] else ">u2")
    return _Table(first, np.asarray(data, dtype=np.float64)[: count or 1 << 16], 2.0**bits - 1)
