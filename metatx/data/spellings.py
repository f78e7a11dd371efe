"""What a cell spells: the same number, label or list however it was typed on its way here."""

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
WRITTEN_LIST = re.compile(rf"[\[(]\s*(?:(?:{QUOTED})\s*,?\s*)*[\])]", re.DOTALL)  # numpy writes no commas


class Spellings:
    """Finds which of some known words and numbers a cell means.

    The cell itself comes first, then its text, then the number that it spells, where only one of the known spells that
    number: 0.5 is "0.50", 1 and "1.0" are 1, True and "TRUE" are "true", as they are 1. So are words with other spaces
    around them.

    Args:
        known: Texts, numbers, booleans or None, all different.
    """

    def __init__(self, known: Iterable[Any]) -> None:
        self.words = list(known)
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
        # A column of float32 gives 0.1 as 0.10000000149.
        spelled = {**rounded, **spelled}
        self.numbers = {number: min(places) for number, places in spelled.items() if len(places) == 1}

    def find(self, value: Any) -> int | None:
        """The place of a plain cell among the known, None where it is none of them."""
        place = self.exact.get(value)
        if place is None:
            place = self.exact.get(str(value)) if value is not None else None
        if place is None and isinstance(value, str):
            place = self.bare.get(value.strip())
        if place is None and self.numbers:
            place = self.numbers.get(_number(value))
        return place


def _number(value: Any) -> Any:
    """What a cell spells as int, where it is whole, or as float; None where it spells no number."""
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
    """The list that a target is, or that a text writes in JSON, as Python or as numpy does; None where it is none.

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
        found = json.loads(value)
    except json.JSONDecodeError:
        # Label by label, for to Python 'a' 'b' without a comma between is one text.
        if not WRITTEN_LIST.fullmatch(value.strip()):
            return None
        return [ast.literal_eval(label) for label in re.findall(QUOTED, value)]
    return found if isinstance(found, list) else None


def are_label_lists(targets: Sequence[Any]) -> bool:
    """Whether all of some targets that are not missing are lists, or texts that write one."""
    return all(label_list(target) is not None for target in targets)
