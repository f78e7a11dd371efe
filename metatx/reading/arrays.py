"""Arrays from whatever holds one, and from the files of numpy and MATLAB; or one line that says what is wrong."""

import math
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from metatx.errors import SampleError, decoding
from metatx.progress import tell
from metatx.reading.bounds import check_bound
from metatx.reading.mat_headers import is_hollow, variables_of

__all__ = ["as_array", "mat_arrays", "npy_array", "npz_arrays"]

ZIP_ENTRY = 46  # bytes that a zip file's list has for a file at least
ZIP_TAIL = 1 << 17  # bytes at its end that say how long the list is
DENSEST = 1100  # bytes that zlib makes of one at most
MAX_HEADER = 10_000  # bytes of an array's header, as numpy has it


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


class _NoNumbersError(SampleError):
    """An array of objects or records, which is whole, but not read."""


def npz_arrays(path: Path, most: str = "data_set_mb", wanted: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The arrays of an npz file, whose headers are read before anything is unpacked. Others are left out, and told.

    Args:
        path: Of the file.
        most: The bound on what all of them take together: ``unpacked_mb`` where the file is one sample.
        wanted: Names that are not left out, if they are there.

    Raises:
        SampleError: If it is none, damaged, beyond a bound, or holds nothing, or under a wanted name something else,
            than numbers, texts and dates.
    """
    _check_content(path)
    if not zipfile.is_zipfile(path):
        raise SampleError(_no("npz"))
    check_bound("members", _members(path), "an npz file that")
    with _reading("npz", path), zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        sizes, left = {}, {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in sizes or name in left:
                raise SampleError(f"{_no('npz')} (it has two arrays of one name)")
            try:
                sizes[name] = _size_in(archive, member)
            except _NoNumbersError as error:
                left[name] = str(error)
        check_bound(most, sum(sizes.values()) / 1e6, "an npz file that")
        _tell_left(path, left, bool(sizes), wanted)
        held = {}
        for member in members:
            if member.filename.removesuffix(".npy") in left:
                continue
            with archive.open(member) as file:
                held[member.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    return held


def _tell_left(path: Path, left: Mapping[str, str], others: bool, wanted: tuple[str, ...]) -> None:
    """Tell which arrays are left out; SampleError where a wanted one is, or no other is there."""
    lacking = [name for name in left if name in wanted] or ([] if others else list(left))
    for name in lacking[:1]:
        raise SampleError(f"an npz file whose {name:.63} is no array of numbers: {left[name]}")
    if left:
        said = ", ".join(f"{name:.63} ({why})" for name, why in islice(left.items(), 5))
        rest = f" and {len(left) - 5} more" if len(left) > 5 else ""
        tell(f"{path}: left out {said}{rest}.")


def _members(path: Path) -> float:
    """How many files a zip file can list at most, by the bytes that it says its list has."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - ZIP_TAIL))
        tail = file.read()
    found = [0]
    for mark, form, at in ((b"PK\5\6", "<I", 12), (b"PK\6\6", "<Q", 40)):
        places = [place.start() + at for place in re.finditer(re.escape(mark), tail)]
        sizes = [struct.unpack_from(form, tail, place)[0] for place in places if place + 8 <= len(tail)]
        found += [size for size in sizes if size < path.stat().st_size]  # zipfile refuses others
    return max(found) / ZIP_ENTRY


def _size_in(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Bytes that a member takes in memory, if it is an array that can be read. Raises SampleError."""
    name = member.filename.removesuffix(".npy")[:63]
    if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SampleError(f"{_no('npz')} ({name} is encrypted, or packed otherwise than numpy does)")
    if member.file_size > DENSEST * member.compress_size + ZIP_ENTRY:
        raise SampleError(f"{_no('npz')} ({name}: {member.file_size:,} bytes packed into {member.compress_size:,})")
    with archive.open(member) as file:
        return _size_of(file, member.file_size, "npz", f"{name} is ")


def _size_of(file: IO[bytes], there: int, kind: str, subject: str = "") -> int:
    """Bytes of the array that begins in a file, by its header; ``there`` are in all. Raises SampleError."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise SampleError(f"{_no(kind)} ({subject}written as version {version[0]}; expected 1 or 2)")
    length = file.read(2 * version[0])
    header = file.read(min(MAX_HEADER, int.from_bytes(length, "little")))
    if len(header) < int.from_bytes(length, "little"):
        raise SampleError(f"{_no(kind)} ({subject}said in a header of {int.from_bytes(length, 'little'):,} bytes)")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, _, dtype = read(BytesIO(length + header))
    except Exception:  # whatever the parser of Python says of an expression
        raise SampleError(f"{_no(kind)} ({subject}said in a header that is none of numpy's)") from None
    if dtype.names:
        columns = ", ".join(dtype.names)
        raise _NoNumbersError(f"its values are records ({columns:.80}); save the columns as one array")
    if dtype.kind == "O":
        raise _NoNumbersError("its values are objects of Python; save them as numbers")
    if dtype.kind not in "biufcUSMm" or not dtype.itemsize:
        raise SampleError(f"{_no(kind)} ({subject}of type {str(dtype):.40}; expected numbers)")
    size = math.prod(shape) * dtype.itemsize
    rest = there - 6 - 2 - len(length) - len(header)
    if not all(side >= 0 for side in shape) or size > rest:
        raise SampleError(f"{_no(kind)} ({subject}of the shape {str(shape):.80}, and {rest:,} bytes of values)")
    if is_hollow(shape):
        raise SampleError(f"{_no(kind)} ({subject}of the shape {str(shape):.80}, without a value)")
    return size


def npy_array(path: Path) -> np.ndarray:
    """The array of an npy file. Raises SampleError if it is none, damaged, or larger than ``unpacked_mb``."""
    with _reading("npy", path), path.open("rb") as file:
        try:
            size = _size_of(file, path.stat().st_size, "npy")
        except _NoNumbersError as error:
            raise SampleError(f"no array of numbers: {error}") from None
        check_bound("unpacked_mb", size / 1e6, "an npy file that")
        file.seek(0)
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def mat_arrays(path: Path, most: str = "data_set_mb") -> dict[str, np.ndarray]:
    """The arrays of numbers and texts of a MATLAB file, to version 7. What else it holds is left out, and told.

    Cells and structs are never unpacked: scipy does that without a bound on how many there are, or how deep.

    Args:
        path: Of the file.
        most: As of ``npz_arrays``.

    Raises:
        SampleError: If it is none, damaged, beyond a bound, or holds nothing of the kind.
    """
    from scipy.io import loadmat

    with _reading("mat", path):
        variables = variables_of(path)
        wanted = [held.name for held in variables if held.kind in ("numbers", "text") and not held.name.startswith("_")]
        check_bound(most, sum(held.nbytes for held in variables) / 1e6, "a MATLAB file that")
        # Without names, scipy would read all that there are.
        found = loadmat(path, variable_names=wanted) if wanted else {}
        arrays = {name: found[name] for name in wanted}
        lost = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
        if lost:
            raise SampleError(f"{_no('mat')} ({lost[0]:.63}: {str(arrays[lost[0]]):.80})")
    others = [held for held in variables if held.kind not in ("numbers", "text")]
    left = [f"{held.name or 'one without a name':.63} ({held.kind})" for held in others]
    if left:
        rest = f" and {len(left) - 5} more" if len(left) > 5 else ""
        said = f"{', '.join(left[:5])}{rest}; expected full arrays of real numbers"
        if any(held.kind == "struct" for held in others):
            said += ": save a struct's fields as variables (save -struct)"
        if not arrays:
            raise SampleError(f"a MATLAB file of {said}")
        tell(f"{path}: left out {said}.")
    return arrays


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
