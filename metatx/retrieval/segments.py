"""Segment of an index: vectors of consecutive items as a memory-mapped safetensors file, their columns as parquet."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from metatx.retrieval.manifest import ITEMS, VECTORS, Segment, published

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["OpenSegment", "Vectors", "moved", "unit_vectors", "write_segment"]

GROUP = 1024  # rows of a group of parquet, which is read whole to show one of them
OFFSETS = "{}.items"  # tensor of the items' offsets, where not every item of a segment has a vector

# Vectors (n, E) of one modality in float16 or float32, with the numbers of their items, int64 (n,), or None: all items.
Vectors = tuple[np.ndarray | None, np.ndarray]


def unit_vectors(vectors: np.ndarray, first: int = 0) -> np.ndarray:
    """Scale vectors (n, E) to length 1, float32.

    Args:
        vectors: Vectors of any length.
        first: Number of the first, for messages.

    Raises:
        ValueError: If one is not finite, or all zeros; the message names the first.
    """
    wide = np.asarray(vectors, np.float64)
    largest = np.abs(wide).max(axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(largest) & (largest > 0)))
    if len(bad):
        what = "is all zeros" if largest[bad[0]] == 0 else "holds NaN or infinite numbers"
        raise ValueError(f"Vector {first + bad[0]} (counted from 0) {what}; leave it out, or give None for it.")
    wide = np.ldexp(wide, -np.frexp(largest)[1])  # exact, so that no square is too large or too small
    scaled: np.ndarray = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def write_segment(
    folder: Path,
    count: int,
    vectors: Mapping[str, Vectors],
    items: "Iterable[pa.Table] | None",
    start: int = 0,
    dropped: int = 0,
) -> Segment:
    """Write the files of a segment under the first free names; no index holds them before a commit.

    Args:
        folder: Folder of the index.
        count: Number of items.
        vectors: Unit vectors by modality, with the offsets of their items from the first of the segment.
        items: Columns of the items, a row an item, in tables of one schema; None if they have none.
        start: Number from which a free name is looked for.
        dropped: Number of the items that are deleted and of which nothing is written.

    Raises:
        OSError: If they cannot be written; nothing is left then.
    """
    from pyarrow import parquet
    from safetensors.numpy import save

    tensors = {}
    for modality, (offsets, values) in vectors.items():
        tensors[modality] = np.ascontiguousarray(values, np.float16)
        if offsets is not None and len(offsets) < count:
            tensors[OFFSETS.format(modality)] = np.ascontiguousarray(offsets, np.int64)
    with published(folder, VECTORS, start) as (temporary, publish):
        temporary.write_bytes(save(tensors))
        vectors_name = publish()
    try:
        items_name = None
        if items is not None:
            with published(folder, ITEMS, start) as (temporary, publish):
                groups = _groups(items)
                first = next(groups)
                with parquet.ParquetWriter(temporary, first.schema) as writer:
                    for group in chain([first], groups):
                        writer.write_table(group)
                items_name = publish()
    except BaseException:
        (folder / vectors_name).unlink(missing_ok=True)
        raise
    counts = {name: len(part) for name, (_, part) in vectors.items()}
    return Segment(vectors_name, items_name, count, counts, str(folder.absolute()), dropped)


def _groups(tables: "Iterable[pa.Table]") -> "Iterator[pa.Table]":
    """Rows of tables as tables of ``GROUP`` rows, of which the last may have fewer."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= GROUP:
            whole = pa.concat_tables(waiting)
            full = len(whole) - len(whole) % GROUP
            yield from (whole.slice(at, GROUP) for at in range(0, full, GROUP))
            waiting = [whole.slice(full)] if full < len(whole) else []
    if waiting:
        yield pa.concat_tables(waiting)


def moved(path: Any, home: str, folder: Path) -> Any:
    """Path of a file that was named when the index lay in ``home``: from its folder now, if the file is there.

    So an index that is moved together with its files finds them, and one that is moved alone finds them where they
    were.

    Args:
        path: Cell of a column; one that is no absolute path stays as it is.
        home: Former folder of the index.
        folder: Folder of the index now.
    """
    if not isinstance(path, str) or not os.path.isabs(path):
        return path
    near = os.path.normpath(os.path.join(folder, os.path.relpath(path, home)))
    return near if os.path.exists(near) else path


class OpenSegment:
    """Segment that is read: its vectors stay on the disk until they are needed.

    Args:
        folder: Folder of the index.
        segment: Files and counts.
        first: Number of its first item in the index.
        width: Width of the vectors, E.
        files: Columns that may name files.
    """

    def __init__(self, folder: Path, segment: Segment, first: int, width: int, files: Collection[str] = ()) -> None:
        self.folder = folder
        self.segment = segment
        self.first = first
        self.width = width
        self.moved = segment.home not in ("", str(folder.absolute()))
        self.files = files if self.moved else ()

    @property
    def count(self) -> int:
        """Number of items."""
        return self.segment.count

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        from safetensors import SafetensorError, safe_open

        path = self.folder / self.segment.vectors
        try:
            with safe_open(path, "pt") as file:  # memory-mapped: pages are read when they are touched
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            for name, count in self.segment.vector_counts.items():
                if tensors[name].shape != (count, self.width) or tensors[name].dtype != torch.float16:
                    raise ValueError(f"{name} is {tuple(tensors[name].shape)} of {tensors[name].dtype}")
                if len(tensors.get(OFFSETS.format(name), tensors[name])) != count:
                    raise ValueError(f"the numbers of the items of {name} are of another length")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}.") from None
        return tensors

    def vectors(self, modality: str) -> tuple[np.ndarray | None, Tensor] | None:
        """Offsets of items (None: all, in order) and their vectors, float16 (n, E); None without the modality."""
        if not self.segment.vector_counts.get(modality):
            return None
        offsets = self._tensors.get(OFFSETS.format(modality))
        return None if offsets is None else offsets.numpy(), self._tensors[modality]

    def columns(self, names: Sequence[str]) -> "pa.Table":
        """Read columns of all items."""
        return self._near(self._parquet.read(columns=list(names), use_threads=False))

    def tables(self) -> "Iterator[pa.Table]":
        """Read the columns of all items, a group of rows after the other."""
        for group in range(self._parquet.num_row_groups):
            yield self._near(self._parquet.read_row_group(group, use_threads=False))

    def _near(self, table: "pa.Table") -> "pa.Table":
        """Table in which paths lead to the files from where the index is now."""
        import pyarrow as pa

        for place, column in enumerate(table.schema):
            if column.name in self.files and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
                cells = [moved(cell, self.segment.home, self.folder) for cell in table[column.name].to_pylist()]
                table = table.set_column(place, column, pa.chunked_array([pa.array(cells, column.type)]))
        return table

    def rows(self, offsets: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Read columns of some items, in the order of ``offsets``."""
        if self.segment.items is None:
            return [{} for _ in offsets]
        rows: dict[int, dict[str, Any]] = {}
        for group in sorted({offset // GROUP for offset in offsets}):
            table = self._parquet.read_row_group(group, columns=list(columns), use_threads=False)
            wanted = sorted({offset for offset in offsets if offset // GROUP == group})
            taken = self._near(table.take([offset - group * GROUP for offset in wanted])).to_pylist()
            rows |= dict(zip(wanted, taken, strict=True))
        return [rows[offset] for offset in offsets]

    @property
    def schema(self) -> "pa.Schema":
        """Types of the columns of the items."""
        return self._parquet.schema_arrow

    @cached_property
    def _parquet(self) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        assert self.segment.items is not None
        path = self.folder / self.segment.items
        try:
            file = parquet.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is damaged: {error}.") from None
        if file.metadata.num_rows != self.count:
            raise ValueError(f"{path} is damaged: it has {file.metadata.num_rows} rows of {self.count} items.")
        return file
