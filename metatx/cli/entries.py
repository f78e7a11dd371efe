"""What a command is asked about: tables, files and folders of samples, each sample with its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.data.file_columns import table_of_files
from metatx.data.table_files import is_table, not_empty
from metatx.data.tables import ALL, read_splits
from metatx.encoding.columns import is_sample, table_samples
from metatx.examples import Examples, Rows
from metatx.progress import tell
from metatx.reading.csv_tables import Reading
from metatx.reading.folders import check_name
from metatx.registry import unknown

if TYPE_CHECKING:
    from datasets import Dataset

    from metatx.task import Task

__all__ = ["Entry", "open_entries"]

NUMBER = "metatx: row of the file"  # a column of row numbers, while a table is divided into its splits


@dataclass(frozen=True)
class Entry:
    """One of the inputs of a command.

    Attributes:
        source: As it was given.
        queries: Raw samples.
        files: Whether each is the name of a file.
        numbers: Of each its row in the source, counted from 1; None where a sample is no row.
        table: Of a row a sample, where there is such.
    """

    source: str
    queries: Sequence[Any]
    files: bool = False
    numbers: Sequence[int] | np.ndarray | None = None
    table: "Dataset | None" = None

    def place(self, at: int) -> str:
        """Where a sample is, in words."""
        if self.files:
            return str(self.queries[at])
        return f"{self.source}, {f'sample {at + 1}' if self.numbers is None else f'row {self.numbers[at]}'}"

    def columns(self, at: int) -> dict[str, Any]:
        """Where a sample is: its ``file``, as it is called within the folder that was given, and its ``row``."""
        file = str(self.queries[at]) if self.files else self.source
        if file != self.source and Path(file).is_relative_to(self.source):
            file = str(Path(file).relative_to(self.source))
        return {"file": file, "row": None if self.numbers is None else int(self.numbers[at])}

    def kept(self, names: Sequence[str]) -> Sequence[dict[str, Any]] | None:
        """Columns of the table, a row a sample; None where there are none."""
        return Rows(self.table, names) if names and self.table is not None else None


def open_entries(task: "Task", sources: Sequence[str], keep: Sequence[str] = ()) -> list[Entry]:
    """Inputs, opened: all of them are found, and their columns known, before any is answered.

    A folder's files come in the order of their sorted names.

    Args:
        task: That will answer.
        sources: Paths.
        keep: Columns that each of them must have.

    Raises:
        FileNotFoundError: If there is nothing of a name.
        ValueError: If it cannot be read, holds no samples, or lacks a column.
    """
    entries = [_open(task, source) for source in sources]
    for entry in entries:
        if keep and entry.table is None:
            raise ValueError(f"{entry.source} is no table of a row a sample; it has no columns to keep.")
        for name in keep:
            if entry.table is not None and name not in entry.table.column_names:
                raise ValueError(unknown("column to keep", name, entry.table.column_names))
    return entries


def _open(task: "Task", source: str) -> Entry:
    path, tokenizer = Path(source), task.tokenizer
    check_name(path)
    if is_sample(path, tokenizer):
        return Entry(source, [tokenizer.file_sample(source)], files=True)
    suffix = path.suffix.lower()
    numbered = path.is_file() and is_table(path) and not {path.name, suffix} & set(tokenizer.readers)
    reading = task.reading.also(tokenizer.text_columns(task.inputs))
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
    if len(queries) != len(table):  # windows of it
        return Entry(source, queries)
    # A list of pictures in json (COCO) is one of files; csv, parquet and jsonl have rows.
    first = queries[0] if not numbered or suffix == ".json" else None
    files = tokenizer.names_file(first)
    return Entry(source, queries, files, None if files else numbers, table)


def _asked(splits: "dict[str, Dataset | Examples]", source: str) -> "Dataset | Examples":
    """What of a source is answered: all of it, or its test split."""
    if ALL in splits:
        return splits[ALL]
    if "test" not in splits:
        raise ValueError(f"{source} has no test split; it has {', '.join(splits)}.")
    if len(splits) > 1:
        tell(f"{source} is split: the {len(splits['test']):,} samples of its test split are answered.")
    return splits["test"]


def _numbered(path: Path, suffixes: tuple[str, ...], reading: Reading) -> "Dataset":
    """A table with the number of each row."""
    table = not_empty(table_of_files(path, suffixes, reading)[0], str(path))
    return table.add_column(NUMBER, list(range(1, len(table) + 1)))
