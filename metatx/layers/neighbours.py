"""Farthest-point sampling of point sets, and nearest neighbours."""

import numpy as np

__all__ = ["farthest_points", "nearest", "sorted_order"]


def sorted_order(values: np.ndarray) -> np.ndarray:
    """Order (N,) that sorts rows (N, C) by the first column, then the second, and so on: it depends on values alone."""
    order: np.ndarray = np.lexsort(values.T[::-1])
    return order


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) of points (N, A), each as far as possible from those before (Eldar et al. 1997).

    The first is the point farthest from the centroid. If there are fewer distinct points than ``count``, some repeat.
    """
    chosen = np.empty(count, dtype=np.int64)
    distances = np.square(points - points.mean(0)).sum(1)
    for i in range(count):
        chosen[i] = distances.argmax()
        from_latest = np.square(points - points[chosen[i]]).sum(1)
        distances = from_latest if i == 0 else np.minimum(distances, from_latest)
    return chosen


def nearest(points: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """Indices (G, count) of the points nearest to each centre, nearest first; they repeat if there are too few points.

    Args:
        points: Points (N, A).
        centres: Indices of the centres (G,).
        count: Number of neighbours, the centre included.
    """
    kept = min(count, len(points))
    neighbours = np.empty((len(centres), kept), dtype=np.int64)
    for i, centre in enumerate(centres):
        distances = np.square(points - points[centre]).sum(1)
        near = np.argpartition(distances, kept - 1)[:kept]
        neighbours[i] = near[np.argsort(distances[near], kind="stable")]
    return neighbours[:, np.arange(count) % kept]
