"""Errors of forecasts, standardised and in the unit of the series."""

from functools import partial

import torch
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric
from torchmetrics.wrappers import LambdaInputTransformer

from metatx.metrics.labels import SampleMean

__all__ = ["forecast_metrics", "interval_metrics"]


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


def interval_metrics() -> dict[str, Metric]:
    """``coverage``, the share of targets (n, 2) within the bound of forecasts (n, 3), and ``width``, standardised."""
    return {
        "coverage": SampleMean(lambda found, true: (found[:, 0] - true[:, 0]).abs() <= found[:, 2]),
        "width": SampleMean(lambda found, true: 2 * found[:, 2]),
    }
