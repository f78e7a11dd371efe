"""Q-Former bridge: learned queries that attend to one another, and to the tokens in every second layer."""

import torch
from torch import Tensor, nn

from metatx.bridge import LatentBridge, padded
from metatx.layers.cross_attention import CrossAttention, feed_forward
from metatx.sequence import TokenSequence

__all__ = ["QformerBridge"]


class QformerBridge(LatentBridge):
    """Querying transformer (BLIP-2, Li et al. 2023, arXiv 2301.12597): queries with self- and cross-attention.

    The paper's has 32 queries and the 12 layers of BERT, whose weights it starts from. Here norms stand before each
    part, as in the backbones, and the weights are new.

    Args:
        dim: Width of the task's backbone, D.
        queries: Number of tokens that it makes of each sequence.
        depth: Number of layers.
        every: Number of layers from one cross-attention to the next; the first layer has one.

    Raises:
        ValueError: If there is no query, no layer, or ``every`` is below 1.
    """

    def __init__(self, dim: int, queries: int = 32, depth: int = 4, every: int = 2) -> None:
        super().__init__(dim)
        if queries < 1 or depth < 1 or every < 1:
            raise ValueError(
                f"A Q-Former of {queries} queries and {depth} layers with cross-attention in every {every} reads "
                "nothing; give at least 1 each."
            )
        self.queries = nn.Parameter(0.02 * torch.randn(queries, dim))
        self.layers = nn.ModuleList(QformerLayer(dim, crosses=number % every == 0) for number in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim, dim)

    def build(self, width: int) -> None:
        """Make norm and map of the other backbone's tokens."""
        self.map = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.dim))

    def forward(self, sequence: TokenSequence) -> TokenSequence:
        """Read each sequence by the queries."""
        tokens, mask = padded(sequence)
        context = self.map(tokens)
        queries = self.queries.expand(len(context), -1, -1)
        for layer in self.layers:
            queries = layer(queries, context, mask)
        return self.packed(sequence, self.proj(self.norm(queries)))


class QformerLayer(nn.Module):
    """Self-attention, cross-attention in some layers, and two linear layers.

    Args:
        dim: Width of the queries, D.
        crosses: True for a layer with cross-attention.
    """

    def __init__(self, dim: int, crosses: bool) -> None:
        super().__init__()
        self.attention = CrossAttention(dim)
        self.cross = CrossAttention(dim) if crosses else None
        self.feed_forward = feed_forward(dim)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """Change queries (S, Q, D) by themselves and by tokens (S, N, D) with a mask (S, N)."""
        queries = queries + self.attention(self.attention.queries(queries), self.attention.keys_values(queries))
        if self.cross is not None:
            queries = queries + self.cross(self.cross.queries(queries), self.cross.keys_values(context), mask)
        out: Tensor = queries + self.feed_forward(queries)
        return out
