"""Export of an index to parquet, in the form that Apple's embedding-atlas opens, or to a table of LanceDB."""

import os
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from metatx.files import written_whole
from metatx.progress import bar
from metatx.retrieval.exact import Best, nearest

if TYPE_CHECKING:
    import pyarrow as pa

    from metatx.retrieval.snapshot import Snapshot

__all__ = ["export"]

SUFFIXES = (".parquet", ".lance")
ROWS = 1024  # rows that are written together


def export(snapshot: "Snapshot", file: Path, neighbours: int, places: np.ndarray | None) -> Path:
    """Write vectors, columns and nearest neighbours, a row a vector: modality by modality, items ascending.

    The columns are ``item`` and ``modality``, the items' own, ``vector`` (a list of floats), and ``neighbors``, with
    ``ids``, row numbers of the file from 0, and ``distances``, 1 less the cosine, of the nearest vectors of the same
    modality; the first is the row itself. Neighbours of all n vectors take the time of n searches.

    Args:
        snapshot: Items and vectors.
        file: Path ending in ``.parquet``; or in ``.lance``, for a new table of the LanceDB database of its folder.
        neighbours: Number of neighbours of each row; 0 writes none.
        places: Places of the rows in a picture, (rows, 2), as columns ``x`` and ``y``; None writes none.

    Raises:
        ImportError: If LanceDB is needed and missing.
        ValueError: If the suffix is another, a table is there already, ``neighbours`` is negative, a column has a name
            that is needed, or there are not as many places as rows.
        OSError: If the file cannot be written.
    """
    names = ["item", "modality", "vector", "neighbors", "x", "y"]
    taken = [name for name in snapshot.manifest.columns if name in names]
    if file.suffix not in SUFFIXES:
        raise ValueError(f"The file is {file}; expected a name that ends in {' or '.join(SUFFIXES)}.")
    if neighbours < 0:
        raise ValueError(f"neighbours is {neighbours}; it must be 0 or more.")
    if taken:
        raise ValueError(f"The items have a column {taken[0]}, which the export needs for itself; rename it.")
    rows = sum(len(snapshot.vectors(name)[0]) for name in snapshot.manifest.modalities)
    if places is not None and places.shape != (rows, 2):
        raise ValueError(f"places is {places.shape}; expected ({rows}, 2), a place a row.")
    write = _write_parquet if file.suffix == ".parquet" else _write_lance
    write(file, _tables(snapshot, neighbours, places))
    return file


def _write_parquet(file: Path, tables: "Iterator[pa.Table]") -> None:
    from pyarrow import parquet

    first = next(tables)
    with written_whole(file) as temporary, parquet.ParquetWriter(temporary, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table.cast(first.schema))


def _write_lance(file: Path, tables: "Iterator[pa.Table]") -> None:
    """Write a new table of LanceDB, whole or not at all. Raises ImportError, ValueError if there is one."""
    try:
        import lancedb
    except ImportError:
        raise ImportError("A table of LanceDB needs lancedb: pip install 'metatx[search]'.") from None
    if file.exists():
        raise ValueError(f"{file} exists already; choose another name, or remove it.")
    first = next(tables)
    batches = (batch for table in chain([first], tables) for batch in table.cast(first.schema).to_batches())
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
        lancedb.connect(folder).create_table(file.stem, batches, schema=first.schema)
        os.replace(Path(folder) / file.name, file)


def _tables(snapshot: "Snapshot", neighbours: int, places: np.ndarray | None) -> "Iterator[pa.Table]":
    """Rows of the file, ``ROWS`` at a time."""
    import pyarrow as pa

    row = 0
    for modality in snapshot.manifest.modalities:
        items, vectors = snapshot.vectors(modality)
        first = row
        for start in bar(range(0, len(items), ROWS), f"export {modality}"):
            part = vectors[start : start + ROWS]
            numbers = items[start : start + ROWS]
            columns: dict[str, Any] = {"item": numbers, "modality": [modality] * len(part)}
            own = pa.Table.from_pylist(snapshot.rows(numbers.tolist()), schema=snapshot.schema)
            columns |= {name: own[name] for name in own.column_names}
            columns["vector"] = pa.FixedSizeListArray.from_arrays(part.ravel(), part.shape[1])
            if neighbours:
                columns["neighbors"] = _neighbours(vectors, part, neighbours, first)
            if places is not None:
                columns["x"] = np.asarray(places[row : row + len(part), 0], np.float32)
                columns["y"] = np.asarray(places[row : row + len(part), 1], np.float32)
            row += len(part)
            yield pa.table(columns)


def _neighbours(vectors: np.ndarray, queries: np.ndarray, count: int, first: int) -> "pa.Array":
    """Row numbers and distances of the nearest vectors of each query, as a column of structs."""
    import pyarrow as pa

    blocks = [(np.arange(len(vectors)), torch.from_numpy(vectors))]
    best = nearest(torch.from_numpy(queries), blocks, Best.none(min(count, len(vectors))))
    ends = np.searchsorted(best.queries, np.arange(len(queries) + 1)).astype(np.int32)
    ids = pa.ListArray.from_arrays(ends, best.items + first)
    distances = pa.ListArray.from_arrays(ends, (1 - best.scores).clip(0))
    return pa.StructArray.from_arrays([ids, distances], ["ids", "distances"])
