"""Errors of forecasts, to train on and to report."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torchmetrics import Metric

__all__ = ["forecast_loss", "forecast_metrics"]


def forecast_metrics() -> "dict[str, Metric]":
    """Metrics of pairs (n, 2): ``mse`` and ``mae`` of standardised values, the first column; ``mae_unscaled``."""
    from torchmetrics import MeanAbsoluteError, MeanSquaredError
    from torchmetrics.wrappers import LambdaInputTransformer

    class OneColumn(LambdaInputTransformer):
        higher_is_better = False

    def picked(column: int) -> Callable[[Tensor], Tensor]:
        return lambda values: values[:, column]

    def measure(metric: "Metric", column: int) -> "Metric":
        return OneColumn(metric.set_dtype(torch.float64), picked(column), picked(column))

    return {
        "mse": measure(MeanSquaredError(), 0),
        "mae": measure(MeanAbsoluteError(), 0),
        "mae_unscaled": measure(MeanAbsoluteError(), 1),
    }


def forecast_loss(output: Tensor, target: Tensor, quantiles: list[float] | None) -> Tensor:
    """Mean squared error, or with quantiles the mean pinball loss of outputs (..., Q), over targets that are finite."""
    finite = target.isfinite()
    wanted = target.nan_to_num(0.0)
    if quantiles is None:
        errors = (output - wanted) ** 2
    else:
        levels = torch.tensor(quantiles, device=output.device, dtype=output.dtype)
        missed = wanted[..., None] - output
        errors = torch.maximum(levels * missed, (levels - 1) * missed).mean(-1)
    return (errors * finite).sum() / finite.sum().clamp(min=1)
