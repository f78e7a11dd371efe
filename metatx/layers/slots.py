"""Tokens arranged in the slots of the tokenizer's mask, and initial values of linear maps of them."""

import numpy as np
import torch
from torch import Tensor, nn

from metatx.sequence import TokenSequence

__all__ = ["slots", "start_map", "zero_map"]


def slots(sequence: TokenSequence) -> Tensor:
    """Tokens (S, N, D) where the tokenizer's mask says they lay, the prefix left out; 0 where none was."""
    padded, mask = sequence.unpack()
    padded, mask = padded[:, sequence.prefix :], mask[:, sequence.prefix :]
    taken = sequence.context["mask"].flatten(0, 1)
    if taken.all():
        return padded
    empty = padded.new_zeros(*taken.shape, padded.shape[-1])
    return empty.masked_scatter(taken[..., None], padded[mask])


def zero_map(inputs: int, outputs: int) -> nn.Linear:
    """Create a linear layer of zeros."""
    linear = nn.Linear(inputs, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


@torch.no_grad()
def start_map(linear: nn.Linear, weights: np.ndarray) -> None:
    """Initialise a linear layer with weights (inputs + 1, H), the bias last, repeated for its outputs / H levels."""
    repeated = torch.as_tensor(weights).repeat_interleave(linear.out_features // weights.shape[1], dim=1).float()
    linear.weight.copy_(repeated[:-1].T)
    linear.bias.copy_(repeated[-1])
