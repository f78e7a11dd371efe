"""Any number of labels per sample, out of K."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.baselines.pipelines import scaled, worded
from metatx.data.spellings import label_list
from metatx.errors import SampleError, short
from metatx.head import Head
from metatx.layers.linear import zero_linear
from metatx.layers.norms import Norm, feature_norm
from metatx.layers.pooling import Pooling, pool_tokens, pooled_width
from metatx.layers.top_k import check_top_k, shown_classes, top_classes
from metatx.registry import unknown
from metatx.sequence import TokenSequence
from metatx.values import plain_cell

if TYPE_CHECKING:
    from torchmetrics import Metric

__all__ = ["MultiLabelHead"]

SEPARATOR = "|"  # between labels in one text; a comma may be part of a label
OTHER_SIGNS = (";", ",", "/", "\t")
FOCUS = 4  # of the asymmetric loss on absent labels, its authors' choice
MARGIN = 0.05  # probability below which an absent label costs nothing, likewise
CLOSEST = 1e-6  # least distance of a threshold from 0 and from 1
PENALTY = 0.01  # inverse strength of the classical baseline's penalty


class MultiLabelHead(Head):
    """Pooled tokens, a norm, a linear layer; a yes or no for each label, by a threshold of its own.

    A target is a list of labels (texts), empty where none applies; or a text that writes such a list in JSON or as
    Python does; or one such as ``"dog|cat"``, in which ``"|"`` alone says that none applies (an empty cell of a csv is
    a missing target); or, where ``classes`` were given, K zeros and ones in their order.

    Args:
        dim: Width of the backbone.
        pooling: ``"cls"``, ``"mean"`` of the tokens, ``"both"`` side by side, or ``"attention"``: the attention pool of
            the backbone's weights, frozen, where they have one.
        layers: Number of the backbone's last blocks that are read, side by side.
        dropout: Dropout of the pooled features, 0 to 1.
        norm: Norm of the pooled features: ``"layer"``, each sample by itself; or ``"batch"``, each feature over the
            batch, with which frozen features are often learnt faster.
        hidden: Width of a GELU layer between; 0 for a linear head.
        objective: ``"bce"``, binary cross-entropy; or ``"asymmetric"`` (Ridnik et al. 2021, arXiv 2009.14119), which
            counts easy absent labels less; its probabilities are too high.
        classes: Labels, in the order of the outputs; None: those of the training split, sorted.
        top_k: Number of labels, the likeliest first, whose probabilities ``records`` gives as a list ``top``. None:
            each label by its name, but a list of 10 where there are more than 1,000.

    Raises:
        ValueError: If there are fewer than two ``classes``, or they do not differ; if ``top_k`` is below 1.

    Attributes:
        classes: Labels, in the order of the outputs.
    """

    primary_metric = "map"
    tunable = {"dropout": (0.0, 0.1, 0.3), "layers": (1, 4), "hidden": (0, 256)}
    calibrates = True
    pool_options = ("pooling", "layers")
    stacks = True
    thresholds: Tensor

    def __init__(
        self,
        dim: int,
        pooling: Pooling = "both",
        layers: int = 1,
        dropout: float = 0.0,
        norm: Norm = "layer",
        hidden: int = 0,
        objective: Literal["bce", "asymmetric"] = "bce",
        classes: list[str] | None = None,
        top_k: int | None = None,
    ) -> None:
        super().__init__(dim)
        check_top_k(top_k)
        self.top_k = top_k
        self.pooling: Pooling = pooling
        self.layers = layers
        self.objective = objective
        width = pooled_width(dim, pooling, layers)
        self.norm = feature_norm(norm, width)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Sequential(nn.Linear(width, hidden), nn.GELU()) if hidden else nn.Identity()
        self.width = hidden or width
        if classes is not None:
            _check_classes(classes)
        self.classes = classes or []
        self.index = _index(self.classes)

    def build(self, classes: list[str]) -> None:
        """Make the output layer and the thresholds for the labels."""
        self.classes = classes
        self.answers = np.array(classes, dtype=object)
        self.index = _index(classes)
        self.register_buffer("thresholds", torch.full((len(classes),), 0.5))
        self.output = zero_linear(self.width, len(classes))

    @classmethod
    def accepts(cls, targets: Sequence[Any]) -> bool:
        """Lists of texts, or texts that write one."""
        known = [label_list(target) for target in targets if plain_cell(target) is not None]
        lists = [target for target in known if target is not None]
        texts = all(isinstance(label, str) for target in lists for label in target)
        return len(lists) == len(known) and any(lists) and texts

    def labels(self, target: Any) -> Collection[Hashable]:
        """Labels of a list or text; none of zeros and ones, for their classes are known."""
        try:
            return _labels(target)
        except SampleError:
            return ()

    def screen(self, target: Any) -> None:
        """Raise SampleError if there is no list of labels; an empty one, or an empty text, says that none applies."""
        if not isinstance(target, str):
            super().screen(target)
        if self.classes:
            self.encode(target)
        else:
            _labels(target)

    def fit(self, targets: Sequence[Any]) -> dict[str, Any]:
        """``classes``, those given or else all labels sorted, and ``output.bias``: the logits of their frequencies.

        Raises:
            ValueError: If targets are missing or no labels, there are fewer than two labels, or nothing to tell apart.
        """
        missing = sum(plain_cell(target) is None for target in targets)
        if missing:
            raise ValueError(
                f"{missing} of {len(targets)} samples have no target; write an empty list (or {SEPARATOR!r}) where no "
                "label applies, and leave out samples of which nothing is known."
            )
        try:
            classes = self.classes or _all_labels(targets)
            index = _index(classes)
            encoded = torch.stack([_encoded(target, index) for target in targets])
        except SampleError as error:
            raise ValueError(f"A {error}.") from None
        if bool((encoded == encoded[0]).all()):
            raise ValueError(f"All {len(targets)} samples have the same labels; there is nothing to learn.")
        shares = (encoded.sum(0) + 0.5) / (len(encoded) + 1)  # finite also for a label of all samples, or of none
        return {"classes": classes, "output.bias": shares.logit()}

    def text_target(self) -> bool:
        """True: a list of labels is written as words."""
        return True

    def encode(self, target: Any) -> Tensor:
        """Labels to zeros and ones (K,), float32."""
        return _encoded(target, self.index)

    def pool(self, sequence: TokenSequence) -> Tensor:
        """Features (B, width), as ``pooling`` says."""
        return pool_tokens(sequence, self.pooling)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, width) to logits (B, K)."""
        logits: Tensor = self.output(self.hidden(self.dropout(self.norm(pooled))))
        return logits

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean loss of logits (B, K) and zeros and ones (B, K), over samples and labels."""
        if self.objective == "bce":
            return F.binary_cross_entropy_with_logits(output, target)
        shares = (output.sigmoid() - MARGIN).clamp(min=0)
        absent = -(shares**FOCUS) * torch.log1p(-shares)
        return (target * -F.logsigmoid(output) + (1 - target) * absent).mean()

    def calibrate(self, output: Tensor, target: Tensor) -> None:
        """Choose each label's threshold by its F1 on logits (B, K); 0.5 where no sample has the label.

        So the F1 of the validation split is flattered; average precision knows no threshold.
        """
        self.thresholds.copy_(torch.tensor([best_threshold(*pair) for pair in zip(output.T, target.T, strict=True)]))

    def decode(self, output: Tensor) -> np.ndarray:
        """Lists (B,) of the labels whose probability is above their threshold; a list may be empty."""
        above = (self._shifted(output) > 0).cpu().numpy()
        decoded = np.empty(len(above), dtype=object)
        for i, row in enumerate(above):
            decoded[i] = [self.classes[k] for k in np.flatnonzero(row)]
        return decoded

    def _shifted(self, output: Tensor) -> Tensor:
        """Logits (B, K) that are above zero where the probability is above the threshold."""
        return output.float() - self.thresholds.logit()

    def probabilities(self, output: Tensor) -> Tensor:
        """Probabilities (B, K), each label by itself, columns in the order of ``classes``; not calibrated."""
        return output.float().sigmoid()

    def energy(self, output: Tensor) -> Tensor:
        """Sum of the labels' energies, -log(1 + exp(logit)) (Wang et al. 2021, arXiv 2111.12797)."""
        return -F.softplus(output.float()).sum(1)

    def explained(self, output: Tensor) -> Any:
        """The most likely label."""
        return self.classes[int(output[0].argmax())]

    def score(self, output: Tensor, target: Any) -> Tensor:
        """Logit of a label. Raises ValueError for one that is not learned."""
        if target not in self.classes:
            raise ValueError(unknown("label", str(target), self.classes))
        return output[:, self.classes.index(target)].float()

    def exported(self, output: Tensor) -> dict[str, Tensor]:
        """``probabilities`` (B, K)."""
        return {"probabilities": self.probabilities(output)}

    def export_facts(self) -> dict[str, Any]:
        """``classes``, in the order of the probabilities, and the ``thresholds`` above which a label is given."""
        return {"classes": self.classes, "thresholds": self.thresholds.tolist()}

    def records(self, output: Tensor) -> list[dict[str, Any]]:
        """``prediction``, the list of labels, and the probability of each label, or of the likeliest, see ``top_k``."""
        most = shown_classes(self.top_k, len(self.classes))
        if most is not None:
            tops = top_classes(self.probabilities(output), self.answers, most)
            return [{"prediction": labels, "top": top} for labels, top in zip(self.decode(output), tops, strict=True)]
        names = [f"p({label})" for label in self.classes]
        return [
            {"prediction": labels, **dict(zip(names, row, strict=True))}
            for labels, row in zip(self.decode(output), self.probabilities(output).tolist(), strict=True)
        ]

    def card_note(self) -> str:
        """One sentence that says where the thresholds come from."""
        chosen = "are 0.5" if bool((self.thresholds == 0.5).all()) else "were chosen by F1 on the validation split"
        return f"Thresholds of the labels {chosen}; probabilities are not calibrated."

    def metrics(self) -> "dict[str, Metric]":
        """Mean average precision, and F1 at the thresholds.

        ``map`` is the mean over the labels that some sample has, ``f1`` over those that some sample has or is given;
        ``micro_f1`` counts all pairs of sample and label alike. Of more than 1,000 labels, ``map`` is the mean over
        1,000 evenly spread ones.
        """
        from metatx.metrics.labels import LabelScores, SomeClasses, average_precision

        k = len(self.classes)
        return {
            "map": SomeClasses(average_precision, k),
            "f1": LabelScores(k, "f1"),
            "micro_f1": LabelScores(k, "f1", pooled=True),
        }

    def metric_inputs(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities, moved so that each label's threshold is 0.5 (which keeps their order), and zeros and ones."""
        return self._shifted(output).sigmoid(), target.long()

    def trivial(self) -> tuple[str, Any]:
        """Estimator that always answers with the frequency of each label."""
        from sklearn.dummy import DummyClassifier
        from sklearn.multiclass import OneVsRestClassifier

        return "label frequencies", OneVsRestClassifier(DummyClassifier(strategy="prior"))

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Gradient boosting or logistic regression (on scaled features or words), a model for each label."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier

        if kind == "words":
            return {"TF-IDF, logistic regressions": worded(OneVsRestClassifier(LogisticRegression(C=10)))}
        if kind == "boosting":
            model = HistGradientBoostingClassifier(learning_rate=0.06, random_state=0)
            return {"gradient boosting": OneVsRestClassifier(model)}
        model = LogisticRegression(C=PENALTY, max_iter=300)
        return {"logistic regressions": scaled(OneVsRestClassifier(model))}

    def baseline_predict(self, estimator: Any, features: Any) -> Tensor:
        """Logits (B, K) of an estimator, moved so that its threshold is 0.5 for every label."""
        shares = torch.as_tensor(np.asarray(estimator.predict_proba(features)), dtype=torch.float32)
        return shares.clamp(CLOSEST, 1 - CLOSEST).logit() + self.thresholds.logit()


def best_threshold(logits: Tensor, target: Tensor) -> float:
    """Probability above which one label has the best F1, halfway between two samples; the lowest of several.

    Args:
        logits: Logits of the label (N,).
        target: Zeros and ones (N,).
    """
    wanted = target.double().cpu()
    if not wanted.any():
        return 0.5
    ordered, at = logits.double().cpu().sort(descending=True)
    hits = wanted[at].cumsum(0)
    # The label is given to the first n, for every n that does not part equals.
    ends = torch.cat([ordered[1:] < ordered[:-1], torch.ones(1, dtype=torch.bool)])
    f1 = (2 * hits / (torch.arange(1, len(hits) + 1) + wanted.sum()))[ends]
    bounds = torch.cat([ordered, ordered[-1:] - 1])
    between = ((bounds[1:] + bounds[:-1]) / 2)[ends]
    return between[f1 == f1.max()].min().sigmoid().clamp(CLOSEST, 1 - CLOSEST).item()


def _check_classes(classes: list[str]) -> None:
    """Raise ValueError for fewer than two labels, or some that do not differ."""
    if len(classes) < 2:
        raise ValueError(
            f"There is one label only, {', '.join(map(repr, classes))}; let the classification head say yes or no."
        )
    if len(set(classes)) < len(classes):
        raise ValueError(f"Labels are texts that differ, not {classes}.")


def _all_labels(targets: Sequence[Any]) -> list[str]:
    """All labels of raw targets, sorted. Raises ValueError for fewer than two, SampleError for a target without."""
    labels = [_labels(target) for target in targets]
    _refuse_other_signs(targets)
    classes = sorted({label for each in labels for label in each})
    if not classes:
        raise ValueError(f"None of {len(targets)} samples has a label; name the target column.")
    _check_classes(classes)
    return classes


def _index(classes: Sequence[str]) -> dict[str, int]:
    """Number of each label."""
    return {label: i for i, label in enumerate(classes)}


def _encoded(target: Any, index: Mapping[str, int]) -> Tensor:
    """Zeros and ones (K,), float32, of a raw target, with the label numbers of ``index``."""
    plain = label_list(target)
    if plain is not None and len(plain) == len(index) and all(value in (0, 1) for value in plain):
        return torch.tensor([float(value) for value in plain])
    encoded = torch.zeros(len(index))
    for label in _labels(target):
        if label not in index:
            raise SampleError(f"label {label!r} is none of the {len(index)} labels known from training")
        encoded[index[label]] = 1.0
    return encoded


def _labels(target: Any) -> list[str]:
    """Labels of a raw target."""
    plain = label_list(target)
    if plain is None and isinstance(target, str):
        return [label.strip() for label in target.split(SEPARATOR) if label.strip()]
    if plain is None or not all(isinstance(label, str) for label in plain):
        raise SampleError(
            f"target is {short(target)}; expected a list of labels (texts), a text such as "
            f"'dog{SEPARATOR}cat', or a zero or one for each of the classes that the head was given"
        )
    return plain


def _refuse_other_signs(targets: Sequence[Any]) -> None:
    """Raise ValueError for a text that is other labels with another sign between: each list would be one label."""
    texts = {target.strip() for target in targets if isinstance(target, str)}
    if any(SEPARATOR in text or label_list(text) is not None for text in texts):
        return
    for sign in OTHER_SIGNS:
        lists = {text: {part.strip() for part in text.split(sign) if part.strip()} for text in texts if sign in text}
        single = texts - lists.keys()
        listed = next((text for text in sorted(lists) if len(lists[text]) > 1 and lists[text] & single), None)
        if listed is not None:
            one = sorted(lists[listed] & single)[0]
            raise ValueError(
                f"The target {listed!r:.60} seems to be several labels, as {one!r:.40} is one of its own; write them "
                f"with {SEPARATOR!r} between, {SEPARATOR.join(p.strip() for p in listed.split(sign))!r:.60}, or as a "
                "list in JSON."
            )
