"""Baselines that label each place of a sample: the most frequent class, and a random forest."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from metatx.reading.segmentation import IGNORED

__all__ = ["SiteForest"]

LEARNED = 500  # most samples, evenly spread, that the forest learns from
DRAWN = 200  # most places of a sample that the forest learns from
REACH = 5  # width in pixels of a place's surroundings


class SiteForest:
    """Random forest on single places: their values, where they are, mean and deviation around them.

    Args:
        trees: Number of trees; 0 answers with the most frequent class everywhere.
    """

    def __init__(self, trees: int) -> None:
        self.trees = trees

    def fit(self, features: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> Self:
        """Learn from random places of each sample: values (H, W, C) or (N, C), class numbers (H, W) or (N,)."""
        from sklearn.ensemble import RandomForestClassifier

        rng = np.random.default_rng(0)
        rows: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        for i in range(0, len(features), -(-len(features) // LEARNED)):
            values = features[i]
            numbers = answers[i]
            known = np.flatnonzero(numbers.ravel() != IGNORED)
            drawn = rng.choice(known, min(DRAWN, len(known)), replace=False)
            rows.append(_surroundings(values)[drawn])
            labels.append(numbers.ravel()[drawn])
        counts = np.bincount(np.concatenate(labels))
        self.shares = counts / counts.sum()
        if self.trees:
            forest = RandomForestClassifier(self.trees, min_samples_leaf=3, n_jobs=-1, random_state=0)
            self.forest = forest.fit(np.concatenate(rows), np.concatenate(labels))
        return self

    def predict_log_proba(self, features: Sequence[np.ndarray], classes: int) -> list[np.ndarray]:
        """Log-probabilities of each sample, float32 (K, H, W) or (K, N)."""
        found = []
        for values in features:
            shares = np.zeros((int(np.prod(values.shape[:-1])), classes), dtype=np.float32)
            if self.trees:
                shares[:, self.forest.classes_] = self.forest.predict_proba(_surroundings(values))
            else:
                shares[:, : len(self.shares)] = self.shares
            found.append(np.log(shares.T + 1e-6).reshape(classes, *values.shape[:-1]))
        return found


def _surroundings(values: np.ndarray) -> np.ndarray:
    """Features (P, F) of the P places of a sample, row by row."""
    if values.ndim == 2:
        centred = values - values.mean(0)
        return np.concatenate([values, centred, np.linalg.norm(centred[:, :3], axis=1, keepdims=True)], 1)
    from scipy.ndimage import uniform_filter

    size = (REACH, REACH, 1)
    mean = uniform_filter(values, size)
    spread = np.sqrt(np.maximum(uniform_filter(values**2, size) - mean**2, 0))
    height, width, channels = values.shape
    down, across = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    layers = np.concatenate([values, mean, spread, down[..., None], across[..., None]], 2)
    return layers.reshape(-1, 3 * channels + 2)
