"""Adapters as if they were trained."""

from typing import TypeVar

import torch
from torch import nn

from metatx.adapters.lora import LoraOptions, lora_adapter, norm_adapter
from metatx.adapters.scale import ScaleOptions, scale_adapter

Module = TypeVar("Module", bound=nn.Module)
EVERY = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
OPTIONS = [
    LoraOptions(r=2, alpha=4),
    LoraOptions(r=2, alpha=7),
    LoraOptions(r=5, alpha=1, target_modules=EVERY, use_rslora=True),
    LoraOptions(r=1, alpha=3, target_modules=["mlp.fc1"], use_dora=True),
    LoraOptions(r=3, target_modules=r"blocks\.1\.mlp\.fc2", use_dora=True, use_rslora=True, dropout=0.5),
]


def adapters(backbone):
    """One of each kind, none of which leaves the backbone as it is; and None."""
    torch.manual_seed(0)
    made = [lora_adapter(backbone, options) for options in OPTIONS] + [norm_adapter(backbone) for _ in range(2)]
    made += [scale_adapter(backbone, ScaleOptions(per_channel=wide)) for wide in (False, True)]
    with torch.no_grad():
        for parameter in torch.nn.ModuleList(made).parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return [*(adapter.eval() for adapter in made), None]


def scramble(module: Module) -> Module:
    """As if it were trained: nothing that can be trained is at its start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()
