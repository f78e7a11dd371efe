"""Perceiver resampler: any number of tokens read by a fixed number of latents."""

from typing import Any

import torch
from torch import Tensor, nn

from metatx.layers.cross_attention import CrossAttention, feed_forward

__all__ = ["Resampler"]


class Resampler(nn.Module):
    """Learned latents that read a sample's tokens (Flamingo, Alayrac et al. 2022, arXiv 2204.14198).

    In each layer the latents attend to the tokens and to themselves, and pass two linear layers (Perceiver, Jaegle et
    al. 2021, arXiv 2103.03206).

    Args:
        dim: Width of the tokens, D.
        latents: Number of latents, L.
        depth: Number of layers.

    Raises:
        ValueError: If there is no latent or no layer.
    """

    def __init__(self, dim: int, latents: int = 16, depth: int = 1) -> None:
        super().__init__()
        if latents < 1 or depth < 1:
            raise ValueError(
                f"A resampler of {latents} latents and {depth} layers reads nothing; give at least 1 each."
            )
        self.latents = nn.Parameter(0.02 * torch.randn(latents, dim))
        self.attention = nn.ModuleList(CrossAttention(dim) for _ in range(depth))
        self.feed_forward = nn.ModuleList(feed_forward(dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Resample padded tokens (B, M, D) with a mask (B, M), True = keep, to (B, L, D).

        A sample without a token gives what the latents make of themselves.
        """
        latents = self.latents.expand(len(tokens), -1, -1)
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(latents.shape[:2])], dim=1)
        attention: Any
        for attention, feed in zip(self.attention, self.feed_forward, strict=True):
            context = torch.cat([tokens, latents], dim=1)
            latents = latents + attention(attention.queries(latents), attention.keys_values(context), mask)
            latents = latents + feed(latents)
        resampled: Tensor = self.norm(latents)
        return resampled
