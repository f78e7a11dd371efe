"""Exchange: a change of the tokens between the backbone's blocks."""

from collections.abc import Collection
from typing import Protocol

from torch import Tensor

from metatx.sequence import TokenSequence

__all__ = ["Exchange"]


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
