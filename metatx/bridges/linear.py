"""Linear bridge: a linear map of each token."""

from torch import nn

from metatx.bridge import Bridge
from metatx.sequence import TokenSequence

__all__ = ["LinearBridge"]


class LinearBridge(Bridge):
    """One linear map for all tokens (LLaVA, Liu et al. 2023, arXiv 2304.08485); the tokens keep their grid."""

    def build(self, width: int) -> None:
        """Make the map."""
        self.map = nn.Linear(width, self.dim)

    def forward(self, sequence: TokenSequence) -> TokenSequence:
        """Map each token."""
        return sequence.with_embeddings(self.map(sequence.embeddings))
