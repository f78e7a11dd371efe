"""The names of splits, as people spell them."""

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
ENDINGS = ("dataset", "data", "set", "split")  # that a name may have in one word: trainset
FILLERS = {*ENDINGS, "sets", "images", "imgs", "files"}  # words that say nothing of which split it is
BEGINNINGS = ("train", "valid", "test")  # of words that may mean a split and something more: trainval
KNOWN = "train, validation, test, in any capitals and usual spelling (training_set, val, dev, Testing)"


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


def letters(name: str) -> str:
    """A column's name without capitals, signs and spaces, as the usual names are listed: ``File_Name`` is filename."""
    return re.sub(r"[\W_]", "", name.lower())
