"""Logistic regression that finds the strength of its penalty by itself, however few rows there are."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

__all__ = ["PenalisedLogistic"]

FOLDS = 3
STEPS = 300  # most iterations of the solver


class PenalisedLogistic(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression; of the strengths the one of the best log-likelihood in three folds of the training split.

    Where a class has fewer rows than there are folds, not each can have one: the middle strength is taken then.

    Args:
        strengths: Inverse strengths of the penalty to choose from.
    """

    def __init__(self, strengths: Sequence[float]) -> None:
        self.strengths = strengths

    def fit(self, features: Any, classes: np.ndarray) -> Self:
        """Learn from features (N, F) and class numbers (N,)."""
        self.classes_, counts = np.unique(classes, return_counts=True)
        if counts.min() >= FOLDS:
            model = LogisticRegressionCV(
                Cs=self.strengths,
                cv=FOLDS,
                max_iter=STEPS,
                scoring="neg_log_loss",
                l1_ratios=(0,),
                use_legacy_attributes=False,
            )
        else:
            model = LogisticRegression(C=sorted(self.strengths)[len(self.strengths) // 2], max_iter=STEPS)
        self.model_ = model.fit(features, classes)
        return self

    def predict_proba(self, features: Any) -> np.ndarray:
        """Probabilities (N, K) in the order of ``classes_``."""
        shares: np.ndarray = self.model_.predict_proba(features)
        return shares
