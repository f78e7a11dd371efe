"""Token sequences: a batch of sequences of any lengths, the input and output of the backbone."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, compress, islice
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["LATE", "TokenSequence", "as_sequence", "concatenate", "divide", "joined", "picked", "ranges", "sent"]

LATE = sys.maxsize  # value of ``fuse_at`` for a sample whose sequences never attend to one another
Fact = TypeVar("Fact")


@dataclass(frozen=True)
class TokenSequence:
    """Batch of sequences of different lengths, concatenated without padding.

    Attributes:
        embeddings: Tokens of all S sequences, one sequence after the other, (T, D).
        lengths: Number of tokens of each sequence, prefix tokens included: S numbers of at least 1 that sum to T.
        sequences_per_sample: Number of sequences of each sample, B numbers that sum to S, where samples are cut into
            several (channels of a series, windows of a text) or have several inputs. None: each sequence is a sample.
        sources: Name of the input of each sequence, S names. None: there is one input, named "".
        fuse_at: Number of the block from which the sequences of a sample attend to one another, B numbers; 0 is the
            first block. None, or a number of at least the depth: they never do.
        trailing: Number of tokens at the end of each sequence that lie on no grid and have no position, S numbers, such
            as those of a bottleneck. None: there are none.
        grids: Grid of the tokens of each source's sequences, row-major and without prefix tokens, by source: (H, W) of
            an image, (T, H, W) of a video. A source whose tokens lie on no grid is left out.
        num_prefix_tokens: Number of leading tokens of each sequence that the backbone added (CLS, registers).
        class_token: True if the first prefix token is a class token (CLS).
        causal: True if the tokens come from a causal backbone. The class token of a sequence then is its last token,
            the only one that has attended to all others.
        attention_pool: Attention pool of the weights that the tokens come from: a function to one vector a sequence,
            (S, D). None: there is none, or the tokens have not passed the backbone.
        context: Side information from tokenizer to head that bypasses the backbone, by name: tensors (B, ...), or lists
            of B tensors whose shapes differ.

    Raises:
        ValueError: If the fields do not fit together.

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
    trailing: tuple[int, ...] | None = None
    grids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    num_prefix_tokens: int = 0
    class_token: bool = True
    causal: bool = False
    attention_pool: "Callable[[TokenSequence], Tensor] | None" = None
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
        if self.trailing is not None and len(self.trailing) != count:
            raise ValueError(f"trailing has {len(self.trailing)} numbers for {count} sequences; give one each.")
        foreign = set(self.grids).difference(self.sources or ("",))
        if foreign:
            raise ValueError(f"grids has the source {min(foreign)!r}, but no sequence comes from it.")

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
        """True if each sequence has a class token, its first or its last."""
        return self.causal or (self.class_token and self.num_prefix_tokens > 0)

    @property
    def grid(self) -> tuple[int, ...] | None:
        """Grid of the tokens of the only input; None if they lie on none, or there are several inputs."""
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
        """Pack padded embeddings (S, N, D) of one input with a mask (S, N), True = keep; by default all are kept.

        A mask on the CPU spares the host the wait for a GPU.

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
            kept = mask.cpu()  # known to the host, which counts
            lengths = tuple(kept.sum(1).tolist())
            flat = embeddings.flatten(0, 1)[sent(kept.flatten().nonzero().flatten(), embeddings.device)]
        return cls(
            flat,
            lengths,
            sequences_per_sample=sequences_per_sample,
            grids={} if grid is None else {"": grid},
            context=context or {},
        )

    def unpack(self) -> tuple[Tensor, Tensor]:
        """Padded embeddings (S, N, D), zero where there is no token, and their mask (S, N), True = keep."""
        n = max(self.lengths)
        device = self.embeddings.device
        mask = torch.arange(n, device=device) < sent(torch.tensor(self.lengths), device)[:, None]
        if min(self.lengths) == n:
            return self.embeddings.view(-1, n, self.embeddings.shape[1]), mask
        padded = self.embeddings.new_zeros(len(self.lengths), n, self.embeddings.shape[1])
        return padded.masked_scatter(mask[..., None], self.embeddings), mask

    def unit_lengths(self, prefix: int, depth: int) -> list[int]:
        """Lengths of the sequences with ``prefix`` more tokens each.

        Sequences of a sample that attend to one another in some of a backbone's ``depth`` blocks count as one.
        """
        lengths = [length + prefix for length in self.lengths]
        if self.fuse_at is None:
            return lengths
        units: list[int] = []
        remaining = iter(lengths)
        for count, block in zip(_counts(self), self.fuse_at, strict=True):
            of_sample = list(islice(remaining, count))
            units += [sum(of_sample)] if block < depth and of_sample else of_sample
        return units

    def with_embeddings(self, embeddings: Tensor) -> "TokenSequence":
        """Return the same sequences with other embeddings, (T, D')."""
        return replace(self, embeddings=embeddings)

    def slots(self) -> Tensor:
        """Tokens (S, N, D) in the slots of ``context["mask"]``, without the prefix; 0 in a slot that gave no token."""
        prefix = self.num_prefix_tokens
        taken = self.context["mask"].flatten(0, 1)
        lengths = torch.tensor(self.lengths)
        if len(self.embeddings) - prefix * len(lengths) == taken.numel():
            return self.embeddings.view(len(lengths), -1, self.embeddings.shape[1])[:, prefix:]
        rows = ranges(lengths.cumsum(0) - lengths + prefix, lengths - prefix)
        empty = self.embeddings.new_zeros(*taken.shape, self.embeddings.shape[1])
        return empty.masked_scatter(taken[..., None], self.embeddings[sent(rows, self.embeddings.device)])

    def mean(self) -> Tensor:
        """Mean of each sample's tokens without prefix tokens, (B, D); zeros for a sample without a sequence."""
        prefix = self.num_prefix_tokens
        kept = [length - prefix for length in self.lengths]
        if len(set(kept)) == 1 and self.sequences_per_sample is None:
            stacked = self.embeddings.view(len(kept), -1, self.embeddings.shape[1])
            return stacked[:, prefix:].mean(1)
        device = self.embeddings.device
        lengths = torch.tensor(self.lengths)
        rows = ranges(lengths.cumsum(0) - lengths + prefix, lengths - prefix)
        sample = self._sample_of_sequence().repeat_interleave(lengths - prefix)
        counts = torch.bincount(sample, minlength=len(self))
        sums = _sums(self.embeddings[sent(rows, device)], sample, counts)
        return sums / sent(counts.clamp_min(1)[:, None].to(sums.dtype), device)

    def cls(self) -> Tensor:
        """Class token of each sample, averaged over its sequences, (B, D); zeros for a sample without a sequence.

        Raises:
            ValueError: If the backbone has no class token.
        """
        if not self.has_cls:
            raise ValueError("This backbone has no CLS token; pool by the mean of the tokens (--head.pooling mean).")
        lengths = torch.tensor(self.lengths)
        ends = lengths.cumsum(0)
        rows = ends - 1 if self.causal else ends - lengths
        return self._by_sample(self.embeddings[sent(rows, self.embeddings.device)])

    def attended(self) -> Tensor:
        """Output of the weights' attention pool, averaged over a sample's sequences, (B, D); zeros without a sequence.

        Raises:
            ValueError: If the backbone's weights have no attention pool.
        """
        if self.attention_pool is None:
            raise ValueError("This backbone's weights have no attention pool; pool by the mean of the tokens.")
        return self._by_sample(self.attention_pool(self))

    def _by_sample(self, vectors: Tensor) -> Tensor:
        """Mean of the vectors of each sample's sequences, (S, D) to (B, D)."""
        if self.sequences_per_sample is None:
            return vectors
        counts = torch.tensor(self.sequences_per_sample)
        sums = _sums(vectors, self._sample_of_sequence(), counts)
        return sums / sent(counts.clamp_min(1)[:, None].to(sums.dtype), vectors.device)

    def _sample_of_sequence(self) -> Tensor:
        counts = torch.tensor(_counts(self))
        return torch.arange(len(counts)).repeat_interleave(counts)


def as_sequence(tokens: "Tensor | tuple[Tensor, Tensor] | TokenSequence") -> TokenSequence:
    """Convert the output of a tokenizer to a TokenSequence: (B, N, D), or these and a mask (B, N), or a sequence."""
    if isinstance(tokens, TokenSequence):
        return tokens
    return TokenSequence.pack(*tokens) if isinstance(tokens, tuple) else TokenSequence.pack(tokens)


def concatenate(sequences: Sequence[TokenSequence]) -> TokenSequence:
    """Concatenate batches to one for the backbone; ``divide`` restores them, with their context.

    The names of sources begin with the number of their batch (``"0.photo"``), so that each keeps its grid.
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
        trailing=_all_trailing(sequences),
        grids=grids,
        num_prefix_tokens=sequences[0].num_prefix_tokens,
    )


def divide(batch: TokenSequence, originals: Sequence[TokenSequence]) -> list[TokenSequence]:
    """Divide the backbone's output for a batch of ``concatenate`` into the original batches, with their fields."""
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
                causal=batch.causal,
                attention_pool=batch.attention_pool,
            )
        )
        sequence += len(lengths)
        token += len(embeddings)
    return divided


def joined(sequences: Sequence[TokenSequence]) -> TokenSequence:
    """Join batches of one tokenizer to one batch of all samples, context included.

    The batches must agree in the grids of their sources, and contexts must be lists or tensors (B, ...) of one shape.
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
        trailing=_all_trailing(sequences),
        grids=grids,
        context={name: _in_a_row([sequence.context[name] for sequence in sequences]) for name in first.context},
    )


def picked(sequence: TokenSequence, keep: Sequence[bool]) -> TokenSequence:
    """Leave out sequences; samples stay, also without a sequence.

    Args:
        sequence: Batch of B samples.
        keep: True for each of the S sequences that stays.
    """
    if all(keep):
        return sequence
    rows = torch.tensor(keep).repeat_interleave(torch.tensor(sequence.lengths)).nonzero().flatten()
    flags = iter(keep)
    sources = sequence.sources and tuple(compress(sequence.sources, keep))
    return replace(
        sequence,
        embeddings=sequence.embeddings[sent(rows, sequence.embeddings.device)],
        lengths=tuple(compress(sequence.lengths, keep)),
        sequences_per_sample=tuple(sum(next(flags) for _ in range(count)) for count in _counts(sequence)),
        sources=sources,
        trailing=sequence.trailing and tuple(compress(sequence.trailing, keep)),
        grids={source: grid for source, grid in sequence.grids.items() if source in (sources or ("",))},
    )


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Concatenate the ranges from ``starts[i]`` to ``starts[i] + lengths[i] - 1``, for each i in turn."""
    shift = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(int(lengths.sum())) + shift.repeat_interleave(lengths)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the host to a device; a GPU goes on with what it has to do, and the host waits for nothing."""
    return tensor.to(device, non_blocking=device.type == "cuda")


def _sums(vectors: Tensor, sample: Tensor, counts: Tensor) -> Tensor:
    """Sum the vectors of each sample, (V, D) to (B, D).

    Args:
        vectors: Vectors of the samples in turn.
        sample: Number of each vector's sample, (V,), on the host.
        counts: Number of vectors of each sample, (B,), on the host.
    """
    if vectors.is_cuda:  # there, the sums of ``index_add`` depend on the order in which threads come
        lengths = sent(counts, vectors.device)
        return torch.segment_reduce(vectors, "sum", lengths=lengths, axis=0, unsafe=True, initial=0)
    return vectors.new_zeros(len(counts), vectors.shape[1]).index_add(0, sent(sample, vectors.device), vectors)


def _counts(sequence: TokenSequence) -> tuple[int, ...]:
    """Number of sequences of each sample."""
    return (1,) * len(sequence) if sequence.sequences_per_sample is None else sequence.sequences_per_sample


def _all_counts(sequences: Sequence[TokenSequence]) -> tuple[int, ...] | None:
    return _in_turn([sequence.sequences_per_sample for sequence in sequences], map(_counts, sequences))


def _all_fuse_at(sequences: Sequence[TokenSequence]) -> tuple[int, ...] | None:
    return _in_turn([sequence.fuse_at for sequence in sequences], ([LATE] * len(sequence) for sequence in sequences))


def _all_trailing(sequences: Sequence[TokenSequence]) -> tuple[int, ...] | None:
    return _in_turn([sequence.trailing for sequence in sequences], ([0] * len(each.lengths) for each in sequences))


def _nameless(sequence: TokenSequence) -> tuple[str, ...]:
    return ("",) * len(sequence.lengths)


def _in_turn(facts: Sequence[Sequence[Fact] | None], otherwise: Iterable[Sequence[Fact]]) -> tuple[Fact, ...] | None:
    """Concatenate values of several batches, with ``otherwise`` for a batch that has None; None if all have None."""
    if all(fact is None for fact in facts):
        return None
    stated = (default if fact is None else fact for fact, default in zip(facts, otherwise, strict=True))
    return tuple(chain.from_iterable(stated))


def _in_a_row(values: list[Any]) -> Any:
    """Concatenate tensors (B, ...), or lists of B tensors."""
    return torch.cat(values) if isinstance(values[0], Tensor) else [item for value in values for item in value]
