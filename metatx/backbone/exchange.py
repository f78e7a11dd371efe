"""Exchange: a change of the tokens between the backbone's blocks."""

from collections.abc import Collection, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from metatx.sequence import TokenSequence, divide

__all__ = ["Exchange", "MixedExchange"]


class Exchange(Protocol):
    """A change of the tokens between blocks, such as a bottleneck or cross-attention of a sample's inputs.

    Attributes:
        blocks: Numbers of the blocks, from 0, after which tokens are changed.
    """

    blocks: Collection[int]

    def __call__(self, block: int, sequence: TokenSequence) -> Tensor:
        """Return the tokens that enter the next block, (T, D), in the order of ``sequence``.

        Args:
            block: Number of the block that made the tokens.
            sequence: Output of that block, prefix tokens included, in the order of the batch.
        """
        ...


class MixedExchange:
    """Exchange of a batch of ``concatenate``, each of whose parts has an exchange of its own, or none.

    Args:
        exchanges: Exchange of each part.
        parts: The parts.

    Attributes:
        blocks: Numbers of the blocks of all exchanges.
    """

    def __init__(self, exchanges: Sequence[Exchange | None], parts: Sequence[TokenSequence]) -> None:
        self.exchanges = exchanges
        self.parts = parts
        self.blocks = {block for exchange in exchanges if exchange is not None for block in exchange.blocks}

    @classmethod
    def of(cls, exchanges: Sequence[Exchange | None], parts: Sequence[TokenSequence]) -> Self | None:
        """Make the exchange; None if no part has one that acts."""
        mixed = cls(exchanges, parts)
        return mixed if mixed.blocks else None

    def __call__(self, block: int, sequence: TokenSequence) -> Tensor:
        """Change the tokens of each part by its own exchange."""
        changed = []
        for exchange, part in zip(self.exchanges, divide(sequence, self.parts), strict=True):
            acts = exchange is not None and block in exchange.blocks
            changed.append(exchange(block, part) if acts and exchange else part.embeddings)
        return torch.cat(changed)
