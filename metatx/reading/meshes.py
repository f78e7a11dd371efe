"""Meshes: vertices, triangles and points on their surface; OFF files."""

import re
from array import array
from pathlib import Path

import numpy as np

from metatx.errors import SampleError
from metatx.reading.bounds import check_bound
from metatx.reading.number_text import PIECE, add_numbers, as_numbers, batches

__all__ = ["Mesh", "check_counts", "parted", "read_off", "sample_surface", "triangulated"]

Mesh = tuple[np.ndarray, np.ndarray, tuple[str, ...]]  # vertices (V, C), triangles (T, 3), names of the columns
AT_ONCE = 1 << 16  # triangles whose area is computed at once
OFF = re.compile(r"(ST)?(C)?(N)?OFF(\S*)$")


def sample_surface(vertices: np.ndarray, triangles: np.ndarray, count: int) -> np.ndarray:
    """Draw points on a surface, uniformly by area, with a fixed seed; further columns are interpolated.

    Args:
        vertices: Vertices (V, C), x, y and z first.
        triangles: Numbers of vertices (T, 3), counted from 0.
        count: Points to draw.

    Returns:
        Points (count, C); the vertices if the surface has no area.

    Raises:
        SampleError: If a triangle names a vertex that does not exist.
    """
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise SampleError(f"a face names vertex {triangles.max()}; there are {len(vertices)}, counted from 0")
    areas = np.empty(len(triangles))
    for at in range(0, len(triangles), AT_ONCE):
        corners = vertices[triangles[at : at + AT_ONCE], :3]  # (T, 3, 3)
        first, second = (corners[:, i] - corners[:, 0] for i in (1, 2))
        areas[at : at + AT_ONCE] = np.linalg.norm(np.cross(first, second), axis=1)
    if not areas.sum() > 0:
        return vertices
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(triangles), count, p=areas / areas.sum())
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, (1 - u, 1 - v), (u, v))  # fold the other half of the parallelogram back
    points: np.ndarray = np.einsum("kc,kcd->kd", np.stack([1 - u - v, u, v], axis=1), vertices[triangles[chosen]])
    return points


def check_counts(vertices: float, faces: float) -> None:
    """Refuse numbers of vertices and faces in a header that are beyond the bounds. Raises SampleError."""
    if not all(count >= 0 and count % 1 == 0 for count in (vertices, faces)):
        raise SampleError("no numbers of vertices and faces in the header")
    check_bound("points", vertices, "it")
    check_bound("faces", faces, "it")


def parted(values: np.ndarray, faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Split a flat list of polygons, each its number of corners followed by the corners.

    Args:
        values: All numbers (N,).
        faces: Number of polygons, F.

    Returns:
        Number of corners of each polygon (F,), and the corners of all, concatenated.

    Raises:
        SampleError: If the list ends early, or holds something else than whole numbers.
    """
    if (values % 1 != 0).any():  # true for NaN too
        raise SampleError("its faces name vertices by numbers that are not whole")
    if len(values) == 4 * faces and (values[::4] == 3).all():
        return np.full(faces, 3), values.reshape(-1, 4)[:, 1:].ravel()
    starts = np.empty(faces, dtype=np.int64)
    at = 0
    for face in range(faces):
        size = values[at] if at < len(values) else 0
        if size < 1 or at + 1 + size > len(values):
            raise SampleError(f"truncated: {face} of {faces} faces")
        starts[face] = at
        at += 1 + int(size)
    return values[starts].astype(np.int64), np.delete(values[:at], starts)


def triangulated(counts: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Cut polygons into triangles (T, 3), each polygon as a fan around its first corner.

    Args:
        counts: Number of corners of each polygon (F,); fewer than three give no triangle.
        corners: Corners of all polygons, concatenated.

    Raises:
        SampleError: If there are more corners than the bounds allow.
    """
    check_bound("corners", len(corners), "it")
    check_bound("polygon", counts.max(initial=0), "it")
    if len(counts) and (counts == 3).all():
        return corners.reshape(-1, 3).astype(np.int64)
    fans = np.maximum(counts.astype(np.int64) - 2, 0)
    first = np.repeat(np.cumsum(counts, dtype=np.int64) - counts, fans)
    step = np.arange(fans.sum()) - np.repeat(np.cumsum(fans) - fans, fans)
    triangles = np.empty((len(first), 3), dtype=np.int64)
    for column, place in enumerate((first, first + step + 1, first + step + 2)):
        triangles[:, column] = corners[place]
    return triangles


def read_off(path: Path) -> Mesh:
    """Read an OFF file, with normals (NOFF) or colours (COFF); the counts may be in its first line, as in ModelNet40.

    Raises:
        SampleError: If the file is no OFF file, or damaged.
    """
    sizes = array("q")  # how many numbers each line holds
    numbers = array("d")
    head = None
    for lines in batches(path, "utf-8"):
        if "#" in "".join(lines):
            lines = [line.partition("#")[0] for line in lines]
        if head is None:
            lines = [line.lstrip() for line in lines if line.strip()]
            head, lines[:1] = _off_head(lines[0]) if lines else (None, [])
        if max(map(len, lines), default=0) <= PIECE:
            sizes.extend(filter(None, map(len, map(str.split, lines))))
            add_numbers(numbers, " ".join(lines))
        else:
            sizes.extend(filter(None, (add_numbers(numbers, line) for line in lines)))
    if head is None or len(numbers) < 2:
        raise SampleError("no numbers of vertices and faces in the header")
    check_counts(*numbers[:2])
    return _off_mesh(np.array(sizes), as_numbers(numbers), head)


def _off_head(line: str) -> tuple[re.Match[str], list[str]]:
    """Match the first word of an OFF file; return the match and the rest of the line."""
    word = line[:100].split()[0]
    head = OFF.match(word)
    if not head:
        begin = "".join(line[:40].split())[:20]
        raise SampleError(f"it begins with {begin!r}; expected OFF, or COFF, NOFF, STOFF of three dimensions")
    return head, [line[len(word) - len(head[4]) :]]


def _off_mesh(sizes: np.ndarray, numbers: np.ndarray, head: re.Match[str]) -> Mesh:
    """Mesh of all numbers of an OFF file, and how many each of its lines holds (``sizes``)."""
    count, faces = map(int, numbers[:2])
    body = numbers[3:]
    widths = set(sizes[1 : count + 1].tolist()) if len(sizes) > count and sizes[0] == 3 else set()
    # If each vertex has its own line, the line shows how many numbers a vertex has; else it has three.
    width = max(widths) if len(widths) == 1 and min(widths) > 3 else 3
    check_bound("columns", width, "it")
    if len(body) < width * count:
        raise SampleError(f"truncated: {len(body) // width} of {count} vertices")
    corners = body[width * count :]
    if faces and len(sizes) > faces and len(corners) != 4 * faces:
        # If each face has its own line, a colour may follow its corners.
        lines = sizes[-faces:]
        first = np.cumsum(lines) - lines
        words = numbers[len(numbers) - lines.sum() :]
        needed = np.where(words[first] >= 0, 1 + words[first], lines)
        place = np.arange(len(words)) - np.repeat(first, lines)
        corners = words[place < np.repeat(needed, lines)]
    names = _off_columns(width, *head.groups()[:3])
    return body[: width * count].reshape(-1, width), triangulated(*parted(corners, faces)), names


def _off_columns(width: int, texture: str | None, colour: str | None, normal: str | None) -> tuple[str, ...]:
    """Names of a vertex's numbers, in OFF's order: place, normal, colour, place in the texture."""
    names = ["x", "y", "z", *(("nx", "ny", "nz") if normal else ())]
    colours = width - len(names) - (2 if texture else 0)
    if colour or not (normal or texture):
        names += ("red", "green", "blue", "alpha")[:colours]
    names += ("s", "t") if texture else ()
    if width != len(names):
        raise SampleError(f"its vertices have {width} numbers each; expected {', '.join(names)}")
    return tuple(names)
