"""Filters on the columns of items, exact: which items satisfy all conditions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.errors import short
from metatx.values import plain_cell

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Where", "satisfying"]

Where = Mapping[str, Any]
LARGE = "large_"  # in names of types, which means nothing to a user
BOUNDS = ("min", "max")
FORM = 'a value, a list of values, or {"min": ..., "max": ...}'


def satisfying(column: "pa.ChunkedArray", name: str, condition: Any) -> np.ndarray:
    """Test the cells of a column, bool (n,).

    Args:
        column: Cells.
        name: Name of the column, for messages.
        condition: A value that cells equal (None: that are empty); a list of values, of which they equal one; or a dict
            with ``min``, ``max`` or both, between which they lie, bounds included. A text is read as a value of the
            column's type. An empty cell satisfies no other condition than None.

    Raises:
        ValueError: If the condition has another form, or does not fit the type of the column.
    """
    import pyarrow as pa
    from pyarrow import compute

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if pa.types.is_nested(kind):
        raise ValueError(f"Column {name} holds {kind}, which cannot be filtered; choose texts, numbers or dates.")
    if isinstance(condition, Mapping):
        if not condition or not set(condition) <= set(BOUNDS):
            raise ValueError(f"The condition on {name} is {short(condition)}; expected {FORM}.")
        tests = {"min": compute.greater_equal, "max": compute.less_equal}
        bounds = {bound: _scalar(value, kind, name) for bound, value in condition.items()}
        if len(bounds) == 2 and compute.greater(bounds["min"], bounds["max"]).as_py():
            raise ValueError(
                f"The condition on {name} goes from {condition['min']} to {condition['max']}, which no cell satisfies; "
                "give the smaller bound first."
            )
        parts = [tests[bound](column, scalar) for bound, scalar in bounds.items()]
    else:
        values = list(condition) if isinstance(condition, list | tuple | set | np.ndarray) else [condition]
        plain = [plain_cell(value) for value in values]
        parts = [_equal(column, [_scalar(value, kind, name) for value in plain if value is not None])]
        if None in plain:
            parts = [compute.or_(parts[0], column.is_null(nan_is_null=pa.types.is_floating(kind)))]
    mask = parts[0] if len(parts) == 1 else compute.and_(*parts)
    array: np.ndarray = mask.fill_null(False).to_numpy()
    return array


def _equal(column: "pa.ChunkedArray", scalars: "list[pa.Scalar]") -> Any:
    """Cells that equal one of several values; empty cells are False."""
    import pyarrow as pa
    from pyarrow import compute

    mask = pa.chunked_array([np.zeros(len(column), bool)])
    for scalar in scalars:
        mask = compute.or_(mask, compute.equal(column, scalar).fill_null(False))
    return mask


def _scalar(value: Any, kind: "pa.DataType", name: str) -> "pa.Scalar":
    """Value to compare with cells of a type. Raises ValueError if it is of another."""
    import pyarrow as pa

    value = plain_cell(value)
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    try:
        if isinstance(value, str) and not texts:
            return pa.scalar(value).cast(pa.float64() if pa.types.is_floating(kind) or "." in value else kind)
        if numbers and isinstance(value, int | float) and not isinstance(value, bool):
            return pa.scalar(value)
        return pa.scalar(value, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, OverflowError):
        raise ValueError(
            f"{name} holds {str(kind).removeprefix(LARGE)}, but the condition is {short(value)}; expected "
            f"{_expected(kind)}."
        ) from None


def _expected(kind: "pa.DataType") -> str:
    """Words for the values that are compared with cells of a type."""
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return "true or false"
    if pa.types.is_integer(kind):
        return "a whole number"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "a number"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "a date, such as 2024-05-31"
    return f"a value of {str(kind).removeprefix(LARGE)}"
