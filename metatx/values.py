"""Values of numpy, pandas, polars, Arrow and torch as plain Python."""

import math
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["are_codes", "is_missing", "plain_cell", "plain_samples", "plain_targets", "plain_value", "whole_number"]

MAX_CODES = 50  # whole numbers with at most so many values, each seen often, are codes of classes


def plain_value(value: Any) -> Any:
    """Convert an option, also within lists and dicts, to JSON's types: numbers of numpy and torch, arrays to lists."""
    if isinstance(value, np.generic | np.ndarray) or _is_tensor(value):
        return value.tolist()
    if isinstance(value, dict):
        return {plain_value(key): plain_value(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain_value(part) for part in value)
    return value


def plain_cell(value: Any) -> Any:
    """Convert a cell of numpy, pandas or torch to Python's type; None if it is missing (None, NaN, NaT, NA)."""
    if type(value) in (str, int, bool) or value is None:
        return value
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    import pandas as pd

    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, Decimal):
        return None if value.is_nan() else value
    if isinstance(value, np.datetime64):
        return plain_cell(pd.Timestamp(value))
    if isinstance(value, np.generic):
        return plain_cell(value.item())
    if (isinstance(value, np.ndarray) or _is_tensor(value)) and not value.ndim:
        return plain_cell(value.item())
    return value


def _is_tensor(value: Any) -> "TypeGuard[Tensor]":
    """Return True for a tensor. Before torch is imported there is none, and a command may end without it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_missing(value: Any) -> bool:
    """Return whether a raw value is missing: None, NaN, NaT, pandas' NA, or blank text."""
    cell = plain_cell(value)
    return cell is None or (isinstance(cell, str) and not cell.strip())


def whole_number(value: Any) -> int | None:
    """Convert a plain cell that is a whole number (3, 3.0, Decimal("3"), True) to int; None for other cells."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    return None


def are_codes(cells: Sequence[Any]) -> bool:
    """Tell whether plain cells are codes of classes: a few whole numbers, or booleans, that come again and again."""
    numbers = {whole_number(cell) for cell in cells}
    return None not in numbers and len(numbers) <= min(MAX_CODES, max(2, len(cells) // 5))


def plain_samples(samples: Any) -> Any:
    """Convert raw samples for tokenizers: columns become lists; tensors move to the CPU and lose their gradient."""
    samples = _listed(samples)
    if _is_tensor(samples):
        return samples.detach().cpu()
    if isinstance(samples, list | tuple) and any(map(_holds_tensor, samples)):
        return [_plain_sample(sample) for sample in samples]
    return samples


def plain_targets(targets: Any) -> Any:
    """Convert targets for heads: columns become lists, tensors arrays."""
    targets = _listed(targets)
    if _is_tensor(targets):
        return targets.detach().cpu().numpy()
    if isinstance(targets, list | tuple) and any(_is_tensor(target) for target in targets):
        return [target.detach().cpu().numpy() if _is_tensor(target) else target for target in targets]
    return targets


def _listed(values: Any) -> Any:
    """Convert columns of pandas, polars and Arrow to lists."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(values, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        return values.tolist()
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.to_pylist()
    if hasattr(values, "__arrow_c_stream__") and not isinstance(values, pd.DataFrame) and hasattr(values, "to_list"):
        return values.to_list()  # a Series of polars
    return values


def _holds_tensor(sample: Any) -> bool:
    parts: Iterable[Any] = sample.values() if isinstance(sample, dict) else [sample]
    if isinstance(sample, list | tuple):
        parts = sample[:1]
    return any(_is_tensor(part) for part in parts)


def _plain_sample(sample: Any) -> Any:
    if _is_tensor(sample):
        return sample.detach().cpu()
    if isinstance(sample, dict):
        return {name: _plain_sample(part) for name, part in sample.items()}
    if type(sample) in (list, tuple) and _holds_tensor(sample):
        return type(sample)(_plain_sample(part) for part in sample)
    return sample
