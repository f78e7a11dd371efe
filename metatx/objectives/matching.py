"""Matching: is this pair one, judged by both sides together."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from metatx.layers.linear import zero_linear
from metatx.objective import Objective
from metatx.pretraining.joining import JoinedPass, tokens_of
from metatx.pretraining.negatives import Compared, draw_negatives
from metatx.sequence import TokenSequence

if TYPE_CHECKING:
    from metatx.pretraining.alignment import Alignment
    from metatx.pretraining.batch import Batch

__all__ = ["MatchingObjective"]


class MatchingObjective(Objective):
    """Both sides as one sequence are told apart from mismatched ones (ALBEF, Li et al. 2021, arXiv 2107.07651).

    Each pair is set against two mismatches: its left side with another right side, and its right side with another left
    side, drawn by the similarity of their vectors, so that what is near is met more often. Pairs that belong together
    are no mismatches. A linear classifier reads CLS and mean of both sides; it starts at zero, so that the first loss
    is ln 2.

    Args:
        dim: Width of the backbone, D.
        hard: True draws mismatches by similarity, False evenly.
    """

    reads_negatives = True

    def __init__(self, dim: int, hard: bool = True) -> None:
        super().__init__(dim)
        self.hard = hard

    def prepare(self, alignment: "Alignment", sample: Mapping[str, dict[str, Any]], seed: int) -> None:
        """Make marks and classifier."""
        self.seed = seed
        self.joined = JoinedPass(self.dim, sample)
        self.classifier = zero_linear(4 * self.dim, 2)

    def forward(self, alignment: "Alignment", batch: "Batch", compared: Compared) -> Tensor:
        """Cross-entropy of each pair and its two mismatches, averaged over the pairs."""
        logits = compared.logits if self.hard else torch.zeros_like(compared.logits)
        generator = torch.Generator().manual_seed(hash((self.seed, batch.number)) & 0x7FFFFFFF)
        other_right = draw_negatives(logits, compared.same, generator)
        other_left = draw_negatives(logits.T, compared.same, generator)
        rows = compared.rows(batch)
        mismatched = rows[other_right[rows] >= 0]  # pairs that have mismatches
        left, right = batch.sides
        chosen = {
            left: torch.cat([rows, mismatched, other_left[mismatched]]),
            right: torch.cat([rows, other_right[mismatched], mismatched]),
        }
        device = batch.positions.device
        sides = {modality: compared.collated(modality, at, device) for modality, at in chosen.items()}
        passed = self.joined(alignment, tokens_of(alignment, sides, batch.dropout))
        scores = self.classifier(torch.cat([_pooled(passed[modality]) for modality in (left, right)], dim=1)).float()
        target = torch.zeros(len(scores), dtype=torch.int64, device=device)
        target[: len(rows)] = 1
        # A pair without mismatches counts by itself; each other one by the mean of its three losses.
        lone = other_right[rows] < 0
        share = torch.cat([torch.where(lone, 1.0, 1 / 3), torch.full((2 * len(mismatched),), 1 / 3)]).to(device)
        return (F.cross_entropy(scores, target, reduction="none") * share).sum() / len(rows)


def _pooled(sequence: TokenSequence) -> Tensor:
    """CLS and mean of each sample, (B, 2 D); the mean twice where there is no CLS."""
    mean = sequence.mean()
    return torch.cat([sequence.cls() if sequence.has_cls else mean, mean], dim=1)
