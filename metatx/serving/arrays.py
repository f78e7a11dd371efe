"""Arrays as bytes: bodies in NumPy's npy format, and npy in base64 within JSON, in place of nested lists of numbers."""

import io
import math
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from metatx.errors import SampleError, decoding, short

__all__ = ["ENCODED", "KEY", "NPY", "array_of", "encoded", "forms_of", "numeric_axes", "takes_arrays", "with_arrays"]

NPY = "application/x-npy"
KEY = "npy"  # of {"npy": BASE64}, which stands for an array within JSON
ENCODED: dict[str, Any] = {  # JSON Schema of an array within JSON
    "type": "object",
    "properties": {KEY: {"type": "string", "contentEncoding": "base64", "contentMediaType": NPY}},
    "required": [KEY],
    "additionalProperties": False,
    "title": "array as numpy.save writes it, in base64",
}
KINDS = "biuf"  # kinds of NumPy's data types: booleans, whole numbers, real numbers
HEAD = 16_384  # bytes that hold the header; NumPy refuses one of more than 10,000
LEVELS = 4  # depth in a sample at which an array may stand: an input, a column, a field of it
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def array_of(content: bytes) -> np.ndarray:
    """Array of the bytes of an npy file; it shares their memory and cannot be written to.

    Only the header is parsed, without pickle, and nothing larger than ``content`` is allocated.

    Raises:
        SampleError: If it is no npy file, is cut off or too long, or holds other values than numbers.
    """
    file = io.BytesIO(content[:HEAD])
    with decoding("The bytes are no array in npy format, as numpy.save writes it"):
        shape, fortran, dtype = READERS[np.lib.format.read_magic(file)](file)
    if dtype.kind not in KINDS:
        raise SampleError(f"The array holds {short(dtype)}; expected numbers or booleans.")
    count = math.prod(shape)
    present = len(content) - file.tell()
    if any(size < 0 for size in shape) or count * dtype.itemsize != present:
        raise SampleError(f"{present:,} bytes of numbers follow the header of an array of shape {shape!s:.100}.")
    with decoding("The array cannot be made"):  # too many axes, or a type that this machine lacks
        values = np.frombuffer(content, dtype, count, file.tell()) if count else np.empty(0, dtype)
        return values.reshape(shape, order="F" if fortran else "C")


def encoded(array: np.ndarray) -> dict[str, str]:
    """Write an array as it stands within JSON: {"npy": BASE64}."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return {KEY: b64encode(file.getvalue()).decode("ascii")}


def with_arrays(value: Any, level: int = 0) -> Any:
    """Replace each {"npy": BASE64} of a JSON value by its array, and arrays by copies that may be written to.

    An array keeps its type, which says more than JSON can, such as that a picture has 16 bits: it is read as
    ``Task.predict`` reads it. Numbers in JSON are int64 and float64. Lists are not searched: they are long, and an
    array stands in their place.

    Raises:
        SampleError: If it is no base64, or no array.
    """
    if isinstance(value, np.ndarray):
        return np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
    if not isinstance(value, Mapping) or level == LEVELS:
        return value
    if set(value) == {KEY} and isinstance(value[KEY], str):
        with decoding(f"{KEY} is no base64"):
            content = b64decode(value[KEY], validate=True)
        return with_arrays(array_of(content))
    return {name: with_arrays(part, level + 1) for name, part in value.items()}


def forms_of(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Forms that a JSON Schema allows: those of its ``anyOf``, or itself."""
    for form in schema.get("anyOf", ()):
        yield from forms_of(form)
    if "anyOf" not in schema:
        yield schema


def numeric_axes(form: Mapping[str, Any]) -> int:
    """Number of axes of nested arrays of numbers; 0 if the form is another."""
    axes = 0
    while form.get("type") == "array":
        axes += 1
        form = next(forms_of(form.get("items", {})), {})
    kinds = form.get("type", ())
    names = {kinds} if isinstance(kinds, str) else set(kinds)
    return axes if names & {"number", "integer"} and "string" not in names else 0


def takes_arrays(schema: Mapping[str, Any]) -> bool:
    """Return True if a sample may be an array of numbers; a task without a schema takes any value."""
    return not schema or any(map(numeric_axes, forms_of(schema)))
