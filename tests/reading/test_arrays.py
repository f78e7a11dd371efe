"""Files of arrays that are no such files, or not whole: one line each, whichever reader they come to."""

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
        with pytest.raises(SampleError, match=f"damaged, or no {kind} file"):
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
