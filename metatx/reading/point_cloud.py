"""Point clouds from files, arrays and meshes, with names of their columns where known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from metatx.errors import SampleError
from metatx.reading.arrays import as_array, npy_array, npz_arrays, shapes_of
from metatx.reading.bounds import check_bound
from metatx.reading.gltf import read_gltf
from metatx.reading.meshes import Mesh, read_off, sample_surface
from metatx.reading.number_text import read_columns
from metatx.reading.ply import read_ply
from metatx.reading.with_open3d import read_with_open3d

__all__ = ["SUFFIXES", "Cloud", "Clouds", "npz_cloud", "read_cloud"]

MAX_COLUMNS = 64  # most columns of a cloud with fewer points than columns; more are a transposed array
LARGEST = 1e11  # largest coordinate, in any unit: differences of larger ones lose their digits
ACCEPTED = "expected points (N, 3 or more columns), a path, or a dict with points"


@dataclass(frozen=True)
class Cloud:
    """Points and further values of each, such as normals or colours.

    Attributes:
        points: Array (N, C) in any unit; without names, the first three columns are x, y and z.
        columns: Names of the C columns, or none; with names, x, y and z may stand anywhere.
    """

    points: np.ndarray
    columns: tuple[str, ...] = ()


class Clouds(Sequence[Cloud]):
    """Clouds with equal numbers of points, stored as one array (B, N, C); each is made on access."""

    def __init__(self, points: np.ndarray, columns: tuple[str, ...] = ()) -> None:
        self.points = points
        self.columns = columns

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Clouds(self.points[at], self.columns)
        return Cloud(self.points[at], self.columns)


def read_cloud(sample: Any, surface: int = 1024, drop_invalid: bool = False) -> Cloud:
    """Read a cloud as float64 (N, C), N at least 1, C at least 3, all finite, x, y and z first.

    Args:
        sample: Array or tensor (N, C), a ``Cloud``, a dict ``{"points", "columns"}`` (the latter is optional), or
            the path of a file; the surface of a mesh is sampled uniformly, with a fixed seed.
        surface: Number of points sampled on a mesh.
        drop_invalid: True leaves out points that are NaN or infinite, which depth cameras give where they see nothing;
            False refuses such a cloud.

    Raises:
        SampleError: If the cloud cannot be read; the message names the file, if there is one.
        ImportError: If the format of the file needs open3d, and it or one of its system libraries is missing.
    """
    if isinstance(sample, str | Path):
        path = Path(sample)
        if not path.is_file():
            raise SampleError(f"file {path.name} {'is a folder' if path.is_dir() else 'does not exist'}")
        if path.suffix.lower() not in READERS:
            raise SampleError(f"file {path.name} is none of {', '.join(SUFFIXES)}")
        if not path.stat().st_size:
            raise SampleError(f"file {path.name} is empty")
        try:
            return _checked(READERS[path.suffix.lower()](path, surface), drop_invalid)
        except SampleError as error:
            raise SampleError(f"file {path.name}: {error}") from None
    if isinstance(sample, dict):
        if sample.get("points") is None:
            raise SampleError(f"a dict with {', '.join(map(str, sample)) or 'nothing'}; {ACCEPTED}")
        columns = sample.get("columns")
        names = tuple(map(str, () if columns is None else columns))
        return _checked(Cloud(_array(sample["points"]), names), drop_invalid)
    if isinstance(sample, Cloud):
        return _checked(Cloud(_array(sample.points), sample.columns), drop_invalid)
    return _checked(Cloud(_array(sample)), drop_invalid)


def _array(value: Any) -> np.ndarray:
    """Convert points to float64. Raises SampleError for anything but numbers."""
    if not isinstance(value, np.ndarray | Tensor | list | tuple):
        raise SampleError(f"points are a {type(value).__name__}; {ACCEPTED}")
    try:
        return as_array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise SampleError(f"points are a {type(value).__name__} that is no array of numbers; {ACCEPTED}") from None


def _checked(cloud: Cloud, drop_invalid: bool = False) -> Cloud:
    """Check a cloud and move x, y and z to the front. Raises SampleError."""
    points = cloud.points
    if drop_invalid and points.ndim == 2:
        points = points[np.isfinite(points).all(1)]
        cloud = Cloud(points, cloud.columns)
    if points.ndim != 2:
        raise SampleError(f"points are an array {points.shape}; {ACCEPTED}")
    if not len(points):
        raise SampleError("there are no points; expected at least one")
    check_bound("points", len(points), "it")
    if points.shape[1] < 3:
        raise SampleError(f"points have {points.shape[1]} columns; expected at least 3: x, y, z")
    if points.shape[1] > max(MAX_COLUMNS, len(points)) and not cloud.columns:
        shape = f"{len(points)} points of {points.shape[1]:,} columns"
        raise SampleError(f"points are {shape}; expected (N, 3 or more): if columns come first, turn the array")
    if cloud.columns and len(cloud.columns) != points.shape[1]:
        raise SampleError(f"points have {points.shape[1]} columns, but there are {len(cloud.columns)} names of columns")
    if not np.isfinite(points).all():
        row, column = np.argwhere(~np.isfinite(points))[0]
        others = np.count_nonzero(~np.isfinite(points).all(1)) - 1
        more = f", {others:,} more of {len(points):,} likewise" if others else ""
        hint = "leave such points out, or have it done: drop_invalid (--tokenizer.drop-invalid true)"
        raise SampleError(f"point {row + 1} is NaN or infinite in column {column + 1}{more}; {hint}")
    if np.abs(points).max() > LARGEST:
        raise SampleError(f"values reach {np.abs(points).max():g}; expected at most {LARGEST:g}: check the unit")
    names = list(cloud.columns)
    if {*"xyz"} <= {*names} and names[:3] != [*"xyz"]:
        order = [*"xyz", *(name for name in names if name not in "xyz")]
        return Cloud(points[:, [names.index(name) for name in order]], tuple(order))
    return cloud


def _check_size(shape: tuple[int, ...]) -> None:
    """Refuse an array that is no cloud, or beyond the bounds, before it is converted to float64. Raises SampleError."""
    if len(shape) != 2:
        raise SampleError(f"points are an array {shape}; {ACCEPTED}")
    check_bound("points", shape[0], "it")
    check_bound("columns", shape[1] if shape[1] <= shape[0] else 0, "it")  # _checked reports transposed arrays
    check_bound("unpacked_mb", math.prod(shape) * 8 / 1e6, "it")


# Readers of files. Each takes a path and the number of points to sample on a mesh.


def npz_cloud(path: Path) -> Cloud:
    """Read the only cloud of an npz file, unchecked. Raises SampleError if it holds none, or several arrays (N, C)."""
    arrays = npz_arrays(path, "unpacked_mb", ("points",))
    flat = [name for name, array in arrays.items() if array.ndim == 2]
    name = "points" if "points" in arrays else flat[0] if len(flat) == 1 else None
    if name is None:
        raise SampleError(f"it holds {shapes_of(arrays)}; expected one array (N, C), or one called points")
    columns = arrays.get("columns", np.empty(0))
    check_bound("names", columns.size, "it")
    _check_size(arrays[name].shape)
    return Cloud(_array(arrays[name]), tuple(map(str, columns.ravel())))


def _read_text(path: Path, surface: int) -> Cloud:
    return Cloud(*read_columns(path))


def _read_npy(path: Path, surface: int) -> Cloud:
    array = npy_array(path)
    _check_size(array.shape)
    return Cloud(_array(array))


def _mesh(read: Callable[[Path], Mesh]) -> Callable[[Path, int], Cloud]:
    """Make a reader of point clouds from a reader of meshes."""

    def points_of(path: Path, surface: int) -> Cloud:
        vertices, triangles, columns = read(path)
        if not len(triangles):
            return Cloud(vertices, columns)
        _checked(Cloud(vertices, columns))
        return Cloud(sample_surface(vertices, triangles, surface), columns)

    return points_of


READERS: dict[str, Callable[[Path, int], Cloud]] = {
    ".npz": lambda path, surface: npz_cloud(path),
    **dict.fromkeys((".xyz", ".txt", ".pts", ".asc"), _read_text),
    ".npy": _read_npy,
    ".ply": _mesh(read_ply),
    ".off": _mesh(read_off),
    **dict.fromkeys((".pcd", ".obj", ".stl"), _mesh(read_with_open3d)),
    **dict.fromkeys((".gltf", ".glb"), _mesh(read_gltf)),
}
SUFFIXES = tuple(READERS)
