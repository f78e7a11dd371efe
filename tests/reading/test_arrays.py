"""Files of arrays that are no such files, or not whole: one line each, whichever reader they come to."""

import io
import struct
import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from metatx.errors import SampleError
from metatx.reading.arrays import mat_arrays, npy_array, npz_arrays

ARRAY = np.arange(6000).reshape(20, 300)


def files(folder):
    """A whole file of each kind, by the function that reads it."""
    np.savez_compressed(folder / "a.npz", a=ARRAY)
    np.save(folder / "a.npy", ARRAY)
    savemat(folder / "a.mat", {"a": ARRAY}, do_compression=True)
    return {npz_arrays: folder / "a.npz", npy_array: folder / "a.npy", mat_arrays: folder / "a.mat"}


def test_whole_files_are_read(tmp_path):
    for read, path in files(tmp_path).items():
        found = read(path)
        np.testing.assert_array_equal(found if read is npy_array else found["a"], ARRAY)


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.98])
def test_files_that_end_early_are_refused(tmp_path, share):
    for read, path in files(tmp_path).items():
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(SampleError, match="damaged, or no" if share else "^empty$"):
            read(path)


def test_broken_bytes_are_refused(tmp_path):
    for read, path in files(tmp_path).items():
        whole = path.read_bytes()
        for at in range(10, len(whole) - 40, max(1, len(whole) // 40)):
            path.write_bytes(whole[:at] + b"\xff" * 30 + whole[at + 30 :])
            try:
                read(path)
            except SampleError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("kind", ["npz", "npy", "mat"])
def test_other_files_under_the_name_are_refused(tmp_path, kind):
    """Among them a zip file where one array is expected, and one array where several are; never a pickle."""
    read, path = {"npz": npz_arrays, "npy": npy_array, "mat": mat_arrays}[kind], tmp_path / f"x.{kind}"
    contents = [path.read_bytes() for other, path in files(tmp_path).items() if other is not read]
    np.save(tmp_path / "objects.npy", np.array([None, "a"]), allow_pickle=True)
    for content in [*contents, b"hello" * 99, (tmp_path / "objects.npy").read_bytes()]:
        path.write_bytes(content)
        with pytest.raises(SampleError, match=f"damaged, or no {kind} file|no array of numbers"):
            read(path)


def test_what_is_no_array_in_a_zip_file_is_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("page.xml", "<page>")
    assert npz_arrays(tmp_path / "a.npz") == {}


def test_a_header_that_promises_too_much_is_refused(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    with pytest.raises(SampleError, match="damaged, or no npy file"):
        npy_array(tmp_path / "a.npy")


def header(descr, shape, version=1):
    """The header of an array, and none of its values."""
    file = io.BytesIO()
    write = np.lib.format.write_array_header_1_0 if version == 1 else np.lib.format.write_array_header_2_0
    write(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header("|V0", (10**9, 3)), "of type .*V0; expected numbers"),
        (header("<U0", (10**9, 3)), "of type <U0"),
        (header("|O", (2,)) + bytes(16), "values are objects of Python"),
        (header([("a", "<f8")], (2,)) + bytes(16), r"records \(a\); save the columns"),
        (header("<f8", (10**9, 3)), r"shape \(1000000000, 3\), and 0 bytes"),
        (header("<f8", (1 << 40, 1 << 40)), "of the shape"),
        (header("|u1", (30_000, 30_000, 0)), r"shape \(30000, 30000, 0\), without a value"),
        (header("<f8", (-1, -2)) + bytes(16), "of the shape"),
        (header("<f8", (2,), 2)[:8] + struct.pack("<I", 1 << 31) + bytes(99), "by a header of 2,147,483,648 bytes"),
        (b"\x93NUMPY\3\0" + bytes(99), "written as version 3"),
        (header("<f8", (2, 300_000)) + bytes(4_800_000), "megabytes .*expected at most 4 "),
    ],
)
def test_headers_are_checked_before_numpy_reads(tmp_path, monkeypatch, content, message):
    """By themselves, and packed into an npz file, whatever that says of their size."""
    monkeypatch.setenv("METATX_BOUNDS", "unpacked_mb=4,data_set_mb=4")
    monkeypatch.setattr(np.lib.format, "read_array", lambda *args, **kwargs: pytest.fail("numpy was asked"))
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(SampleError, match=message):
        npy_array(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("good.npy", header("<f8", (0,)))
        file.writestr("a.npy", content)
    with pytest.raises(SampleError, match=message):
        npz_arrays(tmp_path / "a.npz", wanted=("a",))


def test_archives_are_checked_before_they_are_unpacked(tmp_path, monkeypatch):
    path, content = tmp_path / "a.npz", header("<f8", (1,)) + bytes(8)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", content)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.npy", content)
    with pytest.raises(SampleError, match="two arrays of one name"):
        npz_arrays(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a.npy", content)
    with pytest.raises(SampleError, match="packed otherwise than numpy does"):
        npz_arrays(path)
    with zipfile.ZipFile(path, "w") as file:
        for number in range(500):
            file.writestr(f"{number}.npy", content)
    assert len(npz_arrays(path)) == 500
    monkeypatch.setenv("METATX_BOUNDS", "members=100")
    monkeypatch.setattr(zipfile.ZipFile, "__init__", lambda *args, **kwargs: pytest.fail("the list was read"))
    with pytest.raises(SampleError, match="expected at most 100"):
        npz_arrays(path)


def test_objects_and_records_beside_numbers_are_left_out(tmp_path, caplog):
    records, objects = np.zeros(2, [("x", "f4"), ("y", "f4")]), np.array([None, "a"])
    np.savez(tmp_path / "a.npz", data=np.ones(3), meta=objects, rows=records)
    with caplog.at_level("INFO", "metatx"):
        assert list(npz_arrays(tmp_path / "a.npz")) == ["data"]
    assert (
        "left out meta (its values are objects" in caplog.text and "rows (its values are records (x, y)" in caplog.text
    )
    with pytest.raises(SampleError, match="whose meta is no array of numbers"):
        npz_arrays(tmp_path / "a.npz", wanted=("meta",))
    np.savez(tmp_path / "b.npz", meta=objects)
    with pytest.raises(SampleError, match="whose meta is no array of numbers"):
        npz_arrays(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", records)
    with pytest.raises(SampleError, match=r"no array of numbers: its values are records \(x, y\); save the columns"):
        npy_array(tmp_path / "c.npy")
