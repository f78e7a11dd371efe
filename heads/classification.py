"""One label per sample, out of K classes."""

import math
from collections.abc import Collection, Hashable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.baselines.pipelines import scaled, worded
from metatx.data.holdout import by_class
from metatx.data.spellings import Spellings, are_label_lists
from metatx.errors import SampleError
from metatx.head import Head
from metatx.layers.conformal import check_coverage, conformal_bound
from metatx.layers.linear import zero_linear
from metatx.layers.norms import Norm, feature_norm
from metatx.layers.pooling import Pooling, pool_tokens, pooled_width
from metatx.layers.top_k import check_top_k, shown_classes, top_classes
from metatx.reading.image import is_image
from metatx.sequence import TokenSequence
from metatx.values import are_codes, plain_cell

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import Metric

    from metatx.tokenizer import Tokenizer

__all__ = ["ClassificationHead"]

PENALTIES = (0.001, 0.03, 1.0)  # inverse strengths of the classical baseline's penalty
TEMPERATURES = (0.05, 20.0)  # outside lie validation splits that are all right, or as good as chance
HALVINGS = 50


class ClassificationHead(Head):
    """Pooled tokens, a norm, a linear layer; cross-entropy.

    Args:
        dim: Width of the backbone.
        pooling: ``"cls"``, ``"mean"`` of the tokens, ``"both"`` side by side, or ``"attention"``: the attention pool of
            the backbone's weights, frozen, where they have one, as SigLIP's. A backbone without CLS has no ``"cls"``.
        layers: Number of the backbone's last blocks that are read, side by side (Caron et al. 2021, arXiv 2104.14294,
            read four).
        dropout: Dropout of the pooled features, 0 to 1.
        norm: Norm of the pooled features: ``"layer"``, each sample by itself; or ``"batch"``, each feature over the
            batch, with which frozen features are often learnt faster.
        label_smoothing: Share of the target spread over all classes (Szegedy et al. 2016).
        class_weight: ``"balanced"`` weighs each sample inversely to the frequency of its class, as scikit-learn does:
            every class counts alike, probabilities are those of equally frequent classes, and the best epoch is the
            one of the best balanced accuracy.
        hidden: Width of a GELU layer between; 0 for a linear head.
        calibrated: Divide logits by the temperature of the least cross-entropy on the validation split (Guo et al.
            2017, arXiv 1706.04599): of answers with probability 0.8, 80 % are then right. Labels stay the same.
            Without a validation split, nothing is divided.
        coverage: Promised share of samples whose label is in the set of labels that ``records`` gives, such as 0.9:
            split conformal prediction on the validation split, see ``conformal_quantile``, with one bound for all
            classes (Sadinle et al. 2019, arXiv 1609.00451). The split chose the epoch too, so the promise holds about.
        top_k: Number of classes, the likeliest first, whose probabilities ``records`` gives as a list ``top``. None:
            each class by its name, but a list of 10 where there are more than 1,000.

    Attributes:
        classes: Labels, in the order of the outputs; learned by ``fit``.
    """

    primary_metric = "accuracy"
    tunable = {"dropout": (0.0, 0.1, 0.3), "layers": (1, 4), "hidden": (0, 256), "label_smoothing": (0.0, 0.1)}
    class_weights: Tensor | None
    temperature: Tensor | None
    bound: Tensor | None
    pool_options = ("pooling", "layers")
    has_energy = True
    stacks = True

    def __init__(
        self,
        dim: int,
        pooling: Pooling = "both",
        layers: int = 1,
        dropout: float = 0.0,
        norm: Norm = "layer",
        label_smoothing: float = 0.0,
        class_weight: Literal["balanced"] | None = None,
        hidden: int = 0,
        calibrated: bool = False,
        coverage: float | None = None,
        top_k: int | None = None,
    ) -> None:
        super().__init__(dim)
        check_coverage(coverage)
        check_top_k(top_k)
        self.top_k = top_k
        self.pooling: Pooling = pooling
        self.layers = layers
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        if class_weight == "balanced":
            self.primary_metric = "balanced_accuracy"
        width = pooled_width(dim, pooling, layers)
        self.norm = feature_norm(norm, width)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Sequential(nn.Linear(width, hidden), nn.GELU()) if hidden else nn.Identity()
        self.width = hidden or width
        self.coverage = coverage
        self.calibrates = calibrated or coverage is not None
        self.register_buffer("temperature", torch.ones(()) if calibrated else None)
        self.register_buffer("bound", None if coverage is None else torch.full((), math.inf))
        self.classes: list[Any] = []

    def build(self, classes: list[Any]) -> None:
        """Make the output layer for the labels."""
        self.classes = classes
        # An array of texts would turn the numbers among them into texts.
        mixed = len({isinstance(label, str) for label in classes}) > 1
        self.answers = np.array(classes, dtype=object if mixed else None)
        self.index = Spellings(classes)
        self.register_buffer("class_weights", torch.ones(len(classes)) if self.class_weight else None)
        # Every class starts equally likely, whatever the scale of the features.
        self.output = zero_linear(self.width, len(classes))

    @classmethod
    def accepts(cls, targets: Sequence[Any]) -> bool:
        """Words that are no files' names or lists, booleans, or a few whole numbers that come again and again."""
        known = [label for target in targets if (label := plain_cell(target)) is not None]
        if are_codes(known):
            return True
        words = all(isinstance(label, str | bool) and not is_image(label) for label in known)
        return words and not are_label_lists(known)

    def split(
        self, table: "Dataset", target: str | None, tokenizer: "Tokenizer", fraction: float, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers in two parts with equal class shares; of each class one stays in the first."""
        return by_class(np.asarray(table[target][:]).astype(str), fraction, seed)

    def labels(self, target: Any) -> Collection[Hashable]:
        """The label, as text."""
        return (str(plain_cell(target)),)

    def fit(self, targets: Sequence[Any]) -> dict[str, Any]:
        """``classes``, the labels sorted, and their ``class_weights`` where they are balanced.

        Raises:
            ValueError: If there are fewer than two labels, one is missing, or one is no label.
        """
        labels = _labels(targets)
        strange = next((label for label in labels if not isinstance(label, str | int | float | None)), None)
        if strange is not None:
            kind = type(strange).__name__
            raise ValueError(f"A label is a {kind}; classes are text, whole numbers or booleans, one a sample.")
        missing = sum(label is None for label in labels)
        if missing:
            raise ValueError(f"{missing} of {len(labels)} samples have no label; fill them in or leave them out.")
        classes = sorted(set(labels), key=lambda label: (isinstance(label, str), label))
        if not classes:
            raise ValueError("There are no labels to learn from; name the target column.")
        if len(classes) < 2:
            raise ValueError(
                f"All {len(labels)} samples have the label {classes[0]!r}; a classifier needs two or more."
            )
        if self.class_weight is None:
            return {"classes": classes}
        places = {label: place for place, label in enumerate(classes)}
        counts = np.bincount([places[label] for label in labels])
        return {"classes": classes, "class_weights": torch.from_numpy(len(labels) / (len(classes) * counts))}

    def text_target(self) -> bool:
        """Tell whether a label is a word."""
        return any(isinstance(label, str) for label in self.classes)

    def encode(self, target: Any) -> Tensor:
        """A label to its class number, int64 ()."""
        label = plain_cell(target)
        place = self.index.find(label) if isinstance(label, str | int | float | Decimal) else None
        if place is None:
            raise SampleError(f"label {label!r} was not among the {len(self.classes)} labels of the training split")
        return torch.tensor(place)

    def pool(self, sequence: TokenSequence) -> Tensor:
        """Features (B, width), as ``pooling`` says."""
        return pool_tokens(sequence, self.pooling)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, width) to logits (B, K)."""
        logits: Tensor = self.output(self.hidden(self.dropout(self.norm(pooled))))
        return logits

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of logits (B, K) and class numbers (B,), each sample times its class's weight."""
        losses = F.cross_entropy(
            output, target, self.class_weights, label_smoothing=self.label_smoothing, reduction="none"
        )
        return losses.mean()

    def decode(self, output: Tensor) -> np.ndarray:
        """The most likely label of each sample (B,)."""
        decoded: np.ndarray = self.answers[output.argmax(1).cpu().numpy()]
        return decoded

    def probabilities(self, output: Tensor) -> Tensor:
        """Softmax (B, K), columns in the order of ``classes``; calibrated only where ``card_note`` says so."""
        logits = output.float()
        return (logits if self.temperature is None else logits / self.temperature).softmax(1)

    def energy(self, output: Tensor) -> Tensor:
        """Negative log of the sum of exponentials of logits (B, K) (Liu et al. 2020, arXiv 2010.03759)."""
        return -output.float().logsumexp(1)

    def explained(self, output: Tensor) -> Any:
        """The most likely label."""
        return self.decode(output).tolist()[0]

    def score(self, output: Tensor, target: Any) -> Tensor:
        """Logarithm of the odds of a label, which grows on where its probability is nearly 1."""
        shares = output.float().log_softmax(1)
        label = int(self.encode(target))
        others = torch.cat([shares[:, :label], shares[:, label + 1 :]], dim=1)
        return shares[:, label] - others.logsumexp(1)

    def exported(self, output: Tensor) -> dict[str, Tensor]:
        """``probabilities`` (B, K)."""
        return {"probabilities": self.probabilities(output)}

    def export_facts(self) -> dict[str, Any]:
        """``classes``, in the order of the probabilities."""
        return {"classes": self.classes}

    def calibrate(self, output: Tensor, target: Tensor) -> None:
        """Fit the temperature to logits (B, K) and class numbers (B,), weighted as the loss is; and the sets' bound."""
        if self.temperature is not None:
            self.temperature.fill_(best_temperature(output, target, self.class_weights))
        if self.bound is not None and self.coverage is not None:
            true = self.probabilities(output).gather(1, target[:, None]).squeeze(1)
            self.bound.copy_(conformal_bound(1 - true, self.coverage))

    def sets(self, probabilities: Tensor) -> Tensor:
        """Labels (B, K) that the promised share of samples is among, bool; the most likely one is always there."""
        assert self.bound is not None
        likely = probabilities == probabilities.amax(1, keepdim=True)
        return likely | (1 - probabilities <= self.bound)

    def calibration_metrics(self) -> "dict[str, Metric]":
        """Share of samples whose label is in their set, and mean number of labels in a set."""
        if self.bound is None:
            return {}
        from metatx.metrics.labels import SampleMean

        return {
            "coverage": SampleMean(lambda shares, label: self.sets(shares).gather(1, label[:, None])[:, 0]),
            "set_size": SampleMean(lambda shares, _: self.sets(shares).sum(1)),
        }

    def card_note(self) -> str:
        """Sentences that say whether the probabilities are calibrated, and what sets of labels promise."""
        if self.temperature is None or self.temperature == 1:
            note = "Probabilities are not calibrated."
        else:
            note = f"Probabilities are calibrated on the validation split (temperature {self.temperature.item():.3f})."
        if self.bound is not None and self.bound.isfinite():
            note += (
                f" A set of labels holds the true one for {self.coverage:.0%} of samples like the validation split's."
            )
        return note

    def records(self, output: Tensor) -> list[dict[str, Any]]:
        """``prediction``, probabilities of classes or the likeliest (``top_k``), and the ``set`` of ``coverage``."""
        probabilities = self.probabilities(output)
        labels = self.decode(output).tolist()
        most = shown_classes(self.top_k, len(self.classes))
        shown: list[dict[str, Any]]
        if most is None:
            names = [f"p({label})" for label in self.classes]
            shown = [dict(zip(names, row, strict=True)) for row in probabilities.tolist()]
        else:
            shown = [{"top": top} for top in top_classes(probabilities, self.answers, most)]
        records = [{"prediction": label, **shares} for label, shares in zip(labels, shown, strict=True)]
        if self.bound is not None:
            for record, row in zip(records, self.sets(probabilities).tolist(), strict=True):
                record["set"] = [label for label, inside in zip(self.classes, row, strict=True) if inside]
        return records

    def metrics(self) -> "dict[str, Metric]":
        """Accuracy (also averaged over classes), macro F1, one-against-rest ROC area, expected calibration error.

        Means are over the classes that a split has, see ``metatx.metrics.labels``. The calibration error is the mean
        distance between confidence and accuracy, in 15 bins of confidence. Of more than 1,000 classes, the ROC area is
        the mean over 1,000 evenly spread ones.
        """
        from torchmetrics.classification import MulticlassAccuracy

        from metatx.metrics.labels import CalibrationError, ClassScores, SomeClasses, roc_area

        k = len(self.classes)
        return {
            "accuracy": MulticlassAccuracy(k, average="micro"),
            "balanced_accuracy": ClassScores(k, "recall"),
            "f1": ClassScores(k, "f1"),
            "auroc": SomeClasses(roc_area, k),
            "ece": CalibrationError(),
        }

    def metric_inputs(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and class numbers."""
        return self.probabilities(output), target

    def trivial(self) -> tuple[str, Any]:
        """Estimator that always answers with the most frequent class."""
        from sklearn.dummy import DummyClassifier

        return "majority class", DummyClassifier(strategy="prior")

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Gradient boosting for ``"boosting"``, else logistic regression on scaled features or on words."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression

        from metatx.baselines.logistic import PenalisedLogistic

        if kind == "words":
            # A looser tolerance: a tenth of the time, the same accuracy on 15,000 texts of 151 classes.
            model = LogisticRegression(C=10, solver="saga", tol=1e-2, random_state=0)
            return {"TF-IDF, logistic regression": worded(model)}
        if kind == "boosting":
            model = HistGradientBoostingClassifier(learning_rate=0.06, max_iter=300, random_state=0)
            return {"gradient boosting": model}
        # The right strength of the penalty differs a thousandfold between modalities: chosen on the training split.
        model = PenalisedLogistic(PENALTIES)
        return {"logistic regression": scaled(model)}

    def baseline_predict(self, estimator: Any, features: Any) -> Tensor:
        """Log-probabilities (B, K); classes that the estimator never saw get zero."""
        output = torch.full((len(features), len(self.classes)), -30.0)
        shares = estimator.predict_proba(features)
        output[:, torch.as_tensor(estimator.classes_)] = torch.as_tensor(shares, dtype=torch.float32).clamp(1e-12).log()
        return output


def best_temperature(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> float:
    """Temperature with the least cross-entropy of logits / temperature, each sample times its class's weight.

    Cross-entropy is convex in 1 / temperature, so its slope is zero once: found by halving, within TEMPERATURES.

    Args:
        logits: Logits (B, K).
        target: Class numbers (B,).
        weights: Weights of the classes (K,); None: all 1.
    """
    logits = logits.double()
    sample_weights = torch.ones(len(target)).to(logits) if weights is None else weights[target].double()
    true = logits.gather(1, target[:, None]).squeeze(1)
    low, high = (math.log(1 / bound) for bound in reversed(TEMPERATURES))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = ((logits * math.exp(middle)).softmax(1) * logits).sum(1)
        if (sample_weights * (expected - true)).sum() > 0:
            high = middle
        else:
            low = middle
    return math.exp(-low)


def _labels(targets: Sequence[Any]) -> list[Any]:
    """Plain labels, None where missing; numbers are whole ones, however they were typed, if all of them are."""
    plain = [plain_cell(target) for target in targets]
    plain = [float(label) if isinstance(label, Decimal) else label for label in plain]
    if any(isinstance(label, float) and not label.is_integer() for label in plain):
        return plain
    return [int(label) if isinstance(label, float) else label for label in plain]
