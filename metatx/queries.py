"""Rows of a table, files or arrays, as the raw samples that a task learns from or is asked about."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.data import as_table
from metatx.examples import Examples
from metatx.reading.csv_tables import Reading
from metatx.registry import unknown
from metatx.tables import TABLES, is_table

if TYPE_CHECKING:
    from metatx.head import Head
    from metatx.tokenizer import Tokenizer

__all__ = ["check_columns", "labelled", "raw_samples"]


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
    if isinstance(samples, str | Path):
        path = Path(samples)
        if path.suffix.lower() in tokenizer.suffixes and path.suffix.lower() not in tokenizer.containers:
            return [str(path)]
        if not path.is_dir() and not is_table(path) and path.suffix.lower() not in tokenizer.containers:
            raise ValueError(f"{path} is neither a table ({', '.join(TABLES)}) nor a file the task reads.")
    elif isinstance(samples, Sequence | np.ndarray):
        if not len(samples):
            raise ValueError("There are no samples to predict.")
        columns = len(inputs) == 1 and all(isinstance(s, dict) and inputs[0] in s for s in samples)
        return [sample[inputs[0]] for sample in samples] if columns else list(samples)
    reading = Reading(texts=tokenizer.text_columns(inputs))
    table = as_table(samples, tokenizer.suffixes, "test", tokenizer.containers, reading)
    if isinstance(table, Examples):
        return table.inputs
    check_columns(table.column_names, inputs)
    return head.queries(table, inputs or head.inputs(table, None, tokenizer), tokenizer)


def labelled(
    data: Any, split: str, tokenizer: "Tokenizer", head: "Head", inputs: list[str], target: str | None
) -> Examples:
    """Samples and targets of a split, from what ``Task.from_data`` takes. Raises ValueError if a column is missing."""
    if isinstance(data, Examples):
        return data
    if isinstance(data, tuple):
        return Examples(*data)
    words = [target] if target is not None and head.text_target() else []
    reading = Reading(texts=[*tokenizer.text_columns(inputs), *words])
    table = as_table(data, tokenizer.suffixes, split, tokenizer.containers, reading)
    if isinstance(table, Examples):
        return table
    check_columns(table.column_names, [*inputs, *([target] if target else [])])
    source = str(data) if isinstance(data, str | Path) else f"the {split} data"
    return head.examples(table, inputs, target, tokenizer, source)


def check_columns(found: list[str], wanted: list[str]) -> None:
    """Raise ValueError, with the nearest match, for a column that is not there."""
    for name in wanted:
        if name not in found:
            raise ValueError(unknown("column", name, found) + " The task was trained with it.")
