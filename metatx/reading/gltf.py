"""Triangles and points of glTF files, text or binary; the other files that they name are never opened."""

import base64
import binascii
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from metatx.errors import SampleError, decoding
from metatx.reading.bounds import check_bound
from metatx.reading.meshes import Mesh, check_counts

__all__ = ["read_gltf"]

NUMBERS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC3": 3}
# Modes of a primitive: points, and three orders of triangles; the other modes draw lines.
POINTS = 0
LIST = 4
STRIP = 5
FAN = 6


def read_gltf(path: Path) -> Mesh:
    """Read the triangles and points of all meshes, concatenated; the positions of nodes are ignored.

    Raises:
        SampleError: If the file is no glTF file, damaged, beyond the bounds of a mesh, or its values lie in another
            file.
    """
    content = path.read_bytes()
    with decoding(f"damaged, or no {path.suffix[1:]} file"):
        tree, rest = _chunks(content) if content.startswith(b"glTF") else (json.loads(content), None)
        parts = list(_parts(tree, rest))
    if not parts:
        raise SampleError("it holds no triangles and no points")
    check_counts(sum(len(points) for points, _ in parts), sum(len(corners) for _, corners in parts))
    starts = np.cumsum([0, *(len(points) for points, _ in parts)])
    triangles = [corners + start for (_, corners), start in zip(parts, starts[:-1], strict=True)]
    return np.concatenate([points for points, _ in parts]), np.concatenate(triangles), ("x", "y", "z")


def _chunks(content: bytes) -> tuple[Any, bytes | None]:
    """JSON tree and values of a binary file."""
    chunks: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(content) and len(chunks) < 2:
        size, kind = struct.unpack_from("<I4s", content, at)
        if at + 8 + size > len(content):
            raise SampleError("truncated: it ends within a chunk")
        chunks.setdefault(kind, content[at + 8 : at + 8 + size])
        at += 8 + size
    return json.loads(chunks[b"JSON"]), chunks.get(b"BIN\0")


def _parts(tree: Any, rest: bytes | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points (P, 3), float64, and triangles (T, 3), int64, of each primitive of each mesh."""
    buffers: dict[int, bytes] = {}
    points = faces = 0
    for mesh in tree.get("meshes", []):
        for primitive in mesh["primitives"]:
            mode = primitive.get("mode", LIST)
            if mode not in (POINTS, LIST, STRIP, FAN):
                continue
            places = _values(tree, primitive["attributes"]["POSITION"], buffers, rest)
            if places.shape[1] != 3:
                raise SampleError(f"its points have {places.shape[1]} numbers each; expected 3")
            points += len(places)
            check_bound("points", points, "it")
            corners = np.arange(len(places))
            if "indices" in primitive:
                corners = _values(tree, primitive["indices"], buffers, rest).ravel().astype(np.int64)
            faces += {POINTS: 0, LIST: len(corners) // 3}.get(mode, max(0, len(corners) - 2))
            check_bound("faces", faces, "it")
            if len(corners) and not 0 <= corners.min() <= corners.max() < len(places):
                raise SampleError(f"a face names vertex {corners.max()}; there are {len(places)}, counted from 0")
            if mode == POINTS:
                check_bound("points", points - len(places) + len(corners), "it")
                yield places[corners].astype(np.float64), np.empty((0, 3), np.int64)
            else:
                yield places.astype(np.float64), _triangles(corners, mode)


def _triangles(corners: np.ndarray, mode: int) -> np.ndarray:
    """Triangles (T, 3) of corners (N,) in the order of a mode."""
    if mode == LIST:
        return corners[: len(corners) // 3 * 3].reshape(-1, 3)
    if mode == FAN:
        return np.stack([np.full(max(0, len(corners) - 2), corners[:1].sum()), corners[1:-1], corners[2:]], axis=1)
    strip = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
    strip[1::2] = strip[1::2, [1, 0, 2]]  # every second triangle of a strip has the opposite orientation
    return strip


def _values(tree: Any, number: int, buffers: dict[int, bytes], rest: bytes | None) -> np.ndarray:
    """Values (N, width) of an accessor."""
    accessor = tree["accessors"][number]
    if "bufferView" not in accessor or "sparse" in accessor:
        raise SampleError("its values are packed by an extension, or missing; save it without compression")
    view = tree["bufferViews"][accessor["bufferView"]]
    which = view["buffer"]
    if which not in buffers:
        buffers[which] = _buffer(tree["buffers"][which], rest)
    kind = np.dtype(NUMBERS[accessor["componentType"]])
    width = WIDTHS[accessor["type"]]
    count = accessor["count"]
    step = view.get("byteStride") or kind.itemsize * width
    begin = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    if min(count, begin, step - kind.itemsize * width) < 0:
        raise SampleError(f"damaged: an array of {count} x {width} at {begin}")
    if begin + (count - 1) * step + kind.itemsize * width > len(buffers[which]):
        raise SampleError(f"truncated: an array of {count:,} x {width} does not fit its {len(buffers[which]):,} bytes")
    values = np.ndarray((count, width), kind, buffers[which], begin, (step, kind.itemsize))
    if accessor.get("normalized"):
        return np.maximum(values.astype(np.float32) / np.iinfo(kind).max, -1)
    return values


def _buffer(buffer: dict[str, Any], rest: bytes | None) -> bytes:
    """Bytes of a buffer: written in the JSON as base64, or ``rest``, the values of a binary file."""
    uri = buffer.get("uri")
    if uri is None:
        if rest is None:
            raise SampleError("its values are missing")
        return rest
    begin, comma, packed = uri.partition(",")
    if not begin.startswith("data:") or not begin.endswith(";base64") or not comma:
        raise SampleError(f"its values lie in another file, {uri!r:.60}; save it as one file, .glb")
    try:
        return base64.b64decode(packed, validate=True)
    except binascii.Error as error:
        raise SampleError(f"damaged: {error}") from None
