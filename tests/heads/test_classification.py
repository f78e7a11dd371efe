"""Classification: labels of every type, metrics as scikit-learn's, splits that keep the classes."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from metatx.registry import create, lookup
from metatx.sequence import TokenSequence

CLASSES = ["a", "b", "c"]


def _head(**options):
    return create("heads", "classification", 4, **options)


def test_metrics_are_scikit_learn_s():
    head = _head().fit(CLASSES)
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(200, 3, generator=generator), torch.randint(0, 3, (200,), generator=generator)
    found = {}
    for name, metric in head.metrics().items():
        metric.update(*head.scored(logits, truth))
        found[name] = metric.compute().item()
    guess = logits.argmax(1)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert found["f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    expected = roc_auc_score(truth, logits.softmax(1), multi_class="ovr", average="macro")
    assert found["auroc"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("labels", [["x", "y"], [3, 7], [True, False], list(np.array([2, 5])), list(np.array(["u", "v"]))])
def test_labels_come_back_as_they_were(labels):
    head = _head().fit(labels * 3)
    codes = torch.stack([head.encode(label) for label in labels])
    decoded = head.decode(torch.nn.functional.one_hot(codes, 2).float())
    assert decoded.tolist() == [label.item() if hasattr(label, "item") else label for label in labels]


def test_bad_targets_are_refused():
    with pytest.raises(ValueError, match="All 3 samples have the label 'a'"):
        _head().fit(["a"] * 3)
    with pytest.raises(ValueError, match="2 of 3 samples have no label"):
        _head().fit(["a", None, float("nan")])
    with pytest.raises(ValueError, match="pooling is 'max'"):
        _head(pooling="max")


def test_accepts_what_reads_as_classes():
    accepts = lookup("heads", "classification").accepts
    assert accepts(["a", "b"]) and accepts([0, 1, 2] * 10) and accepts([True, None])
    assert not accepts([0.5, 1.5]) and not accepts(list(range(100)))


def test_split_keeps_class_shares():
    table = Dataset.from_dict({"y": ["rare"] * 10 + ["common"] * 90, "x": list(range(100))})
    first, second = _head().split(table, "y", None, 0.1, seed=0)
    assert sorted(first["x"][:] + second["x"][:]) == list(range(100))
    assert second["y"][:].count("rare") == 1
    again = _head().split(table, "y", None, 0.1, seed=0)[1]
    assert again["x"][:] == second["x"][:]


def test_pooling_without_cls_is_the_mean():
    sequence = TokenSequence(torch.randn(5, 4), (2, 3))
    pooled = _head(pooling="both").pool(sequence)
    assert torch.equal(pooled[:, :4], pooled[:, 4:])


def test_an_estimator_that_misses_a_class_gives_it_nothing():
    class Estimator:
        classes_ = np.array([0, 2])

        def predict_proba(self, features):
            return np.array([[0.25, 0.75]] * len(features))

    head = _head().fit(CLASSES)
    shares = head.probabilities(head.estimate(Estimator(), np.zeros((2, 1))))
    np.testing.assert_allclose(shares, [[0.25, 0, 0.75]] * 2, atol=1e-5)
