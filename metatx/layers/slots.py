"""Tokens arranged in the slots of the mask of a tokenizer."""

import torch
from torch import Tensor

from metatx.sequence import TokenSequence, ranges, sent

__all__ = ["slots"]


def slots(sequence: TokenSequence) -> Tensor:
    """Tokens (S, N, D) in the slots of ``context["mask"]``, without the prefix; 0 in a slot that gave no token."""
    prefix = sequence.num_prefix_tokens
    embeddings = sequence.embeddings
    taken = sequence.context["mask"].flatten(0, 1)
    lengths = torch.tensor(sequence.lengths)
    if len(embeddings) - prefix * len(lengths) == taken.numel():
        return embeddings.view(len(lengths), -1, embeddings.shape[1])[:, prefix:]
    rows = ranges(lengths.cumsum(0) - lengths + prefix, lengths - prefix)
    empty = embeddings.new_zeros(*taken.shape, embeddings.shape[1])
    return empty.masked_scatter(taken[..., None], embeddings[sent(rows, embeddings.device)])
