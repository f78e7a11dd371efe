"""Cross-attention between tokens of one sample, in batches of packed sequences."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metatx.backbone.attention import attend
from metatx.sequence import TokenSequence, sent

__all__ = ["CrossAttention", "Padded", "feed_forward", "padded_pairs"]

HEAD_WIDTH = 64


class CrossAttention(nn.Module):
    """Multi-head attention of queries to keys and values of other tokens; norms stand before, a linear map behind.

    Queries, and keys with values, are made by methods of their own, so that each token passes the maps once, however
    the tokens are then arranged.

    Args:
        dim: Width of the tokens, D. There are D / 64 heads, or the next smaller number that divides D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_heads = next(heads for heads in range(max(1, dim // HEAD_WIDTH), 0, -1) if dim % heads == 0)
        self.norm = nn.LayerNorm(dim)
        self.context_norm = nn.LayerNorm(dim)
        self.q = nn.Linear(dim, dim, bias=False)
        self.kv = nn.Linear(dim, 2 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def queries(self, tokens: Tensor) -> Tensor:
        """Map tokens (..., D) that read to queries (..., D)."""
        queries: Tensor = self.q(self.norm(tokens))
        return queries

    def keys_values(self, context: Tensor) -> Tensor:
        """Map tokens (..., D) that are read to keys and values side by side, (..., 2 D)."""
        keys_values: Tensor = self.kv(self.context_norm(context))
        return keys_values

    def forward(self, queries: Tensor, keys_values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from queries (B, N, D) to keys and values (B, M, 2 D): (B, N, D).

        Args:
            queries: Result of ``queries``.
            keys_values: Result of ``keys_values``.
            mask: True for the keys that are read, (B, M), at least one of each sample; by default all.
        """
        q = queries.reshape(*queries.shape[:2], self.num_heads, -1).transpose(1, 2)
        k, v = keys_values.reshape(*keys_values.shape[:2], 2, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind()
        out = attend(q, k, v, None if mask is None else mask[:, None, None])
        mapped: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return mapped


def feed_forward(dim: int) -> nn.Sequential:
    """Two layers with a norm before them, of the hidden width 2 D."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))


@dataclass(frozen=True)
class Padded:
    """Places of a batch's tokens in a padded tensor of one row a sample.

    Attributes:
        index: Number of the token in each place, (B, N). Padding repeats a token of the same sample, so that what is
            computed of a sample holds nothing of another.
        mask: True for a token, False for padding, (B, N).
        kept: Number of each place that holds a token, of all B N places, (R,).
    """

    index: Tensor
    mask: Tensor
    kept: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def pad(self, tokens: Tensor) -> Tensor:
        """Arrange the tokens (T, D) of the batch in their places, (B, N, D)."""
        return tokens.index_select(0, self.index.flatten()).view(*self.index.shape, -1)

    def numbers(self) -> Tensor:
        """Numbers of the tokens in the batch, (R,), in the order of ``unpad``."""
        return self.index.flatten()[self.kept]

    def unpad(self, padded: Tensor) -> Tensor:
        """Tokens (R, D) without padding of a padded tensor (B, N, D)."""
        return padded.flatten(0, 1)[self.kept]


def padded_pairs(sequence: TokenSequence, readers: Sequence[bool], read: Sequence[bool]) -> tuple[Padded, Padded]:
    """Places of the tokens that read and of those that are read, for the samples that have both.

    Args:
        sequence: Batch of S sequences.
        readers: True for each sequence whose tokens read.
        read: True for each sequence whose tokens are read.
    """
    device = sequence.embeddings.device
    lengths = torch.tensor(sequence.lengths)
    counts = torch.tensor(sequence.sequences_per_sample or (1,) * len(sequence))
    sample = torch.arange(len(counts)).repeat_interleave(counts)
    chosen = [torch.tensor(keep) for keep in (readers, read)]
    sizes = [torch.zeros_like(counts).index_add(0, sample[keep], lengths[keep]) for keep in chosen]
    both = (sizes[0] > 0) & (sizes[1] > 0)
    pair = []
    for keep, size in zip(chosen, sizes, strict=True):
        numbers = keep.repeat_interleave(lengths).nonzero().flatten()
        starts = (size.cumsum(0) - size)[both, None]
        ends = size[both, None]
        places = torch.arange(int(ends.max()) if len(ends) else 0)
        index = numbers[starts + torch.minimum(places, ends - 1)]
        mask = places < ends
        kept = mask.flatten().nonzero().flatten()
        pair.append(Padded(sent(index, device), sent(mask, device), sent(kept, device)))
    return pair[0], pair[1]
