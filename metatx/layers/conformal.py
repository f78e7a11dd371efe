"""Split conformal prediction: how far answers may be off, so that a promised share of them holds the truth."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metatx.progress import tell

__all__ = ["StepBounds", "check_coverage", "conformal_bound", "conformal_quantile", "with_nones"]

FEW = 100  # samples; with as many, a promise of 0.9 is kept to 0.03 (standard deviation, that of a beta distribution)


def check_coverage(coverage: float | None) -> None:
    """Raise ValueError if a promised share is not between 0 and 1."""
    if coverage is not None and not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage:g}; expected a share between 0 and 1, such as 0.9.")


def conformal_bound(scores: Tensor, coverage: float) -> Tensor:
    """Return ``conformal_quantile`` of the scores of a validation split, and tell where it has few samples."""
    bound = conformal_quantile(scores, coverage)
    _tell_few(len(scores), coverage)
    return bound


class StepBounds(nn.Module):
    """Bounds of the errors of forecasts, for each channel and step.

    Args:
        coverage: Promised share of values within their bound.
        shape: Number of channels and of steps, (C, H).

    Attributes:
        bound: Bounds (C, H), float64; infinite before ``fit``, and where there are too few values.
    """

    bound: Tensor

    def __init__(self, coverage: float, shape: tuple[int, int]) -> None:
        super().__init__()
        self.coverage = coverage
        self.register_buffer("bound", torch.full(shape, math.inf, dtype=torch.float64))

    @property
    def known(self) -> bool:
        """True if every bound that can be fitted is."""
        return bool(self.bound.isfinite().any())

    def fit(self, forecast: Tensor, target: Tensor) -> None:
        """Fit to forecasts and targets (B, C, H) of the validation split, NaN where missing; tell if they are few."""
        errors = (forecast - target).abs()
        counts = []
        for channel, step in torch.cartesian_prod(*map(torch.arange, self.bound.shape)).tolist():
            scores = errors[:, channel, step]
            scores = scores[scores.isfinite()]
            self.bound[channel, step] = conformal_quantile(scores, self.coverage)
            counts += [len(scores)] * bool(len(scores))  # none: a channel that is only read
        _tell_few(min(counts, default=0), self.coverage)


def _tell_few(count: int, coverage: float) -> None:
    """Tell that a promise rests on few samples, or cannot be given."""
    least = math.ceil(coverage / (1 - coverage) - 1e-9)
    if count < least:
        tell(
            f"coverage {coverage:g} needs at least {least:,} validation samples, and there are {count}: sets hold all "
            "labels, intervals have no ends."
        )
    elif count < FEW:
        tell(
            f"coverage {coverage:g} is fitted on {count} validation samples, which chose the epoch too: on new samples "
            "it may be several hundredths lower. A larger validation split makes it surer."
        )


def conformal_quantile(scores: Tensor, coverage: float) -> Tensor:
    """Smallest bound that the score of a new sample stays within, with a probability of at least ``coverage``.

    That holds where the samples and the new one come from the same source (Papadopoulos et al. 2002; Angelopoulos and
    Bates 2021, arXiv 2107.07511).

    Args:
        scores: Scores (B,) of samples that were not trained on; a larger one is a larger error.
        coverage: Promised share, between 0 and 1.

    Returns:
        Bound (), of the scores' dtype; infinite where the samples are too few for the promise.

    >>> conformal_quantile(torch.arange(1.0, 10.0), 0.8)
    tensor(8.)
    """
    place = math.ceil((len(scores) + 1) * coverage - 1e-9)
    if place > len(scores):
        return torch.full((), math.inf).to(scores)
    return scores.kthvalue(place).values


def with_nones(values: np.ndarray) -> list[Any]:
    """Nested lists of an array's numbers, with None in the place of infinite ones, which JSON lacks."""
    shown = values.astype(object)
    shown[~np.isfinite(values)] = None
    lists: list[Any] = shown.tolist()
    return lists
