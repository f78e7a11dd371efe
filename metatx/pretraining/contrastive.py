"""Contrastive losses between two sides of B pairs, each a vector of unit length."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ContrastiveLoss", "matches"]

MOST = 100.0  # of the factor on cosines, as in CLIP
START = {"softmax": (1 / 0.07, 0.0), "sigmoid": (10.0, -10.0)}  # factor and shift, as published


def matches(keys: Tensor) -> Tensor:
    """Which left sample goes with which right one, bool (B, B).

    Those of one pair do, and those of pairs that share a side: two pictures with one caption are no negatives of each
    other's.

    Args:
        keys: int64 (2, B), equal where samples of a side are.
    """
    return (keys[:, :, None] == keys[:, None, :]).any(0)


class ContrastiveLoss(nn.Module):
    """How well pairs find each other among all others.

    ``"softmax"``: cross-entropy of each sample against all of the other side, both ways, averaged (CLIP, Radford et
    al. 2021, arXiv 2103.00020); where several match, the target is shared among them. ``"sigmoid"``: each of the
    B x B combinations by itself, summed, over B (SigLIP, Zhai et al. 2023, arXiv 2303.15343).

    Args:
        loss: Which.

    Attributes:
        log_scale: Logarithm of the factor on cosines, learned, at most that of 100.
        shift: Added to them, learned; the softmax does not see it.
    """

    def __init__(self, loss: Literal["softmax", "sigmoid"] = "softmax") -> None:
        super().__init__()
        if loss not in START:
            raise ValueError(f"loss is {loss!r}; choose one of {', '.join(START)}.")
        factor, shift = START[loss]
        self.loss = loss
        self.log_scale = nn.Parameter(torch.tensor(factor).log())
        self.shift = nn.Parameter(torch.tensor(shift), requires_grad=loss == "sigmoid")

    def forward(self, left: Tensor, right: Tensor, same: Tensor) -> Tensor:
        """Unit vectors (B, E) of both sides, and which match, bool (B, B), to the loss, a scalar."""
        logits = self.log_scale.exp() * left @ right.T + self.shift
        if self.loss == "sigmoid":
            return -F.logsigmoid(torch.where(same, logits, -logits)).sum() / len(left)
        target = same / same.sum(1, keepdim=True)  # symmetric, as the columns of ``same`` are its rows
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    @torch.no_grad()
    def clamp(self) -> None:
        """Keep the factor within its bounds; after each step."""
        self.log_scale.clamp_(0, torch.tensor(MOST).log().item())
