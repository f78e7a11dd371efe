"""Regularised canonical correlation analysis: linear maps of two modalities into one space, in closed form."""

from collections.abc import Sequence
from typing import Self

import numpy as np

__all__ = ["RegularisedCCA"]

TINY = 1e-10  # share of the largest singular value below which a direction is rounding


class RegularisedCCA:
    """Canonical correlation analysis with a ridge on both covariances (Vinod 1976; Hardoon et al. 2004).

    Of the directions of both sides each pair is as correlated as those before leave possible. Vectors are weighted by
    the correlations, as directions that the sides do not share tell nothing, and compared by the cosine.

    Args:
        strength: Ridge, in units of the mean variance of a feature, or one of the left and one of the right side; 0 is
            plain CCA.
        components: Most pairs of directions that are kept.
        centred: Take the means away first; otherwise second moments stand in place of covariances, and the maps are
            linear.

    Attributes:
        correlations_: Correlations (C,) of the pairs of directions, the ridge included, in descending order.

    Raises:
        ValueError: If ``strength`` is negative.

    Example:
        >>> import numpy as np
        >>> from metatx.baselines.cca import RegularisedCCA
        >>> left = np.random.default_rng(0).normal(size=(50, 3))
        >>> RegularisedCCA(strength=0.0).fit(left, left @ np.diag([1.0, 2.0, 3.0])).correlations_.round(6)
        array([1., 1., 1.])
    """

    def __init__(
        self, strength: float | tuple[float, float] = 1.0, components: int = 1000, centred: bool = True
    ) -> None:
        self.strengths = strength if isinstance(strength, tuple) else (strength, strength)
        if min(self.strengths) < 0:
            raise ValueError(f"strength is {min(self.strengths):g}; it must be at least 0.")
        self.strength = strength
        self.components = components
        self.centred = centred

    def fit(self, left: np.ndarray, right: np.ndarray) -> Self:
        """Learn from features (N, F) and (N, G) of N pairs.

        Raises:
            ValueError: If the sides have not equally many samples, at least two.
        """
        if len(left) != len(right) or len(left) < 2:
            raise ValueError(f"CCA needs pairs, at least two; found {len(left)} and {len(right)} samples.")
        return self._fit_decomposed((_Side(left, self.centred), _Side(right, self.centred)))

    def _fit_decomposed(self, sides: "tuple[_Side, _Side]") -> Self:
        both = list(zip(sides, self.strengths, strict=True))
        white = [side.whitened(strength) for side, strength in both]
        count = len(white[0])
        directions, correlations, others = np.linalg.svd(white[0].T @ white[1] / count, full_matrices=False)
        kept = slice(self.components)
        self.correlations_ = correlations[kept]
        turns = (directions[:, kept], others.T[:, kept])
        self.sides_ = [side.mapped(strength, turn) for (side, strength), turn in zip(both, turns, strict=True)]
        return self

    def transform(self, features: np.ndarray, side: int) -> np.ndarray:
        """Unit vectors (B, C) of features of the left (``side`` 0) or the right (1) modality."""
        mean, directions = self.sides_[side]
        vectors = (features - mean) @ directions * self.correlations_
        unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(float).tiny)
        return unit

    @classmethod
    def path(
        cls,
        left: np.ndarray,
        right: np.ndarray,
        strengths: Sequence[float] | Sequence[tuple[float, float]],
        *,
        components: int = 1000,
        centred: bool = True,
    ) -> "list[RegularisedCCA]":
        """Models of several strengths; the features are decomposed only once."""
        sides = (_Side(left, centred), _Side(right, centred))
        return [cls(strength, components, centred)._fit_decomposed(sides) for strength in strengths]


class _Side:
    """Features of one modality by their principal components."""

    def __init__(self, features: np.ndarray, centred: bool) -> None:
        self.mean = features.mean(0) if centred else np.zeros(features.shape[1])
        moved = np.asarray(features - self.mean, dtype=np.float64)
        scores, singular, axes = np.linalg.svd(moved, full_matrices=False)
        kept = singular > TINY * singular[0]
        kept[0] = True  # of constant features too, whose correlation is 0
        self.scores = scores[:, kept] * np.sqrt(len(features))  # of variance 1
        self.variances = singular[kept] ** 2 / len(features)
        self.axes = axes[kept]
        self.mean_variance = self.variances.sum() / features.shape[1]

    def shrinkage(self, strength: float) -> np.ndarray:
        """Variance of each component with the ridge."""
        variances: np.ndarray = np.maximum(self.variances + strength * self.mean_variance, np.finfo(float).tiny)
        return variances

    def whitened(self, strength: float) -> np.ndarray:
        """Scores (N, R) whose variance with the ridge is 1."""
        white: np.ndarray = self.scores * np.sqrt(self.variances / self.shrinkage(strength))
        return white

    def mapped(self, strength: float, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (F,) and directions (F, C) that map features to canonical vectors."""
        return self.mean, (self.axes.T / np.sqrt(self.shrinkage(strength))) @ turn
