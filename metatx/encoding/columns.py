"""Raw samples of a task from rows of a table, files or arrays, for training and for prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from metatx.data.arguments import joined_target, named_row, paired_table
from metatx.data.table_files import TABLES, is_table
from metatx.data.tables import DENSE_TARGETS, TARGETS, as_table, candidates
from metatx.data.torch_datasets import listed
from metatx.errors import PlacedError, SampleError
from metatx.examples import Examples
from metatx.progress import tell
from metatx.reading.csv_tables import Reading
from metatx.registry import unknown
from metatx.values import plain_samples

if TYPE_CHECKING:
    from datasets import Dataset

    from metatx.head import Head
    from metatx.tokenizer import Tokenizer

__all__ = [
    *("ByName", "by_name", "check_columns", "field_names", "fit_tokenizer", "labelled", "raw_samples", "read_part"),
    *("reading_of", "table_samples", "text_columns", "training_part"),
]


def raw_samples(
    samples: Any, tokenizer: "Tokenizer", head: "Head", inputs: list[str], reading: Reading | None = None
) -> Sequence[Any]:
    """Raw samples to predict, one item a sample.

    Args:
        samples: List of raw samples, one path, a table, or a data set of torch.
        tokenizer: Tokenizer that reads the samples.
        head: Head that answers.
        inputs: Columns that the task was trained with.
        reading: Format of csv files, where the detected one is wrong.

    Raises:
        ValueError: If there are no samples, a column is missing, or the task does not read files of the path's kind.
        TypeError: If ``samples`` is a single sample, or of another type.
    """
    items = listed(samples)
    if items is not samples:  # of a data set of torch, whose pairs have targets
        samples = items[0] if isinstance(items, tuple) else items
    if not _is_one_row(samples, inputs):
        samples = plain_samples(samples)
    if isinstance(samples, str | Path):
        if is_sample(samples, tokenizer):
            return [tokenizer.file_sample(str(samples))]
    elif isinstance(samples, Sequence | np.ndarray | Tensor):
        if not len(samples):
            raise ValueError("There are no samples to predict.")
        return ByName(list(samples), tokenizer, inputs)
    reading = reading_of(tokenizer, reading, tokenizer.text_columns(inputs))
    try:
        table = as_table(samples, tokenizer.suffixes, "test", tokenizer.readers, reading)
    except TypeError:
        kinds = "a list of samples (for one: [sample]), a path or a table"
        raise TypeError(f"The samples are of type {type(samples).__name__}; expected {kinds}.") from None
    return table_samples(table, tokenizer, head, inputs)


def is_sample(path: Any, tokenizer: "Tokenizer") -> bool:
    """Return True if a path is one sample, False if it is a table or a folder of samples.

    Raises:
        ValueError: If the task does not read files of this kind.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in tokenizer.suffixes and suffix not in tokenizer.readers:
        if tokenizer.file_columns is not None:
            raise ValueError(
                f"{path} is one file, and the task reads several inputs; give a table with a row a sample, in which "
                f"columns name the files: {', '.join(tokenizer.file_columns)}."
            )
        return True
    if not path.is_dir() and not is_table(path) and suffix not in tokenizer.readers:
        raise ValueError(f"{path} is neither a table ({', '.join(TABLES)}) nor a file the task reads.")
    return False


def table_samples(
    table: "Dataset | Examples", tokenizer: "Tokenizer", head: "Head", inputs: list[str]
) -> Sequence[Any]:
    """Raw samples of a table to predict. Raises ValueError if a column is missing."""
    if isinstance(table, Examples):
        return table.inputs
    table = _with_input(table, tokenizer, inputs)
    inputs = tokenizer.columns_in(table.column_names, inputs)
    check_columns(table.column_names, inputs)
    return head.queries(table, inputs or head.inputs(table, None, tokenizer), tokenizer)


def _with_input(table: "Dataset", tokenizer: "Tokenizer", inputs: list[str], target: str | None = None) -> "Dataset":
    """Rename the only column of files to the task's input; that of a task trained on a folder is ``file``."""
    if len(inputs) != 1 or inputs[0] in table.column_names or not tokenizer.suffixes:
        return table
    columns = candidates(table, tokenizer.accepts, without={target})
    if len(columns) != 1:
        return table
    tell(f"Column {columns[0]} is read as {inputs[0]}, which the task was trained with.")
    return table.rename_column(columns[0], inputs[0])


def training_part(data: Any, kind: "type[Tokenizer]", target: str | None) -> "tuple[Dataset | Examples, str | None]":
    """Read the training split of data, once; return it and the name of the target, which may come with the data.

    Args:
        data: Path, table, dict of splits, or pair of samples and targets.
        kind: Class of the tokenizer that reads the samples.
        target: Column to predict, where it was named.
    """
    if isinstance(data, Examples):
        return data, target
    data = listed(data)
    if isinstance(data, tuple):
        paired = paired_table(data, kind.takes_row, target)
        return (Examples(*data), target) if paired is None else (paired[0], str(paired[1]))
    reading = reading_of(kind, None, kind.word_columns, target)
    part = as_table(data, kind.suffixes, "train", kind.readers, reading)
    return part if isinstance(part, Examples) else joined_target(part, target, strict=False), target


def read_part(
    data: Any,
    split: str,
    tokenizer: "Tokenizer",
    head: "Head",
    inputs: Sequence[str],
    target: str | None,
    reading: Reading | None = None,
) -> "Dataset | Examples":
    """Read a split of data, once, for an existing task.

    Args:
        data: Path, table, dict of splits, or pair of samples and targets.
        split: Name of the split, where the data are split.
        tokenizer: Tokenizer that reads the samples.
        head: Head that reads the targets.
        inputs: Columns that the task was trained with.
        target: Column that the task predicts.
        reading: Format of csv files, where the detected one is wrong.
    """
    if isinstance(data, Examples):
        return data
    data = listed(data)
    if isinstance(data, tuple):
        paired = paired_table(data, tokenizer.takes_row, target, inputs) if inputs else None
        return Examples(*data) if paired is None else paired[0]
    reading = reading_of(tokenizer, reading, text_columns(tokenizer, head, inputs, target), target)
    return as_table(data, tokenizer.suffixes, split, tokenizer.readers, reading)


def reading_of(
    tokenizer: "Tokenizer | type[Tokenizer]", reading: Reading | None, texts: Sequence[str], target: str | None = None
) -> Reading:
    """Options of reading a table for a tokenizer, or its class: with columns of words, and those that name files."""
    reading = (reading or Reading()).also(texts)
    if tokenizer.file_columns is None:
        return reading
    targets = [target] if target else [*TARGETS, *DENSE_TARGETS]
    return replace(reading, files={**dict.fromkeys(targets, ()), **tokenizer.file_columns})


def text_columns(tokenizer: "Tokenizer", head: "Head", inputs: Sequence[str], target: str | None) -> list[str]:
    """Columns of a task whose cells are words, even if a file's cells look like numbers."""
    words = [target] if target is not None and head.text_target() else []
    return [*tokenizer.text_columns(inputs), *words]


def fit_tokenizer(tokenizer: "Tokenizer", train: Examples) -> None:
    """Fit and build a tokenizer. Raises ValueError, which names samples by their place, if they cannot be used."""
    try:
        tokenizer.learn(train.inputs)
    except PlacedError as error:
        raise ValueError(error.with_places(train.place)) from None


def labelled(
    part: "Dataset | Examples",
    source: str,
    tokenizer: "Tokenizer",
    head: "Head",
    inputs: list[str],
    target: str | None,
) -> Examples:
    """Make examples, samples with targets, of a split that was read.

    Args:
        part: Whole split.
        source: Name of the data, for messages.
        tokenizer, head, inputs, target: Parts and columns of the task.

    Raises:
        ValueError: If a column is missing.
    """
    if isinstance(part, Examples):
        return replace(part, inputs=_all_by_name(part.inputs, tokenizer, inputs))
    table = _with_input(joined_target(part, target, texts=head.continues), tokenizer, inputs, target)
    inputs = tokenizer.columns_in(table.column_names, inputs)
    check_columns(table.column_names, [*inputs, *([target] if target else [])])
    return head.examples(table, inputs, target, tokenizer, source)


# Inputs go by name: here a row becomes what a tokenizer reads


def by_name(sample: Any, tokenizer: "Tokenizer", inputs: Sequence[str]) -> Any:
    """Convert a row to the sample that the tokenizer reads: the task's inputs only, in their order.

    A row is a dict or a pandas Series. It becomes the value of the only input if the task has one, and stays whole if
    the tokenizer reads rows. A dict that may be a sample itself, such as a file with its path, is not changed.

    Raises:
        SampleError: If an input is absent, or there are fewer or more texts than inputs.
    """
    row = _row(sample)
    if row is None and not tokenizer.takes_row:
        texts = [sample] if isinstance(sample, str) else sample
        words = isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts)
        if words and len(inputs) > 1 and len(texts) != len(inputs):
            raise SampleError(f"found {len(texts)} of {len(inputs)} inputs; expected a row of {', '.join(inputs)}")
        return sample
    if row is None:
        return named_row(sample, inputs)
    if tokenizer.takes_row or not inputs:
        return row
    absent = [name for name in inputs if name not in row]
    if absent and len(inputs) == 1 and tokenizer.dicts:
        return sample
    if absent:
        present = ", ".join(map(str, row)) or "nothing"
        raise SampleError(f"column {absent[0]}: absent from a row of {present}; expected {', '.join(inputs)}")
    if len(inputs) == 1:
        return row[inputs[0]]
    return {name: row[name] for name in inputs}


def field_names(samples: Any, tokenizer: "Tokenizer") -> list[str]:
    """Names of the inputs of samples without a table: the fields of rows that the tokenizer reads in their order."""
    if tokenizer.takes_row or tokenizer.dicts or not isinstance(samples, Sequence) or not len(samples):
        return []
    return [str(name) for name in _row(samples[0]) or ()]


class ByName(Sequence[Any]):
    """Raw samples that are converted ``by_name`` when they are read; one that lacks an input raises SampleError then.

    Args:
        samples: Raw samples or rows.
        tokenizer: Tokenizer that reads the samples.
        inputs: Columns that the task was trained with.
    """

    def __init__(self, samples: Sequence[Any], tokenizer: "Tokenizer", inputs: Sequence[str]) -> None:
        self.samples = samples
        self.tokenizer = tokenizer
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return ByName(self.samples[at], self.tokenizer, self.inputs)
        return by_name(self.samples[at], self.tokenizer, self.inputs)


def _all_by_name(samples: Any, tokenizer: "Tokenizer", inputs: Sequence[str]) -> Any:
    """Convert training samples ``by_name``. Raises SampleError that names a sample which lacks an input."""
    if not isinstance(samples, list) or not any(_row(sample) is not None for sample in samples):
        return samples
    converted = []
    for number, sample in enumerate(samples, start=1):
        try:
            converted.append(by_name(sample, tokenizer, inputs))
        except SampleError as error:
            raise SampleError(f"sample {number}: {error}") from None
    return converted


def _row(sample: Any) -> dict[Any, Any] | None:
    """Convert a row to a dict; None for anything else."""
    import pandas as pd

    if isinstance(sample, Mapping):
        return dict(sample)
    return dict(sample.to_dict()) if isinstance(sample, pd.Series) else None


def _is_one_row(samples: Any, inputs: Sequence[str]) -> bool:
    """Return True for a Series of the cells of one row, False for a Series of samples."""
    import pandas as pd

    return isinstance(samples, pd.Series) and any(name in samples.index for name in inputs)


def check_columns(columns: list[str], wanted: list[str]) -> None:
    """Raise ValueError, with the nearest match, if a wanted column is missing."""
    for name in wanted:
        if name not in columns:
            raise ValueError(unknown("column", name, columns) + " The task was trained with it.")
