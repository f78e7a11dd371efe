"""Vectors as points of a plane, with measures of how far the plane can be believed."""

from dataclasses import dataclass

import numpy as np
import torch

from metatx.progress import tell

__all__ = ["Projection", "nearest", "project"]

FEW = 20_000  # from so many rows on, the two first principal components are drawn
COMPONENTS = 50  # principal components that t-SNE reads
PERPLEXITY = 30.0  # scikit-learn's default; less where there are few rows
MEASURED = 2_000  # rows on which the measures are taken
NEIGHBOURS = 10
BLOCK = 1 << 25  # cosines that are held at once


@dataclass(frozen=True)
class Projection:
    """Points of a plane, and how far they can be believed.

    Attributes:
        points: Places (N, 2), float32; the longer side runs from -1 to 1.
        method: Words for how the points were made: ``"t-SNE"`` or ``"PCA"``.
        trustworthiness: Share 0..1 that falls with each neighbour in the plane that is far in the full space (Venna and
            Kaski 2001); NaN where there are too few rows to measure it.
        kept: Share of each row's 10 nearest neighbours of the full space that are among its 10 nearest in the plane.
        measured: Number of rows on which both were measured, drawn with the seed.
    """

    points: np.ndarray
    method: str
    trustworthiness: float
    kept: float
    measured: int

    def __str__(self) -> str:
        rows = f"{len(self.points):,} vector{'' if len(self.points) == 1 else 's'}"
        if np.isnan(self.kept) or np.isnan(self.trustworthiness):
            return f"{self.method} of {rows}, too few to say how far the picture can be believed"
        sampled = "" if self.measured == len(self.points) else f", measured on {self.measured:,}"
        return (
            f"{self.method} of {rows}: trustworthiness {self.trustworthiness:.3f}, "
            f"{self.kept:.1%} of nearest neighbours kept{sampled}"
        )


def project(vectors: np.ndarray, *, seed: int = 0) -> Projection:
    """Map vectors to a plane by their cosine: PCA, then t-SNE (van der Maaten and Hinton 2008) below 20,000 rows.

    Args:
        vectors: Vectors (N, E) of any length but 0.
        seed: Seed of t-SNE and of the rows on which the result is measured.

    Raises:
        ValueError: If there are no vectors, or some are not finite or are zero.
    """
    units = unit(vectors)
    count = len(units)
    plain = min(count, units.shape[1]) < 3 or count >= FEW
    points = _components(units, min(2 if plain else COMPONENTS, *units.shape))
    if not plain:
        tell(f"t-SNE of {count:,} vectors ...")
        points = _t_sne(points, seed)
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    points = points - (points.max(0) + points.min(0)) / 2
    points = (points / (np.abs(points).max() or 1)).astype(np.float32)
    rows = np.sort(np.random.default_rng(seed).permutation(count)[:MEASURED])
    return Projection(
        points, "PCA" if plain else "t-SNE", _trust(units[rows], points[rows]), _kept(units, points, rows), len(rows)
    )


def nearest(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact nearest neighbours by cosine, the row itself left out.

    Args:
        vectors: Vectors (N, E) of any length but 0.
        k: Number of neighbours; fewer where there are fewer other rows.

    Returns:
        Rows (N, k) int64 and cosines (N, k) float32, the nearest first.

    Raises:
        ValueError: If there are no vectors, or some are not finite or are zero.
    """
    units = torch.from_numpy(unit(vectors))
    count = len(units)
    k = min(k, count - 1)
    rows = np.empty((count, k), np.int64)
    cosines = np.empty((count, k), np.float32)
    step = max(1, BLOCK // count)
    for start in range(0, count, step):
        block = units[start : start + step] @ units.T
        places = torch.arange(len(block))
        block[places, start + places] = -torch.inf
        best = block.topk(k, dim=1)
        rows[start : start + step] = best.indices.numpy()
        cosines[start : start + step] = best.values.numpy()
    return rows, cosines


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, E) of length 1, float32. Raises ValueError if there are none, or some are not finite or are zero."""
    values = np.asarray(vectors, dtype=np.float32)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"There are no vectors to draw: the array is {values.shape}; expected (items, width).")
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(bad):
        raise ValueError(f"{len(bad):,} vectors are zero or not finite, the first in row {bad[0] + 1}; leave them out.")
    units: np.ndarray = values / lengths
    return units


def _components(units: np.ndarray, count: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    if len(units) == 1:
        return np.zeros((1, count))
    return np.asarray(PCA(count, svd_solver="covariance_eigh").fit_transform(units))  # exact, without a random start


def _t_sne(values: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    spread = values[:, 0].std() or 1.0
    start = (values[:, :2] / spread * 1e-4).astype(np.float32)  # what ``init="pca"`` would compute again
    return np.asarray(TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(values))


def _trust(units: np.ndarray, points: np.ndarray) -> float:
    from sklearn.manifold import trustworthiness

    k = min(NEIGHBOURS, (len(units) - 1) // 2)
    return float(trustworthiness(units, points, n_neighbors=k)) if k else float("nan")


def _kept(units: np.ndarray, points: np.ndarray, rows: np.ndarray) -> float:
    """Share of the nearest neighbours, among all rows, that the plane keeps, of the ``rows`` that are measured."""
    from sklearn.neighbors import NearestNeighbors

    k = min(NEIGHBOURS, len(units) - 1)
    if not k:
        return float("nan")
    sides = []
    for values in (units, points):
        found = NearestNeighbors(n_neighbors=k + 1).fit(values).kneighbors(values[rows], return_distance=False)
        # The row itself may come after others at the same place.
        sides.append([set(near[near != row][:k]) for near, row in zip(found, rows, strict=True)])
    shares = [len(full & plane) / k for full, plane in zip(*sides, strict=True)]
    return float(np.mean(shares))
