"""Base class of bridges: trained maps from the output of another frozen backbone to tokens of a task's."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from metatx.component import Component
from metatx.sequence import TokenSequence

__all__ = ["Bridge", "LatentBridge", "padded", "plain"]


class Bridge(Component):
    """Base class of bridges. A subclass makes its layers in ``build`` and applies them in ``forward``.

    What the other backbone makes of an input does not change in training, nor does what ``pool`` makes of that, so that
    both can be computed once. ``Component`` explains options and ``build``.

    Args:
        dim: Width of the task's backbone, D.

    Attributes:
        pool_options: Names of the options that ``pool`` reads.
        uses_stem_tokens, token_rms_factor: Scale of the tokens, as those of ``Tokenizer``.

    Example:
        >>> import torch
        >>> bridge = metatx.create("bridges", "linear", 192).restore({"width": 64})
        >>> bridge(metatx.TokenSequence(torch.zeros(5, 64), lengths=(2, 3))).embeddings.shape
        torch.Size([5, 192])
    """

    pool_options: ClassVar[tuple[str, ...]] = ()
    uses_stem_tokens: bool = False
    token_rms_factor: float = 1.0

    def build(self, width: int) -> None:
        """Make the layers for an other backbone of this width, E."""
        raise NotImplementedError(f"{type(self).__name__} has no build(width).")

    def pool(self, sequence: TokenSequence) -> TokenSequence:
        """Tokens (T, E) that the bridge reads of the other backbone's output, without parameters: no prefix tokens."""
        return plain(without_prefix(sequence))

    def forward(self, sequence: TokenSequence) -> TokenSequence:
        """Map the result of ``pool`` to tokens of the task's backbone, (T', D)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(sequence).")


def plain(sequence: TokenSequence) -> TokenSequence:
    """The sequences as a tokenizer gives them: their prefix tokens, if they have any, are tokens as all others."""
    return replace(sequence, num_prefix_tokens=0, class_token=True, causal=False, attention_pool=None)


def without_prefix(sequence: TokenSequence) -> TokenSequence:
    """The sequences without their prefix tokens."""
    prefix = sequence.num_prefix_tokens
    if not prefix:
        return sequence
    lengths = tuple(length - prefix for length in sequence.lengths)
    parts = torch.split(sequence.embeddings, list(sequence.lengths))
    embeddings = torch.cat([part[prefix:] for part in parts])
    return replace(sequence, embeddings=embeddings, lengths=lengths, num_prefix_tokens=0)


def padded(sequence: TokenSequence) -> tuple[Tensor, Tensor | None]:
    """Padded tokens (S, N, E) and their mask (S, N), True = keep; None where nothing is padded."""
    tokens, mask = sequence.unpack()
    return tokens, None if len(set(sequence.lengths)) == 1 else mask


class LatentBridge(Bridge):
    """Base class of bridges that make a fixed number of tokens of each sequence, prefix tokens included."""

    def pool(self, sequence: TokenSequence) -> TokenSequence:
        """Tokens of the other backbone's output, all of them."""
        return plain(sequence)

    def packed(self, sequence: TokenSequence, latents: Tensor) -> TokenSequence:
        """The sequences with latents (S, L, D) in the place of their tokens, which lie on no grid."""
        lengths = (latents.shape[1],) * len(latents)
        return replace(sequence, embeddings=latents.flatten(0, 1), lengths=lengths, grids={})
