"""TokenSequence: the batch of sequences, of any lengths, that flows through the backbone."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["LATE", "TokenSequence", "as_sequence", "concatenate", "divide", "joined"]

LATE = sys.maxsize  # ``fuse_at`` of a sample whose sequences never attend to one another
Fact = TypeVar("Fact")


@dataclass(frozen=True)
class TokenSequence:
    """Sequences of different lengths, packed back to back; nothing is padded.

    Attributes:
        embeddings: (T, D) tokens of all S sequences, one sequence after the other.
        lengths: Tokens of each sequence, prefix included; S numbers of at least 1 that sum to T.
        sequences_per_sample: Number of sequences of each sample, B numbers that sum to S, where a tokenizer cuts
            samples into several (channels of a series, windows of a text) or a sample has several inputs. None: each
            sequence is a sample.
        sources: Name of the input that each sequence comes from, S names. None: there is one input, named "".
        fuse_at: Block from which on the sequences of each sample attend to one another, B numbers; 0 is the first,
            from the depth on they never do. None: they never do.
        grids: Shape that the tokens of a source's sequences came from, row-major and without the prefix, by source:
            (H, W) of an image, (T, H, W) of a video. A source without one has none.
        num_prefix_tokens: Number of leading tokens of each sequence that the backbone put there (CLS, registers).
        class_token: Whether the first of these is a class token (CLS).
        context: Side information from tokenizer to head that bypasses the backbone; each is a tensor (B, ...), or a
            list of B tensors whose shapes differ.

    Raises:
        ValueError: If these do not fit together.

    Example:
        >>> import torch
        >>> sequence = metatx.TokenSequence(torch.ones(5, 8), lengths=(2, 3))
        >>> len(sequence), sequence.mean().shape
        (2, torch.Size([2, 8]))
    """

    embeddings: Tensor
    lengths: tuple[int, ...]
    sequences_per_sample: tuple[int, ...] | None = None
    sources: tuple[str, ...] | None = None
    fuse_at: tuple[int, ...] | None = None
    grids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    num_prefix_tokens: int = 0
    class_token: bool = True
    context: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.lengths)
        if self.embeddings.ndim != 2:
            raise ValueError(f"embeddings must be (T, D), not {tuple(self.embeddings.shape)}.")
        if sum(self.lengths) != len(self.embeddings):
            raise ValueError(f"lengths sum to {sum(self.lengths)}, but there are {len(self.embeddings)} tokens.")
        if min(self.lengths, default=1) < 1:
            place = next(i for i, length in enumerate(self.lengths) if length < 1)
            raise ValueError(f"Sequence {place} has no token; a sample must give at least one.")
        if self.sequences_per_sample is not None:
            self._check_samples(self.sequences_per_sample)
        if self.sources is not None and len(self.sources) != count:
            raise ValueError(f"sources names {len(self.sources)} inputs for {count} sequences; name one each.")
        if self.fuse_at is not None and (len(self.fuse_at) != len(self) or min(self.fuse_at, default=0) < 0):
            raise ValueError(f"fuse_at is {self.fuse_at}; give each of the {len(self)} samples a block, 0 or later.")
        foreign = set(self.grids).difference(self.sources or ("",))
        if foreign:
            raise ValueError(f"There is a grid of {min(foreign)!r}, but no sequence comes from it.")

    def _check_samples(self, counts: tuple[int, ...]) -> None:
        if sum(counts) != len(self.lengths):
            raise ValueError(f"sequences_per_sample sum to {sum(counts)}, but there are {len(self.lengths)} sequences.")
        if min(counts, default=0) < 0:
            raise ValueError(f"sequences_per_sample are {counts}; each must be 0 or more.")

    def __len__(self) -> int:
        """Number of samples, B."""
        return len(self.lengths if self.sequences_per_sample is None else self.sequences_per_sample)

    @property
    def has_cls(self) -> bool:
        """Whether each sequence begins with a class token."""
        return self.class_token and self.num_prefix_tokens > 0

    @property
    def grid(self) -> tuple[int, ...] | None:
        """The grid of all tokens where there is one input; None where it has none, or there are several."""
        return self.grids.get("")

    @classmethod
    def pack(
        cls,
        embeddings: Tensor,
        mask: Tensor | None = None,
        *,
        grid: tuple[int, ...] | None = None,
        sequences_per_sample: tuple[int, ...] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> "TokenSequence":
        """Pack padded embeddings (S, N, D) of one input with a mask (S, N), True = keep; without one all are kept.

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
        return cls(
            flat,
            lengths,
            sequences_per_sample=sequences_per_sample,
            grids={} if grid is None else {"": grid},
            context=context or {},
        )

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
        """Mean of each sample's tokens (B, D), the prefix left out; zeros for a sample without a sequence."""
        prefix = self.num_prefix_tokens
        kept = [length - prefix for length in self.lengths]
        if len(set(kept)) == 1 and self.sequences_per_sample is None:
            stacked = self.embeddings.view(len(kept), -1, self.embeddings.shape[1])
            return stacked[:, prefix:].mean(1)
        device = self.embeddings.device
        lengths = torch.tensor(self.lengths, device=device)
        starts = lengths.cumsum(0) - lengths
        at = torch.arange(len(self.embeddings), device=device) - starts.repeat_interleave(lengths)
        sample = self._sample_of_sequence().repeat_interleave(lengths)[at >= prefix]
        sums = self.embeddings.new_zeros(len(self), self.embeddings.shape[1])
        sums = sums.index_add(0, sample, self.embeddings[at >= prefix])
        counts = torch.bincount(sample, minlength=len(self)).clamp_min(1)
        return sums / counts[:, None].to(sums.dtype)

    def cls(self) -> Tensor:
        """The class token of each sample (B, D), averaged over its sequences; zeros where it has none.

        Raises:
            ValueError: If the backbone puts no class token in front.
        """
        if not self.has_cls:
            raise ValueError("This backbone has no CLS token; pool by the mean of the tokens.")
        lengths = torch.tensor(self.lengths, device=self.embeddings.device)
        first = self.embeddings[lengths.cumsum(0) - lengths]
        if self.sequences_per_sample is None:
            return first
        sums = first.new_zeros(len(self), first.shape[1]).index_add(0, self._sample_of_sequence(), first)
        counts = torch.tensor(self.sequences_per_sample, device=first.device, dtype=first.dtype)
        return sums / counts.clamp_min(1)[:, None]

    def _sample_of_sequence(self) -> Tensor:
        counts = torch.tensor(_counts(self), device=self.embeddings.device)
        return torch.arange(len(counts), device=counts.device).repeat_interleave(counts)


def as_sequence(tokens: "Tensor | tuple[Tensor, Tensor] | TokenSequence") -> TokenSequence:
    """What a tokenizer may return, as a TokenSequence: (B, N, D), that and a mask (B, N), or one already."""
    if isinstance(tokens, TokenSequence):
        return tokens
    return TokenSequence.pack(*tokens) if isinstance(tokens, tuple) else TokenSequence.pack(tokens)


def concatenate(sequences: Sequence[TokenSequence]) -> TokenSequence:
    """One batch of all sequences, in order, for the backbone; context stays with the originals.

    Sources get the number of their batch in front (``"0.photo"``), so that each keeps its grid.
    """
    grids: dict[str, tuple[int, ...]] = {}
    sources: list[Sequence[str] | None] = []
    for number, sequence in enumerate(sequences):
        grids |= {f"{number}.{source}": grid for source, grid in sequence.grids.items()}
        if sequence.sources is not None:
            sources.append([f"{number}.{source}" for source in sequence.sources])
        else:
            sources.append([f"{number}."] * len(sequence.lengths) if sequence.grids else None)
    return TokenSequence(
        torch.cat([sequence.embeddings for sequence in sequences]),
        tuple(chain.from_iterable(sequence.lengths for sequence in sequences)),
        sequences_per_sample=_all_counts(sequences),
        sources=_in_turn(sources, map(_nameless, sequences)),
        fuse_at=_all_fuse_at(sequences),
        grids=grids,
        num_prefix_tokens=sequences[0].num_prefix_tokens,
    )


def divide(batch: TokenSequence, originals: Sequence[TokenSequence]) -> list[TokenSequence]:
    """What ``concatenate`` put together, apart again behind the backbone, with each one's facts and context."""
    divided: list[TokenSequence] = []
    sequence = 0
    token = 0
    for original in originals:
        lengths = batch.lengths[sequence : sequence + len(original.lengths)]
        embeddings = batch.embeddings[token : token + sum(lengths)]
        divided.append(
            replace(
                original,
                embeddings=embeddings,
                lengths=lengths,
                num_prefix_tokens=batch.num_prefix_tokens,
                class_token=batch.class_token,
            )
        )
        sequence += len(lengths)
        token += len(embeddings)
    return divided


def joined(sequences: Sequence[TokenSequence]) -> TokenSequence:
    """Batches of one tokenizer as the one batch of all their samples, context too.

    A source's grid is the same in all; contexts are tensors of one shape (B, ...), or lists.
    """
    first = sequences[0]
    if len(sequences) == 1:
        return first
    grids: dict[str, tuple[int, ...]] = {}
    for sequence in sequences:
        grids |= sequence.grids
    return replace(
        first,
        embeddings=torch.cat([sequence.embeddings for sequence in sequences]),
        lengths=tuple(chain.from_iterable(sequence.lengths for sequence in sequences)),
        sequences_per_sample=_all_counts(sequences),
        sources=_in_turn([sequence.sources for sequence in sequences], map(_nameless, sequences)),
        fuse_at=_all_fuse_at(sequences),
        grids=grids,
        context={name: _in_a_row([sequence.context[name] for sequence in sequences]) for name in first.context},
    )


def _counts(sequence: TokenSequence) -> tuple[int, ...]:
    """Number of sequences of each sample."""
    return (1,) * len(sequence) if sequence.sequences_per_sample is None else sequence.sequences_per_sample


def _all_counts(sequences: Sequence[TokenSequence]) -> tuple[int, ...] | None:
    return _in_turn([sequence.sequences_per_sample for sequence in sequences], map(_counts, sequences))


def _all_fuse_at(sequences: Sequence[TokenSequence]) -> tuple[int, ...] | None:
    return _in_turn([sequence.fuse_at for sequence in sequences], ([LATE] * len(sequence) for sequence in sequences))


def _nameless(sequence: TokenSequence) -> tuple[str, ...]:
    return ("",) * len(sequence.lengths)


def _in_turn(facts: Sequence[Sequence[Fact] | None], otherwise: Iterable[Sequence[Fact]]) -> tuple[Fact, ...] | None:
    """Facts of several batches one after the other, ``otherwise`` where a batch states none; None where none does."""
    if all(fact is None for fact in facts):
        return None
    stated = (default if fact is None else fact for fact, default in zip(facts, otherwise, strict=True))
    return tuple(chain.from_iterable(stated))


def _in_a_row(values: list[Any]) -> Any:
    """Tensors (B, ...) as one, or lists of B tensors as one."""
    return torch.cat(values) if isinstance(values[0], Tensor) else [item for value in values for item in value]
