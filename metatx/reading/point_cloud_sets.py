"""Published data sets of labelled point clouds: npz, ModelNet40 (h5), ShapeNetPart."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metatx.errors import SampleError
from metatx.examples import Examples, Reader
from metatx.reading.arrays import npz_arrays
from metatx.reading.bounds import check_bound
from metatx.reading.folders import inside
from metatx.reading.h5 import h5_arrays
from metatx.reading.point_cloud import Cloud, Clouds, npz_cloud, read_cloud

__all__ = ["CONTAINERS", "Parts", "read_h5", "read_npz", "read_shapenet_part"]

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # names of splits in their files and in metatx
SHAPENET = "synsetoffset2category.txt"
# The seventh column holds the part, which would give the category away.
SHAPENET_COLUMNS = ("x", "y", "z", "nx", "ny", "nz")


def read_npz(path: Path) -> dict[str, Examples]:
    """Read ``points`` (N, P, C) with ``label`` (N,), and ``class_names`` and ``columns`` if there; or one cloud.

    Raises:
        ValueError: If the file is damaged, or holds other arrays.
    """
    try:
        arrays = npz_arrays(path)
    except SampleError as error:
        raise ValueError(f"{path} is {error}.") from None
    if "points" not in arrays or arrays["points"].ndim == 2:
        read_cloud(path, drop_invalid=True)  # check the file; the tokenizer decides about invalid points
        return {"all": Examples([npz_cloud(path)], None, str(path))}
    for name in ("columns", "class_names"):
        check_bound("names", arrays.get(name, np.empty(0)).size, str(path))
    columns = tuple(map(str, arrays["columns"].ravel())) if "columns" in arrays else ()
    names = [str(name) for name in arrays["class_names"].ravel()] if "class_names" in arrays else []
    return {"all": _labelled(arrays["points"], arrays.get("label"), names, str(path), columns)}


def _labelled(
    points: np.ndarray, label: np.ndarray | None, names: Sequence[str], source: str, columns: tuple[str, ...] = ()
) -> Examples:
    """Clouds (N, P, C) as examples; labels become names of classes, if known. Raises ValueError."""
    if points.ndim != 3 or points.shape[2] < 3 or not np.issubdtype(points.dtype, np.number):
        raise ValueError(f"{source}: points are {points.dtype} {points.shape}; expected numbers (N, P, 3 or more).")
    if columns and len(columns) != points.shape[2]:
        raise ValueError(f"{source}: points have {points.shape[2]} columns, and {len(columns)} names of columns.")
    check_bound("points", points.shape[1], f"a cloud in {source}")
    check_bound("samples", len(points), source)
    targets: list[Any] | None = None
    if label is not None:
        if label.size != len(points):
            raise ValueError(f"{source}: label is {label.shape}; expected one for each of {len(points)} clouds.")
        targets = label.ravel().tolist()
        if names:
            if not all(isinstance(code, int) and 0 <= code < len(names) for code in targets):
                raise ValueError(f"{source}: labels must be whole numbers from 0 to {len(names) - 1}.")
            targets = [names[code] for code in targets]
    return Examples(Clouds(points, columns), targets, source)


def read_h5(path: Path) -> dict[str, Examples]:
    """Read ``data`` (N, P, C) with ``label`` (N, 1), the format of ModelNet40.

    Args:
        path: File of one part, or one of the lists ``train_files.txt``, ``test_files.txt``; a list makes all files of
            all lists beside it be read, by split. Names of classes come from ``shape_names.txt``.

    Raises:
        ValueError: If a file is missing or damaged, or holds other arrays.
        ImportError: If h5py is missing.
    """
    folder = path.parent
    listed = {split: folder / f"{name}_files.txt" for name, split in SPLITS.items()}
    names = [path for path in (folder / "shape_names.txt",) if path.is_file()]
    words = names[0].read_text().split() if names else []
    if path.suffix.lower() == ".h5":
        return {"all": _labelled(*_read_h5(path), words, str(path))}
    splits = {}
    for split, file in listed.items():
        if file.is_file():
            # The lists hold paths of the machine on which they were written.
            named = [Path(line).name for line in file.read_text().split()]
            if not named or len({*named}) < len(named):
                raise ValueError(f"{file} names {'one file twice' if named else 'no files'}.")
            contents = [_read_h5(inside(folder, folder / name, f"{file}:")) for name in named]
            points, labels = (np.concatenate(parts) for parts in zip(*contents, strict=True))
            splits[split] = _labelled(points, labels, words, str(file))
    return splits


def _read_h5(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist, but a list names it.")
    try:
        points, labels = h5_arrays(path, "data", "label")
    except SampleError as error:
        raise ValueError(f"{path} is {error}.") from None
    return points, labels


class Shapes(Sequence[Cloud]):
    """Clouds of ShapeNetPart's files without the column of parts, read on access."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Shapes(self.paths[at])
        points = read_cloud(self.paths[at]).points[:, : len(SHAPENET_COLUMNS)]
        return Cloud(points, SHAPENET_COLUMNS[: points.shape[1]])


class Parts(Sequence[np.ndarray]):
    """Part of each point in ShapeNetPart's files, uint8 (N,), read on access."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Parts(self.shapes[at])
        points = read_cloud(self.shapes.paths[at]).points
        if points.shape[1] <= len(SHAPENET_COLUMNS):
            name = self.shapes.paths[at].name
            raise SampleError(f"{name} has {points.shape[1]} columns; the part is expected in the seventh")
        return points[:, len(SHAPENET_COLUMNS)].astype(np.uint8)


def read_shapenet_part(path: Path) -> dict[str, Examples]:
    """Read ShapeNetPart, labelled by category, from the folder of its ``synsetoffset2category.txt``.

    Raises:
        ValueError: If a list is missing or damaged, or names a folder that is not listed.
    """
    folder = path.parent
    splits = {}
    pairs = [line.split() for line in path.read_text().splitlines() if line.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{path} is damaged; expected a category and its folder in each line.")
    category = {synset: name for name, synset in pairs}
    for name, split in SPLITS.items():
        listed = folder / "train_test_split" / f"shuffled_{name}_file_list.json"
        if not listed.is_file():
            continue
        try:
            entries = [Path(entry) for entry in json.loads(listed.read_text())]
        except (json.JSONDecodeError, TypeError, RecursionError) as error:
            raise ValueError(f"{listed} is damaged: {error}.") from None
        strange = next((entry for entry in entries if entry.parent.name not in category), None)
        if strange is not None:
            raise ValueError(f"{listed} names {strange}, whose folder is not in {path.name}.")
        files = [folder / entry.parent.name / f"{entry.name}.txt" for entry in entries]
        files = [inside(folder, file, f"{listed}:") for file in files]
        splits[split] = Examples(Shapes(files), [category[entry.parent.name] for entry in entries], str(listed))
    if not splits:
        raise ValueError(f"{folder} has no train_test_split/shuffled_train_file_list.json.")
    return splits


CONTAINERS: dict[str, Reader] = {
    ".npz": read_npz,
    ".h5": read_h5,
    "train_files.txt": read_h5,
    SHAPENET: read_shapenet_part,
}
