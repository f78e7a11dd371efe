"""Examples: raw samples with their targets, from any source."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.values import is_missing, plain_samples, plain_targets

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

__all__ = [
    *("Examples", "Reader", "Rows", "Subset", "cells_of", "column_names", "of_arrow", "selected", "without_missing"),
]

BLOCK = 1024  # rows of a table that are converted to Python's types at once


@dataclass(frozen=True)
class Examples:
    """Raw samples of one split, with their targets.

    Attributes:
        inputs: Raw samples in the form of ``Tokenizer.encode``.
        targets: Targets in the form of ``Head.encode``; None if samples are only predicted.
        source: Name of their file or table, for messages.
        rows: Row of each sample in the source, counted from 0; None for all rows in order.
    """

    inputs: Sequence[Any]
    targets: Sequence[Any] | None = None
    source: str = "the data"
    rows: Sequence[int] | np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", plain_samples(self.inputs))
        object.__setattr__(self, "targets", plain_targets(self.targets))
        if not len(self.inputs):
            raise ValueError(f"{self.source} holds no samples.")
        if self.targets is not None and len(self.targets) != len(self.inputs):
            raise ValueError(f"{self.source} has {len(self.inputs)} inputs and {len(self.targets)} targets.")

    def __len__(self) -> int:
        return len(self.inputs)

    def place(self, index: int) -> str:
        """Place of sample ``index`` for messages: its file, or its source and row, counted from 1."""
        sample = self.inputs[index]
        # A sample of text is not repeated in the message, however short.
        named = isinstance(sample, Path) or (isinstance(sample, str) and _is_there(sample))
        return str(sample) if named else f"{self.source}, row {self.row(index) + 1}"

    def row(self, index: int) -> int:
        """Row of sample ``index`` in the source, counted from 0."""
        return index if self.rows is None else int(self.rows[index])

    def select(self, indices: Sequence[int] | np.ndarray) -> "Examples":
        """Select the examples at ``indices``, in that order."""
        targets = None if self.targets is None else Subset(self.targets, indices)
        rows = np.arange(len(self)) if self.rows is None else np.asarray(self.rows)
        inputs = self.inputs.select(indices) if isinstance(self.inputs, Rows) else Subset(self.inputs, indices)
        return Examples(inputs, targets, self.source, rows[np.asarray(indices, dtype=np.int64)])


def _is_there(name: str) -> bool:
    try:
        return os.path.exists(name)
    except ValueError:  # no file can have this name
        return False


def without_missing(targets: Sequence[Any] | None) -> Sequence[Any] | None:
    """Targets without missing values; unchanged if none or all are missing, or if they are no list."""
    import pandas as pd

    if not isinstance(targets, list | tuple | np.ndarray | pd.Series):
        return targets
    present = [target for target in targets if not is_missing(target)]
    return targets if len(present) in (0, len(targets)) else present


class Subset(Sequence[Any]):
    """Some items of a sequence, read on access."""

    def __init__(self, items: Sequence[Any], indices: Sequence[int] | np.ndarray) -> None:
        self.items = items
        self.indices = np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Subset(self.items, self.indices[at])
        return self.items[int(self.indices[at])]

    def __iter__(self) -> Iterator[Any]:
        return (self.items[int(i)] for i in self.indices)


class Rows(Sequence[dict[str, Any]]):
    """Rows of a table as dicts of some columns, converted on access: a dict takes ten times the memory of its row.

    Rows that are read in order are converted a block at a time, others one by one.
    """

    def __init__(self, table: "Dataset", names: Sequence[str]) -> None:
        self.names = list(names)
        self.table = table.select_columns(self.names).with_format("arrow")
        self._block: list[dict[str, Any]] = []
        self._start = 0

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        row = range(len(self))[at]
        if not self._start <= row < self._start + len(self._block):
            count = BLOCK if row == self._start + len(self._block) else 1
            self._block = self.table[row : row + count].to_pylist()
            self._start = row
        return self._block[row - self._start]

    def select(self, indices: Sequence[int] | np.ndarray) -> "Rows":
        """Rows at ``indices``, in that order."""
        return Rows(selected(self.table, indices), self.names)

    def column(self, name: str) -> list[Any]:
        """All cells of a column."""
        cells: list[Any] = self.table[name][:].to_pylist()
        return cells


def column_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the columns of rows, in the order in which they first appear."""
    return rows.names if isinstance(rows, Rows) else list(dict.fromkeys(name for row in rows for name in row))


def cells_of(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[Sequence[int], list[Any]]:
    """Numbers of the rows that have a column, and their cells there."""
    if isinstance(rows, Rows):
        return range(len(rows)), rows.column(name)
    cells = {number: row[name] for number, row in enumerate(rows) if name in row}
    return list(cells), list(cells.values())


def of_arrow(table: "pa.Table", like: "Dataset | None" = None) -> "Dataset":
    """Dataset of an Arrow table, with the types of ``like``.

    The fingerprint is random: datasets would copy the whole table to hash it, for a cache that is not used here.
    """
    from datasets import Dataset

    return Dataset(table, info=None if like is None else like.info, fingerprint=secrets.token_hex(8))


def selected(table: "Dataset", indices: Sequence[int] | np.ndarray) -> "Dataset":
    """Rows of a table at ``indices``, in that order.

    Those of a table in memory are copied, for datasets reads each row by itself through an index, which takes several
    times as long. A table on disk, which may be larger than the memory, gets such an index.
    """
    import pyarrow as pa

    if table.cache_files:
        return table.select(indices)
    arrow = table.with_format("arrow")[:]
    if any(column.num_chunks > 1 for column in arrow.columns):  # Arrow would join the chunks, which may be too large
        return table.select(indices)
    return of_arrow(arrow.take(pa.array(np.asarray(indices, dtype=np.int64))), table).with_format(table.format["type"])


# Function from a file to its samples by split: "train", "validation", "test", or "all" if it is not split. Raises
# ValueError if the file is damaged or holds something else; the message says what is expected.
Reader = Callable[[Path], dict[str, Examples]]
