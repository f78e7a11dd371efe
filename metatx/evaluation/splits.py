"""Data of a run: read once into splits, turned into examples, and held out where splits are missing."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.backbone.base import Backbone
from metatx.data.arguments import joined_target, paired_table, target_name
from metatx.data.holdout import with_each_class
from metatx.data.table_files import are_columns, text_columns
from metatx.data.tables import ALL, as_table, read_splits
from metatx.encoding.columns import reading_of
from metatx.examples import Examples, Subset, selected
from metatx.inputs.guess import settled
from metatx.inputs.inputs import kind_of
from metatx.model import build
from metatx.progress import tell
from metatx.reading.csv_tables import Reading
from metatx.spec import TaskSpec
from metatx.task import Task
from metatx.tokenizer import Tokenizer

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["settled_parts", "source_of", "task_of", "training_part_of"]

HELD_FOR_TEST = 0.2  # share that is held out for the test where there is no test split

Parts = dict[str, "Dataset | Examples"]  # data by split: train, validation, test; or all


def settled_parts(data: Any, spec: TaskSpec, **options: Any) -> tuple[TaskSpec, Parts]:
    """Read the data of a run, and settle inputs that are guessed; arguments and errors are those of ``read_parts``."""
    target = target_name(spec.target)

    def read(kind: type[Tokenizer]) -> Parts:
        return read_parts(data, kind, target=target, **options)

    spec = settled(spec, lambda kind: (training_part_of(read(kind)), target))
    return spec, read(kind_of(spec))


def task_of(
    parts: Parts,
    spec: TaskSpec,
    backbone: Backbone,
    *,
    given: set[str],
    source: str,
    validation_share: float,
    seed: int,
    reading: Reading | None = None,
) -> tuple[Task, dict[str, Examples], str]:
    """Build a task, which has learned nothing yet, with the examples of all splits, and name the test split in words.

    Args:
        parts: Result of ``settled_parts``.
        spec: Choices that make the task.
        backbone: Backbone of the task.
        given: Splits that the user gave separately.
        source: Name of the data, for messages.
        validation_share, seed: The arguments of ``examples_of``.
        reading: Format of csv files, where the detected one is wrong.

    Raises:
        ValueError: If no task can be made of the data, or as ``examples_of``.
    """
    task = Task.of_model(*build(backbone, spec, training_part_of(parts)))
    task.reading = reading or task.reading
    if task.head.continues:
        parts = with_texts(parts, task.target)
    parts = measurable(parts, task.target, given, source)
    where = "test split" if "test" in parts else f"test: {HELD_FOR_TEST:.0%} held out"
    return task, examples_of(parts, task, validation_share, seed, source), where


def read_parts(
    data: Any,
    kind: type[Tokenizer],
    *,
    target: str | None,
    split_column: str | None = None,
    validation: Any = None,
    test: Any = None,
    reading: Reading | None = None,
) -> Parts:
    """Read the data of a run into tables and examples by split; each part is read once.

    Args:
        data: Data as ``metatx.data.tables.read_splits`` takes them; or a dict by split of such data, or of pairs of
            samples and targets.
        kind: Class of the tokenizer.
        target: Column to predict, where it was named.
        split_column: Column that says train, validation or test.
        validation, test: Data of these splits, where ``data`` has none.
        reading: Format of csv files, where the detected one is wrong.

    Raises:
        ValueError: If there is no training split, or as ``read_splits``.
    """
    reading = reading_of(kind, reading, kind.word_columns, target)
    if isinstance(data, dict) and not are_columns(data):
        parts = {split: _given(part, split, kind, target, reading) for split, part in data.items()}
    else:
        parts = read_splits(data, kind.suffixes, split_column, kind.readers, reading)
    train = parts.get("train", parts.get(ALL))
    words = [] if train is None or isinstance(train, Examples) else text_columns(train)
    for split, extra in {"validation": validation, "test": test}.items():
        if extra is not None:
            parts[split] = as_table(extra, kind.suffixes, split, kind.readers, reading.also(words))
    if ALL in parts and ("validation" in parts or "test" in parts):
        parts["train"] = parts.pop(ALL)
    if "train" not in parts and ALL not in parts:
        raise ValueError(f"{data} has no train split; it has {', '.join(parts)}.")
    return {
        split: part if isinstance(part, Examples) else joined_target(part, target, strict=False)
        for split, part in parts.items()
    }


def _given(
    part: Any, split: str, kind: type[Tokenizer], target: str | None, reading: Reading | None
) -> "Dataset | Examples":
    """Table or examples of a split that the user gave by its name."""
    if isinstance(part, Examples):
        return part
    if isinstance(part, tuple):
        paired = paired_table(part, kind.takes_row, target or "target")
        return Examples(*part) if paired is None else paired[0]
    return as_table(part, kind.suffixes, "train" if split == ALL else split, kind.readers, reading)


def training_part_of(parts: Mapping[str, "Dataset | Examples"]) -> "Dataset | Examples":
    """Training split, or all of the data where there are no splits."""
    return parts["train"] if "train" in parts else parts[ALL]


def measurable(parts: Parts, target: str | None, given: set[str], source: str) -> Parts:
    """Leave out splits without a target that come with the training split: nothing can be measured on them.

    Args:
        parts: Result of ``read_parts``.
        target: Column to predict.
        given: Splits that the user gave separately; a missing target of one is an error later.
        source: Name of the data, for messages.
    """
    lacking = [
        split
        for split, part in parts.items()
        if split not in ("train", ALL, *given) and target not in (None, *getattr(part, "column_names", (target,)))
    ]
    for split in lacking:
        tell(
            f"{source}: its {split} split has no {target} and is left out; a part of the training split is held out "
            "instead."
        )
    return {split: part for split, part in parts.items() if split not in lacking}


def with_texts(parts: Parts, target: str | None) -> Parts:
    """Parts whose columns of texts that are all right, named with commas in ``target``, are one column of lists."""
    return {
        split: part if isinstance(part, Examples) else joined_target(part, target, texts=True)
        for split, part in parts.items()
    }


def examples_of(parts: Parts, task: Task, validation_share: float, seed: int, source: str) -> dict[str, Examples]:
    """Examples of all three splits; missing splits are held out of the training split.

    Args:
        parts: Result of ``read_parts``.
        task: Task that is built for the data.
        validation_share: Share of the training split to hold out where there is no validation split; 0 for none.
        seed: Seed of the random choice.
        source: Name of the data, for messages.

    Raises:
        ValueError: If there are too few samples to hold some out, or a column is missing.
    """
    whole = training_part_of(parts)
    rows = {"train": np.arange(len(whole))}
    for split, share in {"test": HELD_FOR_TEST, "validation": validation_share}.items():
        if split not in parts and share:
            if len(rows["train"]) < 2:
                samples = "1 sample" if len(whole) == 1 else f"{len(whole)} samples"
                raise ValueError(
                    f"{source} has {samples}, too few to hold some out; give more, or the {split} split with --{split}."
                )
            staying, held_out = _hold_out(whole, rows["train"], task, share, seed)
            rows[split] = rows["train"][held_out]
            rows["train"] = rows["train"][staying]
    examples = {
        split: task.labelled(part, f"the {split} data") for split, part in parts.items() if split not in ("train", ALL)
    }
    if isinstance(whole, Examples):
        learned = task.labelled(whole, source)
        cut = {split: learned.select(picked) for split, picked in rows.items()}
        return examples | (cut if len(rows) > 1 else {"train": learned})
    for split, picked in rows.items():
        part = selected(whole, picked) if len(rows) > 1 else whole
        made = task.labelled(part, f"the {split} data")
        # A head's examples need not be the rows of the table: windows of a series are not.
        are_rows = len(rows) > 1 and len(made) == len(picked)
        examples[split] = replace(made, source=source, rows=picked) if are_rows else made
    return examples


def _hold_out(
    whole: "Dataset | Examples", rows: np.ndarray, task: Task, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split ``rows`` into those that stay and those that are held out, as positions in ``rows``."""
    if not isinstance(whole, Examples):
        return task.head.split(selected(whole, rows), task.target, task.tokenizer, share, seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    count = max(1, round(share * len(rows)))
    targets = [] if whole.targets is None else Subset(whole.targets, rows)
    return with_each_class(order[count:], order[:count], targets, task.head.labels)


def source_of(data: Any) -> str:
    """Name of the data in messages: the path, where there is one."""
    return str(data) if isinstance(data, str | Path) else "the data"
