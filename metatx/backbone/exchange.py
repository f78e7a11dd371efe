"""Exchange: what a task lets happen between the blocks of the backbone."""

from collections.abc import Collection
from typing import Protocol

from torch import Tensor

from metatx.sequence import TokenSequence

__all__ = ["Exchange"]


class Exchange(Protocol):
    """A change of the tokens between blocks, such as a bottleneck or cross-attention of a sample's inputs.

    Attributes:
        blocks: Numbers of the blocks behind which it acts, from 0.
    """

    blocks: Collection[int]

    def __call__(self, block: int, sequence: TokenSequence) -> Tensor:
        """Give the tokens that enter the next block, in the order of ``sequence``, (T, D).

        Args:
            block: Number of the block behind which it acts.
            sequence: What left that block, prefix included, in the order of the batch.
        """
        ...
