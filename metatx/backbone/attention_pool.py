"""Attention pool: the layer behind the blocks with which some weights turn a sequence into one vector."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone.block import Mlp
from metatx.sequence import TokenSequence

__all__ = ["AttentionPool", "AttentionPoolConfig"]


@dataclass(frozen=True, kw_only=True)
class AttentionPoolConfig:
    """Config of an attention pool.

    Attributes:
        num_heads: Number of attention heads, a divisor of the tokens' width.
        mlp_dim: Width of the MLP's hidden layer.
        approximate: Argument of the MLP's ``nn.GELU``.
        norm_eps: Epsilon of the LayerNorm.
        reads_prefix: True if the prefix tokens are attended to as well.
    """

    num_heads: int
    mlp_dim: int
    approximate: Literal["none", "tanh"] = "none"
    norm_eps: float = 1e-6
    reads_prefix: bool = False


class AttentionPool(nn.Module):
    """One query that attends to all tokens of a sequence, and an MLP (Zhai et al. 2022, arXiv 2106.04560).

    It computes what timm's ``AttentionPoolLatent`` computes and has its names.

    Args:
        dim: Width of the tokens, D.
        config: Shape of the pool.
    """

    def __init__(self, dim: int, config: AttentionPoolConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.reads_prefix = config.reads_prefix
        self.latent = nn.Parameter(torch.empty(1, 1, dim))
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.mlp = Mlp(dim, config.mlp_dim, "gelu")
        self.mlp.act = nn.GELU(config.approximate)

    def forward(self, sequence: TokenSequence) -> Tensor:
        """Map the backbone's output to one vector a sequence, (S, D)."""
        start = 0 if self.reads_prefix else sequence.num_prefix_tokens
        padded, mask = (part[:, start:] for part in sequence.unpack())
        heads = (self.num_heads, -1)
        query = self.q(self.latent).unflatten(2, heads).transpose(1, 2).expand(len(padded), -1, -1, -1)  # (S, H, 1, d)
        keys, values = self.kv(padded).unflatten(2, (2, *heads)).permute(2, 0, 3, 1, 4)  # each (S, H, N, d)
        kept = None if len(set(sequence.lengths)) == 1 else mask[:, None, None]
        x = self.proj(F.scaled_dot_product_attention(query, keys, values, attn_mask=kept).flatten(1))
        pooled: Tensor = x + self.mlp(self.norm(x))
        return pooled
