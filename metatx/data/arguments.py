"""What callers pass, as plain Python: options, names of columns, samples and targets from numpy, pandas and torch."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from metatx.errors import SampleError
from metatx.values import plain_cell, plain_samples, plain_targets, whole_number

__all__ = [
    "column_names",
    "joined_target",
    "named_row",
    "paired_table",
    "target_name",
]


def column_names(names: Any, columns: Sequence[str]) -> list[str]:
    """Names of columns from any sequence of them, or from one text, in which commas part them.

    >>> column_names("x,z", ["x", "z"]), column_names("alcohol, in %,z", ["alcohol, in %", "z"])
    (['x', 'z'], ['alcohol, in %', 'z'])
    """
    if not isinstance(names, str):
        return [str(name) for name in names]
    parts = names.split(",")
    found = []
    while parts:
        # A comma may be part of a name: the longest that there is.
        ends = [end for end in range(len(parts), 0, -1) if ",".join(parts[:end]).strip() in columns]
        end = ends[0] if ends else 1
        found.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return found


def target_name(target: Any) -> str | None:
    """The target's name, or those of several with commas, from a name or any sequence of them."""
    if target is None or isinstance(target, str):
        return None if target is None else str(target)
    return ",".join(map(str, target if isinstance(target, Iterable) else [target]))


def paired_table(pair: tuple[Any, ...], row: bool, target: str | None, names: Sequence[str] = ()) -> Any:
    """A pair (samples, targets) as a table whose last column is the target; None where samples are no table.

    Args:
        pair: Samples are a table, or for a tokenizer of rows numbers (N, columns), a column each.
        row: Whether the tokenizer takes rows.
        target: Name of the target's column; otherwise that of the targets, or ``target``.
        names: Of the columns of an array, which are otherwise called 0, 1, 2, ...

    Returns:
        The table and the target's name, or None.

    Raises:
        ValueError: If there are not as many samples as targets, or a column is called as the target is.
    """
    import pandas as pd

    from metatx.data.table_files import as_dataset

    samples, targets = pair
    if isinstance(targets, pd.DataFrame) and targets.shape[1] == 1:
        targets = targets.iloc[:, 0]
    if row and isinstance(targets, np.ndarray | Tensor) and targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]  # a column, as scikit-learn's users have it
    if row and isinstance(samples, pd.Series):
        samples = samples.to_frame()
    if isinstance(samples, pd.DataFrame) or (hasattr(samples, "__arrow_c_stream__") and hasattr(samples, "columns")):
        table = samples if isinstance(samples, pd.DataFrame) else as_dataset(samples).to_pandas()
    else:
        samples = plain_samples(samples)
        first = samples[0] if row and len(samples) else None
        if not isinstance(first, np.ndarray | Tensor | list | tuple) or np.ndim(first) != 1:
            return None
        rows = [_as_list(sample) for sample in samples]
        table = pd.DataFrame(rows, columns=list(names) if len(names) == len(first) else None)
    called = targets.name if isinstance(targets, pd.Series) else None
    name = target or (called if isinstance(called, str) else "target")
    table = table.rename(columns=str)
    if name in table.columns:
        raise ValueError(f"A column of the samples is called {name}, as the target is; name the target otherwise.")
    values = list(plain_targets(targets))
    if len(values) != len(table):
        raise ValueError(f"There are {len(table)} samples and {len(values)} targets.")
    return as_dataset(table.assign(**{name: pd.Series(values, index=table.index, dtype=object)})), name


def joined_target(table: Any, target: str | None, *, strict: bool = True) -> Any:
    """A table in which several columns of 0 and 1, named in one text with commas, are one column of that name.

    In it stand lists of those that are 1, or None where one of them is missing.

    Raises:
        ValueError: If one of them holds something else; unless not ``strict``, where they may be numbers to forecast.
    """
    if target is None or target in table.column_names or "," not in target:
        return table
    names = column_names(target, table.column_names)
    if not set(names) <= set(table.column_names):
        return table
    columns = [[whole_number(plain_cell(cell)) for cell in table[name]] for name in names]
    for name, column in zip(names, columns, strict=True):
        for row, number in enumerate(column):
            if number not in (0, 1) and (number is not None or plain_cell(table[row][name]) is not None):
                if not strict:
                    return table
                raise ValueError(
                    f"Column {name}, row {row + 1}: {table[row][name]!r:.40}; several targets are columns of 0 and 1, "
                    "one for each label. For others train one task a column."
                )
    rows = zip(*columns, strict=True)
    lists = [None if None in row else [n for n, one in zip(names, row, strict=True) if one] for row in rows]
    return table.remove_columns(names).add_column(target, lists)


def named_row(sample: Any, names: Sequence[str]) -> Any:
    """A row that came as numbers, by the names of the columns; anything else as it is.

    Raises:
        SampleError: If it has not one for each.
    """
    if not names or not isinstance(sample, np.ndarray | Tensor | list | tuple) or np.ndim(sample) != 1:
        return sample
    if len(sample) != len(names):
        raise SampleError(f"found {len(sample)} values; expected {len(names)}: {', '.join(names)}")
    return dict(zip(names, _as_list(sample), strict=True))


def _as_list(sample: Any) -> list[Any]:
    return sample.tolist() if isinstance(sample, np.ndarray | Tensor) else list(sample)
