"""TokenSequence: the batch of sequences, of any lengths, that flows through the backbone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["TokenSequence", "as_sequence", "concatenate", "divide", "joined"]


@dataclass(frozen=True)
class TokenSequence:
    """Sequences of different lengths, packed back to back; nothing is padded.

    Attributes:
        embeddings: (T, D) tokens of all S sequences, one sequence after the other.
        lengths: Tokens of each sequence, ``prefix`` included; S numbers that sum to T.
        grid: Shape that the tokens of each sequence came from, row-major and without the prefix, where there is
            one: (H, W) of an image, (T, H, W) of a video. The same for all.
        parts: Sequences that make up each sample, B numbers that sum to S, where a tokenizer cuts samples into
            several (channels of a series, windows of a text). None: each sequence is a sample.
        prefix: Leading tokens of each sequence that the backbone put there (CLS, registers).
        context: Side information from tokenizer to head that bypasses the backbone; each is a tensor (B, ...), or a
            list of B tensors whose shapes differ.

    Example:
        >>> import torch
        >>> sequence = metatx.TokenSequence(torch.ones(5, 8), lengths=(2, 3))
        >>> len(sequence), sequence.mean().shape
        (2, torch.Size([2, 8]))
    """

    embeddings: Tensor
    lengths: tuple[int, ...]
    grid: tuple[int, ...] | None = None
    parts: tuple[int, ...] | None = None
    prefix: int = 0
    context: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2:
            raise ValueError(f"embeddings must be (T, D), not {tuple(self.embeddings.shape)}.")
        if sum(self.lengths) != len(self.embeddings):
            raise ValueError(f"lengths sum to {sum(self.lengths)}, but there are {len(self.embeddings)} tokens.")
        if self.parts is not None and sum(self.parts) != len(self.lengths):
            raise ValueError(f"parts sum to {sum(self.parts)}, but there are {len(self.lengths)} sequences.")

    def __len__(self) -> int:
        """Number of samples, B."""
        return len(self.lengths if self.parts is None else self.parts)

    @classmethod
    def pack(
        cls,
        embeddings: Tensor,
        mask: Tensor | None = None,
        *,
        grid: tuple[int, ...] | None = None,
        parts: tuple[int, ...] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> "TokenSequence":
        """Pack padded embeddings (S, N, D) with a mask (S, N), True = keep; without a mask all are kept.

        Raises:
            ValueError: If shapes disagree, the mask is not boolean, or it leaves a sequence without a token.
        """
        if embeddings.ndim != 3:
            raise ValueError(f"A tokenizer gives (B, N, D) embeddings, not {tuple(embeddings.shape)}.")
        if mask is None:
            lengths = (embeddings.shape[1],) * embeddings.shape[0]
            flat = embeddings.flatten(0, 1)
        else:
            if mask.dtype != torch.bool or mask.shape != embeddings.shape[:2]:
                raise ValueError(
                    f"The mask is {mask.dtype} {tuple(mask.shape)}; "
                    f"it must be torch.bool {tuple(embeddings.shape[:2])}."
                )
            lengths = tuple(mask.sum(1).tolist())
            flat = embeddings[mask]
        if 0 in lengths:
            raise ValueError(f"Sequence {lengths.index(0)} has no token; a sample must give at least one.")
        return cls(flat, lengths, grid=grid, parts=parts, context=context or {})

    def unpack(self) -> tuple[Tensor, Tensor]:
        """Padded embeddings (S, N, D), zero where there is no token, and their mask (S, N)."""
        n, device = max(self.lengths), self.embeddings.device
        mask = torch.arange(n, device=device) < torch.tensor(self.lengths, device=device)[:, None]
        if min(self.lengths) == n:
            return self.embeddings.view(-1, n, self.embeddings.shape[1]), mask
        padded = self.embeddings.new_zeros(len(self.lengths), n, self.embeddings.shape[1])
        return padded.masked_scatter(mask[..., None], self.embeddings), mask

    def with_embeddings(self, embeddings: Tensor) -> "TokenSequence":
        """The same sequences with other embeddings (T, D')."""
        return replace(self, embeddings=embeddings)

    def mean(self) -> Tensor:
        """Mean of each sample's tokens (B, D), the prefix left out."""
        kept = [length - self.prefix for length in self.lengths]
        if len(set(kept)) == 1 and self.parts is None:
            stacked = self.embeddings.view(len(kept), -1, self.embeddings.shape[1])
            return stacked[:, self.prefix :].mean(1)
        device = self.embeddings.device
        lengths = torch.tensor(self.lengths, device=device)
        starts = lengths.cumsum(0) - lengths
        at = torch.arange(len(self.embeddings), device=device) - starts.repeat_interleave(lengths)
        sample = self._sample_of_sequence().repeat_interleave(lengths)[at >= self.prefix]
        sums = self.embeddings.new_zeros(len(self), self.embeddings.shape[1])
        sums = sums.index_add(0, sample, self.embeddings[at >= self.prefix])
        return sums / torch.bincount(sample, minlength=len(self))[:, None].to(sums.dtype)

    def cls(self) -> Tensor:
        """The first prefix token of each sample (B, D), averaged over its parts.

        Raises:
            ValueError: If the backbone puts no token in front.
        """
        if not self.prefix:
            raise ValueError("This backbone has no CLS token; pool by the mean of the tokens.")
        lengths = torch.tensor(self.lengths, device=self.embeddings.device)
        first = self.embeddings[lengths.cumsum(0) - lengths]
        if self.parts is None:
            return first
        sums = first.new_zeros(len(self), first.shape[1]).index_add(0, self._sample_of_sequence(), first)
        return sums / torch.tensor(self.parts, device=first.device, dtype=first.dtype)[:, None]

    def _sample_of_sequence(self) -> Tensor:
        parts = (1,) * len(self.lengths) if self.parts is None else self.parts
        device = self.embeddings.device
        return torch.arange(len(parts), device=device).repeat_interleave(torch.tensor(parts, device=device))


def as_sequence(tokens: "Tensor | tuple[Tensor, Tensor] | TokenSequence") -> TokenSequence:
    """What a tokenizer may return, as a TokenSequence: (B, N, D), that and a mask (B, N), or one already."""
    if isinstance(tokens, TokenSequence):
        return tokens
    return TokenSequence.pack(*tokens) if isinstance(tokens, tuple) else TokenSequence.pack(tokens)


def concatenate(sequences: Sequence[TokenSequence]) -> TokenSequence:
    """One batch of all sequences, in order; grids, parts and context stay with the originals."""
    return TokenSequence(
        torch.cat([sequence.embeddings for sequence in sequences]),
        tuple(length for sequence in sequences for length in sequence.lengths),
        prefix=sequences[0].prefix,
    )


def divide(batch: TokenSequence, originals: Sequence[TokenSequence]) -> list[TokenSequence]:
    """What ``concatenate`` put together, apart again behind the backbone, with each one's grid, parts and context."""
    divided, sequence, token = [], 0, 0
    for original in originals:
        lengths = batch.lengths[sequence : sequence + len(original.lengths)]
        embeddings = batch.embeddings[token : token + sum(lengths)]
        divided.append(replace(original, embeddings=embeddings, lengths=lengths, prefix=batch.prefix))
        sequence, token = sequence + len(lengths), token + sum(lengths)
    return divided


def joined(sequences: Sequence[TokenSequence]) -> TokenSequence:
    """Batches of one tokenizer as the one batch of all their samples, parts and context too.

    They are of one grid, and of contexts that are tensors of one shape (B, ...), or lists.
    """
    first = sequences[0]
    if len(sequences) == 1:
        return first
    parts = [sequence.parts or (1,) * len(sequence) for sequence in sequences]
    return replace(
        first,
        embeddings=torch.cat([sequence.embeddings for sequence in sequences]),
        lengths=tuple(length for sequence in sequences for length in sequence.lengths),
        parts=None if all(sequence.parts is None for sequence in sequences) else tuple(n for own in parts for n in own),
        context={name: _in_a_row([sequence.context[name] for sequence in sequences]) for name in first.context},
    )


def _in_a_row(values: list[Any]) -> Any:
    """Tensors (B, ...) as one, or lists of B tensors as one."""
    return torch.cat(values) if isinstance(values[0], Tensor) else [item for value in values for item in value]
