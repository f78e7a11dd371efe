"""Vectors whose neighbours are known, for tests of the index."""

import numpy as np

WIDTH = 16


def unit(count, seed=0, width=WIDTH):
    """Random unit vectors (count, width), float32."""
    vectors = np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ids(hits):
    """Numbers of the items of each query's hits."""
    return [[hit.item for hit in of_query] for of_query in hits]


def exact(vectors, queries, k):
    """Numbers of the nearest vectors of each query, by a product in float32."""
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k].tolist()
