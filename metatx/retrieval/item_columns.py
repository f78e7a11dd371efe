"""Columns of items as a picture shows them: words by number, and numbers."""

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

import numpy as np
import pandas as pd

from metatx.registry import unknown

__all__ = ["ItemColumn", "cell_text", "chosen_column", "shown_columns"]

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
        column = _column(name, cells)
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


def cell_text(cell: Any) -> str | None:
    """Text of a cell, one line of at most 300 characters; None if it is empty, or holds no single value."""
    if not isinstance(cell, SCALARS) or _is_empty(cell):
        return None
    if isinstance(cell, float | np.floating):
        return f"{cell:.6g}"
    return " ".join(str(cell).split())[:LONGEST]


def _is_empty(cell: Any) -> bool:
    """Return whether a cell is None, NaN, NaT or blank."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, SCALARS) and bool(pd.isna(cast(Any, cell))))


def _column(name: str, cells: Sequence[Any]) -> ItemColumn | None:
    """Column as it is shown; None if it is empty, or its cells are not single values."""
    empty = np.array([_is_empty(cell) for cell in cells])
    present = [cell for cell, nothing in zip(cells, empty, strict=True) if not nothing]
    if not present or not all(isinstance(cell, SCALARS) for cell in present):
        return None
    if all(isinstance(cell, int | float | np.number) and not isinstance(cell, bool) for cell in present):
        numbers = np.array([float(cell) for cell in present])
        numbers[np.isinf(numbers)] = np.nan
        if len(np.unique(numbers)) > FEW or np.any(numbers % 1 != 0):
            codes = np.full(len(cells), np.nan)
            codes[~empty] = numbers
            return ItemColumn(name, None, codes)
    words = [cell_text(cell) or "" for cell in present]
    counts = Counter(words)
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    places = {word: place for place, word in enumerate(ordered)}
    numbers = np.full(len(cells), -1)
    numbers[~empty] = [places[word] for word in words]
    return ItemColumn(name, tuple(ordered), numbers)
