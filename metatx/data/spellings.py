"""Spellings of the same number, label or list: ``1``, ``1.0`` and ``True``; lists in JSON, Python and numpy."""

import ast
import json
import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from torch import Tensor

from metatx.values import whole_number

__all__ = [
    "BOOLEANS",
    "Spellings",
    "are_label_lists",
    "label_list",
]

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
BOOLEANS = {"true": True, "false": False}
QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
WRITTEN_LIST = re.compile(rf"[\[(]\s*(?:(?:{QUOTED})\s*,?\s*)*[\])]", re.DOTALL)  # commas are optional, as in numpy's


class Spellings:
    """Search for the word or number that a cell means, in any of its spellings.

    A word equal to the cell is preferred, then one equal to its text, then one that differs only in the spaces around
    it, then one of the same number: 0.5 matches "0.50", 1 matches "1.0", True and "TRUE" match "true" and 1. The last
    two must be unique.

    Args:
        words: Texts, numbers, booleans or None, all different.
    """

    def __init__(self, words: Iterable[Any]) -> None:
        self.words = list(words)
        self.exact = {value: i for i, value in enumerate(self.words)}
        bare: dict[str, set[int]] = {}
        spelled: dict[int | float, set[int]] = {}
        rounded: dict[float, set[int]] = {}
        for value, i in self.exact.items():
            if isinstance(value, str):
                bare.setdefault(value.strip(), set()).add(i)
            number = _number(value)
            if number is not None:
                spelled.setdefault(number, set()).add(i)
                rounded.setdefault(_as_float32(number), set()).add(i)
        self.bare = {word: min(places) for word, places in bare.items() if len(places) == 1}
        # 0.1 in a column of float32 reads as 0.10000000149.
        spelled = {**rounded, **spelled}
        self.numbers = {number: min(places) for number, places in spelled.items() if len(places) == 1}

    def find(self, value: Any) -> int | None:
        """Index of the word that a plain cell means; None if there is none."""
        place = self.exact.get(value)
        if place is None:
            place = self.exact.get(str(value)) if value is not None else None
        if place is None and isinstance(value, str):
            place = self.bare.get(value.strip())
        if place is None and self.numbers:
            place = self.numbers.get(_number(value))
        return place


def _number(value: Any) -> Any:
    """Number that a cell spells, as int if it is whole, else as float; None if it spells none."""
    if isinstance(value, str):
        if not NUMBER.fullmatch(value):
            return _number(BOOLEANS.get(value.strip().lower()))
        value = Decimal(value.strip())
    if isinstance(value, bool | int | float | Decimal) and math.isfinite(value):
        whole = whole_number(value)
        return float(value) if whole is None else whole
    return None


def _as_float32(number: int | float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def label_list(value: Any) -> list[Any] | None:
    """List of labels from a list, an array, or a text in the form of JSON, Python or numpy; None for other targets.

    >>> label_list("['a', 'b']"), label_list('["a"]'), label_list("[]"), label_list("a|b")
    (['a', 'b'], ['a'], [], None)
    """
    if isinstance(value, np.ndarray | Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "("):
        return None
    try:
        labels = json.loads(value)
    except json.JSONDecodeError:
        # Each label by itself: without a comma, Python would join 'a' 'b' to one text.
        if not WRITTEN_LIST.fullmatch(value.strip()):
            return None
        return [ast.literal_eval(label) for label in re.findall(QUOTED, value)]
    return labels if isinstance(labels, list) else None


def are_label_lists(targets: Sequence[Any]) -> bool:
    """Return whether all targets are lists of labels, or texts of such lists."""
    return all(label_list(target) is not None for target in targets)
