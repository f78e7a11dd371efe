"""Files that open3d reads (PCD, OBJ, STL), checked first, then copied alone into a folder for it to read."""

import math
import re
import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from metatx.errors import SampleError, decoding
from metatx.reading.bounds import check_bound
from metatx.reading.meshes import Mesh, check_counts

__all__ = ["read_with_open3d"]

MISSING = "Reading {} files needs open3d: pip install 'metatx[pointcloud]'"
LIBRARIES = "open3d cannot load a system library ({}): apt-get install libusb-1.0-0 libgl1 libegl1 libgomp1"
HEADER = 1 << 16  # most bytes of a header
PCD_LINES = ("FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "POINTS", "DATA")
PCD_TYPES = {"I1", "I2", "I4", "I8", "U1", "U2", "U4", "U8", "F4", "F8"}
DENSEST = 300  # most bytes that LZF unpacks from one byte
OBJ_LINE = re.compile(rb"[^\r\n\f\0\v]+")
OBJ_WORDS = {b"v", b"vn", b"vt", b"f", b"o", b"g", b"s", b"usemtl"}


def read_with_open3d(path: Path) -> Mesh:
    """Read a mesh, or a cloud with its normals and colours, with open3d.

    Raises:
        SampleError: If the file is damaged, beyond the bounds, or open3d reads nothing from it.
        ImportError: If open3d, or a system library that it needs, is missing.
    """
    try:
        import open3d
    except ModuleNotFoundError as error:
        raise ImportError(MISSING.format(path.suffix)) from error
    except (ImportError, OSError) as error:
        raise ImportError(LIBRARIES.format(error)) from error
    suffix = path.suffix.lower()
    damaged = f"damaged, or no {suffix[1:]} file"
    content = CHECKS[suffix](path.read_bytes(), damaged)
    if suffix == ".obj" and not content.startswith(b"f ") and b"\nf " not in content:
        return _vertices(content, damaged)
    quiet = open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error)
    with TemporaryDirectory(prefix="metatx-") as folder, quiet:
        alone = Path(folder, f"a{suffix}")
        alone.write_bytes(content)
        with decoding(damaged):
            return _cloud(open3d, alone, damaged) if suffix == ".pcd" else _mesh(open3d, alone, damaged)


def _mesh(open3d: Any, path: Path, damaged: str) -> Mesh:
    mesh = open3d.io.read_triangle_mesh(str(path))
    vertices = np.asarray(mesh.vertices)
    triangles = np.asarray(mesh.triangles, dtype=np.int64)
    if not len(vertices):
        raise SampleError(damaged)
    return vertices, triangles, ("x", "y", "z")


def _vertices(content: bytes, damaged: str) -> Mesh:
    """Read the points of an OBJ file without faces, which open3d does not read."""
    rows = [line.split()[1:4] for line in content.split(b"\n") if line.startswith(b"v ")]
    with decoding(damaged):
        points = np.array(rows).astype(np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise SampleError(damaged)
    return points, np.empty((0, 3), dtype=np.int64), ("x", "y", "z")


def _cloud(open3d: Any, path: Path, damaged: str) -> Mesh:
    """Points of a PCD file with its further columns, and no triangles."""
    columns = open3d.t.io.read_point_cloud(str(path)).point
    parts = {}
    if "positions" in columns:
        parts = {name: columns[name].numpy().astype(np.float64) for name in sorted(columns)}
    if not parts or not len(parts["positions"]):
        raise SampleError(damaged)
    values = [parts.pop("positions")]
    names = ["x", "y", "z"]
    usual = {"normals": ("nx", "ny", "nz"), "colors": ("red", "green", "blue")}
    for name, part in parts.items():
        values.append(part)
        names += usual.get(name) or [name] if part.shape[1] in (1, 3) else [f"{name}{i}" for i in range(part.shape[1])]
    return np.concatenate(values, axis=1), np.empty((0, 3), dtype=np.int64), tuple(names)


# Checks of each format. Each writes a file anew without what could lead elsewhere, and raises SampleError for a file
# that declares more than it holds.


def _pcd(content: bytes, damaged: str) -> bytes:
    """Check a PCD file; return its header written anew, and its values."""
    header: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in header:
        end = content.find(b"\n", at, HEADER)
        if end < 0:
            raise SampleError(f"{damaged} (its header does not end)")
        word, *rest = content[at:end].decode("ascii", "replace").split() or ["#"]
        word = "FIELDS" if word == "COLUMNS" else word
        if word in PCD_LINES and header.setdefault(word, rest) is not rest:
            raise SampleError(f"{damaged} (its header says {word} twice)")
        at = end + 1
    fields = header.get("FIELDS", [])
    header.setdefault("COUNT", ["1"] * len(fields))
    sizes, counts, width = (_whole(header.get(word, []), word, damaged) for word in ("SIZE", "COUNT", "WIDTH"))
    height = _whole(header.get("HEIGHT", ["1"]), "HEIGHT", damaged)
    points = _whole(header.get("POINTS", [str(math.prod([*width, *height]))]), "POINTS", damaged)
    types = [f"{kind}{size}" for kind, size in zip(header.get("TYPE", []), sizes, strict=False)]
    lacking = [word for word in PCD_LINES if word not in header and word not in ("HEIGHT", "POINTS")]
    if lacking:
        raise SampleError(f"{damaged} (its header has no {', '.join(lacking)})")
    if not len(fields) == len(sizes) == len(counts) == len(types) or not {*types} <= PCD_TYPES or 0 in counts:
        raise SampleError(f"{damaged} (its header says {' '.join(types)[:60]} of {' '.join(fields)[:60]})")
    single = len(width) == len(height) == len(points) == 1
    if not single or points[0] != width[0] * height[0] or not points[0]:
        raise SampleError(f"{damaged} (its header says {points} points, {width} wide and {height} high)")
    check_bound("points", points[0], "it")
    check_bound("columns", sum(counts), "it")
    row = sum(size * count for size, count in zip(sizes, counts, strict=True))
    _check_pcd_values(content, at, header["DATA"], points[0], row, 2 * sum(counts), damaged)
    header |= {"HEIGHT": [str(height[0])], "POINTS": [str(points[0])]}
    lines = ["VERSION .7", *(f"{word} {' '.join(header[word])}" for word in PCD_LINES), ""]
    return "\n".join(lines).encode("ascii", "replace") + content[at:]


def _check_pcd_values(content: bytes, at: int, how: list[str], points: int, row: int, least: int, damaged: str) -> None:
    """Refuse a file with fewer values than announced.

    Args:
        content: Bytes of the file.
        at: Place of the values.
        how: Words of the line DATA.
        points: Number of points announced.
        row: Bytes of a point, if binary.
        least: Fewest characters of a point, if ascii.
        damaged: Beginning of the message.

    Raises:
        SampleError: If values are missing, or the format of DATA is unknown.
    """
    there = len(content) - at
    needed = points * row
    if how == ["ascii"]:
        needed = points * least - 1
    elif how == ["binary_compressed"]:
        packed, unpacked = struct.unpack_from("<II", content, at) if there >= 8 else (0, 0)
        if unpacked != needed or needed > DENSEST * packed:
            raise SampleError(f"{damaged} ({packed:,} bytes that hold {unpacked:,}; expected {needed:,})")
        needed = 8 + packed
    elif how != ["binary"]:
        raise SampleError(f"{damaged} (its header says DATA {' '.join(how)[:40]})")
    if there < needed:
        raise SampleError(f"truncated: {there:,} bytes of values, expected {needed:,} for {points:,} points")


def _whole(words: list[str], name: str, damaged: str) -> list[int]:
    """Convert words of a header's line to whole numbers. Raises SampleError."""
    if not all(re.fullmatch("[0-9]{1,18}", word) for word in words):
        raise SampleError(f"{damaged} (its header says {name} {' '.join(words)[:60]})")
    return list(map(int, words))


def _obj(content: bytes, damaged: str) -> bytes:
    """Check an OBJ file; return its vertices and faces, cut into triangles, without lines that name other files."""
    if b"\\" in content:  # a line that continues in the next; a word could hide there
        content = re.sub(rb"\\[ \t]*\r?\n", b" ", content).replace(b"\\", b" ")
    lines = []
    vertices = 0
    faces = 0
    corners = 0
    for line in OBJ_LINE.finditer(content):
        words = line[0].split(None, 1)
        if len(words) < 2 or words[0] not in OBJ_WORDS or b"mtllib" in line[0]:
            continue
        vertices += words[0] == b"v"
        if words[0] == b"f":
            polygon = words[1].split()
            check_bound("polygon", len(polygon), "it")
            faces += 1
            corners += len(polygon)
            # Cut into triangles, for open3d silently drops other polygons.
            lines += [b"f " + b" ".join((polygon[0], *polygon[at : at + 2])) for at in range(1, len(polygon) - 1)]
        else:
            lines.append(b" ".join(words))
        if len(lines) % 100_000 == 0:
            check_counts(vertices, faces)
    check_counts(vertices, faces)
    check_bound("corners", corners, "it")
    return b"\n".join([*lines, b""])


def _stl(content: bytes, damaged: str) -> bytes:
    """Check that a file is an STL file, text or binary, and return it; open3d would read other formats as well."""
    faces = struct.unpack_from("<I", content, 80)[0] if len(content) >= 84 else 0
    if len(content) == 84 + 50 * faces:
        check_counts(3 * faces, faces)
        return content
    if not content[:HEADER].lstrip().lower().startswith(b"solid") or b"facet" not in content or b"\0" in content:
        raise SampleError(f"{damaged} ({len(content):,} bytes that announce {faces:,} triangles)")
    check_counts(content.count(b"vertex"), content.count(b"endfacet"))
    return content


CHECKS = {".pcd": _pcd, ".obj": _obj, ".stl": _stl}
