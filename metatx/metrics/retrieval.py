"""Retrieval measures of embeddings: whether the nearest samples have the same identity, or are partners."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

__all__ = ["Retrieval", "chance_ranking", "cross_recall", "partner_ranking"]

QUERIES = 512  # samples that are compared with all others at once
EQUAL = 1e-6  # difference of two cosines below which they are one: vectors of float32 tell no more


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


def partner_ranking(
    queries: np.ndarray, answers: np.ndarray, asked: np.ndarray, given: np.ndarray, at: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Measures of where the best partner of each query stands among all answers, by cosine.

    Answers equally near count as in random order, by the mean over all orders: vectors that are all the same score what
    chance does. A query without a partner asks nothing.

    Args:
        queries: Unit vectors (B, E).
        answers: Unit vectors (M, E) of the other modality.
        asked: Number of each query's pair, whole (B,).
        given: Number of each answer's pair, whole (M,); answers of the same number are a query's partners.
        at: Values of ``k``.

    Returns:
        ``recall@k``, the share of queries with a partner among the nearest ``k``; ``mrr``, the mean of 1 / rank; and
        ``median_rank``, counted from 1.

    Raises:
        ValueError: If no query has a partner.
    """
    parts = [
        _places(queries[start : start + QUERIES], answers, asked[start : start + QUERIES], given)
        for start in range(0, len(queries), QUERIES)
    ]
    return _ranking(np.concatenate(parts), at)


def chance_ranking(asked: np.ndarray, given: np.ndarray, at: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Measures of ``partner_ranking`` that random vectors have in the mean.

    Args:
        asked: Number of each query's pair, whole (B,).
        given: Number of each answer's pair, whole (M,).
        at: Values of ``k``.
    """
    numbers, counts = np.unique(given, return_counts=True)
    places = np.searchsorted(numbers, asked).clip(max=len(numbers) - 1)
    partners = np.where(numbers[places] == asked, counts[places], 0)
    return _ranking(np.stack([np.zeros_like(partners), len(given) - partners, partners], axis=1), at)


def _places(queries: np.ndarray, answers: np.ndarray, asked: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Answers above the best partner of each query, others as near as it, and partners as near as it: (B, 3)."""
    likeness = queries.astype(np.float64) @ answers.astype(np.float64).T
    same = asked[:, None] == given
    best = np.where(same, likeness, -np.inf).max(1, keepdims=True)
    near = np.abs(likeness - best) <= EQUAL
    above = (likeness > best) & ~near
    counts = np.stack([above.sum(1), (near & ~same).sum(1), (near & same).sum(1)], axis=1)
    return np.where(same.any(1, keepdims=True), counts, 0)


def _ranking(places: np.ndarray, at: Sequence[int]) -> dict[str, float]:
    """Means over queries of the measures at ``places`` (B, 3), those of ``_places``, without partners left out."""
    kinds, counts = np.unique(places[places[:, 2] > 0], axis=0, return_counts=True)
    if not len(kinds):
        raise ValueError("No sample has a partner in the other modality; there is nothing to rank.")
    measures = np.array([_of_ties(above, others, partners, at) for above, others, partners in kinds.tolist()])
    means = np.average(measures[:, :-1], axis=0, weights=counts).tolist()
    ranks = np.repeat(measures[:, -1], counts)
    return {
        **{f"recall@{k}": share for k, share in zip(at, means, strict=False)},
        "mrr": means[-1],
        "median_rank": float(np.median(ranks)),
    }


def _of_ties(above: int, others: int, partners: int, at: Sequence[int]) -> list[float]:
    """Expected recalls, reciprocal rank and rank of the first of ``partners`` that stand in random order with others.

    Args:
        above: Answers that are nearer than all of these.
        others: Answers as near that are no partners.
        partners: Partners as near, at least one.
        at: Values of ``k``.
    """
    first = np.arange(others)
    # Probability that the first j of those equally near are no partners, j from 0 to ``others`` + 1.
    none_yet = np.concatenate([[1.0], np.cumprod((others - first) / (others + partners - first)), [0.0]])
    recalls = [1 - none_yet[min(max(k - above, 0), others + 1)] for k in at]
    reciprocal = -np.diff(none_yet) @ (1 / (above + 1 + np.arange(others + 1)))
    return [*recalls, reciprocal, above + 1 + others / (partners + 1)]
