"""Parameter groups of the optimizer: weight decay, and the learning rate of each block."""

import re
from typing import Any

from torch import nn

from metatx.settings import TrainingSettings

__all__ = ["parameter_groups"]


def parameter_groups(module: nn.Module, settings: TrainingSettings, depth: int) -> list[dict[str, Any]]:
    """AdamW's groups: matrices with weight decay, vectors without; ``scale`` multiplies a group's learning rate.

    Layer-wise decay (Clark et al. 2020, ELECTRA): in a backbone tuned in full, each block has ``layer_decay`` times the
    learning rate of the next block. Tokenizer, head and adapters have the whole rate.

    Args:
        module: Module that is trained; names of a backbone's parameters begin with ``own_backbone.``.
        settings: Settings of the training: learning rate, decay and the like.
        depth: Number of the backbone's blocks.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            scale = settings.layer_decay ** _below_the_end(name, depth)
            groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": groups[key], "weight_decay": settings.weight_decay if key[1] else 0.0, "scale": key[0]}
        for key in sorted(groups, reverse=True)
    ]


def _below_the_end(name: str, depth: int) -> int:
    """Number of blocks from a parameter to the head, the parameter's block included; 0 outside the backbone."""
    if not name.startswith("own_backbone.") or name.startswith("own_backbone.norm."):
        return 0
    block = re.match(r"own_backbone\.(?:blocks|encoder\.layer|layers)\.(\d+)\.", name)
    return depth - int(block[1]) if block else depth + 1
