"""Resampler bridge: a fixed number of latents that read all tokens."""

from torch import nn

from metatx.bridge import LatentBridge, padded
from metatx.layers.resampler import Resampler
from metatx.sequence import TokenSequence

__all__ = ["ResamplerBridge"]


class ResamplerBridge(LatentBridge):
    """Perceiver resampler (Flamingo, Alayrac et al. 2022, arXiv 2204.14198): latents read the tokens and themselves.

    Args:
        dim: Width of the task's backbone, D.
        latents: Number of tokens that it makes of each sequence.
        depth: Number of layers.

    Raises:
        ValueError: If there is no latent or no layer.
    """

    def __init__(self, dim: int, latents: int = 16, depth: int = 2) -> None:
        super().__init__(dim)
        self.resampler = Resampler(dim, latents, depth)

    def build(self, width: int) -> None:
        """Make the map that stands before the resampler."""
        self.map = nn.Linear(width, self.dim)

    def forward(self, sequence: TokenSequence) -> TokenSequence:
        """Read each sequence by the latents."""
        tokens, mask = padded(sequence)
        return self.packed(sequence, self.resampler(self.map(tokens), mask))
