"""The transformer block of Vision Transformers, over packed sequences."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from metatx.backbone.attention import Attention, Call, Packing, plain
from metatx.backbone.packed import Linear

__all__ = ["Activation", "Block"]

Activation = Literal["gelu", "quick_gelu"]


class QuickGELU(nn.Module):
    """The approximation of GELU that OpenAI's CLIP was trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class LayerScale(nn.Module):
    """A learned scale per channel (CaiT, https://arxiv.org/abs/2103.17239)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Mlp(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, dim: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.act = nn.GELU() if activation == "gelu" else QuickGELU()
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor, call: Call = plain) -> Tensor:
        hidden = call(self.fc1, x)
        if hidden.requires_grad or type(self.act) is not nn.GELU:
            return call(self.fc2, self.act(hidden))
        # In place: no other tensor of a pass is as large.
        return call(self.fc2, torch.ops.aten.gelu_(hidden, approximate=self.act.approximate))


class Block(nn.Module):
    """Pre-norm transformer block (ViT, https://arxiv.org/abs/2010.11929).

    It computes what timm's ``Block`` computes and has its names, for weights and for adapters. Importing timm itself
    would take longer than loading a small backbone.

    Args:
        dim: Width of the tokens, D.
        num_heads: Number of attention heads, a divisor of ``dim``.
        mlp_dim: Width of the hidden layer.
        activation: Activation of the hidden layer.
        qkv_bias: True if the query, key and value maps have a bias.
        qk_norm: True if queries and keys are normalised, head by head.
        layer_scale: True if both branches have a learned scale per channel.
        norm_eps: Epsilon of every LayerNorm.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        *,
        activation: Activation,
        qkv_bias: bool,
        qk_norm: bool,
        layer_scale: bool,
        norm_eps: float,
    ) -> None:
        super().__init__()
        layer_norm = partial(nn.LayerNorm, eps=norm_eps)
        self.norm1 = layer_norm(dim)
        self.attn = Attention(dim, num_heads, qkv_bias, layer_norm if qk_norm else None)
        self.ls1 = LayerScale(dim) if layer_scale else nn.Identity()
        self.norm2 = layer_norm(dim)
        self.mlp = Mlp(dim, mlp_dim, activation)
        self.ls2 = LayerScale(dim) if layer_scale else nn.Identity()

    def forward(self, x: Tensor, packing: Packing, call: Call = plain) -> Tensor:
        """Transform tokens in block order, (T, D) to (T, D); an adapter changes the layers through ``call``."""
        x = x + self.ls1(self.attn(call(self.norm1, x), packing, call))
        out: Tensor = x + self.ls2(self.mlp(call(self.norm2, x), call))
        return out
