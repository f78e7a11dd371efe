"""Names of splits in all their usual spellings."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["ALL", "KNOWN", "letters", "one_each", "resembles", "split_of", "splits_of"]

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
ENDINGS = ("dataset", "data", "set", "split")  # second half of a word such as trainset
FILLERS = {*ENDINGS, "sets", "images", "imgs", "files"}  # words that do not tell one split from another
BEGINNINGS = ("train", "valid", "test")  # beginnings of words that mean a split and more: trainval
KNOWN = "train, validation, test, in any capitals and usual spelling (training_set, val, dev, Testing)"


def split_of(name: Any) -> str | None:
    """Return ``train``, ``validation`` or ``test`` if ``name`` means one of them and nothing else, else None.

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
    """Split of each name that means one; beside another validation split, such as ``dev``, ``eval`` means test."""
    splits = {name: split for name in names if (split := split_of(name)) is not None}
    evaluated = [name for name, split in splits.items() if split == "validation" and "eval" in name.lower()]
    if any(split == "validation" and name not in evaluated for name, split in splits.items()):
        splits |= dict.fromkeys(evaluated, "test")
    return splits


def resembles(name: str) -> set[str]:
    """Splits that a name contains, beside other words: ``test_old``, ``trainval``, ``X_train``."""
    words = {word for words in _words(name) for word in words}
    begun = {start for start in BEGINNINGS if any(word.startswith(start) for word in words)}
    return {WORDS[word] for word in (words & WORDS.keys()) | begun}


def one_each(paths: Iterable[Path], names: Mapping[Path, str]) -> dict[str, Path]:
    """Paths by the split that their names mean; paths whose names mean none are left out.

    Args:
        paths: Files or folders.
        names: Name of each path that is looked at.

    Raises:
        ValueError: If the names of two paths mean the same split.
    """
    splits = splits_of(names.values())
    by_split: dict[str, Path] = {}
    for path in paths:
        split = splits.get(names[path])
        if split in by_split:
            both = f"{by_split[split]} and {path}"
            raise ValueError(f"{both} both say that they are the {split} split; rename one of them.")
        if split is not None:
            by_split[split] = path
    return by_split


def _words(name: str) -> list[list[str]]:
    """Words of a name in lower case, split at digits and other characters; then split at capitals too."""
    readings = []
    for text in (name, re.sub("(?<=[a-z])(?=[A-Z])", " ", name)):
        words = re.findall(r"[^\W\d_]+|\d+", text.lower())
        readings.append([_shorn(word) for word in words])
    return readings


def _shorn(word: str) -> str:
    """Word without an ending behind a split: ``trainset`` becomes ``train``."""
    for ending in ENDINGS:
        if word.endswith(ending) and word.removesuffix(ending) in WORDS:
            return word.removesuffix(ending)
    return word


def letters(name: str) -> str:
    """Name of a column in lower case, letters and digits alone: ``File_Name`` becomes ``filename``."""
    return re.sub(r"[\W_]", "", name.lower())
