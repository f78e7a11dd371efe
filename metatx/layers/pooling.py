"""Pooling: from the tokens of a sample to one vector."""

from typing import Literal

import torch
from torch import Tensor

from metatx.sequence import TokenSequence

__all__ = ["Pooling", "pool_tokens", "pooled_width"]

Pooling = Literal["cls", "mean", "both", "attention"]
VECTORS = {"cls": 1, "mean": 1, "both": 2, "attention": 1}


def pooled_width(dim: int, pooling: Pooling, layers: int) -> int:
    """Width of the features that ``pool_tokens`` gives for tokens of ``layers`` layers, each ``dim`` wide.

    Raises:
        ValueError: If there is no layer, or there are several for ``"attention"``.
    """
    if layers < 1:
        raise ValueError(f"layers is {layers}; a head reads at least one, the last.")
    if pooling == "attention" and layers > 1:
        raise ValueError(f"layers is {layers}; the weights' attention pool reads the last layer only.")
    return dim * layers * VECTORS[pooling]


def pool_tokens(sequence: TokenSequence, pooling: Pooling) -> Tensor:
    """CLS, the mean of the tokens, both side by side, or what the weights' attention pool gives: (B, width).

    Without CLS, both are the mean.

    Raises:
        ValueError: If the backbone has no CLS for ``"cls"``, or its weights no attention pool for ``"attention"``.
    """
    if pooling == "attention":
        return sequence.attended()
    if pooling == "both":
        first = sequence.cls() if sequence.has_cls else sequence.mean()
        return torch.cat([first, sequence.mean()], dim=1)
    return sequence.cls() if pooling == "cls" else sequence.mean()
