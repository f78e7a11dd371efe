"""Splits: their names as people spell them, and a table cut by a column that holds them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metatx.data.table_files import not_empty
from metatx.progress import tell
from metatx.registry import unknown

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["ALL", "by_column", "letters", "one_each", "resembles", "split_of", "splits_of"]

ALL = "all"  # the name of a table that is not split
WORDS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "validate": "validation",
    "validating": "validation",
    "dev": "validation",
    "development": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
ENDINGS = ("dataset", "data", "set", "split")  # that a name may have in one word: trainset
FILLERS = {*ENDINGS, "sets", "images", "imgs", "files"}  # words that say nothing of which split it is
BEGINNINGS = ("train", "valid", "test")  # of words that may mean a split and something more: trainval
KNOWN = "train, validation, test, in any capitals and usual spelling (training_set, val, dev, Testing)"
# Columns that say the split, where all they hold are names of splits; letters only.
COLUMNS = ("split", "datasplit", "splitname", "set", "subset", "partition", "fold", "phase", "usage")


def split_of(name: Any) -> str | None:
    """``train``, ``validation`` or ``test``, where ``name`` says one of them and nothing else; otherwise None.

    >>> split_of("Training_Set"), split_of("val2017"), split_of("test_old")
    ('train', 'validation', None)
    """
    if not isinstance(name, str):
        return None
    for words in _words(name):
        # The year of a challenge is part of its splits' names.
        telling = [word for word in words if word not in FILLERS and not re.fullmatch("(19|20)[0-9]{2}", word)]
        if len(telling) == 1 and telling[0] in WORDS:
            return WORDS[telling[0]]
    return None


def splits_of(names: Iterable[Any]) -> dict[Any, str]:
    """The split of each of ``names`` that is the name of one; of ``dev`` and ``eval`` together the second is a test."""
    found = {name: split for name in names if (split := split_of(name)) is not None}
    evaluated = [name for name, split in found.items() if split == "validation" and "eval" in name.lower()]
    if any(split == "validation" and name not in evaluated for name, split in found.items()):
        found |= dict.fromkeys(evaluated, "test")
    return found


def resembles(name: str) -> set[str]:
    """The splits that a name has in it, beside whatever else: ``test_old``, ``trainval``, ``X_train``."""
    words = {word for words in _words(name) for word in words}
    begun = {start for start in BEGINNINGS if any(word.startswith(start) for word in words)}
    return {WORDS[word] for word in (words & WORDS.keys()) | begun}


def one_each(paths: Iterable[Path], names: Mapping[Path, str]) -> dict[str, Path]:
    """Paths by the split that they are called after, given what their names are; those of no split are left out.

    Raises:
        ValueError: If two are of one split.
    """
    known = splits_of(names.values())
    found: dict[str, Path] = {}
    for path in paths:
        split = known.get(names[path])
        if split in found:
            raise ValueError(f"{found[split]} and {path} both say that they are the {split} split; rename one of them.")
        if split is not None:
            found[split] = path
    return found


def _words(name: str) -> list[list[str]]:
    """The words of a name in lower case: as they are parted by signs and digits, and by capitals too."""
    readings = []
    for text in (name, re.sub("(?<=[a-z])(?=[A-Z])", " ", name)):
        words = re.findall(r"[^\W\d_]+|\d+", text.lower())
        readings.append([_shorn(word) for word in words])
    return readings


def _shorn(word: str) -> str:
    """``trainset`` as ``train``."""
    for ending in ENDINGS:
        if word.endswith(ending) and word.removesuffix(ending) in WORDS:
            return word.removesuffix(ending)
    return word


def by_column(table: "Dataset", source: str, split_column: str | None = None) -> "dict[str, Dataset]":
    """Split a table by the column that says the split of each row, where it has one.

    Args:
        table: Whole.
        source: What it was read from, for messages.
        split_column: The column; by default one with a usual name that holds nothing but names of splits.

    Raises:
        ValueError: If the column is missing, or says the split of some rows only.
    """
    not_empty(table, source)
    named = split_column is not None
    column = split_column or _found(table, source)
    if column is None:
        return {ALL: table}
    if column not in table.column_names:
        raise ValueError(unknown("split column", column, table.column_names))
    values = table[column][:]
    known = splits_of({value for value in values if isinstance(value, str)})
    unknown_rows = [row for row, value in enumerate(values, 1) if not isinstance(value, str) or value not in known]
    strange = {str(values[row - 1]): row for row in reversed(unknown_rows)}
    if strange:
        words = sorted(strange)[:3]
        raise ValueError(
            f"{source}: column {column} says {', '.join(words)} (row {strange[words[0]]}); it may say {KNOWN}. "
            "Mend those rows, or leave them out."
        )
    if not named and letters(column) != "split":
        tell(f"{source}: column {column} says the split of each row.")
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        rows.setdefault(known[value], []).append(row)
    # A column of another split must neither be an input nor split the parts again.
    spent = [name for name in table.column_names if name == column or (_usual(name) and _all_known(table, name))]
    return {split: table.select(indices).remove_columns(spent) for split, indices in rows.items()}


def _found(table: "Dataset", source: str) -> str | None:
    """The column that says the split. Raises ValueError where one called ``split`` is half of such names."""
    names: list[str] = table.column_names
    usual = sorted(filter(_usual, names), key=lambda name: COLUMNS.index(letters(name)))
    for name in usual:
        # Of another name, phases of development and testing may be a feature.
        if _all_known(table, name) and (letters(name) == "split" or "train" in map(split_of, table.unique(name))):
            return name
        values = table.unique(name) if letters(name) == "split" else []
        strange = [str(value) for value in values if split_of(value) is None]
        if len(strange) < len(values):
            raise ValueError(
                f"{source}: column {name} says {', '.join(sorted(strange)[:3])} beside names of splits; it may say "
                f"{KNOWN}. Mend those rows, leave them out, or give the column another name if it is no split."
            )
    return None


def _usual(name: str) -> bool:
    return letters(name) in COLUMNS


def _all_known(table: "Dataset", name: str) -> bool:
    """Whether a column of words holds nothing but names of splits."""
    if getattr(table.features[name], "dtype", None) not in ("string", "large_string"):
        return False
    return all(split_of(value) is not None for value in table.unique(name))


def letters(name: str) -> str:
    """A column's name without capitals, signs and spaces, as the usual names are listed: ``File_Name`` is filename."""
    return re.sub(r"[\W_]", "", name.lower())
