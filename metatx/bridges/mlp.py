"""MLP bridge: two linear maps of each token."""

from torch import nn

from metatx.bridge import Bridge
from metatx.sequence import TokenSequence

__all__ = ["MlpBridge"]


class MlpBridge(Bridge):
    """Two linear maps with GELU between them (LLaVA-1.5, Liu et al. 2023, arXiv 2310.03744); tokens keep their grid."""

    def build(self, width: int) -> None:
        """Make the maps."""
        self.map = nn.Sequential(nn.Linear(width, self.dim), nn.GELU(), nn.Linear(self.dim, self.dim))

    def forward(self, sequence: TokenSequence) -> TokenSequence:
        """Map each token."""
        return sequence.with_embeddings(self.map(sequence.embeddings))
