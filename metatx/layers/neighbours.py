"""Spread-out points of a set, and the points near them."""

import numpy as np

__all__ = ["farthest_points", "nearest", "sorted_order"]


def sorted_order(values: np.ndarray) -> np.ndarray:
    """The order (N,) of rows (N, C) by their first column, then the second, and so on: theirs, not the file's."""
    order: np.ndarray = np.lexsort(values.T[::-1])
    return order


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Numbers (count,) of points (N, A), each as far as can be from those before (Eldar et al. 1997).

    The first is the one farthest from the centroid. Where there are fewer places than ``count``, some come again.
    """
    chosen = np.empty(count, dtype=np.int64)
    distances = np.square(points - points.mean(0)).sum(1)
    for i in range(count):
        chosen[i] = distances.argmax()
        found = np.square(points - points[chosen[i]]).sum(1)
        distances = found if i == 0 else np.minimum(distances, found)
    return chosen


def nearest(points: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """Numbers (G, count) of the points (N, A) nearest to each of ``centres`` (G,), nearest first; again if too few."""
    kept = min(count, len(points))
    found = np.empty((len(centres), kept), dtype=np.int64)
    for i, centre in enumerate(centres):
        distances = np.square(points - points[centre]).sum(1)
        near = np.argpartition(distances, kept - 1)[:kept]
        found[i] = near[np.argsort(distances[near], kind="stable")]
    return found[:, np.arange(count) % kept]
