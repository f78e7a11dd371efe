"""Contrastive losses of B pairs of unit vectors."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ContrastiveLoss", "matches", "over_graph"]

LARGEST_SCALE = 100.0  # of ``logit_scale.exp()``, as in CLIP
START = {"softmax": (1 / 0.07, 0.0), "sigmoid": (10.0, -10.0)}  # scale and bias of the logits, as published
OLD_NAMES = {"log_scale": "logit_scale", "shift": "logit_bias"}  # of parameters, in weights saved by older code


def matches(keys: Tensor) -> Tensor:
    """Mark which left samples belong to which right ones, bool (B, B).

    The two samples of a pair belong together, and so do samples of pairs that share a side: two images with the same
    caption are no negatives of each other.

    Args:
        keys: int64 (2, B); samples of one side are the same where their keys are equal.
    """
    return (keys[:, :, None] == keys[:, None, :]).any(0)


def over_graph(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    sides: Sequence[Tensor],
    keys: Tensor,
    edges: Sequence[tuple[int, int]],
) -> Tensor:
    """Mean of a loss of two sides over the edges of a graph of sides, a scalar.

    Args:
        loss: Function from two sides (B, E) and the pairs that belong together (B, B) to a scalar.
        sides: Unit vectors (B, E) of each side, K of them.
        keys: int64 (K, B), see ``matches``.
        edges: Numbers of the two sides of each edge.
    """
    first, *others = (loss(sides[i], sides[j], matches(keys[[i, j]])) for i, j in edges)
    return first if not others else torch.stack([first, *others]).mean()


class ContrastiveLoss(nn.Module):
    """Contrastive loss of B pairs: each sample must find its partner among all samples of the other side.

    ``"softmax"``: cross-entropy of each sample against all of the other side, averaged over both directions (CLIP,
    Radford et al. 2021, arXiv 2103.00020); a sample with several partners shares its target among them. ``"sigmoid"``:
    binary cross-entropy of each of the B x B combinations, summed and divided by B (SigLIP, Zhai et al. 2023, arXiv
    2303.15343).

    Args:
        loss: ``"softmax"`` (default) or ``"sigmoid"``.

    Attributes:
        logit_scale: Logarithm of the factor on the cosines, a learned scalar; the factor is at most 100.
        logit_bias: Learned scalar that is added to the scaled cosines; fixed at 0 for the softmax, which ignores it.

    Raises:
        ValueError: If ``loss`` is neither.
    """

    def __init__(self, loss: Literal["softmax", "sigmoid"] = "softmax") -> None:
        super().__init__()
        if loss not in START:
            raise ValueError(f"loss is {loss!r}; choose one of {', '.join(START)}.")
        scale, bias = START[loss]
        self.loss = loss
        self.logit_scale = nn.Parameter(torch.tensor(scale).log())
        self.logit_bias = nn.Parameter(torch.tensor(bias), requires_grad=loss == "sigmoid")
        self.register_load_state_dict_pre_hook(_rename_old_parameters)  # type: ignore[no-untyped-call]

    def forward(self, left: Tensor, right: Tensor, same: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            left: Unit vectors (B, E) of the left sides.
            right: Unit vectors (B, E) of the right sides.
            same: Pairs that belong together, bool (B, B), as ``matches`` gives them.
        """
        logits = self.logit_scale.exp() * left @ right.T + self.logit_bias
        if self.loss == "sigmoid":
            return -F.logsigmoid(torch.where(same, logits, -logits)).sum() / len(left)
        target = same / same.sum(1, keepdim=True)  # symmetric, as the columns of ``same`` are its rows
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    @torch.no_grad()
    def clamp(self) -> None:
        """Keep the factor on the cosines between 1 and 100; called after each step of the optimizer."""
        self.logit_scale.clamp_(0, torch.tensor(LARGEST_SCALE).log().item())


def _rename_old_parameters(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for old, new in OLD_NAMES.items():
        if prefix + old in state:
            state[prefix + new] = state.pop(prefix + old)
