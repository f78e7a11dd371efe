"""Arguments of an index as people give them, checked: numbers of items, counts, values by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metatx.errors import short

__all__ = ["by_name", "described", "item_numbers", "names_in_list", "whole_number"]


def item_numbers(items: Any) -> np.ndarray:
    """Numbers of items, int64 (n,).

    Raises:
        TypeError: If they are no list of whole numbers.
    """
    if isinstance(items, int | np.integer) and not isinstance(items, bool):
        raise TypeError(f"items is {items}; expected numbers of items in a list: [{items}].")
    numbers = items if isinstance(items, np.ndarray) else np.asarray([] if items is None else _listed(items))
    if numbers.ndim != 1 or (len(numbers) and numbers.dtype.kind not in "iu"):
        raise TypeError(f"items is {short(items)}; expected numbers of items in a list, such as [0, 3].")
    return numbers.astype(np.int64)


def _listed(items: Any) -> Any:
    try:
        return list(items)
    except TypeError:
        return items


def described(value: Any) -> str:
    """Words for a value in messages: of an array its type and shape, not its numbers."""
    return f"an array of {value.dtype} {value.shape}" if isinstance(value, np.ndarray) else short(value)


def whole_number(name: str, value: Any, least: int) -> int:
    """Whole number of an argument; raises TypeError for another type, ValueError for one below ``least``."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} is {short(value)}; expected a whole number.")
    if value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}.")
    return int(value)


def names_in_list(name: str, value: Any) -> Sequence[str]:
    """Names of an argument; raises ValueError for one text, of which each letter would be a name."""
    if isinstance(value, str):
        raise ValueError(f"{name} is the text {value!r}; expected names in a list, such as [{value!r}].")
    names: Sequence[str] = list(value)
    return names


def by_name(name: str, value: Any, example: str) -> Mapping[str, Any]:
    """Values by name of an argument; raises TypeError, which shows an example, for another type."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} is {short(value)}; expected values by name, such as {example}.")
    return value
