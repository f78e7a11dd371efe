"""Radiographs as DICOM files: what pydicom itself makes of them, as shares of the range."""

import io
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest

from metatx import SampleError, create
from metatx.reading.dicom import is_dicom, read_radiograph
from tests.reading.dicom_files import RAMP, dicom, jpeg, packed


def shown_by_pydicom(content):
    """As pydicom's own functions window it, with the range that they give it."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    file = pydicom.dcmread(io.BytesIO(content))
    return np.asarray(apply_voi_lut(apply_modality_lut(file.pixel_array, file), file), dtype=float)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -1024)])
def test_windows_are_applied_as_pydicom_does(function, slope, intercept):
    tags = {"WindowCenter": [900, 40], "WindowWidth": [700, 80], "VOILUTFunction": function}
    content = dicom(RAMP, RescaleSlope=slope, RescaleIntercept=intercept, **tags)
    least, most = intercept, 4095 * slope + intercept
    np.testing.assert_allclose(
        read_radiograph(content), (shown_by_pydicom(content) - least) / (most - least), atol=1e-6
    )


def test_monochrome1_is_inverted_once_whatever_the_option(tmp_path):
    dark = dicom(4095 - RAMP, photometric="MONOCHROME1")
    np.testing.assert_allclose(read_radiograph(dark), read_radiograph(dicom(RAMP)), atol=1e-6)
    (tmp_path / "a.DCM").write_bytes(dark)
    (tmp_path / "none").write_bytes(dark)
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        tokenizer = create("tokenizers", "xray", 192, stem=None, photometric=photometric, percentiles=[0, 100])
        for sample in (dark, str(tmp_path / "a.DCM"), {"bytes": dark, "path": None}, str(tmp_path / "none")):
            np.testing.assert_allclose(tokenizer.dense_values(sample)[..., 0], RAMP / 4095, atol=1e-6)


def test_signed_values_and_negative_slopes_are_grey_values_in_order():
    signed = (RAMP.astype(np.int16) - 2048).astype(np.int16)
    np.testing.assert_allclose(read_radiograph(dicom(signed)), RAMP / 4095, atol=1e-6)
    turned = read_radiograph(dicom(RAMP, RescaleSlope=-1, RescaleIntercept=0))
    np.testing.assert_allclose(turned, 1 - RAMP / 4095, atol=1e-6)


@pytest.mark.parametrize(("bits", "vr"), [(8, "US"), (12, "OW"), (16, "US")])
def test_tables_map_stored_values_to_their_entries(bits, vr):
    from pydicom.dataset import Dataset

    entries = np.linspace(0, 2**bits - 1, 4096).round().astype(np.uint16)[::-1]
    item = Dataset()
    item.LUTDescriptor = [4096, 0, bits]
    item.add_new(0x00283006, vr, entries.astype("<u2").tobytes() if vr == "OW" else entries.tolist())
    item["LUTDescriptor"].VR = "US"
    content = dicom(RAMP, VOILUTSequence=[item])
    np.testing.assert_allclose(read_radiograph(content), entries[RAMP] / (2**bits - 1), atol=1e-6)
    if bits > 8:  # pydicom's own wraps there
        np.testing.assert_allclose(read_radiograph(content) * (2**bits - 1), shown_by_pydicom(content), atol=0.02)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((f"MR_small{kind}.dcm", (64, 64)) for kind in ("", "_RLE", "_bigendian", "_implicit", "_jp2klossless")),
        ("SC_rgb_small_odd.dcm", (3, 3)),
        ("rtdose_rle.dcm", "rtdose_rle.dcm holds 15 frames; expected one image"),
        ("MR_truncated.dcm", "MR_truncated.dcm is damaged or truncated"),
        ("test-SR.dcm", "test-SR.dcm holds no image"),
        ("badVR.dcm", "badVR.dcm is damaged"),
        ("JPEGLSNearLossless_08.dcm", "compressed as JPEG-LS .* cannot be decoded; save it uncompressed"),
    ],
)
def test_files_of_every_transfer_syntax_are_read_or_refused_by_name(name, expected):
    path = Path(pydicom.__file__).with_name("data") / "test_files" / name
    if isinstance(expected, str):
        with pytest.raises(SampleError, match=expected) as caught:
            read_radiograph(path)
        assert "\n" not in str(caught.value)
        return
    found = read_radiograph(path)
    assert found.shape == expected and found.dtype == np.float32 and 0 <= found.min() < found.max() <= 1
    if name.startswith("MR"):
        np.testing.assert_allclose(found, read_radiograph(path.with_name("MR_small.dcm")), atol=1e-6)
    assert is_dicom(path)


def test_a_range_of_one_value_is_refused():
    with pytest.raises(SampleError, match="no window or range that can be read .its values are rescaled to 7 to 7"):
        read_radiograph(dicom(RAMP, RescaleSlope=0, RescaleIntercept=7))


def runs(count):
    """Run lengths of 128 zeros each, behind the header of one segment."""
    return struct.pack("<16L", 1, 64, *[0] * 14) + count * b"\x81\0"


def test_compressed_pictures_are_as_large_as_the_file_says():
    from pydicom import uid

    assert read_radiograph(packed(uid.JPEGBaseline8Bit, jpeg(8))).shape == (8, 8)
    assert read_radiograph(packed(uid.RLELossless, runs(1), 8)).shape == (8, 8)
    with pytest.raises(SampleError, match="holds an image of 900 x 900; expected 8 x 8, as it says itself"):
        read_radiograph(packed(uid.JPEGBaseline8Bit, jpeg(900)))
    with pytest.raises(SampleError, match="unpacks to more than its 8 x 8 pixels"):
        read_radiograph(packed(uid.RLELossless, runs(9)))


def test_bounds_are_looked_at_before_pixels(monkeypatch):
    from pydicom import uid

    content = dicom(RAMP)
    monkeypatch.setattr(pydicom.dataset.Dataset, "pixel_array", property(lambda self: pytest.fail("was decoded")))
    monkeypatch.setenv("METATX_BOUNDS", "pixels=63,unpacked_mb=0.5,scans=9")
    with pytest.raises(SampleError, match=r"64 pixels .*METATX_BOUNDS"):
        read_radiograph(content)
    monkeypatch.setenv("METATX_BOUNDS", "unpacked_mb=0.5")
    with pytest.raises(SampleError, match="800 samples a pixel"):
        read_radiograph(dicom(RAMP, SamplesPerPixel=800))
    file = pydicom.dcmread(io.BytesIO(content))
    file.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    file.add_new(0x00091001, "OB", bytes(5_000_000))
    file.save_as(buffer := io.BytesIO(), enforce_file_format=True)
    with pytest.raises(SampleError, match="megabytes .*METATX_BOUNDS=unpacked_mb"):
        read_radiograph(buffer.getvalue())


def test_sequences_inside_each_other_end_in_words():
    deep = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20_000
    with pytest.raises(SampleError, match="no DICOM file"):
        read_radiograph(dicom(RAMP)[:340] + deep)


@pytest.mark.parametrize("held", [5, [1], "text"])
def test_what_is_no_bytes_is_refused_in_words(held):
    with pytest.raises(SampleError, match="DICOM file has bytes that are"):
        read_radiograph({"bytes": held, "path": "a.dcm"})
