"""Tensors of the Open Inference Protocol: as JSON or as bytes, in and out."""

import math
import struct
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metatx.errors import decoding, short
from metatx.registry import unknown
from metatx.serving.limits import RefusedError

__all__ = ["BYTES", "DATATYPES", "Tensor", "packed", "tensor_of"]

BYTES = "BYTES"
DATATYPES = {  # NumPy's types, little-endian, by datatype; BF16 comes as bytes only
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
AXES = 16  # most axes of a tensor


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A named tensor.

    Attributes:
        name: Name.
        datatype: Datatype of the protocol.
        values: Array; of BYTES an array of ``bytes``.
        parameters: Further facts, such as the labels of its columns.
    """

    name: str
    datatype: str
    values: np.ndarray
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """Name, datatype and shape, as the protocol writes them."""
        about = {"name": self.name, "datatype": self.datatype, "shape": list(self.values.shape)}
        return about | ({"parameters": dict(self.parameters)} if self.parameters else {})

    def as_json(self) -> dict[str, Any]:
        """Tensor with its values in JSON; NaN becomes null."""
        values = self.values.ravel()
        data = [each.decode() for each in values] if self.datatype == BYTES else values
        return {**self.described(), "data": data}

    def as_binary(self) -> tuple[dict[str, Any], bytes]:
        """Tensor without its values, which follow as bytes."""
        content = packed(self.values.ravel().tolist()) if self.datatype == BYTES else self.values.tobytes()
        about = self.described()
        return {**about, "parameters": {**self.parameters, "binary_data_size": len(content)}}, content


def packed(items: Sequence[bytes]) -> bytes:
    """Bytes of a BYTES tensor: each item behind its length, 4 bytes, little-endian."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def tensor_of(content: Any, rest: memoryview) -> tuple[Tensor, memoryview]:
    """Read a tensor of a request.

    Args:
        content: Tensor as JSON, or its description where the values are bytes.
        rest: Bytes behind the JSON that no tensor before has taken.

    Returns:
        The tensor, and the bytes that it leaves.

    Raises:
        RefusedError: 400 if the tensor has another form.
    """
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise RefusedError(400, f"A tensor is {short(content)}; expected an object with name, datatype, shape, data.")
    name = content["name"][:100]
    datatype = content.get("datatype")
    if datatype not in (*DATATYPES, "BF16", BYTES):
        found = datatype[:40] if isinstance(datatype, str) else short(datatype)
        raise RefusedError(400, f"Tensor {name}: {unknown('datatype', found, [*DATATYPES, 'BF16', BYTES])}")
    shape = content.get("shape")
    axes: list[Any] = shape if isinstance(shape, list) else [None]
    if len(axes) > AXES or any(type(size) is not int or not 0 <= size < 1 << 40 for size in axes):
        raise RefusedError(400, f"Tensor {name}: shape is {short(shape)}; expected at most {AXES} whole numbers.")
    parameters = content.get("parameters", {})
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        values = _from_json(content, name, datatype, parameters)
    else:
        if type(size) is not int or not 0 <= size <= len(rest) or "data" in content:
            raise RefusedError(400, f"Tensor {name}: {short(size)} bytes of values; {len(rest):,} follow the JSON.")
        values = _from_bytes(rest[:size], name, datatype)
        rest = rest[size:]
    count = math.prod(axes)
    if count != len(values):
        raise RefusedError(400, f"Tensor {name}: {len(values):,} values; its shape {short(shape)} has {count:,}.")
    return Tensor(name=name, datatype=datatype, values=values.reshape(axes)), rest


def _from_json(content: Mapping[str, Any], name: str, datatype: str, parameters: Any) -> np.ndarray:
    """Values (N,) of a list, which may be nested. Raises RefusedError (400)."""
    data = content.get("data")
    if not isinstance(data, list):
        raise RefusedError(400, f"Tensor {name}: data is {short(data)}; expected a list, or bytes behind the JSON.")
    if datatype == BYTES:
        return _texts(data, name, isinstance(parameters, dict) and parameters.get("content_type") == "base64")
    if datatype in ("FP16", "BF16"):
        raise RefusedError(400, f"Tensor {name}: {datatype} comes as bytes only; send FP32.")
    try:
        numbers = np.asarray(data)
        if numbers.dtype.kind == "O" and datatype.startswith("FP"):
            numbers = np.asarray(data, dtype=np.float64)  # null is NaN
    except (ValueError, TypeError, OverflowError, RecursionError):
        numbers = np.asarray("")
    kinds = {"B": "b", "U": "iu", "I": "iu", "F": "iuf"}[datatype[0]]
    if numbers.size and numbers.dtype.kind not in kinds:
        raise RefusedError(400, f"Tensor {name}: data is {short(data)}; expected values of {datatype}, in lists.")
    cast = numbers.astype(DATATYPES[datatype])
    if kinds == "iu" and not np.array_equal(cast, numbers):
        raise RefusedError(400, f"Tensor {name}: a value is out of the range of {datatype}.")
    return cast.ravel()


def _texts(data: list[Any], name: str, encoded: bool) -> np.ndarray:
    """Items (N,) of a list of strings, which may be nested; in base64 if they are ``encoded``."""
    flat: list[Any] = data
    while flat and isinstance(flat[0], list):
        flat = [item for part in flat for item in (part if isinstance(part, list) else [part])]
    items = np.empty(len(flat), dtype=object)
    for at, item in enumerate(flat):
        if not isinstance(item, str):
            raise RefusedError(400, f"Tensor {name}: item {at} is {short(item)}; expected a string.")
        try:
            with decoding(f"Tensor {name}: item {at} is no base64"):
                items[at] = b64decode(item, validate=True) if encoded else item.encode()
        except ValueError as error:
            raise RefusedError(400, str(error)) from error
    return items


def _from_bytes(content: memoryview, name: str, datatype: str) -> np.ndarray:
    """Values (N,) of bytes. Raises RefusedError (400)."""
    if datatype == BYTES:
        items: list[bytes] = []
        at = 0
        while at < len(content):
            end = at + 4 + int.from_bytes(content[at : at + 4], "little")
            if at + 4 > len(content) or end > len(content):
                raise RefusedError(400, f"Tensor {name}: item {len(items)} is cut off.")
            items.append(bytes(content[at + 4 : end]))
            at = end
        values = np.empty(len(items), dtype=object)
        values[:] = items
        return values
    kind = np.dtype(DATATYPES.get(datatype, "<u2"))
    if len(content) % kind.itemsize:
        raise RefusedError(400, f"Tensor {name}: {len(content):,} bytes are no whole number of {datatype} values.")
    values = np.frombuffer(content, kind)
    if datatype == "BF16":  # the upper half of an FP32
        values = (values.astype("<u4") << 16).view("<f4")
    return values
