"""Exact search: the best vectors for each query by matrix products over blocks, in float32."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Best", "Centre", "nearest"]

BLOCK = 4096  # vectors that are converted to float32 and multiplied at once
FLAT = 1e-6  # squared length below which a centred vector has no direction

Block = tuple[np.ndarray, Tensor]  # numbers of items (n,), and their vectors (n, E) in float16


@dataclass
class Best:
    """Best items so far for each of B queries: at most ``k`` each, best first; of equal ones the lower number.

    Attributes:
        k: Largest number of items of a query.
        queries: Number of the query of each entry, ascending.
        scores: Cosine of each entry, float32.
        items: Number of the item of each entry.
        codes: A number that each entry carries along, such as that of a modality.
    """

    k: int
    queries: np.ndarray
    scores: np.ndarray
    items: np.ndarray
    codes: np.ndarray

    @classmethod
    def none(cls, k: int) -> "Best":
        """Return a start without entries."""
        numbers = np.zeros(0, np.int64)
        return cls(k, numbers, np.zeros(0, np.float32), numbers, numbers)

    def merged(self, queries: np.ndarray, scores: np.ndarray, items: np.ndarray, code: int) -> "Best":
        """Copy with further entries, of which the best stay; an item that comes twice stays with its best score."""
        all_queries = np.concatenate([self.queries, queries])
        all_scores = np.concatenate([self.scores, scores])
        all_items = np.concatenate([self.items, items])
        all_codes = np.concatenate([self.codes, np.full(len(queries), code)])
        order = np.lexsort((all_items, -all_scores, all_queries))
        if self.codes.size and code != self.codes[0]:  # several modalities: an item may be there already
            pairs = np.stack([all_queries[order], all_items[order]], axis=1)
            order = order[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]
        ordered = all_queries[order]
        rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
        kept = order[rank < self.k]
        return Best(self.k, all_queries[kept], all_scores[kept], all_items[kept], all_codes[kept])

    def floor(self, count: int) -> np.ndarray:
        """Score that an entry of each of ``count`` queries must exceed to be kept, float32."""
        floor = np.full(count, -np.inf, np.float32)
        number = np.bincount(self.queries, minlength=count)
        last = np.searchsorted(self.queries, np.arange(count), side="right") - 1
        full = number >= self.k
        floor[full] = self.scores[last[full]]
        return floor


@dataclass(frozen=True)
class Centre:
    """Cosine of vectors whose mean is taken off, without a copy of them: a mean (E,) of the modality that is searched.

    For unit vectors v and the mean m, |v - m|^2 is 1 - 2 v.m + m.m.
    """

    mean: Tensor

    def rows(self, queries: Tensor) -> Tensor:
        """Queries (B, E) with the mean as a last row, so that one product gives all that ``scores`` needs."""
        return torch.cat([queries, self.mean[None]])

    def scores(self, products: Tensor, queries: Tensor) -> Tensor:
        """Scores (B, n) of the products (B + 1, n) of ``rows``."""
        squares = 1 - 2 * products[-1] + self.mean @ self.mean
        lengths = squares.clamp(min=FLAT).sqrt()
        return (products[:-1] - (queries @ self.mean)[:, None]) / lengths


def nearest(queries: Tensor, blocks: Iterable[Block], best: Best, code: int = 0, centre: Centre | None = None) -> Best:
    """Find the vectors with the largest cosines to each query, and merge them with those found before.

    Args:
        queries: Unit vectors (B, E), float32.
        blocks: Numbers of items, ascending, and their vectors, a block after the other.
        best: Entries of blocks of other modalities, or none.
        code: Number that the entries carry.
        centre: Mean to take off the vectors; None: none.
    """
    found = Best.none(best.k)
    rows = queries if centre is None else centre.rows(queries)
    width = queries.shape[1]
    floats = torch.empty(BLOCK, width)
    products = torch.empty(len(rows), BLOCK)
    for numbers, vectors in blocks:
        for start in range(0, len(vectors), BLOCK):
            part = vectors[start : start + BLOCK]
            count = len(part)
            converted = floats[:count].copy_(part)
            scores = torch.mm(rows, converted.T, out=products[:, :count] if count == BLOCK else None)
            if centre is not None:
                scores = centre.scores(scores, queries)
            found = _entered(scores.numpy(), numbers[start : start + BLOCK], found, code)
    return found if not best.items.size else _joined(best, found, code)


def _entered(scores: np.ndarray, numbers: np.ndarray, best: Best, code: int) -> Best:
    """Merge the scores (B, n) of a block."""
    floor = best.floor(len(scores))
    open_rows = np.flatnonzero(np.isneginf(floor))
    if len(open_rows) and scores.shape[1] > best.k:  # not full yet: no more than the best of this block can enter
        floor[open_rows] = np.nextafter(
            np.partition(scores[open_rows], -best.k, axis=1)[:, -best.k], np.float32(-np.inf)
        )
    flat = np.flatnonzero(scores > floor[:, None])
    if not len(flat):
        return best
    queries = flat // scores.shape[1]
    return best.merged(queries, scores.ravel()[flat], numbers[flat % scores.shape[1]], code)


def _joined(best: Best, found: Best, code: int) -> Best:
    """Merge the entries of two modalities."""
    return best.merged(found.queries, found.scores, found.items, code)
