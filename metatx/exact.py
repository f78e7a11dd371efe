"""Buffers of float64 that move with their module but are never cast to another type."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["NO_DOUBLE", "keep_float64"]

NO_DOUBLE = ("mps",)  # types of devices without float64, to which such buffers do not move


def keep_float64(module: nn.Module, move: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Wrap the function of ``nn.Module._apply`` so that it moves, but never casts, the module's buffers of float64.

    A statistic with mean 1e9 and standard deviation 1 becomes a constant in float32: ``module.half()`` would do that,
    and ``module.to("mps")`` would fail.

    Args:
        module: Module whose buffers are kept.
        move: Function that ``_apply`` would call for each tensor.
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
