"""Losses of dense answers: forecasts with gaps, and masks."""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["dice_loss", "forecast_loss"]


def forecast_loss(output: Tensor, target: Tensor, quantiles: list[float] | None) -> Tensor:
    """Mean squared error, or with quantiles the mean pinball loss (Koenker & Bassett 1978), over observed targets.

    Args:
        output: Forecasts, shape of ``target``; with quantiles one axis more, (..., Q).
        target: Observed values, NaN where missing.
        quantiles: Levels of the last axis, between 0 and 1.
    """
    known = target.isfinite()
    wanted = target.nan_to_num(0.0)
    if quantiles is None:
        errors = (output - wanted) ** 2
    else:
        levels = torch.tensor(quantiles, device=output.device, dtype=output.dtype)
        missed = wanted[..., None] - output
        errors = torch.maximum(levels * missed, (levels - 1) * missed).mean(-1)
    return (errors * known).sum() / known.sum().clamp(min=1)


def dice_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Soft Dice loss (Milletari et al. 2016) of logits (P, K) and class numbers (P,), mean of the classes present."""
    shares = logits.softmax(1)
    truth = F.one_hot(classes, logits.shape[1]).to(logits.dtype)
    overlap = 2 * (shares * truth).sum(0) / (shares.sum(0) + truth.sum(0)).clamp(min=1)
    return 1 - overlap[truth.any(0)].mean()
