"""Split conformal prediction: how far answers may be off, so that a promised share of them holds the truth."""

import math

import torch
from torch import Tensor

from metatx.progress import tell

__all__ = ["check_coverage", "conformal_bound", "conformal_quantile"]

FEW = 100  # samples; with as many, a promise of 0.9 is kept to 0.03 (standard deviation, that of a beta distribution)


def check_coverage(coverage: float | None) -> None:
    """Raise ValueError if a promised share is not between 0 and 1."""
    if coverage is not None and not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage:g}; expected a share between 0 and 1, such as 0.9.")


def conformal_bound(scores: Tensor, coverage: float) -> Tensor:
    """Return ``conformal_quantile`` of the scores of a validation split, and tell where it has few samples."""
    bound = conformal_quantile(scores, coverage)
    count = len(scores)
    if bound.isinf():
        least = math.ceil(coverage / (1 - coverage) - 1e-9)
        tell(
            f"coverage {coverage:g} needs at least {least:,} validation samples, and there are {count}: sets hold all "
            "labels, intervals have no ends."
        )
    elif count < FEW:
        tell(
            f"coverage {coverage:g} is fitted on {count} validation samples, which chose the epoch too: on new samples "
            "it may be several hundredths lower. A larger validation split makes it surer."
        )
    return bound


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
