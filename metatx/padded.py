"""Tokens of a batch before they are packed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from metatx.sequence import TokenSequence

__all__ = ["PaddedTokens"]


@dataclass(frozen=True)
class PaddedTokens:
    """Tokens of a batch before they are packed: tensors whose shapes depend on no values, as ``torch.func`` needs them.

    Attributes:
        embeddings: Tokens of one input, (S, N, D).
        mask: Tokens to keep, bool (S, N), True = keep; None: all.
        grid, sequences_per_sample: Arguments of ``TokenSequence.pack``.
        context: Side information of ``TokenSequence``, tensors (B, ...) only.
    """

    embeddings: Tensor
    mask: Tensor | None = None
    grid: tuple[int, ...] | None = None
    sequences_per_sample: tuple[int, ...] | None = None
    context: Mapping[str, Tensor] = field(default_factory=dict)

    def packed(self) -> TokenSequence:
        """Pack the tokens. Raises the errors of ``TokenSequence.pack``."""
        counts = self.sequences_per_sample
        return TokenSequence.pack(
            self.embeddings, self.mask, grid=self.grid, sequences_per_sample=counts, context=self.context
        )
