"""Errors of forecasts, standardised and in the unit of the series."""

from functools import partial

import torch
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric
from torchmetrics.wrappers import LambdaInputTransformer

__all__ = ["forecast_metrics"]


class ColumnError(LambdaInputTransformer):
    """Error of one column of forecasts and targets (n, 2), in float64; lower is better.

    Args:
        error: Metric of one column (n,).
        column: Number of the column, from 0.
    """

    higher_is_better = False

    def __init__(self, error: Metric, column: int) -> None:
        select = partial(torch.select, dim=1, index=column)
        super().__init__(error.set_dtype(torch.float64), select, select)


def forecast_metrics() -> dict[str, Metric]:
    """``mse`` and ``mae`` of the first column, standardised values; ``mae_unscaled`` of the second, in the unit."""
    return {
        "mse": ColumnError(MeanSquaredError(), 0),
        "mae": ColumnError(MeanAbsoluteError(), 0),
        "mae_unscaled": ColumnError(MeanAbsoluteError(), 1),
    }
