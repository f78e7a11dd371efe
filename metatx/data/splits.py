"""Tables divided by a column that names the split of each row."""

from typing import TYPE_CHECKING

from metatx.data.table_files import not_empty
from metatx.examples import selected
from metatx.progress import tell
from metatx.reading.split_names import ALL, KNOWN, letters, split_of, splits_of
from metatx.registry import unknown

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["by_column"]

# Usual names, letters only, of a column that names splits.
COLUMNS = ("split", "datasplit", "splitname", "set", "subset", "partition", "fold", "phase", "usage")


def by_column(table: "Dataset", source: str, split_column: str | None = None) -> "dict[str, Dataset]":
    """Divide a table by the column that names the split of each row; without one, all rows are ``all``.

    Args:
        table: Table to divide.
        source: Name of its file, for messages.
        split_column: Column of the splits; by default one with a usual name that holds nothing but names of splits.

    Raises:
        ValueError: If the column is missing, or names the split of some rows only.
    """
    not_empty(table, source)
    named = split_column is not None
    column = split_column or _split_column(table, source)
    if column is None:
        return {ALL: table}
    if column not in table.column_names:
        raise ValueError(unknown("split column", column, table.column_names))
    values = table[column][:]
    splits = splits_of({value for value in values if isinstance(value, str)})
    unknown_rows = [row for row, value in enumerate(values, 1) if not isinstance(value, str) or value not in splits]
    strange = {str(values[row - 1]): row for row in reversed(unknown_rows)}
    if strange:
        words = sorted(strange)[:3]
        raise ValueError(
            f"{source}: column {column} holds {', '.join(words)} (row {strange[words[0]]}); accepted are {KNOWN}. "
            "Correct those rows, or leave them out."
        )
    if not named and letters(column) != "split":
        tell(f"{source}: column {column} is taken for the split of each row.")
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        rows.setdefault(splits[value], []).append(row)
    # Other columns of splits are removed too: they must not become inputs, nor divide the parts again.
    spent = [name for name in table.column_names if name == column or (_usual(name) and _all_known(table, name))]
    return {split: selected(table, indices).remove_columns(spent) for split, indices in rows.items()}


def _split_column(table: "Dataset", source: str) -> str | None:
    """Find the column of splits. Raises ValueError if one called ``split`` holds names of splits and other words."""
    names: list[str] = table.column_names
    usual = sorted(filter(_usual, names), key=lambda name: COLUMNS.index(letters(name)))
    for name in usual:
        # In a column of another name, words such as test may be values of a feature, unless there is train too.
        if _all_known(table, name) and (letters(name) == "split" or "train" in map(split_of, table.unique(name))):
            return name
        values = table.unique(name) if letters(name) == "split" else []
        strange = [str(value) for value in values if split_of(value) is None]
        if len(strange) < len(values):
            raise ValueError(
                f"{source}: column {name} holds {', '.join(sorted(strange)[:3])} beside names of splits; accepted are "
                f"{KNOWN}. Correct those rows, leave them out, or rename the column if it holds no splits."
            )
    return None


def _usual(name: str) -> bool:
    return letters(name) in COLUMNS


def _all_known(table: "Dataset", name: str) -> bool:
    """Return whether a column of words holds nothing but names of splits."""
    if getattr(table.features[name], "dtype", None) not in ("string", "large_string"):
        return False
    return all(split_of(value) is not None for value in table.unique(name))
