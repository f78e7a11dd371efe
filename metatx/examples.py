"""Examples: raw samples with their targets, from any source."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.values import is_missing, plain_samples, plain_targets

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Examples", "Reader", "Rows", "Subset", "without_missing"]

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
        return Examples(Subset(self.inputs, indices), targets, self.source, rows[np.asarray(indices, dtype=np.int64)])


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
    """Rows of a table as dicts of some columns, read in blocks on access."""

    def __init__(self, table: "Dataset", names: Sequence[str]) -> None:
        self.table = table.select_columns(list(names)).with_format("arrow")
        self._block: list[dict[str, Any]] = []
        self._start = 0

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        row = range(len(self))[at]
        if not self._start <= row < self._start + len(self._block):
            self._start = row - row % BLOCK
            self._block = self.table[self._start : self._start + BLOCK].to_pylist()
        return self._block[row - self._start]


# Function from a file to its samples by split: "train", "validation", "test", or "all" if it is not split. Raises
# ValueError if the file is damaged or holds something else; the message says what is expected.
Reader = Callable[[Path], dict[str, Examples]]
