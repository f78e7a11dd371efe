"""Inputs of a command: tables, files and folders of samples, each sample with its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.data.file_columns import table_of_files
from metatx.data.table_files import is_table, not_empty
from metatx.data.tables import ALL, read_splits
from metatx.encoding.columns import is_sample, reading_of, table_samples
from metatx.examples import Examples, Rows
from metatx.progress import tell
from metatx.reading.csv_tables import Reading
from metatx.reading.folders import check_name
from metatx.registry import unknown

if TYPE_CHECKING:
    from datasets import Dataset

    from metatx.task import Task

__all__ = ["Entry", "check_kept", "open_entries"]

NUMBER = "metatx: row of the file"  # column of row numbers that a table has while it is divided into its splits


@dataclass(frozen=True)
class Entry:
    """One input of a command.

    Attributes:
        source: Path, as the user gave it.
        queries: Raw samples.
        files: True if each sample is the name of a file.
        numbers: Row of each sample in the source, counted from 1; None if samples are no rows.
        table: Table with one row a sample; None if there is none.
        part: True for a part of the source's samples.
    """

    source: str
    queries: Sequence[Any]
    files: bool = False
    numbers: Sequence[int] | np.ndarray | None = None
    table: "Dataset | None" = None
    part: bool = False

    def place(self, at: int) -> str:
        """Return the place of a sample, in words."""
        if self.files:
            return str(self.queries[at])
        return f"{self.source}, {f'sample {at + 1}' if self.numbers is None else f'row {self.numbers[at]}'}"

    def columns(self, at: int) -> dict[str, Any]:
        """Return the place of a sample: its ``file``, relative to the folder that was given, and its ``row``."""
        file = str(self.queries[at]) if self.files else self.source
        if file != self.source and Path(file).is_relative_to(self.source):
            file = str(Path(file).relative_to(self.source))
        return {"file": file, "row": None if self.numbers is None else int(self.numbers[at])}

    def kept(self, names: Sequence[str]) -> Sequence[dict[str, Any]] | None:
        """Return columns of the table, one row a sample; None if no column is asked for, or there is no table."""
        return Rows(self.table, names) if names and self.table is not None else None


def open_entries(task: "Task", sources: Sequence[str], keep: Sequence[str] = ()) -> list[Entry]:
    """Open all inputs, and check their columns, before any is answered.

    The files of a folder are sorted by name.

    Args:
        task: Task that will answer.
        sources: Paths of the inputs.
        keep: Columns that each input must have.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If an input cannot be read, holds no samples, or lacks a column.
    """
    entries = [_open(task, source) for source in sources]
    for entry in entries:
        check_kept(entry, keep)
    return entries


def check_kept(entry: Entry, keep: Sequence[str]) -> None:
    """Refuse columns to keep that an input does not have. Raises ValueError."""
    if keep and entry.table is None:
        raise ValueError(f"{entry.source} is no table with one row a sample, so it has no columns to keep.")
    for name in keep:
        if entry.table is not None and name not in entry.table.column_names:
            raise ValueError(unknown("column to keep", name, entry.table.column_names))


def _open(task: "Task", source: str) -> Entry:
    path = Path(source)
    tokenizer = task.tokenizer
    check_name(path)
    if is_sample(path, tokenizer):
        return Entry(source, [tokenizer.file_sample(source)], files=True)
    suffix = path.suffix.lower()
    numbered = path.is_file() and is_table(path) and not {path.name, suffix} & set(tokenizer.readers)
    reading = reading_of(tokenizer, task.reading, tokenizer.text_columns(task.inputs))
    data = _numbered(path, tokenizer.suffixes, reading) if numbered else source
    splits = read_splits(data, tokenizer.suffixes, containers=tokenizer.readers, reading=reading)
    table = _asked(splits, source)
    if isinstance(table, Examples):
        rows = np.arange(len(table)) if table.rows is None else np.asarray(table.rows)
        return Entry(source, table.inputs, numbers=rows + 1)
    numbers = np.arange(len(table)) + 1
    if numbered:
        numbers = np.asarray(table[NUMBER][:])
        table = table.remove_columns(NUMBER)
    queries = table_samples(table, tokenizer, task.head, task.inputs)
    if len(queries) != len(table):  # samples are windows of the table
        return Entry(source, queries)
    # A json file (COCO) lists image files; csv, parquet and jsonl have rows.
    first = queries[0] if not numbered or suffix == ".json" else None
    files = tokenizer.names_file(first)
    return Entry(source, queries, files, None if files else numbers, table)


def _asked(splits: "dict[str, Dataset | Examples]", source: str) -> "Dataset | Examples":
    """Choose the samples of a source that are answered: all of them, or its test split."""
    if ALL in splits:
        return splits[ALL]
    if "test" not in splits:
        raise ValueError(f"{source} has no test split; it has {', '.join(splits)}.")
    if len(splits) > 1:
        tell(f"{source} has splits: only the {len(splits['test']):,} samples of its test split are answered.")
    return splits["test"]


def _numbered(path: Path, suffixes: tuple[str, ...], reading: Reading) -> "Dataset":
    """Read a table and add a column with the number of each row, from 1."""
    table = not_empty(table_of_files(path, suffixes, reading)[0], str(path))
    return table.add_column(NUMBER, list(range(1, len(table) + 1)))
