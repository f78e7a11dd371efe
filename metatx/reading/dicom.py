"""Radiographs from DICOM files, as grey values 0..1 in which dense tissue is bright."""

import io
import math
import struct
import warnings
import zlib
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.errors import SampleError, decoding
from metatx.reading.arrays import as_array
from metatx.reading.bounds import check_bound
from metatx.reading.file_samples import file_of_sample
from metatx.reading.image import LUMA, read_grey
from metatx.reading.image_files import image_header

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["SUFFIXES", "is_dicom", "read_dicom", "read_radiograph"]

SUFFIXES = (".dcm", ".dicom")
GREY = ("MONOCHROME1", "MONOCHROME2")
BLOCK = 1 << 20  # bytes that are unpacked at once
LONGEST_RUN = 128  # most bytes of a run in RLE
# The elements that are read; all others are skipped, so that they take no memory.
READ = (
    *("SpecificCharacterSet", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth"),
)
MISSING = "Reading DICOM files needs pydicom: pip install 'metatx[dicom]'"
DECODERS = "save it uncompressed, or install its decoder: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


def is_dicom(sample: Any) -> bool:
    """Return whether a sample, in any form that ``read_grey`` takes, is a DICOM file, by its suffix or its mark."""
    if isinstance(sample, dict):
        content = sample.get("bytes")
        path = sample.get("path")
        return is_dicom(path) if content is None else is_dicom(content) or str(path or "").lower().endswith(SUFFIXES)
    if isinstance(sample, bytes | bytearray | memoryview):
        return bytes(sample[128:132]) == b"DICM"
    if not isinstance(sample, str | Path):
        return False
    path = Path(sample)
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, ValueError):  # reading the file reports the reason
        return False


def read_radiograph(sample: Any) -> np.ndarray:
    """Read a DICOM file with ``read_dicom``, any other sample with ``read_grey``: float32 (H, W).

    Raises:
        SampleError: If the sample cannot be read.
    """
    if not is_dicom(sample):
        return read_grey(sample)
    source, name = file_of_sample(sample, "DICOM", "the image")
    return read_dicom(source if isinstance(source, bytes) else source.read_bytes(), name)


def read_dicom(content: bytes, name: str) -> np.ndarray:
    """Read one image as float32 (H, W) in 0..1, as a viewer shows it: its own window applied, MONOCHROME1 inverted.

    Stored values pass the modality's rescaling or table, then the VOI table or the first window. Without a table or
    window, the range is that of the stored bits. Colours are converted to luma.

    Args:
        content: Bytes of the file.
        name: Name of the file, for messages.

    Raises:
        SampleError: If the file cannot be read, holds no image or several, or has a compression that no installed
            decoder reads.
        ImportError: If pydicom is missing.
    """
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise ImportError(MISSING) from error
    if not content:
        raise SampleError(f"DICOM file {name} is empty")
    with decoding(f"{name} is damaged, or no DICOM file"), warnings.catch_warnings(action="ignore"):
        _check_deflated(content, name)
        # Files without the mark are common; what is none has no pixels.
        file = dcmread(io.BytesIO(content), force=True, specific_tags=list(READ))
        frames = int(file.get("NumberOfFrames") or 1)
        photometric = str(file.get("PhotometricInterpretation"))
        empty = "PixelData" not in file
    if empty:
        raise SampleError(f"{name} holds no image, or is no DICOM file")
    if frames > 1:
        raise SampleError(f"DICOM file {name} holds {frames} frames; expected one image: save each as a file")
    with decoding(f"{name} is damaged, or no DICOM file"):
        size = int(file.Rows) * int(file.Columns)
        samples = int(file.get("SamplesPerPixel") or 1)
    check_bound("pixels", size, f"DICOM file {name}")
    if samples not in (1, 3):
        raise SampleError(f"DICOM file {name} has {samples} samples a pixel; expected {', '.join(GREY)} or RGB")
    pixels = _pixels(file, name)
    if photometric in GREY:
        with (
            decoding(f"DICOM file {name} has no window or range that can be read"),
            warnings.catch_warnings(action="ignore"),
        ):
            shares = _shares(file, pixels)
    elif pixels.ndim == 3 and pixels.shape[2] == 3:
        with decoding(f"DICOM file {name} has no range that can be read"):
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
        if compressed and "PixelData" in file:
            _check_packed(file, syntax, name)
    trouble = f"compressed as {syntax.name}, cannot be decoded; {DECODERS}" if compressed else "is damaged or truncated"
    with decoding(f"DICOM file {name}{',' if compressed else ''} {trouble}"), warnings.catch_warnings(action="ignore"):
        return as_array(file.pixel_array)


def _check_deflated(content: bytes, name: str) -> None:
    """Refuse a deflated file that unpacks to more than the bound: pydicom unpacks such a file whole, of any size."""
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    for implicit in (False, True):  # the order in which pydicom tries
        file = io.BytesIO(content)
        read_preamble(file, True)
        meta = read_dataset(file, implicit, True, stop_when=lambda tag, *_: tag >> 16 != 2)
        with suppress(NotImplementedError):  # the first element has no known type: try the other way
            for element in islice(meta.elements(), 1):
                meta[element.tag]
            break
    else:
        return
    deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    length = 0
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = file.read() if deflated else b""
    while packed:
        length += len(unpacker.decompress(packed, BLOCK))
        packed = unpacker.unconsumed_tail
        check_bound("unpacked_mb", length / 1e6, f"DICOM file {name}")


def _check_packed(file: "Dataset", syntax: str, name: str) -> None:
    """Refuse a compressed image that is larger than the file declares."""
    from pydicom import uid
    from pydicom.encaps import get_frame

    frame = get_frame(file.PixelData, 0, number_of_frames=1)
    size = int(file.Columns), int(file.Rows)
    if syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEG2000, uid.JPEG2000Lossless):
        header = image_header(frame, name)
        if (header.width, header.height) != size:
            raise SampleError(
                f"DICOM file {name} holds an image of {header.width} x {header.height}; expected {size[0]} x "
                f"{size[1]}, as it says itself"
            )
    elif syntax == uid.RLELossless:
        count, *starts = struct.unpack("<16L", frame[:64])
        starts = [*starts[:count], len(frame)]
        for start, end in pairwise(starts):
            if not _fits(frame[start:end], math.prod(size)):
                raise SampleError(f"DICOM file {name} unpacks to more than its {size[0]} x {size[1]} pixels")


def _fits(packed: bytes, most: int) -> bool:
    """Return whether DICOM's run lengths unpack to at most ``most`` bytes, plus one run that is too long."""
    at = length = 0
    while at < len(packed) and length <= most + LONGEST_RUN:
        count = packed[at]  # 128 means nothing
        length += count + 1 if count < 128 else (257 - count) * (count > 128)
        at += count + 2 if count < 128 else 1 + (count > 128)
    return length <= most + LONGEST_RUN


def _shares(file: "Dataset", pixels: np.ndarray) -> np.ndarray:
    """Stored values after rescaling, tables and window, as shares (0..1) of their possible range."""
    from pydicom.pixels.processing import apply_modality_lut, apply_windowing

    modality, voi = (_table(file, name) for name in ("ModalityLUTSequence", "VOILUTSequence"))
    if modality:
        values = modality.apply(pixels)
        low = 0.0
        high = modality.most
    else:
        values = as_array(apply_modality_lut(pixels, file), np.float64)
        bits = int(file.BitsStored)
        signed = bool(file.get("PixelRepresentation"))
        low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
        if "RescaleSlope" in file and "RescaleIntercept" in file:
            low, high = (value * float(file.RescaleSlope) + float(file.RescaleIntercept) for value in (low, high))
    if voi:
        values = voi.apply(values)
        low = 0.0
        high = voi.most
    elif file.get("WindowCenter") is not None and file.get("WindowWidth") is not None:
        values = apply_windowing(values, file)
    else:
        low, high = sorted((low, high))  # a negative slope reverses them
    if not high > low:
        raise ValueError(f"its values are rescaled to {low:g} to {high:g}")
    shares: np.ndarray = ((values - low) / (high - low)).clip(0, 1)
    return shares


@dataclass(frozen=True)
class _Table:
    """Look-up table of pixel values.

    Attributes:
        first: Value of the first entry; the next entries stand for the next whole numbers.
        entries: Results, float64 (N,).
        most: Largest possible result.
    """

    first: int
    entries: np.ndarray
    most: float

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Look values up; those outside the table take its first or last entry."""
        # pydicom's own function overflows: it indexes tables of 8 bits by numbers of 8 bits.
        places = np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        results: np.ndarray = self.entries[places]
        return results


def _table(file: "Dataset", name: str) -> _Table | None:
    """First table of a sequence of the file; None without one that has entries."""
    item = (file.get(name) or [None])[0]
    if item is None or item.get("LUTDescriptor") is None or item.get("LUTData") is None:
        return None
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if file.original_encoding[1] else ">u2")
    return _Table(first, np.asarray(data, dtype=np.float64)[: count or 1 << 16], 2.0**bits - 1)
