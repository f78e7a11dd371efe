"""Random weights for a backbone that is never trained: the control for every pretrained one."""

import torch
from torch import Tensor, nn

__all__ = ["random_weights"]

SEED = 0


def random_weights(network: nn.Module) -> dict[str, Tensor]:
    """Weights for every parameter of a network, the same each time; the global generator is left alone.

    Matrices are drawn with standard deviation 1 / sqrt(inputs), so that each layer keeps the scale of its input and
    the blocks mix tokens from the start.
    """
    generator = torch.Generator().manual_seed(SEED)

    def draw(name: str, shape: torch.Size) -> Tensor:
        if name.endswith("bias"):
            return torch.zeros(shape)
        if len(shape) == 1:  # scales of norms and of layer scale
            return torch.ones(shape)
        values = torch.randn(shape, generator=generator)
        return values if name.endswith(("cls_token", "positions")) else values / shape[1:].numel() ** 0.5

    return {name: draw(name, parameter.shape) for name, parameter in network.named_parameters()}
