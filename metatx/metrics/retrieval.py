"""Retrieval measures of embeddings: is what lies nearest of the same identity?"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

__all__ = ["Retrieval", "cross_recall"]

QUERIES = 512  # compared with all others at once


class Retrieval(Metric):
    """Each sample asks, by cosine, for the others of its identity; those that have no other do not ask.

    Args:
        measure: ``"recall"``: share of queries with one of their identity among the nearest ``k``; ``"map"``: mean
            average precision over all others, ranked.
        k: Of the recall.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    embeddings: list[Tensor]
    identities: list[Tensor]

    def __init__(self, measure: Literal["recall", "map"], k: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.measure, self.k = measure, k
        self.add_state("embeddings", default=[], dist_reduce_fx="cat")
        self.add_state("identities", default=[], dist_reduce_fx="cat")

    def update(self, embeddings: Tensor, identities: Tensor) -> None:
        """Add embeddings (B, size) and the numbers of their identities (B,)."""
        self.embeddings.append(F.normalize(embeddings.float(), dim=1))
        self.identities.append(identities)

    def compute(self) -> Tensor:
        """Mean over all queries, a scalar; nan if there is none."""
        vectors, identities = dim_zero_cat(self.embeddings), dim_zero_cat(self.identities)
        starts = range(0, len(vectors), QUERIES)
        return torch.cat([self._of_queries(vectors, identities, slice(at, at + QUERIES)) for at in starts]).mean()

    def _of_queries(self, vectors: Tensor, identities: Tensor, at: slice) -> Tensor:
        """The measure of the queries at ``at`` that have an answer, (q,)."""
        likeness = vectors[at] @ vectors.T
        likeness[:, at].fill_diagonal_(-torch.inf)  # itself comes last, and is cut off
        same = identities[at, None] == identities
        asks = same.sum(1) > 1
        if self.measure == "recall":
            nearest = likeness.topk(min(self.k, len(vectors) - 1), dim=1).indices
            return same.gather(1, nearest).any(1)[asks].float()
        ranked, order = (part[asks, :-1] for part in likeness.sort(dim=1, descending=True, stable=True))
        hits = same[asks].gather(1, order).float()
        places = torch.arange(hits.shape[1], device=hits.device)
        # What lies equally near comes at once, as in scikit-learn: it counts with the precision behind its last.
        ends = torch.where(F.pad(ranked[:, 1:] < ranked[:, :-1], (0, 1), value=True), places, hits.shape[1])
        last = ends.flip(1).cummin(1).values.flip(1)
        precision = (hits.cumsum(1) / (places + 1)).gather(1, last)
        return (precision * hits).sum(1) / hits.sum(1)


def cross_recall(queries: Tensor, answers: Tensor, same: Tensor, k: int) -> float:
    """Share of queries with a right answer among the ``k`` nearest by cosine.

    Args:
        queries: Unit vectors (B, E).
        answers: Unit vectors (M, E) of another kind.
        same: Which answers are right, bool (B, M).
        k: At most M are looked at.
    """
    nearest = (queries @ answers.T).topk(min(k, len(answers)), dim=1).indices
    return same.gather(1, nearest).any(1).float().mean().item()
