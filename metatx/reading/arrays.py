"""Arrays from tensors, lists and the files of numpy and MATLAB, checked before they are unpacked."""

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

from metatx.errors import SampleError, decoding, short
from metatx.progress import tell
from metatx.reading.bounds import check_bound
from metatx.reading.mat_headers import DENSEST, is_hollow, variables_of

__all__ = ["as_array", "finite_matrix", "finite_numbers", "mat_arrays", "npy_array", "npz_arrays", "shapes_of"]

ZIP_ENTRY = 46  # fewest bytes of a member in a zip file's directory
ZIP_TAIL = 1 << 17  # bytes at the end of a zip file that hold the size of its directory

MAX_HEADER = 10_000  # most bytes of an array's header, numpy's own limit
SHOWN = 5  # arrays that a message names; the rest is counted


def as_array(value: Any, dtype: DTypeLike | None = None) -> np.ndarray:
    """Convert an array, a tensor, or nested lists of either to a writable, C-contiguous array in native byte order.

    Args:
        value: A tensor may require a gradient, lie on another device, or have a type that numpy lacks (bfloat16).
        dtype: Type of the result; None keeps the type, but float128 becomes float64.

    Raises:
        TypeError: If ``dtype`` is given and the values are no real numbers (complex numbers, dates, objects).
        ValueError: If lists have unequal lengths, or words are no numbers.
        OverflowError: If a whole number is too large.
    """
    if isinstance(value, Tensor):
        value = value.detach().to_dense() if value.layout != torch.strided else value.detach()
        # The types that numpy lacks are floats of fewer bits, such as bfloat16.
        lacking = value.is_floating_point() and value.dtype not in (torch.float16, torch.float32, torch.float64)
        value = (value.float() if lacking else value).resolve_conj().resolve_neg().cpu().numpy()
    elif isinstance(value, np.ma.MaskedArray):
        # A masked value is missing: it becomes NaN, not the number that lies under the mask.
        masked: Any = value.astype(np.float64) if np.ma.is_masked(value) else value
        value = np.ma.filled(masked, np.nan) if np.ma.is_masked(value) else value.data
    elif isinstance(value, list | tuple) and _holds_tensors(value):
        value = [as_array(part) for part in value]
    array = np.asarray(value)
    if array.dtype.kind == "O" and array.ndim and any(isinstance(part, np.ndarray | list) for part in array.ravel()):
        array = np.array([as_array(part) for part in array])  # parquet gives lists of lists as arrays of arrays
    if dtype is None:
        wider = array.dtype.kind == "f" and array.dtype.itemsize > 8  # torch has no such type
        dtype = np.dtype(np.float64) if wider else array.dtype.newbyteorder("=")
    elif array.dtype.kind in "cmMV":
        raise TypeError(f"{array.dtype} is no real number")
    # Torch refuses arrays with negative strides, and warns about arrays that are read-only.
    return np.require(array.astype(dtype, copy=False), requirements=["C", "W"])


def shapes_of(arrays: Mapping[str, np.ndarray]) -> str:
    """Names and shapes of arrays, for messages."""
    return ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"


def _holds_tensors(value: Any) -> bool:
    while isinstance(value, list | tuple) and len(value):
        value = value[0]
    return isinstance(value, Tensor)


class _NoNumbersError(SampleError):
    """An array of objects or records: the file is intact, but such values are not read."""


def npz_arrays(path: Path, most: str = "data_set_mb", wanted: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Read the arrays of numbers, texts and dates of an npz file; report which other arrays are left out.

    All headers are read and checked before anything is unpacked.

    Args:
        path: File to read.
        most: Name of the bound on the memory of all arrays together: ``data_set_mb``, or ``unpacked_mb`` for a file
            that is one sample.
        wanted: Names that, where they exist, must be readable.

    Raises:
        SampleError: If the file is no npz file, damaged or beyond a bound; if no array, or not every wanted one, can
            be read.
    """
    _check_content(path)
    if not zipfile.is_zipfile(path):
        raise SampleError(_no("npz"))
    check_bound("members", _members(path), "an npz file that")
    with _reading("npz", path), zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        sizes = {}
        left = {}
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
        arrays = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in left:
                continue
            with archive.open(member) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _tell_left(path: Path, left: Mapping[str, str], others: bool, wanted: tuple[str, ...]) -> None:
    """Report which arrays are left out. Raises SampleError if one of them is wanted, or no other array remains."""
    lacking = [name for name in left if name in wanted] or ([] if others else list(left))
    for name in lacking[:1]:
        raise SampleError(f"an npz file whose {name:.63} is no array of numbers: {left[name]}")
    if left:
        reasons = [f"{name:.63} ({why})" for name, why in islice(left.items(), SHOWN)]
        tell(f"{path}: left out {_shortened(reasons, len(left))}.")


def _shortened(shown: list[str], count: int) -> str:
    """The first few of ``count`` things, and how many more there are."""
    rest = f" and {count - SHOWN} more" if count > SHOWN else ""
    return ", ".join(shown) + rest


def _members(path: Path) -> float:
    """Upper bound on the number of files in a zip file, from the size of its directory in bytes."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - ZIP_TAIL))
        tail = file.read()
    directory_sizes = [0]
    for mark, form, at in ((b"PK\5\6", "<I", 12), (b"PK\6\6", "<Q", 40)):
        places = [place.start() + at for place in re.finditer(re.escape(mark), tail)]
        sizes = [struct.unpack_from(form, tail, place)[0] for place in places if place + 8 <= len(tail)]
        directory_sizes += [size for size in sizes if size < path.stat().st_size]  # zipfile refuses larger ones
    return max(directory_sizes) / ZIP_ENTRY


def _size_in(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Bytes of a member's array in memory. Raises SampleError if the array cannot be read."""
    name = member.filename.removesuffix(".npy")[:63]
    if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SampleError(f"{_no('npz')} ({name} is encrypted, or packed otherwise than numpy does)")
    if member.file_size > DENSEST * member.compress_size + ZIP_ENTRY:
        raise SampleError(f"{_no('npz')} ({name}: {member.file_size:,} bytes packed into {member.compress_size:,})")
    with archive.open(member) as file:
        return _size_of(file, member.file_size, "npz", f"{name} is ")


def _size_of(file: IO[bytes], there: int, kind: str, subject: str = "") -> int:
    """Bytes of an array in memory, by its header.

    Args:
        file: File, positioned at the start of the array.
        there: Bytes of the header and the values that the file holds.
        kind: Kind of the file, for messages.
        subject: Beginning of a message, such as "x is ".

    Raises:
        SampleError: If the header is damaged, or promises other values than numbers, or more than there are.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise SampleError(f"{_no(kind)} ({subject}written as version {version[0]}; expected 1 or 2)")
    length = file.read(2 * version[0])
    header = file.read(min(MAX_HEADER, int.from_bytes(length, "little")))
    if len(header) < int.from_bytes(length, "little"):
        raise SampleError(f"{_no(kind)} ({subject}described by a header of {int.from_bytes(length, 'little'):,} bytes)")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, _, dtype = read(BytesIO(length + header))
    except Exception:  # numpy parses the header as a Python expression, which can raise anything
        raise SampleError(f"{_no(kind)} ({subject}described by a header that numpy cannot read)") from None
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
    """Read the array of an npy file.

    Raises:
        SampleError: If the file is no npy file, damaged, or larger than the bound ``unpacked_mb``.
    """
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
    """Read the arrays of numbers and texts of a MATLAB file up to version 7; report which variables are left out.

    Cells and structs are never unpacked: scipy unpacks them without a bound on their number or depth.

    Args:
        path: File to read.
        most: Name of the bound on the memory of all arrays together, see ``npz_arrays``.

    Raises:
        SampleError: If the file is no MATLAB file, damaged or beyond a bound, or holds no numbers and no texts.
    """
    from scipy.io import loadmat

    with _reading("mat", path):
        variables = variables_of(path)
        readable = [variable for variable in variables if variable.kind in ("numbers", "text")]
        wanted = [variable.name for variable in readable if not variable.name.startswith("_")]
        check_bound(most, sum(variable.nbytes for variable in variables) / 1e6, "a MATLAB file that")
        # An empty list of names would make scipy read all variables.
        content = loadmat(path, variable_names=wanted) if wanted else {}
        arrays = {name: content[name] for name in wanted}
        lost = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
        if lost:
            raise SampleError(f"{_no('mat')} ({lost[0]:.63}: {str(arrays[lost[0]]):.80})")
    others = [variable for variable in variables if variable.kind not in ("numbers", "text")]
    left = [f"{variable.name or 'one without a name':.63} ({variable.kind})" for variable in others]
    if left:
        message = f"{_shortened(left[:SHOWN], len(left))}; expected full arrays of real numbers"
        if any(variable.kind == "struct" for variable in others):
            message += ": save a struct's fields as variables (save -struct)"
        if not arrays:
            raise SampleError(f"a MATLAB file of {message}")
        tell(f"{path}: left out {message}.")
    return arrays


@contextmanager
def _reading(kind: str, path: Path) -> Iterator[None]:
    _check_content(path)
    try:
        with decoding(_no(kind)):
            yield
    except MemoryError as error:  # a damaged header can promise more values than memory holds
        raise SampleError(f"{_no(kind)} ({error})") from None


def _check_content(path: Path) -> None:
    if path.is_file() and not path.stat().st_size:
        raise SampleError("empty")


def _no(kind: str) -> str:
    return f"damaged, or no {kind} file"


def finite_numbers(name: str, values: Any) -> np.ndarray:
    """Finite numbers of a field of a sample, float64. Raises SampleError."""
    try:
        found = as_array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise SampleError(f"{name} is {short(values)}; expected numbers, rows of equal length") from None
    if not np.isfinite(found).all():
        raise SampleError(f"{name} holds NaN or infinity; expected finite numbers")
    return found


def finite_matrix(name: str, values: Any) -> np.ndarray:
    """Finite numbers (n, F) of a field, of which (n,) is one column, float64. Raises SampleError."""
    found = finite_numbers(name, values)
    if found.ndim == 1:
        found = found[:, None]
    if found.ndim != 2:
        raise SampleError(f"{name} has {found.ndim} axes; expected two")
    return found
