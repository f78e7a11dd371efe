"""Blocks that are computed again in the backward pass, where what autograd keeps of them would fill the memory."""

from collections.abc import Callable

import torch
from torch import Tensor, distributed
from torch.utils.checkpoint import checkpoint

from metatx.process import available_memory

__all__ = ["within_memory"]

WIDTHS = 10  # numbers that autograd keeps of a token in a frozen block, in widths of the backbone
LEAST = 1 << 30  # bytes that are kept in any case
SHARE = 3  # all blocks together may take one such part of the available memory

Read = Callable[[int, Tensor], Tensor]


def within_memory(read: Read, x: Tensor, depth: int) -> Read:
    """Return a function that applies a block as ``read`` does, and keeps its input alone where more would not fit.

    The rest is computed again in the backward pass, with the same numbers (Chen et al. 2016, arXiv 1604.06174): a step
    takes a third to a half longer, but 64 clips of 1,568 tokens no ten gigabytes on a ViT-Ti. Only on a CPU, and in one
    process: several must pass divided blocks equally often.

    Args:
        read: Function from the number of a block and tokens to the block's output.
        x: Tokens that enter the first block, (T, D).
        depth: Number of blocks.
    """
    several = distributed.is_available() and distributed.is_initialized()
    if not torch.is_grad_enabled() or x.device.type != "cpu" or several:
        return read
    if WIDTHS * depth * x.nbytes < max(LEAST, available_memory() // SHARE):
        return read

    def again(number: int, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(read, number, x, use_reentrant=False)
        return out

    return again
