"""Trivial baseline of embeddings: random vectors."""

from typing import Any, Self

import numpy as np

__all__ = ["RandomVectors"]


class RandomVectors:
    """Estimator that gives every sample a random vector, of a fixed seed.

    Args:
        size: Length of the vectors.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def fit(self, features: Any, identities: Any) -> Self:
        """Learn nothing."""
        return self

    def transform(self, features: Any) -> np.ndarray:
        """Vectors (N, size) of N samples."""
        return np.random.default_rng(0).normal(size=(len(features), self.size))
