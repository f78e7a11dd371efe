"""Rows of a table, files or arrays, as the raw samples that a task learns from or is asked about."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from metatx.arguments import joined_target, named_row, paired_table, plain_samples
from metatx.data import as_table
from metatx.errors import PlacedError
from metatx.examples import Examples
from metatx.reading.csv_tables import Reading
from metatx.registry import unknown
from metatx.tables import TABLES, is_table

if TYPE_CHECKING:
    from metatx.head import Head
    from metatx.tokenizer import Tokenizer

__all__ = ["check_columns", "fit_tokenizer", "labelled", "raw_samples", "training_data"]


def raw_samples(samples: Any, tokenizer: "Tokenizer", head: "Head", inputs: list[str]) -> Sequence[Any]:
    """What is asked about, one item a sample.

    Args:
        samples: A list of raw samples, one path, or a table.
        tokenizer: That will read them.
        head: That will answer.
        inputs: Columns that the task was trained with.

    Raises:
        ValueError: If there is nothing, a column is missing, or the path is of no file that the task reads.
    """
    samples = plain_samples(samples)
    if isinstance(samples, str | Path):
        path = Path(samples)
        if path.suffix.lower() in tokenizer.suffixes and path.suffix.lower() not in tokenizer.containers:
            return [str(path)]
        if not path.is_dir() and not is_table(path) and path.suffix.lower() not in tokenizer.containers:
            raise ValueError(f"{path} is neither a table ({', '.join(TABLES)}) nor a file the task reads.")
    elif isinstance(samples, Sequence | np.ndarray | Tensor):
        if not len(samples):
            raise ValueError("There are no samples to predict.")
        columns = len(inputs) == 1 and all(isinstance(s, dict) and inputs[0] in s for s in samples)
        if tokenizer.row:
            samples = [named_row(sample, inputs) for sample in samples]
        return [sample[inputs[0]] for sample in samples] if columns else list(samples)
    reading = Reading(texts=tokenizer.text_columns(inputs))
    table = as_table(samples, tokenizer.suffixes, "test", tokenizer.containers, reading)
    if isinstance(table, Examples):
        return table.inputs
    check_columns(table.column_names, inputs)
    return head.queries(table, inputs or head.inputs(table, None, tokenizer), tokenizer)


def training_data(data: Any, kind: "type[Tokenizer]", target: str | None) -> tuple[Any, str | None]:
    """What ``Task.from_data`` takes, as a table or as samples and targets; and the target, as named or as it came."""
    paired = paired_table(data, kind.row, target) if isinstance(data, tuple) else None
    if paired is not None:
        table, name = paired
        return table, str(name)
    if not isinstance(data, tuple | Examples):
        data = as_table(data, kind.suffixes, "train", kind.containers)
    return data if isinstance(data, tuple | Examples) else joined_target(data, target), target


def fit_tokenizer(tokenizer: "Tokenizer", train: Examples) -> None:
    """Learn a tokenizer's statistics. Raises ValueError, naming samples by their place, where there are none."""
    try:
        tokenizer.fit(train.inputs)
    except PlacedError as error:
        raise ValueError(error.told(train.place)) from None


def labelled(
    data: Any, split: str, tokenizer: "Tokenizer", head: "Head", inputs: list[str], target: str | None
) -> Examples:
    """Samples and targets of a split, from what ``Task.from_data`` takes. Raises ValueError if a column is missing."""
    if isinstance(data, Examples):
        return data
    paired = paired_table(data, tokenizer.row, target, inputs) if isinstance(data, tuple) and inputs else None
    if paired is not None:
        data = paired[0]
    elif isinstance(data, tuple):
        return Examples(*data)
    words = [target] if target is not None and head.text_target() else []
    reading = Reading(texts=[*tokenizer.text_columns(inputs), *words])
    table = as_table(data, tokenizer.suffixes, split, tokenizer.containers, reading)
    if isinstance(table, Examples):
        return table
    table = joined_target(table, target)
    check_columns(table.column_names, [*inputs, *([target] if target else [])])
    source = str(data) if isinstance(data, str | Path) else f"the {split} data"
    return head.examples(table, inputs, target, tokenizer, source)


def check_columns(found: list[str], wanted: list[str]) -> None:
    """Raise ValueError, with the nearest match, for a column that is not there."""
    for name in wanted:
        if name not in found:
            raise ValueError(unknown("column", name, found) + " The task was trained with it.")
