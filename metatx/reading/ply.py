"""PLY files: point clouds and meshes, ascii or binary."""

import re
import struct
from array import array
from pathlib import Path

import numpy as np

from metatx.errors import SampleError
from metatx.reading.bounds import check_bound
from metatx.reading.meshes import Mesh, check_counts, parted, triangulated
from metatx.reading.number_text import numbers_in

__all__ = ["read_ply"]

HEADER = 1 << 18  # most bytes of a header
TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
FORMATS = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}
NO_FACES = np.empty((0, 3), dtype=np.int64)

Elements = list[tuple[str, int, list[tuple[str, ...]]]]  # name, number, and words of each property in the header
Parts = tuple[list[str], np.ndarray, np.ndarray]  # names and values of the vertices' properties, triangles


def read_ply(path: Path) -> Mesh:
    """Read the scalar properties of the vertices of a PLY file, x, y and z first, and its faces.

    Raises:
        SampleError: If the file is no PLY file, or damaged.
    """
    content = path.read_bytes()
    end = content.find(b"end_header", 0, HEADER)
    if not content.startswith(b"ply") or end < 0:
        raise SampleError("it has no ply header")
    order, elements = _header(content[:end].decode("ascii", "replace"))
    body = content.find(b"\n", end) + 1
    try:
        read = _words if order is None else _bytes
        names, table, faces = read(content, body, elements, order or "")
    except (ValueError, IndexError, struct.error, MemoryError) as error:
        raise SampleError(f"damaged or truncated: {error}") from None
    if not {"x", "y", "z"} <= set(names):
        raise SampleError(f"its vertices have {', '.join(names) or 'nothing'}; expected x, y, z")
    columns = ("x", "y", "z", *(name for name in names if name not in ("x", "y", "z")))
    if list(columns) != names:
        table = table[:, [names.index(name) for name in columns]]
    return table, faces, columns


def _header(head: str) -> tuple[str | None, Elements]:
    """Byte order, None for ascii, and the elements of a header. Raises SampleError."""
    order: str | None = "missing"
    elements: Elements = []
    for line in head.splitlines():
        match line.split():
            case ["format", kind, *_] if kind in FORMATS:
                order = FORMATS[kind]
            case ["element", name, count] if re.fullmatch("[0-9]{1,18}", count):
                check_counts(int(count) if name == "vertex" else 0, 0 if name == "vertex" else int(count))
                elements.append((name, int(count), []))
            case ["property", "list", *rest] if elements and len(rest) == 3 and set(rest[:2]) <= TYPES.keys():
                elements[-1][2].append(("list", *rest))
            case ["property", kind, name] if elements and kind in TYPES:
                elements[-1][2].append((kind, name))
            case ["ply"] | ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise SampleError(f"its header says {line.strip()[:60]!r}, which is not known")
    if order == "missing" or not any(name == "vertex" for name, _, _ in elements):
        raise SampleError("its header has no format or no element vertex")
    for element, number, properties in elements:
        check_bound("columns", len(properties), "it")
        if element == "vertex":
            check_bound("unpacked_mb", number * len(properties) * 8 / 1e6, "it")
    return order, elements


def _words(content: bytes, at: int, elements: Elements, order: str) -> Parts:
    """Read the elements of an ascii file."""
    names: list[str] = []
    table = np.empty((0, 0))
    faces = NO_FACES
    values = numbers_in(content, at)
    at = 0
    for element, count, properties in elements:
        if all(len(each) == 2 for each in properties):
            size = count * len(properties)
            if at + size > len(values):
                raise SampleError(f"truncated: it ends within {count} x {element}")
            if element == "vertex" and properties:
                names = [name for _, name in properties]
                table = values[at : at + size].reshape(count, -1)
            at += size
        else:
            if element == "face" and len(properties) == 1:
                faces = triangulated(*parted(values[at:], count))
            break  # elements behind the faces are not read
    return names, table, faces


def _bytes(content: bytes, at: int, elements: Elements, order: str) -> Parts:
    """Read the elements of a binary file in a byte order."""
    names: list[str] = []
    table = np.empty((0, 0))
    faces = NO_FACES
    for element, count, properties in elements:
        if all(len(each) == 2 for each in properties):
            row = np.dtype([(name, order + TYPES[kind]) for kind, name in properties])
            if at + count * row.itemsize > len(content):
                raise SampleError(f"truncated: {(len(content) - at) // max(row.itemsize, 1)} of {count} x {element}")
            if element == "vertex" and properties:
                names = [name for _, name in properties]
                rows = np.frombuffer(content, row, count, at)
                table = np.empty((count, len(names)))
                for column, name in enumerate(names):
                    table[:, column] = rows[name]
            at += count * row.itemsize
        else:
            if element == "face" and len(properties) == 1:
                kinds = [np.dtype(order + TYPES[kind]) for kind in properties[0][1:3]]
                faces = triangulated(*_lists(content, at, count, *kinds))
            break
    return names, table, faces


def _lists(content: bytes, at: int, count: int, length: np.dtype, item: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Read consecutive lists, each its length followed by its items; return the lengths (F,) and all items."""
    if length.kind == "f":
        raise SampleError("its faces have lengths that are no whole numbers")
    row = np.dtype([("n", length), ("items", item, 3)])
    if at + count * row.itemsize == len(content):
        rows = np.frombuffer(content, row, count, at)
        if (rows["n"] == 3).all():
            return np.full(count, 3), rows["items"].ravel()
    size_at = struct.Struct(length.byteorder.replace("|", "=") + length.char).unpack_from
    sizes = array("q")
    items = bytearray()
    for face in range(count):
        size = size_at(content, at)[0] if at + length.itemsize <= len(content) else 0
        end = at + length.itemsize + size * item.itemsize
        if size < 1 or end > len(content):
            raise SampleError(f"truncated: {face} of {count} faces")
        sizes.append(size)
        items += memoryview(content)[at + length.itemsize : end]
        at = end
    corners = np.frombuffer(items, item)
    if item.kind == "f" and (corners % 1 != 0).any():
        raise SampleError("its faces name vertices by numbers that are not whole")
    return np.array(sizes), corners
