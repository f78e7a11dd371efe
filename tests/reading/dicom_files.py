"""Radiographs as the bytes of DICOM files."""

import io

import numpy as np
import pydicom
from PIL import Image


def dicom(pixels, bits=12, **tags):
    """A file of such stored values."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.file_meta.MediaStorageSOPInstanceUID = "1.2"
    file.Rows, file.Columns = pixels.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, tags.pop("photometric", "MONOCHROME2")
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, bits, bits - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    file.PixelData = pixels.astype("<u2" if pixels.dtype.kind == "u" else "<i2").tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65


def packed(syntax, frame, side=8, bits=8):
    """A file around one compressed picture."""
    from pydicom.encaps import encapsulate

    file = pydicom.dcmread(io.BytesIO(dicom(np.zeros((side, side), np.uint16))))
    file.file_meta.TransferSyntaxUID = syntax
    file.BitsAllocated, file.BitsStored, file.HighBit = bits, bits, bits - 1
    file.PixelData = encapsulate([frame])
    file.save_as(buffer := io.BytesIO(), enforce_file_format=True)
    return buffer.getvalue()


def jpeg(side):
    Image.new("L", (side, side), 128).save(file := io.BytesIO(), "JPEG")
    return file.getvalue()
