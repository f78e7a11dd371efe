"""Gated cross-attention: the main input reads a few latents of the others between the blocks."""

import torch
from torch import Tensor, nn

from metatx.fusion import Fusion, exchanges
from metatx.layers.cross_attention import CrossAttention, feed_forward, padded_pairs
from metatx.layers.resampler import Resampler
from metatx.sequence import TokenSequence

__all__ = ["GatedFusion"]


class GatedFusion(Fusion):
    """The main input reads the others by gated cross-attention (Flamingo, Alayrac et al. 2022, arXiv 2204.14198).

    All inputs go through the backbone apart. Behind every few blocks a Perceiver resampler makes latents of the tokens
    of all other inputs, and the main input's tokens attend to them and pass two linear layers, each scaled by tanh of a
    gate that is 0 at first. The first step is so that of the main input alone. A sample without the main input, or with
    nothing else, is not changed; without the main input the mean of the others takes its place.

    In Flamingo the other inputs (images) are finished before the main one (words) begins. Here all pass the blocks
    together, and each exchange reads the others' tokens behind the same block, with the same resampler, which so sees
    shallow features and deep ones.

    Args:
        dim: Width of the backbone, D.
        latents: Number of latents that the other inputs of a sample are made to.
        every: Number of blocks from one exchange to the next; each exchange trains 8 D^2 weights, the resampler as
            many.
        product, dropout, max_tokens: The options of ``Fusion``.

    Raises:
        ValueError: If there is no latent.
    """

    joins = True
    blocks: range = range(0)

    def __init__(
        self,
        dim: int,
        latents: int = 16,
        every: int = 2,
        product: int = 0,
        dropout: float = 0.0,
        max_tokens: int = 4096,
    ) -> None:
        super().__init__(dim, product, dropout, max_tokens)
        if latents < 1:
            raise ValueError(f"--fusion.latents is {latents}; give at least 1.")
        self.latents = latents
        self.every = every

    def build(self, inputs: list[str], main: str, depth: int, class_token: bool) -> None:
        """Make the layers. Raises ValueError if no exchange follows from ``every``."""
        super().build(inputs, main, depth, class_token)
        if len(inputs) > 1 and depth:
            self.blocks = exchanges(self.every, depth)
            self.resampler = Resampler(self.dim, self.latents)
            self.layers = nn.ModuleList(GatedLayer(self.dim) for _ in self.blocks)

    def forward(self, block: int, sequence: TokenSequence) -> Tensor:
        """Tokens (T, D), of which those of the main input have read the others."""
        of_main = [source == self.main for source in sequence.sources or ()]
        readers, others = padded_pairs(sequence, of_main, [not own for own in of_main])
        tokens = sequence.embeddings
        if not len(readers):
            return tokens
        latents = self.resampler(others.pad(tokens), others.mask)
        changed = self.layers[self.blocks.index(block)](readers.pad(tokens), latents)
        return tokens.index_copy(0, readers.numbers(), readers.unpad(changed).to(tokens.dtype))

    def untrained(self, tokens: Tensor, share: Tensor) -> Tensor:
        """Fused tokens (B, 2, layers, D) before training: those of the main input, or else the mean of the others."""
        main = self.inputs.index(self.main)
        return torch.where(share[:, main] > 0, tokens[:, main], super().untrained(tokens, share))


class GatedLayer(nn.Module):
    """Cross-attention to latents and two linear layers, each behind a gate that is 0 at first.

    Args:
        dim: Width of the tokens, D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention = CrossAttention(dim)
        self.feed_forward = feed_forward(dim)
        self.gates = nn.Parameter(torch.zeros(2))

    def forward(self, tokens: Tensor, latents: Tensor) -> Tensor:
        """Read latents (B, L, D) into tokens (B, N, D)."""
        attention, feed_forward = self.gates.tanh()
        read = self.attention(self.attention.queries(tokens), self.attention.keys_values(latents))
        tokens = tokens + attention * read
        out: Tensor = tokens + feed_forward * self.feed_forward(tokens)
        return out
