"""Retrieval measures of embeddings: whether the nearest samples have the same identity."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

__all__ = ["Retrieval", "cross_recall"]

QUERIES = 512  # samples that are compared with all others at once


class Retrieval(Metric):
    """Retrieval of the other samples of the same identity by cosine similarity, each sample a query.

    A sample that is the only one of its identity is no query.

    Args:
        measure: ``"recall"``, the share of queries with one of their identity among the nearest ``k``; or ``"map"``,
            the mean average precision over all others, ranked.
        k: Number of nearest samples for the recall.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    embeddings: list[Tensor]
    identities: list[Tensor]

    def __init__(self, measure: Literal["recall", "map"], k: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.measure = measure
        self.k = k
        self.add_state("embeddings", default=[], dist_reduce_fx="cat")
        self.add_state("identities", default=[], dist_reduce_fx="cat")

    def update(self, embeddings: Tensor, identities: Tensor) -> None:
        """Add embeddings (B, size) and the numbers of their identities (B,)."""
        self.embeddings.append(F.normalize(embeddings.float(), dim=1))
        self.identities.append(identities)

    def compute(self) -> Tensor:
        """Compute the mean over all queries, a scalar; nan if there is none."""
        vectors = dim_zero_cat(self.embeddings)
        identities = dim_zero_cat(self.identities)
        starts = range(0, len(vectors), QUERIES)
        return torch.cat([self._of_queries(vectors, identities, slice(at, at + QUERIES)) for at in starts]).mean()

    def _of_queries(self, vectors: Tensor, identities: Tensor, at: slice) -> Tensor:
        """Measure of each query at ``at`` that has another sample of its identity, (q,)."""
        likeness = vectors[at] @ vectors.T
        likeness[:, at].fill_diagonal_(-torch.inf)  # the query itself comes last, and is cut off
        same = identities[at, None] == identities
        asks = same.sum(1) > 1
        if self.measure == "recall":
            nearest = likeness.topk(min(self.k, len(vectors) - 1), dim=1).indices
            return same.gather(1, nearest).any(1)[asks].float()
        ranked, order = (part[asks, :-1] for part in likeness.sort(dim=1, descending=True, stable=True))
        hits = same[asks].gather(1, order).float()
        places = torch.arange(hits.shape[1], device=hits.device)
        # Samples equally near form one step, as in scikit-learn: each has the precision after the last of them.
        ends = torch.where(F.pad(ranked[:, 1:] < ranked[:, :-1], (0, 1), value=True), places, hits.shape[1])
        last = ends.flip(1).cummin(1).values.flip(1)
        precision = (hits.cumsum(1) / (places + 1)).gather(1, last)
        return (precision * hits).sum(1) / hits.sum(1)


def cross_recall(queries: Tensor, answers: Tensor, same: Tensor, k: int) -> float:
    """Share of queries with a right answer among the ``k`` nearest by cosine.

    Args:
        queries: Unit vectors (B, E).
        answers: Unit vectors (M, E) of the other modality.
        same: Flags of the right answers, bool (B, M).
        k: Number of nearest answers; at most M.
    """
    nearest = (queries @ answers.T).topk(min(k, len(answers)), dim=1).indices
    return same.gather(1, nearest).any(1).float().mean().item()
