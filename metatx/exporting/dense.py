"""Sequences of one length as tensors: what a graph with a free batch axis has in the place of packed ones."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from metatx.backbone.attention import Packing
from metatx.sequence import TokenSequence

__all__ = ["DensePacking", "DenseTokens"]


class DensePacking(Packing):
    """Order of the tokens of S sequences of N tokens each, prefix tokens included: one after the other.

    The numbers may be symbols, which a list with an entry for each sequence cannot be made of.

    Args:
        count: Number of sequences, S.
        length: Number of tokens of each, N.
        mask: True for the tokens that are there, bool (S, N); None: all.
    """

    def __init__(self, count: int, length: int, mask: Tensor | None) -> None:
        self.groups = [(count, length)]
        self.sizes = [count * length]
        self.mask = None if mask is None else mask[:, None, None]


@dataclass(frozen=True)
class DenseTokens(TokenSequence):
    """Output of the backbone for S sequences of one length, (S, N, D), as heads pool it.

    Attributes:
        kept: True for the tokens that are there, prefix tokens included, bool (S, N); None: all.
        each: Number of sequences of each sample.
    """

    kept: Tensor | None = None
    each: int = 1

    def __post_init__(self) -> None:
        """Check nothing: the lengths are those of the tensor."""

    def with_embeddings(self, embeddings: Tensor) -> Self:
        """Refuse, as flat embeddings have no place here."""
        raise TypeError("DenseTokens hold (S, N, D).")

    def unpack(self) -> tuple[Tensor, Tensor]:
        """Embeddings (S, N, D), zero where there is no token, and their mask (S, N), True = keep."""
        if self.kept is None:
            return self.embeddings, torch.ones_like(self.embeddings[..., 0], dtype=torch.bool)
        return self.embeddings * self.kept[..., None], self.kept

    def slots(self) -> Tensor:
        """Tokens (S, N, D) without the prefix, zero where there is no token."""
        return self.unpack()[0][:, self.num_prefix_tokens :]

    def mean(self) -> Tensor:
        """Mean of each sample's tokens without prefix tokens, (B, D)."""
        tokens = self._of_samples(self.slots())
        if self.kept is None:
            return tokens.flatten(1, 2).mean(1)
        counts = self._of_samples(self.kept[:, self.num_prefix_tokens :]).flatten(1).sum(1, keepdim=True)
        return tokens.sum((1, 2)) / counts.clamp_min(1)

    def cls(self) -> Tensor:
        """Class token of each sample, averaged over its sequences, (B, D)."""
        return self._by_sample(self.embeddings[:, 0])

    def _by_sample(self, vectors: Tensor) -> Tensor:
        return vectors if self.each == 1 else self._of_samples(vectors).mean(1)

    def _of_samples(self, values: Tensor) -> Tensor:
        """Values of the sequences (S, ...) as those of the samples (B, S / B, ...)."""
        return values.reshape(-1, self.each, *values.shape[1:])
