"""Vertices and triangles of mesh files, and points on their surface."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from metatx.errors import SampleError, decoding

__all__ = ["read_off", "read_ply", "read_with_open3d", "sample_surface"]

Mesh = tuple[np.ndarray, np.ndarray, tuple[str, ...]]  # vertices (V, C), triangles (T, 3), names of the columns
MAX_ELEMENTS = 20_000_000  # vertices or faces that a header may announce
MISSING = "Reading {} files needs open3d: pip install 'metatx[pointcloud]'"
LIBRARIES = "open3d cannot load a system library ({}): apt-get install libusb-1.0-0 libgl1 libegl1 libgomp1"
OFF = re.compile(r"(ST)?(C)?(N)?OFF(\S*)$")
PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
PLY_FORMATS = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}


def sample_surface(vertices: np.ndarray, triangles: np.ndarray, count: int) -> np.ndarray:
    """Points (count, C) on a surface, evenly by area, always the same; further columns are interpolated.

    A surface without area gives its vertices.

    Raises:
        SampleError: If a triangle names a vertex that is not there.
    """
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise SampleError(f"a face names vertex {triangles.max()}; there are {len(vertices)}, counted from 0")
    corners = vertices[triangles]  # (T, 3, C)
    first, second = (corners[:, i, :3] - corners[:, 0, :3] for i in (1, 2))
    areas = np.linalg.norm(np.cross(first, second), axis=1)
    if not areas.sum() > 0:
        return vertices
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(triangles), count, p=areas / areas.sum())
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, (1 - u, 1 - v), (u, v))  # the other half of the parallelogram, folded back
    points: np.ndarray = np.einsum("kc,kcd->kd", np.stack([1 - u - v, u, v], axis=1), corners[chosen])
    return points


def read_off(path: Path) -> Mesh:
    """An OFF file, also with the counts in the first line, as ModelNet40 has them; with normals (NOFF), colours (COFF).

    Raises:
        SampleError: If it is none, or damaged.
    """
    try:
        rows = [line.partition("#")[0].split() for line in path.read_text().splitlines()]
    except UnicodeDecodeError:
        raise SampleError("it is no text, as OFF files are") from None
    rows = [row for row in rows if row]
    head = OFF.match(rows[0][0]) if rows else None
    if not head:
        begin = " ".join(word for row in rows[:1] for word in row)[:20]
        raise SampleError(f"it begins with {begin!r}; expected OFF, or COFF, NOFF, STOFF of three dimensions")
    rows[0][:1] = [head[4]] if head[4] else []
    rows = rows if rows[0] else rows[1:]
    try:
        numbers = np.array([word for row in rows for word in row], dtype=np.float64)
    except ValueError as error:
        raise SampleError(f"it holds words: {error}") from None
    count, faces = _announced(numbers[:2])
    body = numbers[3:]
    widths = {len(row) for row in rows[1 : count + 1]} if len(rows) > count and len(rows[0]) == 3 else set()
    # One vertex a line says how many numbers each has; else it has its three.
    width = max(widths) if len(widths) == 1 and min(widths) > 3 else 3
    if len(body) < width * count:
        raise SampleError(f"truncated: {len(body) // width} of {count} vertices")
    corners = body[width * count :]
    if faces and len(rows) > faces and len(corners) != 4 * faces:
        # Colours may stand behind the corners of a face, one face a line.
        kept = [row[: 1 + int(row[0])] if row[0].isdigit() else row for row in rows[-faces:]]
        corners = np.array([word for row in kept for word in row], dtype=np.float64)
    names = _off_columns(width, *head.groups()[:3])
    return body[: width * count].reshape(-1, width), _fans(corners, faces), names


def _off_columns(width: int, texture: str | None, colour: str | None, normal: str | None) -> tuple[str, ...]:
    """Names of a vertex's numbers: normals, colours and places in the texture stand in this order."""
    names = ["x", "y", "z", *(("nx", "ny", "nz") if normal else ())]
    colours = width - len(names) - (2 if texture else 0)
    if colour or not (normal or texture):
        names += ("red", "green", "blue", "alpha")[:colours]
    names += ("s", "t") if texture else ()
    if width != len(names):
        raise SampleError(f"its vertices have {width} numbers each; expected {', '.join(names)}")
    return tuple(names)


def _announced(numbers: np.ndarray) -> tuple[int, int]:
    if len(numbers) < 2 or (numbers < 0).any() or (numbers % 1 != 0).any():
        raise SampleError("no numbers of vertices and faces in the header")
    if numbers.max() > MAX_ELEMENTS:
        raise SampleError(f"the header announces {numbers.max():,.0f} elements; expected at most {MAX_ELEMENTS:,}")
    return int(numbers[0]), int(numbers[1])


def _fans(values: np.ndarray, faces: int) -> np.ndarray:
    """Polygons, each its number of corners and then these, cut into triangles (T, 3)."""
    if (values % 1 != 0).any():  # which NaN is not either
        raise SampleError("its faces name vertices by something else than whole numbers")
    if len(values) == 4 * faces and (values[::4] == 3).all():
        return values.reshape(-1, 4)[:, 1:].astype(np.int64)
    triangles, at = [], 0
    for face in range(faces):
        corners = int(values[at]) if at < len(values) else 0
        if corners < 1 or at + 1 + corners > len(values):
            raise SampleError(f"truncated: {face} of {faces} faces")
        triangles += [(values[at + 1], *values[at + i : at + i + 2]) for i in range(2, corners)]
        at += 1 + corners
    return np.array(triangles, dtype=np.int64).reshape(-1, 3)


def read_ply(path: Path) -> Mesh:
    """A PLY file, ascii or binary: scalar properties of its vertices, x, y and z first, and its faces if there are.

    Raises:
        SampleError: If it is none, or damaged.
    """
    content = path.read_bytes()
    head, found, body = content.partition(b"end_header")
    if not content.startswith(b"ply") or not found:
        raise SampleError("it has no ply header")
    order, elements = _ply_header(head.decode("ascii", "replace"))
    body = body[body.find(b"\n") + 1 :]
    try:
        read = _ply_words(body, elements) if order is None else _ply_bytes(body, elements, order)
    except (ValueError, IndexError) as error:
        raise SampleError(f"damaged or truncated: {error}") from None
    names, table, faces = read
    if not {"x", "y", "z"} <= set(names):
        raise SampleError(f"its vertices have {', '.join(names) or 'nothing'}; expected x, y, z")
    columns = ("x", "y", "z", *(name for name in names if name not in ("x", "y", "z")))
    return table[:, [names.index(name) for name in columns]], faces, columns


Elements = list[tuple[str, int, list[tuple[str, ...]]]]  # name, how many, properties as the header has them
Parts = tuple[list[str], np.ndarray, np.ndarray]  # names and values of the vertices' properties, triangles


def _ply_header(head: str) -> tuple[str | None, Elements]:
    order: str | None = "missing"
    elements: Elements = []
    for line in head.splitlines():
        match line.split():
            case ["format", kind, *_] if kind in PLY_FORMATS:
                order = PLY_FORMATS[kind]
            case ["element", name, count] if count.isdigit():
                elements.append((name, _announced(np.array([count, 0], dtype=np.float64))[0], []))
            case ["property", "list", *rest] if elements and len(rest) == 3 and set(rest[:2]) <= PLY_TYPES.keys():
                elements[-1][2].append(("list", *rest))
            case ["property", kind, name] if elements and kind in PLY_TYPES:
                elements[-1][2].append((kind, name))
            case ["ply"] | ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise SampleError(f"its header says {line.strip()[:60]!r}, which is not known")
    if order == "missing" or not any(name == "vertex" for name, _, _ in elements):
        raise SampleError("its header has no format or no element vertex")
    return order, elements


def _ply_words(body: bytes, elements: Elements) -> Parts:
    names: list[str] = []
    table, faces = np.empty((0, 0)), np.empty((0, 3), dtype=np.int64)
    values, at = np.array(body.split(), dtype=np.float64), 0
    for element, count, properties in elements:
        if all(len(each) == 2 for each in properties):
            size = count * len(properties)
            if at + size > len(values):
                raise SampleError(f"truncated: it ends within {count} x {element}")
            if element == "vertex":
                names = [name for _, name in properties]
                table = values[at : at + size].reshape(count, -1)
            at += size
        else:
            if element == "face" and len(properties) == 1:
                faces = _fans(values[at:], count)
            break  # what comes behind faces is no point
    return names, table, faces


def _ply_bytes(body: bytes, elements: Elements, order: str) -> Parts:
    names: list[str] = []
    table, faces, at = np.empty((0, 0)), np.empty((0, 3), dtype=np.int64), 0
    for element, count, properties in elements:
        if all(len(each) == 2 for each in properties):
            row = np.dtype([(name, order + PLY_TYPES[kind]) for kind, name in properties])
            if at + count * row.itemsize > len(body):
                raise SampleError(f"truncated: {(len(body) - at) // max(row.itemsize, 1)} of {count} x {element}")
            if element == "vertex":
                names = [name for _, name in properties]
                rows = np.frombuffer(body, row, count, at)
                table = np.stack([rows[name].astype(np.float64) for name in names], axis=1)
            at += count * row.itemsize
        else:
            if element == "face" and len(properties) == 1:
                kinds = [np.dtype(order + PLY_TYPES[kind]) for kind in properties[0][1:3]]
                faces = _fans(_ply_lists(body, at, count, *kinds), count)
            break
    return names, table, faces


def _ply_lists(body: bytes, at: int, count: int, length: Any, item: Any) -> np.ndarray:
    """Lists one behind the other, each its length and then its items, as numbers."""
    row = np.dtype([("n", length), ("items", item, 3)])
    if at + count * row.itemsize == len(body):
        rows = np.frombuffer(body, row, count, at)
        if (rows["n"] == 3).all():
            return np.concatenate([rows["n"][:, None], rows["items"]], axis=1, dtype=np.float64).ravel()
    parts = []
    for _ in range(count):
        size = np.frombuffer(body, length, 1, at)
        items = np.frombuffer(body, item, int(size[0]), at + length.itemsize)
        parts += [size.astype(np.float64), items.astype(np.float64)]
        at += length.itemsize + items.nbytes
    return np.concatenate(parts) if parts else np.empty(0)


def read_with_open3d(path: Path) -> Mesh:
    """What open3d reads: clouds with their normals and colours, meshes.

    Raises:
        SampleError: If it reads nothing.
        ImportError: If it, or a system library of its own, is missing.
    """
    try:
        import open3d
    except ModuleNotFoundError as error:
        raise ImportError(MISSING.format(path.suffix)) from error
    except (ImportError, OSError) as error:
        raise ImportError(LIBRARIES.format(error)) from error
    damaged = f"damaged, or no {path.suffix[1:]} file"
    quiet = open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error)
    if path.suffix.lower() != ".pcd":
        with decoding(damaged), quiet:
            mesh = open3d.io.read_triangle_mesh(path)
            vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles, dtype=np.int64)
        if not len(vertices):
            raise SampleError(damaged)
        return vertices, triangles, ("x", "y", "z")
    with decoding(damaged), quiet:
        held = open3d.t.io.read_point_cloud(path).point
        parts = {name: held[name].numpy().astype(np.float64) for name in sorted(held)} if "positions" in held else {}
    if not parts or not len(parts["positions"]):
        raise SampleError(damaged)
    values, names = [parts.pop("positions")], ["x", "y", "z"]
    known = {"normals": ("nx", "ny", "nz"), "colors": ("red", "green", "blue")}
    for name, part in parts.items():
        values.append(part)
        names += known.get(name) or [name] if part.shape[1] in (1, 3) else [f"{name}{i}" for i in range(part.shape[1])]
    return np.concatenate(values, axis=1), np.empty((0, 3), dtype=np.int64), tuple(names)
