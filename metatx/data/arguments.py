"""Arguments of callers in many forms (numpy, pandas, torch), converted to names of columns, tables and rows."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from metatx.errors import SampleError
from metatx.values import is_missing, plain_cell, plain_samples, plain_targets, whole_number

__all__ = [
    "column_names",
    "joined_target",
    "named_row",
    "paired_table",
    "target_name",
]


def column_names(names: Any, columns: Sequence[str]) -> list[str]:
    """Names of columns, from a sequence of names or a text with commas between them.

    >>> column_names("x,z", ["x", "z"]), column_names("alcohol, in %,z", ["alcohol, in %", "z"])
    (['x', 'z'], ['alcohol, in %', 'z'])
    """
    if not isinstance(names, str):
        return [str(name) for name in names]
    parts = names.split(",")
    chosen = []
    while parts:
        # A name may contain commas: take the longest one that is a column.
        ends = [end for end in range(len(parts), 0, -1) if ",".join(parts[:end]).strip() in columns]
        end = ends[0] if ends else 1
        chosen.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return chosen


def target_name(target: Any) -> str | None:
    """Name of the target as one text; the names of several targets are joined with commas."""
    if target is None or isinstance(target, str):
        return None if target is None else str(target)
    return ",".join(map(str, target if isinstance(target, Iterable) else [target]))


def paired_table(pair: tuple[Any, ...], row: bool, target: str | None, names: Sequence[str] = ()) -> Any:
    """Join a pair (samples, targets) to a table whose last column is the target.

    Args:
        pair: Samples and targets. Samples are a table, or an array (N, columns) if the tokenizer takes rows.
        row: True if the tokenizer takes rows.
        target: Name of the target's column; by default the name of the targets' series, or ``target``.
        names: Names of an array's columns; by default 0, 1, 2, ...

    Returns:
        Table and name of the target; None if samples are no table.

    Raises:
        ValueError: If the numbers of samples and targets differ, or a column has the target's name.
    """
    import pandas as pd

    from metatx.data.table_files import as_dataset

    samples, targets = pair
    if isinstance(targets, pd.DataFrame) and targets.shape[1] == 1:
        targets = targets.iloc[:, 0]
    if row and isinstance(targets, np.ndarray | Tensor) and targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]  # targets (N, 1), which scikit-learn accepts too
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
    series_name = targets.name if isinstance(targets, pd.Series) else None
    name = target or (series_name if isinstance(series_name, str) else "target")
    table = table.rename(columns=str)
    if name in table.columns:
        raise ValueError(f"A column of the samples is called {name}, as the target is; name the target otherwise.")
    values = list(plain_targets(targets))
    if len(values) != len(table):
        raise ValueError(f"There are {len(table)} samples and {len(values)} targets.")
    return as_dataset(table.assign(**{name: pd.Series(values, index=table.index, dtype=object)})), name


def joined_target(table: Any, target: str | None, *, strict: bool = True, texts: bool = False) -> Any:
    """Replace several columns of 0 and 1, named in one text with commas, by one column of lists of labels.

    A list holds the names of the columns that are 1 in its row; it is None if a cell of them is missing.

    Args:
        table: Dataset.
        target: Names of the columns, with commas.
        strict: True refuses other cells; False returns the table unchanged, for its columns may be forecast.
        texts: The columns hold texts that are all right, such as captions; a list holds those of its row.

    Raises:
        ValueError: If ``strict`` and a column holds something else than 0 and 1.
    """
    if target is None or target in table.column_names or "," not in target:
        return table
    names = column_names(target, table.column_names)
    if not set(names) <= set(table.column_names):
        return table
    if texts:
        cells = zip(*(table[name] for name in names), strict=True)
        rows_of_texts = [[None if is_missing(cell) else str(cell) for cell in row] for row in cells]
        return table.remove_columns(names).add_column(target, rows_of_texts)
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
    lists = [None if None in row else [name for name, flag in zip(names, row, strict=True) if flag] for row in rows]
    return table.remove_columns(names).add_column(target, lists)


def named_row(sample: Any, names: Sequence[str]) -> Any:
    """Convert a row of numbers to a dict by the names of its columns; other samples are returned unchanged.

    Raises:
        SampleError: If the row has not one value for each column.
    """
    if not names or not isinstance(sample, np.ndarray | Tensor | list | tuple) or np.ndim(sample) != 1:
        return sample
    if len(sample) != len(names):
        raise SampleError(f"found {len(sample)} values; expected {len(names)}: {', '.join(names)}")
    return dict(zip(names, _as_list(sample), strict=True))


def _as_list(sample: Any) -> list[Any]:
    return sample.tolist() if isinstance(sample, np.ndarray | Tensor) else list(sample)
