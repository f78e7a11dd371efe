"""Measures that hold on any split: equal to scikit-learn's, over the classes that are there, nan where undefined."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassStatScores, MultilabelStatScores
from torchmetrics.utilities import dim_zero_cat

__all__ = [
    "CalibrationError",
    "ClassScores",
    "Errors",
    "LabelScores",
    "Pairs",
    "average_precision",
    "mean_absolute_error",
    "r_squared",
    "roc_area",
    "root_mean_squared_error",
]

BINS = 15  # of confidence
Score = Literal["recall", "f1", "overlap"]


class Pairs(Metric):
    """A measure of all predictions and targets together, which are kept as they came, on the CPU; higher is better.

    Args:
        measure: Predictions and targets (numpy, N first) to a number; not called where a prediction is not finite.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    predictions: list[Tensor]
    targets: list[Tensor]

    def __init__(self, measure: Callable[[Any, Any], float], **options: Any) -> None:
        super().__init__(**options)
        self.measure = measure
        self.add_state("predictions", default=[], dist_reduce_fx="cat")
        self.add_state("targets", default=[], dist_reduce_fx="cat")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add predictions (B, ...) and targets (B, ...)."""
        self.predictions.append(predictions.detach().cpu())
        self.targets.append(targets.detach().cpu())

    def compute(self) -> Tensor:
        """The measure, float64, a scalar; nan where there is nothing, or a prediction is not finite."""
        if not sum(map(len, self.predictions)):
            return torch.tensor(torch.nan, dtype=torch.float64)
        predictions = dim_zero_cat(self.predictions).cpu().numpy()
        targets = dim_zero_cat(self.targets).cpu().numpy()
        known = np.isfinite(predictions).all()
        return torch.tensor(self.measure(predictions, targets) if known else np.nan, dtype=torch.float64)


class Errors(Pairs):
    """``Pairs`` of a measure of which lower is better."""

    higher_is_better = False


class CalibrationError(Errors):
    """How far confidence and accuracy lie apart: over 15 bins of confidence, mean weighted by their samples.

    Confidence is the largest probability of a sample; a bin holds those above its lower bound, up to its upper one
    (Guo et al. 2017, arXiv 1706.04599).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(_gaps, **options)

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add probabilities (B, K) and class numbers (B,)."""
        confidence, guess = predictions.max(1)
        super().update(confidence, guess == targets)


class ClassScores(MulticlassStatScores):
    """A score of each class, from counts of right and wrong answers; the mean of the classes that have one.

    A class has a recall where a sample is of it, and F1 and overlap also where one is said to be.

    Args:
        num_classes: K.
        score: ``"recall"``; ``"f1"``; ``"overlap"``, intersection over union.
        pooled: Count all classes together, not each by itself: recall is the accuracy then.
    """

    higher_is_better = True

    def __init__(self, num_classes: int, score: Score, pooled: bool = False) -> None:
        super().__init__(num_classes, average=None)
        self.score, self.pooled = score, pooled

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add class numbers (B,), or probabilities (B, K), and the true numbers (B,); B may be 0."""
        if len(targets):
            super().update(predictions, targets)

    def compute(self) -> Tensor:
        """The mean, float64, a scalar."""
        return _mean_score(super().compute(), self.score, self.pooled)


class LabelScores(MultilabelStatScores):
    """As ``ClassScores``, of labels of which a sample may have several.

    Args:
        num_labels: K.
        score, pooled: As of ``ClassScores``.
    """

    higher_is_better = True

    def __init__(self, num_labels: int, score: Score, pooled: bool = False) -> None:
        super().__init__(num_labels, average=None)
        self.score, self.pooled = score, pooled

    def compute(self) -> Tensor:
        """The mean, float64, a scalar."""
        return _mean_score(super().compute(), self.score, self.pooled)


def _mean_score(counts: Tensor, score: Score, pooled: bool) -> Tensor:
    """Of counts (K, 5): true and false positives, true and false negatives, and samples of the class."""
    counts = counts.cpu().double()
    right, added, _, missed, _ = (counts.sum(0, keepdim=True) if pooled else counts).T
    scores = {
        "recall": right / (right + missed),
        "f1": 2 * right / (2 * right + added + missed),
        "overlap": right / (right + added + missed),
    }
    mean: Tensor = scores[score].nanmean()
    return mean


def roc_area(shares: np.ndarray, classes: np.ndarray) -> float:
    """Area under the ROC curve, mean of the classes, each against the rest.

    A class counts where some samples are of it and some are not; of two classes, the second alone is asked about.

    Args:
        shares: Probabilities (N, K).
        classes: Class numbers (N,).
    """
    from sklearn.metrics import roc_auc_score

    found = np.unique(classes)
    if len(found) < 2:
        return np.nan
    asked = [1] if shares.shape[1] == 2 else found
    return float(np.mean([roc_auc_score(classes == number, shares[:, number]) for number in asked]))


def average_precision(shares: np.ndarray, labels: np.ndarray) -> float:
    """Average precision, mean of the labels (N, K) that a sample has."""
    from sklearn.metrics import average_precision_score

    there = labels.any(0)
    return float(average_precision_score(labels[:, there], shares[:, there])) if there.any() else np.nan


def root_mean_squared_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    """In the targets' unit."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(targets, predictions))


def mean_absolute_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    """In the targets' unit."""
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(targets, predictions))


def r_squared(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Share of the targets' variance that is predicted; of targets that are all equal, 1 if they are met, else 0."""
    from sklearn.metrics import r2_score

    return float(r2_score(targets, predictions)) if len(targets) > 1 else np.nan


def _gaps(confidence: np.ndarray, right: np.ndarray) -> float:
    bins = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    gaps = np.bincount(bins, right - confidence.astype(np.float64))
    return float(np.abs(gaps).sum() / len(right))
