"""Arrays from whatever holds one, and from the files of numpy and MATLAB; or one line that says what is wrong."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from metatx.errors import SampleError, decoding

__all__ = ["as_array", "mat_arrays", "npy_array", "npz_arrays"]


def as_array(value: Any, dtype: DTypeLike | None = None) -> np.ndarray:
    """The numbers of an array, a tensor, or nested lists of either, in this machine's byte order, row by row.

    Args:
        value: A tensor may require a gradient, lie on another device, or have a type that numpy lacks (bfloat16).
        dtype: To convert to; None keeps the type.

    Raises:
        TypeError: If it holds no real numbers (complex ones, dates, objects) where ``dtype`` asks for some.
        ValueError: If lists are of unequal lengths, or words are no numbers.
        OverflowError: If a whole number is too large.
    """
    if isinstance(value, Tensor):
        value = value.detach().to_dense() if value.layout != torch.strided else value.detach()
        # Types that numpy lacks are floats of fewer bits.
        lacking = value.is_floating_point() and value.dtype not in (torch.float16, torch.float32, torch.float64)
        value = (value.float() if lacking else value).resolve_conj().resolve_neg().cpu().numpy()
    elif isinstance(value, np.ma.MaskedArray):
        # What is masked is not there: never the number that happens to lie below.
        masked: Any = value.astype(np.float64) if np.ma.is_masked(value) else value
        value = np.ma.filled(masked, np.nan) if np.ma.is_masked(value) else value.data
    elif isinstance(value, list | tuple) and _holds_tensors(value):
        value = [as_array(part) for part in value]
    array = np.asarray(value)
    if array.dtype.kind == "O" and array.ndim and any(isinstance(part, np.ndarray | list) for part in array.ravel()):
        array = np.array([as_array(part) for part in array])  # as parquet gives lists of lists
    if dtype is None:
        wider = array.dtype.kind == "f" and array.dtype.itemsize > 8  # which torch has not
        dtype = np.dtype(np.float64) if wider else array.dtype.newbyteorder("=")
    elif array.dtype.kind in "cmMV":
        raise TypeError(f"{array.dtype} is no real number")
    # Torch takes no array that runs backwards, and warns of one that cannot be written to.
    return np.require(array.astype(dtype, copy=False), requirements=["C", "W"])


def _holds_tensors(value: Any) -> bool:
    while isinstance(value, list | tuple) and len(value):
        value = value[0]
    return isinstance(value, Tensor)


def npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file. Raises SampleError if it is none, or damaged."""
    _check_content(path)
    if not zipfile.is_zipfile(path):
        raise SampleError(_no("npz"))
    with _reading("npz", path), np.load(path, allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    # Of what is no array in the zip file, numpy gives the bytes.
    return {name: array for name, array in held.items() if isinstance(array, np.ndarray)}


def npy_array(path: Path) -> np.ndarray:
    """The array of an npy file. Raises SampleError if it is none, or damaged."""
    with _reading("npy", path), path.open("rb") as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def mat_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a MATLAB file, to version 7. Raises SampleError if it is none, or damaged."""
    from scipy.io import loadmat

    with _reading("mat", path):
        try:
            held = loadmat(path)
        except NotImplementedError:
            raise SampleError("a MATLAB 7.3 file; save it with -v7, or as npz") from None
    return {name: array for name, array in held.items() if isinstance(array, np.ndarray)}


@contextmanager
def _reading(kind: str, path: Path) -> Iterator[None]:
    _check_content(path)
    try:
        with decoding(_no(kind)):
            yield
    except MemoryError as error:  # a damaged header promises more than there can be
        raise SampleError(f"{_no(kind)} ({error})") from None


def _check_content(path: Path) -> None:
    if path.is_file() and not path.stat().st_size:
        raise SampleError("empty")


def _no(kind: str) -> str:
    return f"damaged, or no {kind} file"
