"""Samples that belong together, from the rows of a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metatx.data.file_columns import table_of_files
from metatx.data.splits import by_column
from metatx.data.table_files import is_table
from metatx.data.tables import read_splits
from metatx.encoding.columns import reading_of
from metatx.examples import Examples
from metatx.inputs.columns import resolved
from metatx.inputs.inputs import kind_of
from metatx.reading.csv_tables import Reading
from metatx.registry import lookup
from metatx.retrieval.recall import Paired
from metatx.spec import Input, TaskSpec
from metatx.values import is_missing

__all__ = ["read_pairs"]

ROW = "metatx: row of the file"  # column of row numbers while a table is divided into its splits


def read_pairs(
    data: Any, inputs: Sequence[Input], split_column: str | None = None, reading: Reading | None = None
) -> dict[str, Paired]:
    """Read samples by split; those of a row are partners. A cell without a value is no sample.

    An input of several columns has a partner in each, unless its samples are rows of columns themselves.

    Args:
        data: Data as ``metatx.data.tables.read_splits`` takes them.
        inputs: Inputs, two or more.
        split_column: Column that names the split of each row.
        reading: Format of csv files, where the detected one is wrong.

    Raises:
        FileNotFoundError: If the data do not exist.
        ValueError: If there are fewer than two inputs, a column is missing, or the data are no table.
    """
    if len(inputs) < 2:
        raise ValueError(
            f"Recall compares two inputs or more, such as --input photo=image --input words=text; found {len(inputs)}."
        )
    spec = TaskSpec(modality=list(inputs))
    kind = kind_of(spec)
    how = reading_of(kind, reading, kind.word_columns)
    path = Path(data) if isinstance(data, str | Path) else None
    if path is not None and path.is_file() and is_table(path):
        table = table_of_files(path, kind.suffixes, how)[0]
        tables = by_column(table.add_column(ROW, list(range(1, len(table) + 1))), str(path), split_column)
    else:
        tables = read_splits(data, kind.suffixes, split_column, kind.readers, how)
    return {split: _pairs(table, spec, str(path or data)) for split, table in tables.items()}


def _pairs(table: Any, spec: TaskSpec, source: str) -> Paired:
    if isinstance(table, Examples):
        raise ValueError(f"{source} is no table with a row for each pair; give one whose columns name the samples.")
    rows = None
    if ROW in table.column_names:
        rows = table[ROW][:]
        table = table.remove_columns(ROW)
    samples: dict[str, list[Any]] = {}
    numbers: dict[str, list[int]] = {}
    for each in resolved(spec, table, None):
        tokenizer = lookup("tokenizers", each.modality)
        columns = list(each.columns or ())
        part = table.select_columns(columns)
        samples[each.name] = []
        numbers[each.name] = []
        for number, row in enumerate(part):
            cells = [row] if tokenizer.takes_row else [row[column] for column in columns]
            present = [cell for cell in cells if not _is_absent(cell)]
            samples[each.name] += present
            numbers[each.name] += [number] * len(present)
    return Paired(samples, numbers, rows)


def _is_absent(cell: Any) -> bool:
    """True for a missing or an empty cell, and a row of nothing else."""
    if isinstance(cell, dict) and cell and not {"bytes", "path"} & cell.keys():
        return all(_is_absent(value) for value in cell.values())
    return is_missing(cell)
