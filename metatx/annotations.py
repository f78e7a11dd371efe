"""Values checked against annotated types, and such types in words."""

from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from metatx.errors import short

__all__ = ["annotated_types", "check_types", "in_words"]

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}
MANY = {"true or false": "true or false", "null": "null"}  # words whose plural has no s


def annotated_types(annotated: Callable[..., Any]) -> dict[str, Any]:
    """Types of a function's arguments or of a dataclass's fields; empty if one is imported for type checkers only."""
    try:
        return get_type_hints(annotated)
    except NameError:
        return {}


def check_types(values: Mapping[str, Any], types: Mapping[str, Any], whose: str = "") -> None:
    """Check JSON values against the types of their names; names without a type are accepted.

    Args:
        values: Values by name.
        types: Annotated types by name.
        whose: Beginning of the message, such as ``"Option of the tabular tokenizer: "``.

    Raises:
        ValueError: If a value has another type, or is no value of a ``Literal``; says what is expected.
    """
    for name, value in values.items():
        if name in types and not _fits(value, types[name]):
            raise ValueError(f"{whose}{name} is {short(value)}; expected {in_words(types[name])}.")


def _fits(value: Any, kind: Any) -> bool:
    """Return True if a JSON value fits an annotated type; every value fits a type that is not simple."""
    origin = get_origin(kind)
    inner = get_args(kind)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in inner)
    if origin in (list, Sequence):
        return isinstance(value, list | tuple) and all(_fits(item, inner[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(_fits(key, inner[0]) and _fits(value[key], inner[1]) for key in value)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return kind not in WORDS or isinstance(value, kind)


def in_words(kind: Any) -> str:
    """Express an annotated type in words.

    >>> in_words(list[int] | None), in_words(dict[str, Any])
    ('a list of whole numbers or null', 'values by name')
    """
    origin = get_origin(kind)
    inner = get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inner))
    if origin in (Union, UnionType):
        return " or ".join(map(in_words, inner))
    if origin in (list, tuple, Sequence):
        return f"a list of {_several(inner[0])}"
    if origin in (dict, Mapping):
        return f"{_several(inner[1])} by name"
    return "a value" if kind is Any else WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def _several(kind: Any) -> str:
    """Express several values of an annotated type in words."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_several, get_args(kind)))
    words = "a record" if get_origin(kind) in (dict, Mapping) else in_words(kind)
    return MANY.get(words) or f"{words.removeprefix('a ')}s"
