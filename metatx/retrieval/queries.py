"""Queries of an index: vectors of samples, of arrays and of other hits; and the hits nearest to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metatx.retrieval.arguments import described
from metatx.retrieval.exact import Best, Centre, nearest
from metatx.retrieval.segments import unit_vectors
from metatx.retrieval.snapshot import Snapshot
from metatx.retrieval.writing import are_vectors

__all__ = ["Hit", "Queries", "hits_of", "vectors_of"]

AT_ONCE = 64  # queries that are searched at once: their scores of a block take 1 MB
SHORTEST = 1e-6  # length of a centred vector, at least: a query equal to the mean has no direction

Queries = Sequence[Any] | np.ndarray


@dataclass(frozen=True)
class Hit:
    """Item that a search has found.

    Attributes:
        item: Number of the item in the index, which never changes.
        modality: Modality of its vector that is nearest to the query.
        score: Cosine of the two vectors, -1 to 1; that of the centred vectors where these were compared.
    """

    item: int
    modality: str
    score: float


def vectors_of(
    snapshot: Snapshot,
    queries: Queries,
    modality: str | None,
    embed: Callable[[str, Any], np.ndarray],
    aligned: bool = True,
) -> tuple[np.ndarray, list[str | None]]:
    """Make unit vectors (B, E) of queries, and name the modality of each.

    Args:
        snapshot: Index that the queries are for.
        queries: Raw samples, vectors (B, E), or hits.
        modality: Modality of samples or vectors.
        embed: Function from a modality and raw samples to vectors.
        aligned: True if there is an alignment to embed samples; without it, numbers can be nothing but vectors.

    Raises:
        TypeError: If ``queries`` is one query, not a list.
        ValueError: If vectors have another width or shape or are not finite, samples no modality, or a hit no vector.
    """
    if isinstance(queries, str | bytes | Path | Hit):
        raise TypeError(f"queries is one {type(queries).__name__}; put it into a list.")
    width = snapshot.manifest.width
    if isinstance(queries, np.ndarray) and are_vectors(queries):
        if queries.shape[1] != width:
            raise ValueError(f"The vectors are {queries.shape[1]} wide; those of the index are {width} wide.")
        return unit_vectors(queries), [modality] * len(queries)
    if not len(queries):
        return np.zeros((0, width), np.float32), []
    _check_shape(queries, width, aligned)
    if all(isinstance(query, Hit) for query in queries):
        return np.concatenate([_of_hit(snapshot, query) for query in queries]), [query.modality for query in queries]
    if modality is None:
        raise ValueError("Name the modality of the samples, or give vectors (B, E) or hits.")
    return unit_vectors(embed(modality, queries)), [modality] * len(queries)


def _check_shape(queries: Queries, width: int, aligned: bool) -> None:
    """Refuse numbers that are no vectors (B, E) and can be no samples. Raises ValueError."""
    first = next(iter(queries))
    numbers = isinstance(first, int | float | np.number)
    if numbers or (not aligned and isinstance(first, np.ndarray | list | tuple)):
        what = described(queries) if isinstance(queries, np.ndarray) else f"a list of {len(queries)}"
        each = "" if isinstance(queries, np.ndarray) else f", the first {described(first)}"
        raise ValueError(f"queries is {what}{each}; expected vectors in an array of floats (B, {width}).")


def _of_hit(snapshot: Snapshot, hit: Hit) -> np.ndarray:
    """Vector (1, E) of a hit. Raises ValueError if it is of another index."""
    _, vectors = snapshot.vectors(hit.modality, [hit.item])
    if not len(vectors):
        raise ValueError(f"Item {hit.item} has no vector of {hit.modality}.")
    return vectors


def hits_of(
    snapshot: Snapshot,
    vectors: np.ndarray,
    modalities: Sequence[str | None],
    *,
    among: Sequence[str],
    k: int,
    allowed: np.ndarray | None,
    centre: bool,
) -> list[list[Hit]]:
    """Find the ``k`` nearest items for each of B vectors, best first; an item comes once.

    Args:
        snapshot: Items and their vectors.
        vectors: Unit vectors (B, E).
        modalities: Modality of each, whose mean is taken off; None: none is.
        among: Modalities whose vectors are compared.
        k: Number of items.
        allowed: True for items that may be found, see ``Snapshot.allowed``.
        centre: Take off the means of modalities first.
    """
    means = snapshot.means if centre else {}
    if centre:
        zeros = np.zeros(snapshot.manifest.width)
        vectors = vectors - np.reshape([means.get(name or "", zeros) for name in modalities], vectors.shape)
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), SHORTEST)
    rows = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
    hits: list[list[Hit]] = [[] for _ in vectors]
    for start in range(0, len(rows), AT_ONCE):
        best = Best.none(min(k, snapshot.total))
        for code, name in enumerate(among):
            mean = Centre(torch.from_numpy(means[name]).float()) if centre else None
            best = nearest(rows[start : start + AT_ONCE], snapshot.blocks(name, allowed), best, code, mean)
        entries = zip(best.queries, best.items.tolist(), best.codes, best.scores.tolist(), strict=True)
        for query, item, code, score in entries:
            hits[start + query].append(Hit(item, among[code], score))
    return hits
