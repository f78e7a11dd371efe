"""Measures equal to scikit-learn's, defined on any split: over the classes that occur, nan where undefined."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MultilabelStatScores
from torchmetrics.utilities import dim_zero_cat

__all__ = [
    "CalibrationError",
    "ClassScores",
    "Errors",
    "LabelScores",
    "Pairs",
    "SampleMean",
    "SomeClasses",
    "average_precision",
    "mean_absolute_error",
    "r_squared",
    "roc_area",
    "root_mean_squared_error",
]

BINS = 15  # bins of confidence in the calibration error
MOST = 1000  # classes of which all scores of all samples are kept
Score = Literal["recall", "f1", "overlap"]


class Pairs(Metric):
    """Measure of all predictions and targets together, which are collected on the CPU; higher is better.

    Args:
        measure: Function from predictions and targets (numpy, N first) to a number; not called if a prediction is not
            finite.
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
        """Compute the measure, a float64 scalar; nan without samples, or if a prediction is not finite."""
        if not sum(map(len, self.predictions)):
            return torch.tensor(torch.nan, dtype=torch.float64)
        predictions = dim_zero_cat(self.predictions).cpu().numpy()
        targets = dim_zero_cat(self.targets).cpu().numpy()
        finite = np.isfinite(predictions).all()
        return torch.tensor(self.measure(predictions, targets) if finite else np.nan, dtype=torch.float64)


class Errors(Pairs):
    """Measure of all predictions and targets together; lower is better."""

    higher_is_better = False


class SampleMean(Metric):
    """Mean over samples of a number that each of them has.

    Args:
        measure: Function from predictions (B, ...) and targets (B, ...) to numbers (B,).
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, measure: Callable[[Tensor, Tensor], Tensor], **options: Any) -> None:
        super().__init__(**options)
        self.measure = measure
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add predictions (B, ...) and targets (B, ...)."""
        self.total += self.measure(predictions, targets).double().sum().to(self.total)
        self.count += len(targets)

    def compute(self) -> Tensor:
        """Compute the mean, a float64 scalar; nan without samples."""
        return self.total / self.count


class SomeClasses(Pairs):
    """Measure of the scores of classes, mean over the classes; of more than 1,000 it is that of 1,000 of them.

    All scores would take 4 N K bytes, and the measure time for each class. Those that are measured are evenly spread,
    the same for each model.

    Args:
        measure: Function from scores (N, K) and class numbers (N,), or zeros and ones (N, K), to a number. The number
            of a class that is not measured is -1.
        num_classes: Number of classes, K.
    """

    def __init__(self, measure: Callable[[Any, Any], float], num_classes: int) -> None:
        super().__init__(measure)
        self.columns = torch.arange(MOST) * num_classes // MOST if num_classes > MOST else None

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add scores (B, K), and class numbers (B,) or zeros and ones (B, K)."""
        if self.columns is not None:
            columns = self.columns.to(predictions.device)
            predictions = predictions[:, columns]
            if targets.ndim > 1:
                targets = targets[:, columns]
            else:
                places = torch.searchsorted(columns, targets).clamp(max=MOST - 1)
                targets = torch.where(columns[places] == targets, places, -1)
        super().update(predictions, targets)


class CalibrationError(Errors):
    """Expected calibration error: distance of confidence and accuracy, mean over 15 bins weighted by their samples.

    Confidence is the largest probability of a sample; a bin includes its upper bound, not its lower one (Guo et al.
    2017, arXiv 1706.04599).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(_gaps, **options)

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add probabilities (B, K) and class numbers (B,)."""
        confidence, guess = predictions.max(1)
        super().update(confidence, guess == targets)


class ClassScores(Metric):
    """Mean of a score over the classes for which it is defined, from counts of right and wrong predictions.

    Recall is defined for a class with samples; F1 and overlap also for a class that is predicted. K numbers are kept,
    not the K x K of a matrix of confusions.

    Args:
        num_classes: Number of classes, K.
        score: ``"recall"``, ``"f1"``, or ``"overlap"`` (intersection over union).
        pooled: True adds the counts of all classes first; recall then is the accuracy.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    right: Tensor
    guessed: Tensor
    true: Tensor

    def __init__(self, num_classes: int, score: Score, pooled: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.score = score
        self.pooled = pooled
        for name in ("right", "guessed", "true"):
            self.add_state(name, default=torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add class numbers (B,), or probabilities (B, K), and the true numbers (B,); B may be 0."""
        guesses = predictions.argmax(1) if predictions.is_floating_point() else predictions
        self.right += torch.bincount(targets[guesses == targets], minlength=self.num_classes)
        self.guessed += torch.bincount(guesses, minlength=self.num_classes)
        self.true += torch.bincount(targets, minlength=self.num_classes)

    def compute(self) -> Tensor:
        """Compute the mean, a float64 scalar."""
        counts = torch.stack([self.right, self.guessed - self.right, self.true - self.right], dim=1)
        return _mean_score(counts, self.score, self.pooled)


class LabelScores(MultilabelStatScores):
    """Mean of a score over labels, of which a sample may have several; else like ``ClassScores``.

    Args:
        num_labels: Number of labels, K.
        score: ``"recall"``, ``"f1"``, or ``"overlap"`` (intersection over union).
        pooled: True adds the counts of all labels first.
    """

    higher_is_better = True

    def __init__(self, num_labels: int, score: Score, pooled: bool = False) -> None:
        super().__init__(num_labels, average=None)
        self.score = score
        self.pooled = pooled

    def compute(self) -> Tensor:
        """Compute the mean, a float64 scalar."""
        return _mean_score(super().compute()[:, [0, 1, 3]], self.score, self.pooled)


def _mean_score(counts: Tensor, score: Score, pooled: bool) -> Tensor:
    """Mean score from counts (K, 3): true positives, false positives, false negatives."""
    counts = counts.cpu().double()
    right, added, missed = (counts.sum(0, keepdim=True) if pooled else counts).T
    scores = {
        "recall": right / (right + missed),
        "f1": 2 * right / (2 * right + added + missed),
        "overlap": right / (right + added + missed),
    }
    mean: Tensor = scores[score].nanmean()
    return mean


def roc_area(shares: np.ndarray, classes: np.ndarray) -> float:
    """Area under the ROC curve, mean over the classes, each against the rest.

    A class counts if some samples belong to it and some do not; of two classes, only the second counts.

    Args:
        shares: Probabilities (N, K).
        classes: Class numbers (N,); -1 for a class that has no column.
    """
    from sklearn.metrics import roc_auc_score

    present = np.unique(classes)
    counted = [1] if shares.shape[1] == 2 else present[present >= 0]
    if len(present) < 2 or not len(counted):
        return np.nan
    return float(np.mean([roc_auc_score(classes == number, shares[:, number]) for number in counted]))


def average_precision(shares: np.ndarray, labels: np.ndarray) -> float:
    """Average precision, mean over the labels (N, K) that some sample has."""
    from sklearn.metrics import average_precision_score

    there = labels.any(0)
    return float(average_precision_score(labels[:, there], shares[:, there])) if there.any() else np.nan


def root_mean_squared_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Root mean squared error, in the targets' unit."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(targets, predictions))


def mean_absolute_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Mean absolute error, in the targets' unit."""
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(targets, predictions))


def r_squared(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Share of the targets' variance that is predicted; for equal targets, 1 if all are predicted exactly, else 0."""
    from sklearn.metrics import r2_score

    return float(r2_score(targets, predictions)) if len(targets) > 1 else np.nan


def _gaps(confidence: np.ndarray, right: np.ndarray) -> float:
    """Calibration error from the confidence (N,) of samples and flags of right predictions (N,)."""
    bins = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    gaps = np.bincount(bins, right - confidence.astype(np.float64))
    return float(np.abs(gaps).sum() / len(right))
