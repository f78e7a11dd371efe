"""Adapter of gains: the amount of each block's attention and MLP that a task adds to its tokens."""

import re
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from metatx.adapters.lora import Adapter, linear_layers
from metatx.backbone.base import Backbone

__all__ = ["ScaleLayer", "ScaleOptions", "scale_adapter"]

# Last layers of the two branches of a block: those of timm, of causal models and of encoders of transformers.
BRANCH_ENDS = re.compile(
    r"[\w.]*?\.\d+\.(attn\.proj|mlp\.fc2|self_attn\.o_proj|mlp\.down_proj|attention\.output\.dense|output\.dense)"
)


@dataclass(frozen=True, kw_only=True)
class ScaleOptions:
    """Options of an adapter of gains.

    Args:
        per_channel: True trains a gain for each channel of a branch; by default a branch has one.
    """

    per_channel: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.per_channel, bool):
            raise ValueError(f"per_channel is {self.per_channel!r}; it must be true or false.")


class ScaleLayer(nn.Module):
    """Gain on the output of one linear layer, 1 at the start ((IA)^3, Liu et al. 2022, arXiv 2205.05638).

    Args:
        layer: Layer of the backbone; read, never changed.
        options: Options of the adapter.
    """

    def __init__(self, layer: nn.Linear, options: ScaleOptions) -> None:
        super().__init__()
        self.width = layer.out_features
        # A vector, which weight decay spares: it would draw the gains to 0.
        self.ia3_l = nn.Parameter(torch.ones(self.width if options.per_channel else 1))  # peft's name

    def forward(self, layer: nn.Linear, x: Tensor) -> Tensor:
        """Apply the layer and the gain to tokens, (T, D) to (T, D')."""
        base: Tensor = layer(x)
        return (base * self.ia3_l).to(base.dtype)

    def column(self) -> Tensor:
        """Gains of all outputs (D', 1), as peft stores them."""
        return self.ia3_l.detach().expand(self.width)[:, None]

    @torch.no_grad()
    def folded(self, layer: nn.Linear) -> dict[str, Tensor]:
        """Weights, by name, of a plain linear layer that computes what the adapted layer computes."""
        weights = {"weight": layer.weight * self.ia3_l[:, None]}
        return weights if layer.bias is None else weights | {"bias": layer.bias * self.ia3_l}


def scale_adapter(backbone: Backbone, options: ScaleOptions) -> Adapter:
    """Make a new adapter of gains, of attention and MLP of every block, which changes nothing before training.

    Raises:
        ValueError: If the two branches of each block of the backbone do not end in layers of known names.
    """
    ends = {name: layer for name, layer in linear_layers(backbone).items() if BRANCH_ENDS.fullmatch(name)}
    if not ends or len(ends) != 2 * backbone.depth:
        raise ValueError(
            f"tune='scale' scales attention and MLP of each block, and {len(ends)} of {2 * backbone.depth} branches of "
            f"{backbone.spec} end in a layer of a known name; use tune='lora'."
        )
    return Adapter("scale", {name: ScaleLayer(layer, options) for name, layer in ends.items()}, asdict(options))
