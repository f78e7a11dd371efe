"""Joined pairs: the tokens of both sides pass the backbone as one sequence."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from metatx.inputs.merging import merged
from metatx.pretraining.batch import Batch
from metatx.pretraining.paired_data import drop_tokens
from metatx.sequence import TokenSequence, picked

if TYPE_CHECKING:
    from metatx.pretraining.alignment import Alignment

__all__ = ["JoinedPass", "draws", "hidden_places", "mean_over_pairs", "tokens_of"]


class JoinedPass(nn.Module):
    """Pass of pairs through a backbone in which both sides attend to one another from the first block on.

    The tokens of each modality are marked by an embedding, zero at first (ViLT, Kim et al. 2021, arXiv 2102.03334).

    Args:
        dim: Width of the backbone, D.
        modalities: Names of the modalities.
    """

    def __init__(self, dim: int, modalities: Iterable[str]) -> None:
        super().__init__()
        self.marks = nn.ParameterDict({modality: nn.Parameter(torch.zeros(dim)) for modality in modalities})

    def forward(self, alignment: "Alignment", sides: Mapping[str, TokenSequence]) -> dict[str, TokenSequence]:
        """Map the tokens of both sides of B pairs to what leaves the backbone, by modality, prefix tokens included."""
        count = len(next(iter(sides.values())))
        marked = {
            modality: (list(range(count)), side.with_embeddings(side.embeddings + self.marks[modality]))
            for modality, side in sides.items()
        }
        entering = merged(marked, count, next(iter(sides)))
        left = alignment.backbone(replace(entering, fuse_at=(0,) * count, context={}))
        parts = {name: picked(left, [source == name for source in left.sources or ()]) for name in sides}
        return {name: replace(part, sources=None, fuse_at=None, grids={}) for name, part in parts.items()}


def tokens_of(
    alignment: "Alignment", sides: Mapping[str, dict[str, object]], dropout: float
) -> dict[str, TokenSequence]:
    """Tokens of collated tensors by modality, of images with patch dropout."""
    return {
        modality: drop_tokens(alignment.tower(modality).tokens(side), dropout)[0] for modality, side in sides.items()
    }


def draws(batch: Batch, seed: int, lengths: Sequence[int]) -> list[Tensor]:
    """Draw so many uniform numbers for each pair, from seed, step and position of the pair alone."""
    generator = torch.Generator()
    numbers = []
    for position, length in zip(batch.positions.tolist(), lengths, strict=True):
        generator.manual_seed(hash((seed, batch.number, position)) & 0x7FFFFFFF)
        numbers.append(torch.rand(length, generator=generator))
    return numbers


def hidden_places(numbers: Tensor, share: float, allowed: Tensor | None = None) -> Tensor:
    """Mark a share of places, at least one, by the smallest of their numbers (n,): bool (n,).

    Args:
        numbers: Uniform numbers, (n,).
        share: Share of the allowed places that is marked.
        allowed: Places that may be marked, bool (n,); by default all.
    """
    if allowed is not None:
        numbers = numbers.masked_fill(~allowed, 2.0)
    count = len(numbers) if allowed is None else int(allowed.sum())
    marked = numbers.argsort().argsort() < max(1, round(share * count))
    return marked if allowed is None else marked & allowed


def mean_over_pairs(losses: Tensor, sequence: TokenSequence, rows: Tensor) -> Tensor:
    """Mean over B pairs of the mean loss of each pair's tokens, a scalar; a pair without any counts as zero.

    Args:
        losses: Losses (n,) of some tokens.
        sequence: Sequences of B samples without prefix tokens.
        rows: Rows of these tokens in the sequence, int64 (n,).
    """
    counts = torch.tensor(sequence.sequences_per_sample or (1,) * len(sequence))
    owner = torch.arange(len(counts)).repeat_interleave(counts).repeat_interleave(torch.tensor(sequence.lengths))
    pairs = owner.to(losses.device)[rows]
    sums = losses.new_zeros(len(sequence)).index_add(0, pairs, losses)
    return (sums / torch.bincount(pairs, minlength=len(sequence)).clamp_min(1)).mean()
