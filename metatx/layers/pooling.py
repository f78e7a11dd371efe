"""Pooling: from the tokens of a sample to one vector."""

from typing import Literal

import torch
from torch import Tensor

from metatx.sequence import TokenSequence

__all__ = ["Pooling", "pool_tokens", "pooled_width"]

Pooling = Literal["cls", "mean", "both"]
VECTORS = {"cls": 1, "mean": 1, "both": 2}


def pooled_width(dim: int, pooling: Pooling, layers: int) -> int:
    """Width of the features that ``pool_tokens`` gives for tokens of ``layers`` layers, each ``dim`` wide.

    Raises:
        ValueError: If there is no layer.
    """
    if layers < 1:
        raise ValueError(f"layers is {layers}; a head reads at least one, the last.")
    return dim * layers * VECTORS[pooling]


def pool_tokens(sequence: TokenSequence, pooling: Pooling) -> Tensor:
    """CLS, the mean of the tokens, or both side by side: (B, width).

    Without CLS, both are the mean; ``"cls"`` alone raises ValueError.
    """
    if pooling == "both":
        first = sequence.cls() if sequence.prefix else sequence.mean()
        return torch.cat([first, sequence.mean()], dim=1)
    return sequence.cls() if pooling == "cls" else sequence.mean()
