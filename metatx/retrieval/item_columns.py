"""Columns of items as a picture shows them: words by number, and numbers."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from metatx.registry import unknown

__all__ = ["ItemColumn", "chosen_column", "shown_columns"]

LONGEST = 300  # characters of a cell
MOST_TEXT = 16_000_000  # characters of all cells that differ, in a page
SCALARS = (str, bool, int, float, np.generic, Decimal, datetime.date, datetime.time)
FEW = 20  # whole numbers of so many values are names of kinds, not amounts


@dataclass(frozen=True)
class ItemColumn:
    """A column with a value for each item.

    Attributes:
        name: Name of the column.
        values: Different words, the most frequent first; None where the column holds numbers.
        codes: Number of each item's word in ``values``, -1 where the cell is empty, int64 (N,); or the item's number,
            float64 (N,), NaN where it is empty.
    """

    name: str
    values: tuple[str, ...] | None
    codes: np.ndarray

    @property
    def size(self) -> int:
        """Number of characters of the words that differ."""
        return sum(map(len, self.values or ()))


def shown_columns(columns: Mapping[str, Sequence[Any]]) -> tuple[list[ItemColumn], list[str]]:
    """Columns as they are shown, and the names of those that are left out.

    Left out are columns of files' bytes, arrays and lists, and those whose text would make the page too large.

    Args:
        columns: Cells by column, one an item.
    """
    shown = []
    left = []
    size = 0
    for name, cells in columns.items():
        column = _column(name, pd.Series(list(cells), dtype=object))
        size += 0 if column is None else column.size
        if column is None or size > MOST_TEXT:
            size -= 0 if column is None else column.size
            left.append(name)
        else:
            shown.append(column)
    return shown, left


def chosen_column(columns: Sequence[ItemColumn], name: str | None) -> ItemColumn | None:
    """Column that colours the points: the one that was asked for, or the first of 2 to 20 different words; or None.

    Raises:
        ValueError: If there is no such column.
    """
    by_name = {column.name: column for column in columns}
    if name is not None and name not in by_name:
        raise ValueError(unknown("column to colour by", name, list(by_name)))
    if name is not None:
        return by_name[name]
    return next((column for column in columns if column.values and 2 <= len(column.values) <= FEW), None)


def _column(name: str, cells: pd.Series) -> ItemColumn | None:
    present = cells[cells.notna().to_numpy()]
    if not len(present) or not all(isinstance(cell, SCALARS) for cell in present):
        return None
    if all(isinstance(cell, int | float | np.number) and not isinstance(cell, bool) for cell in present):
        numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
        known = numbers[~np.isnan(numbers)]
        numbers[np.isinf(numbers)] = np.nan
        if len(np.unique(known)) > FEW or np.any(known % 1 != 0):
            return ItemColumn(name, None, numbers)
        present = present.map(lambda cell: str(int(cell)))
    words = present.map(lambda cell: " ".join(str(cell).split())[:LONGEST])
    counts = words.value_counts()
    ordered = sorted(counts.index, key=lambda word: (-counts[word], word))
    places = {word: place for place, word in enumerate(ordered)}
    codes = np.full(len(cells), -1)
    codes[cells.notna().to_numpy()] = [places[word] for word in words]
    return ItemColumn(name, tuple(ordered), codes)
