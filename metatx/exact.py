"""float64 where digits count: statistics that move with their module, but are never cast."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["NO_DOUBLE", "keep_float64"]

NO_DOUBLE = ("mps",)  # types of devices without float64: what needs it stays where it is


def keep_float64(module: nn.Module, move: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What ``nn.Module._apply`` does to tensors, but the module's buffers of float64 keep their digits.

    A statistic of level 1e9 and spread 1 is a constant in float32. ``module.half()`` and ``module.to("mps")`` would
    make it one, or fail.
    """
    exact = {id(buffer) for buffer in module.buffers() if buffer.dtype == torch.float64}

    def careful(tensor: Tensor) -> Tensor:
        if id(tensor) not in exact:
            return move(tensor)
        if move(tensor.new_empty(0, dtype=torch.float32)).device.type in NO_DOUBLE:
            return tensor
        moved = move(tensor)
        return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

    return careful
