"""Bottleneck fusion: inputs meet through a few tokens that all of them share."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from metatx.fusion import Fusion
from metatx.sequence import TokenSequence, ranges, sent

__all__ = ["BottleneckFusion"]


class BottleneckFusion(Fusion):
    """Inputs share a few learned tokens from one of the blocks on (MBT, Nagrani et al. 2021, arXiv 2107.00135).

    A copy of the bottleneck tokens stands at the end of each sequence and passes the blocks with it. Behind the blocks
    from ``at`` on, the copies in all inputs of a sample are set to their mean; those in several sequences of one input
    (windows of a text) count as one. Tokens of one input so reach another from block ``at`` + 1 on, and only through
    the bottleneck. The copies are left out of what is pooled, and of what a head reads.

    Args:
        dim: Width of the backbone, D.
        tokens: Number of bottleneck tokens.
        at: Number of the first block, from 0, behind which the copies are set to their mean; from the last one on there
            is no block left to read them, and the inputs do not meet. None: two thirds of the depth, and at the latest
            the block before the last.
        product, dropout, max_tokens: The options of ``Fusion``.

    Raises:
        ValueError: If there is no bottleneck token.
    """

    joins = True

    def __init__(
        self,
        dim: int,
        tokens: int = 4,
        at: int | None = None,
        product: int = 0,
        dropout: float = 0.0,
        max_tokens: int = 4096,
    ) -> None:
        super().__init__(dim, product, dropout, max_tokens)
        if tokens < 1:
            raise ValueError(f"--fusion.tokens is {tokens}; a bottleneck has at least 1 token.")
        self.tokens = tokens
        self.at = at

    def build(self, inputs: list[str], main: str, depth: int, class_token: bool) -> None:
        """Make the tokens. Raises ValueError if the backbone has no block ``at``."""
        super().build(inputs, main, depth, class_token)
        self.copies = self.tokens if len(inputs) > 1 and depth else 0
        if not self.copies:
            return
        at = min(2 * depth // 3, max(depth - 2, 0)) if self.at is None else self.at
        if not 0 <= at <= depth:
            raise ValueError(f"--fusion.at is {at}; this backbone has {depth} blocks, so 0 to {depth} are possible.")
        self.blocks = range(at, depth - 1)  # behind the last block nothing would read them
        self.bottleneck = nn.Parameter(0.02 * torch.randn(self.tokens, self.dim))

    def enter(self, sequence: TokenSequence) -> TokenSequence:
        """Put a copy of the bottleneck tokens at the end of each sequence."""
        sequence = super().enter(sequence)
        if not self.copies:
            return sequence
        lengths = torch.tensor(sequence.lengths)
        starts = lengths.cumsum(0) - lengths
        behind = torch.full_like(starts, len(sequence.embeddings))  # the copies' rows
        sizes = torch.stack([lengths, torch.full_like(lengths, self.copies)], dim=1).flatten()
        rows = ranges(torch.stack([starts, behind], dim=1).flatten(), sizes)
        tokens = torch.cat([sequence.embeddings, self.bottleneck]).index_select(0, sent(rows, self.bottleneck.device))
        longer = tuple(length + self.copies for length in sequence.lengths)
        return replace(sequence, embeddings=tokens, lengths=longer, trailing=(self.copies,) * len(longer))

    def forward(self, block: int, sequence: TokenSequence) -> Tensor:
        """Set the copies of each sample to their mean over its inputs: tokens (T, D)."""
        tokens = sequence.embeddings
        counts = torch.tensor(self.sequences_of(sequence))
        sample, place = counts.nonzero(as_tuple=True)  # of each input that is there, and then of each sequence
        repeats = counts[sample, place]
        weight = 1 / (repeats * (counts > 0).sum(1)[sample])
        sample = sent(sample.repeat_interleave(repeats), tokens.device)
        weight = sent(weight.repeat_interleave(repeats)[:, None, None].to(tokens.dtype), tokens.device)
        ends = torch.tensor(sequence.lengths).cumsum(0)
        rows = sent((ends[:, None] + torch.arange(-self.copies, 0)).flatten(), tokens.device)
        copies = tokens[rows].view(len(ends), self.copies, -1)
        mean = copies.new_zeros(len(sequence), *copies.shape[1:]).index_add(0, sample, copies * weight)
        return tokens.index_copy(0, rows, mean[sample].flatten(0, 1))

    def pool(self, sequence: TokenSequence) -> Tensor:
        """CLS and mean of each input without the bottleneck tokens, see ``Fusion.pool``."""
        return super().pool(self._without_copies(sequence))

    def of_main(self, sequence: TokenSequence) -> TokenSequence:
        """Tokens of the main input without the bottleneck tokens."""
        return super().of_main(self._without_copies(sequence))

    def _without_copies(self, sequence: TokenSequence) -> TokenSequence:
        if not self.copies:
            return sequence
        lengths = torch.tensor(sequence.lengths)
        rows = sent(ranges(lengths.cumsum(0) - lengths, lengths - self.copies), sequence.embeddings.device)
        return replace(
            sequence,
            embeddings=sequence.embeddings.index_select(0, rows),
            lengths=tuple(length - self.copies for length in sequence.lengths),
            trailing=None,
        )
