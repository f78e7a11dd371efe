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
        grid: Argument of ``TokenSequence.pack``.
        sequences_per_sample: Number of sequences of each sample; None: a sequence is a sample.
        context: Side information of ``TokenSequence``, tensors (B, ...) only.
    """

    embeddings: Tensor
    mask: Tensor | None = None
    grid: tuple[int, ...] | None = None
    sequences_per_sample: int | None = None
    context: Mapping[str, Tensor] = field(default_factory=dict)

    def packed(self) -> TokenSequence:
        """Pack the tokens. Raises the errors of ``TokenSequence.pack``."""
        each = self.sequences_per_sample
        counts = None if each is None else (each,) * (len(self.embeddings) // each)
        return TokenSequence.pack(
            self.embeddings, self.mask, grid=self.grid, sequences_per_sample=counts, context=self.context
        )
