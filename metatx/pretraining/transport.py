"""Transport cost (least action): the squared change of the tokens in each block, a regulariser of pretraining."""

import torch
from torch import Tensor, nn

from metatx.backbone.attention import Packing
from metatx.backbone.base import Backbone
from metatx.sequence import TokenSequence

__all__ = ["pass_with_transport_cost"]


def pass_with_transport_cost(backbone: Backbone, sequence: TokenSequence) -> tuple[TokenSequence, Tensor]:
    """Run the backbone; return the tokens that leave it, and the transport cost of its blocks, a scalar.

    The cost of a block is the squared length of what it adds to the tokens of a sequence, divided by the squared length
    of the tokens before the first block. The result is the mean over blocks and over sequences, each sequence counted
    once whatever its length (Karkar et al. 2020, arXiv 2009.08372). Blocks that are trained to move the tokens of their
    own data little also keep more of the tokens of other data.
    """
    entered: list[Tensor] = []
    moved: list[Tensor] = []

    def record(block: nn.Module, inputs: tuple[Tensor, Packing], left: Tensor) -> None:
        x, packing = inputs[:2]
        if not entered:
            entered.append(_by_sequence(x, packing))
        moved.append(_by_sequence(left - x, packing) / entered[0])

    handles = [block.register_forward_hook(record) for block in backbone.blocks]
    try:
        left = backbone(sequence)
    finally:
        for handle in handles:
            handle.remove()
    return left, torch.stack(moved).mean()


def _by_sequence(x: Tensor, packing: Packing) -> Tensor:
    """Sum the squares of tokens in block order (T, D) by sequence: (S,), in the order of the blocks."""
    parts = zip(torch.split(x.float().square().sum(1), packing.sizes), packing.groups, strict=True)
    return torch.cat([part.view(count, -1).sum(1) for part, (count, _) in parts])
