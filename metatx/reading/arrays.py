"""Arrays from the files of numpy and MATLAB, or one line that says what is wrong with the file."""

import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError

import numpy as np

from metatx.errors import SampleError

__all__ = ["mat_arrays", "npy_array", "npz_arrays"]

# What the readers raise on files that are not whole, or claim more than fits into memory.
DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, TokenError),
)


def npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file. Raises SampleError if it is none, or damaged."""
    if not zipfile.is_zipfile(path):
        raise SampleError(_no("npz", path))
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except DAMAGE as error:
        raise SampleError(_no("npz", path, error)) from None
    # Of what is no array in the zip file, numpy gives the bytes.
    return {name: array for name, array in held.items() if isinstance(array, np.ndarray)}


def npy_array(path: Path) -> np.ndarray:
    """The array of an npy file. Raises SampleError if it is none, or damaged."""
    try:
        with path.open("rb") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except DAMAGE as error:
        raise SampleError(_no("npy", path, error)) from None
    return array


def mat_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a MATLAB file, to version 7. Raises SampleError if it is none, or damaged."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        held = loadmat(path)
    except NotImplementedError:
        raise SampleError("a MATLAB 7.3 file; save it with -v7, or as npz") from None
    except (MatReadError, *DAMAGE) as error:
        raise SampleError(_no("mat", path, error)) from None
    return {name: array for name, array in held.items() if isinstance(array, np.ndarray)}


def _no(kind: str, path: Path, error: BaseException | None = None) -> str:
    if path.is_file() and not path.stat().st_size:
        return "empty"
    return f"damaged, or no {kind} file" + (f": {error}" if error is not None and str(error) else "")
