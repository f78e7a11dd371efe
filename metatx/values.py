"""Values of numpy, pandas, polars, Arrow and torch as plain Python."""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

__all__ = ["are_codes", "is_missing", "plain_cell", "plain_samples", "plain_targets", "plain_value", "whole_number"]

MAX_CODES = 50  # whole numbers with at most so many values, each seen often, are codes of classes


def plain_value(value: Any) -> Any:
    """An option as JSON has it: numbers of numpy and torch as Python's, arrays as lists."""
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {plain_value(key): plain_value(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain_value(part) for part in value)
    return value


def plain_cell(value: Any) -> Any:
    """A cell without the wrappings of numpy, pandas and torch; None if it is missing."""
    if type(value) in (str, int, bool) or value is None:
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, Decimal):
        return None if value.is_nan() else value
    if isinstance(value, np.datetime64):
        return plain_cell(pd.Timestamp(value))
    if isinstance(value, np.generic):
        return plain_cell(value.item())
    if isinstance(value, np.ndarray | Tensor) and not value.ndim:
        return plain_cell(value.item())
    return value


def is_missing(value: Any) -> bool:
    """Whether a raw value says nothing: None, NaN, NaT, pandas' NA, or blank text."""
    import pandas as pd

    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, np.ndarray | Tensor) and value.ndim == 0:
        value = value.item()
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def whole_number(value: Any) -> int | None:
    """The whole number that a plain cell is, be it typed 3, 3.0, Decimal("3") or True; None for texts and others."""
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
    """Raw samples as tokenizers take them: columns as lists, tensors on the CPU and without a gradient."""
    samples = _listed(samples)
    if isinstance(samples, Tensor):
        return samples.detach().cpu()
    if isinstance(samples, list | tuple) and any(map(_holds_tensor, samples)):
        return [_plain_sample(sample) for sample in samples]
    return samples


def plain_targets(targets: Any) -> Any:
    """Targets as heads take them: columns as lists, tensors as arrays."""
    targets = _listed(targets)
    if isinstance(targets, Tensor):
        return targets.detach().cpu().numpy()
    if isinstance(targets, list | tuple) and any(isinstance(target, Tensor) for target in targets):
        return [target.detach().cpu().numpy() if isinstance(target, Tensor) else target for target in targets]
    return targets


def _listed(values: Any) -> Any:
    """Columns of pandas, polars and Arrow as lists."""
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
    return any(isinstance(part, Tensor) for part in parts)


def _plain_sample(sample: Any) -> Any:
    if isinstance(sample, Tensor):
        return sample.detach().cpu()
    if isinstance(sample, dict):
        return {name: _plain_sample(part) for name, part in sample.items()}
    if type(sample) in (list, tuple) and _holds_tensor(sample):
        return type(sample)(_plain_sample(part) for part in sample)
    return sample
