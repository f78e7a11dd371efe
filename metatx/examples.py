"""Examples: raw samples with their targets, however they were stored."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.values import is_missing, plain_samples, plain_targets

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Examples", "Reader", "Rows", "without_missing"]

BLOCK = 1024  # rows of a table that are made Python's at once


@dataclass(frozen=True)
class Examples:
    """Raw samples of one split, and what is to be predicted of each.

    Attributes:
        inputs: Raw samples, as ``Tokenizer.encode`` takes them.
        targets: As ``Head.encode`` takes them; None where only predictions are wanted.
        source: Where they came from, for messages.
        rows: Which of the source's rows each is, counted from 0; None: they are all its rows, in order.
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
        """Where sample ``index`` is, as a person looks for it: its file, or its row counted from 1."""
        sample = self.inputs[index]
        # Words may be a text of any length, or none: not to be repeated.
        named = isinstance(sample, Path) or (isinstance(sample, str) and _is_there(sample))
        return str(sample) if named else f"{self.source}, row {self.row(index) + 1}"

    def row(self, index: int) -> int:
        """Which row of the source sample ``index`` is, counted from 0."""
        return index if self.rows is None else int(self.rows[index])

    def select(self, indices: Sequence[int] | np.ndarray) -> "Examples":
        """The examples at ``indices``, in that order."""
        targets = None if self.targets is None else Subset(self.targets, indices)
        rows = np.arange(len(self)) if self.rows is None else np.asarray(self.rows)
        return Examples(Subset(self.inputs, indices), targets, self.source, rows[np.asarray(indices, dtype=np.int64)])


def _is_there(name: str) -> bool:
    try:
        return os.path.exists(name)
    except ValueError:  # no file can be called so
        return False


def without_missing(targets: Sequence[Any] | None) -> Sequence[Any] | None:
    """The targets without those that are missing; as they are where all are, or where they are no list."""
    import pandas as pd

    if not isinstance(targets, list | tuple | np.ndarray | pd.Series):
        return targets
    present = [target for target in targets if not is_missing(target)]
    return targets if len(present) in (0, len(targets)) else present


class Subset(Sequence[Any]):
    """Some items of a sequence, read when they are asked for."""

    def __init__(self, items: Sequence[Any], indices: Sequence[int] | np.ndarray) -> None:
        self.items, self.indices = items, np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Subset(self.items, self.indices[at])
        return self.items[int(self.indices[at])]

    def __iter__(self) -> Iterator[Any]:
        return (self.items[int(i)] for i in self.indices)


class Rows(Sequence[dict[str, Any]]):
    """Rows of a table as dicts of some columns, read from it in blocks when they are asked for."""

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


# A file to its samples by split: "train", "validation", "test", or "all" where it is not split. Raises ValueError if
# the file is damaged or holds something else; says what is expected in it.
Reader = Callable[[Path], dict[str, Examples]]
