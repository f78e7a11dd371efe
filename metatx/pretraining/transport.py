"""Action: how far blocks move tokens, which pretraining can keep short."""

import torch
from torch import Tensor, nn

from metatx.backbone.attention import Packing
from metatx.backbone.base import Backbone
from metatx.sequence import TokenSequence

__all__ = ["pass_with_transport_cost"]


def pass_with_transport_cost(backbone: Backbone, sequence: TokenSequence) -> tuple[TokenSequence, Tensor]:
    """What leaves the backbone, and the action of its blocks, a scalar.

    That is the squared length of what a block adds to the tokens of a sequence, as a share of that of the tokens before
    the first block; the mean over blocks, and over sequences, however long they are (Karkar et al. 2020, arXiv
    2009.08372). Blocks that move their own kind of data no further than they must leave more of other tokens too.
    """
    entered: list[Tensor] = []
    moved: list[Tensor] = []

    def see(block: nn.Module, inputs: tuple[Tensor, Packing], left: Tensor) -> None:
        x, packing = inputs[:2]
        if not entered:
            entered.append(_by_sequence(x, packing))
        moved.append(_by_sequence(left - x, packing) / entered[0])

    handles = [block.register_forward_hook(see) for block in backbone.blocks]
    try:
        left = backbone(sequence)
    finally:
        for handle in handles:
            handle.remove()
    return left, torch.stack(moved).mean()


def _by_sequence(x: Tensor, packing: Packing) -> Tensor:
    """Tokens in block order (T, D) to the squared length of each sequence (S,), in the order in which they lie."""
    parts = zip(torch.split(x.float().square().sum(1), packing.sizes), packing.groups, strict=True)
    return torch.cat([part.view(count, -1).sum(1) for part, (count, _) in parts])
