"""Tokens arranged in the slots of the mask of a tokenizer."""

from torch import Tensor

from metatx.sequence import TokenSequence

__all__ = ["slots"]


def slots(sequence: TokenSequence) -> Tensor:
    """Tokens (S, N, D) in the slots of ``context["mask"]``, without the prefix; 0 in a slot that gave no token."""
    padded, mask = sequence.unpack()
    padded = padded[:, sequence.num_prefix_tokens :]
    mask = mask[:, sequence.num_prefix_tokens :]
    taken = sequence.context["mask"].flatten(0, 1)
    if taken.all():
        return padded
    empty = padded.new_zeros(*taken.shape, padded.shape[-1])
    return empty.masked_scatter(taken[..., None], padded[mask])
