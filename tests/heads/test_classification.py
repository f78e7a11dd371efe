"""Classification: labels of every type, metrics as scikit-learn's, splits that keep the classes."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

from metatx.errors import SampleError
from metatx.registry import create, lookup
from metatx.sequence import TokenSequence

CLASSES = ["a", "b", "c"]


def _head(**options):
    return create("heads", "classification", 4, **options)


@pytest.mark.parametrize("classes", [CLASSES, CLASSES[:2]])
def test_metrics_are_scikit_learn_s(classes):
    head, k = _head().learn(classes), len(classes)
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(200, k, generator=generator), torch.randint(0, k, (200,), generator=generator)
    found = {}
    for name, metric in head.metrics().items():
        metric.update(*head.metric_inputs(logits, truth))
        found[name] = metric.compute().item()
    guess = logits.argmax(1)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, guess))
    assert found["f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    shares = logits.softmax(1)
    expected = roc_auc_score(truth, shares[:, 1] if k == 2 else shares, multi_class="ovr", average="macro")
    assert found["auroc"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "labels", [["x", "y"], [3, 7], [True, False], list(np.array([2, 5])), list(np.array(["u", "v"]))]
)
def test_labels_come_back_as_they_were(labels):
    head = _head().learn(labels * 3)
    codes = torch.stack([head.encode(label) for label in labels])
    decoded = head.decode(torch.nn.functional.one_hot(codes, 2).float())
    assert decoded.tolist() == [label.item() if hasattr(label, "item") else label for label in labels]


def test_numbers_among_texts_stay_numbers():
    head = _head().learn(["a", 1, 2.5])
    assert head.classes == [1, 2.5, "a"]
    assert head.decode(torch.eye(3)).tolist() == [1, 2.5, "a"]
    assert [record["prediction"] for record in head.records(torch.eye(3))] == [1, 2.5, "a"]


def test_records_name_each_class():
    head = _head().learn(CLASSES)
    (record,) = head.records(torch.tensor([[0.25, 0.5, 0.25]]).log())
    assert record.pop("prediction") == "b"
    assert record == pytest.approx({"p(a)": 0.25, "p(b)": 0.5, "p(c)": 0.25})


def test_records_name_the_likeliest_of_many_classes():
    logits = torch.randn(3, 1200, generator=torch.Generator().manual_seed(0))
    head = _head().learn([f"c{i:04}" for i in range(1200)])
    for record, row in zip(head.records(logits), head.probabilities(logits), strict=True):
        order = row.argsort(descending=True)[:10].tolist()
        assert [entry["label"] for entry in record["top"]] == [f"c{at:04}" for at in order]
        assert [entry["probability"] for entry in record["top"]] == row[order].tolist()
        assert record["prediction"] == record["top"][0]["label"] and len(record) == 2
    (record,) = _head(top_k=2).learn(CLASSES).records(torch.tensor([[0.0, 2.0, 1.0]]))
    assert [entry["label"] for entry in record["top"]] == ["b", "c"]
    with pytest.raises(ValueError, match="top_k is 0"):
        _head(top_k=0)


def test_classes_are_sorted_whatever_the_order_of_the_data():
    heads = [_head().learn(labels) for labels in ([10, 9, 2], [2, 9, 10, 9])]
    assert [head.classes for head in heads] == [[2, 9, 10]] * 2
    assert [heads[0].encode(label).item() for label in (np.int64(9), 9, np.float32(10))] == [1, 1, 2]


@pytest.mark.parametrize("label", ["d", "", None, float("nan"), 1, ["a"], {"a": 1}, object()])
def test_unknown_labels_are_bad_samples(label):
    with pytest.raises(SampleError, match="was not among the 3 labels of the training split"):
        _head().learn(CLASSES).encode(label)


def test_bad_targets_are_refused():
    with pytest.raises(ValueError, match="no labels to learn from"):
        _head().learn([])
    with pytest.raises(ValueError, match="A label is a list; classes are text"):
        _head().learn(["a", ["b"]])
    with pytest.raises(ValueError, match="All 3 samples have the label 'a'"):
        _head().learn(["a"] * 3)
    with pytest.raises(ValueError, match="2 of 3 samples have no label"):
        _head().learn(["a", None, float("nan")])
    with pytest.raises(ValueError, match="pooling is 'max'"):
        _head(pooling="max")
    with pytest.raises(ValueError, match="class_weight is 'equal'; expected one of 'balanced' or null"):
        _head(class_weight="equal")


def test_accepts_what_reads_as_classes():
    accepts = lookup("heads", "classification").accepts
    assert accepts(["a", "b"]) and accepts([0, 1, 2] * 10) and accepts([True, None])
    assert not accepts([0.5, 1.5]) and not accepts(list(range(100)))
    assert accepts(np.array([0, 1, 2] * 10)) and accepts(np.array(["a", "b"])) and accepts(np.array([True, False]))
    assert not accepts(np.arange(100)) and not accepts(np.array([0.5, 1.5]))
    assert not accepts(["a", 0.5]) and not accepts([[1, 2]])


def test_split_keeps_class_shares():
    table = Dataset.from_dict({"y": ["rare"] * 10 + ["common"] * 90})
    first, second = _head().split(table, "y", None, 0.1, seed=0)
    assert sorted([*first, *second]) == list(range(100))
    assert all(sum(_head().split(table, "y", None, 0.1, seed)[1] < 10) == 1 for seed in range(10))
    assert _head().split(table, "y", None, 0.1, seed=0)[1].tolist() == second.tolist()


@pytest.mark.parametrize(
    ("labels", "fraction"),
    [(["only once", *["common"] * 19], 0.2), ([f"class {i // 2}" for i in range(20)], 0.1), ([None, *["a"] * 19], 0.5)],
)
def test_split_without_two_rows_of_each_class_is_by_chance(labels, fraction):
    table = Dataset.from_dict({"y": labels})
    first, second = _head().split(table, "y", None, fraction, seed=0)
    assert len(second) == 20 * fraction
    assert sorted([*first, *second]) == list(range(20))
    assert _head().split(table, "y", None, fraction, seed=1)[1].tolist() != second.tolist()


def test_every_class_starts_equally_likely():
    head = _head().learn(CLASSES)
    output = head(head.pool(TokenSequence(100 * torch.randn(5, 4), (2, 3))))
    torch.testing.assert_close(head.probabilities(output), torch.full((2, 3), 1 / 3))
    assert head.loss(output, torch.tensor([0, 2])).item() == pytest.approx(np.log(3))


def test_label_smoothing_is_the_formula():
    logits, smoothed = torch.tensor([[2.0, 0.0, -1.0]]), _head(label_smoothing=0.3).learn(CLASSES)
    shares = np.array([0.8, 0.1, 0.1])
    expected = -(shares * logits.log_softmax(1).numpy()).sum()
    assert smoothed.loss(logits, torch.tensor([0])).item() == pytest.approx(expected, rel=1e-5)


def test_an_estimator_that_misses_a_class_gives_it_nothing():
    class Estimator:
        classes_ = np.array([0, 2])

        def predict_proba(self, features):
            return np.array([[0.25, 0.75]] * len(features))

    head = _head().learn(CLASSES)
    shares = head.probabilities(head.baseline_predict(Estimator(), np.zeros((2, 1))))
    np.testing.assert_allclose(shares, [[0.25, 0, 0.75]] * 2, atol=1e-5)


def test_balanced_weights_are_scikit_learn_s():
    labels = ["b"] * 6 + ["a"] * 3 + ["c"]
    head = _head(class_weight="balanced").learn(labels)
    expected = compute_class_weight("balanced", classes=np.array(CLASSES), y=labels)
    np.testing.assert_allclose(head.class_weights, expected, rtol=1e-6)
    assert head.primary_metric == "balanced_accuracy" and _head().primary_metric == "accuracy"
    logits = torch.tensor([[1.0, 0.0, -1.0]])
    for code, weight in enumerate(expected):
        target = torch.tensor([code])
        plain = _head().learn(labels).loss(logits, target)
        torch.testing.assert_close(head.loss(logits, target), weight * plain, check_dtype=False)
    codes = torch.stack([head.encode(label) for label in labels])
    equal = torch.zeros(len(labels), 3)
    assert head.loss(equal, codes).item() == pytest.approx(np.log(3))


def test_balanced_weights_are_saved():
    head = _head(class_weight="balanced").learn(["a"] * 3 + ["b"])
    again = create("heads", "classification", 4, **head.options).restore(head.fitted)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.class_weights, head.class_weights) and again.primary_metric == "balanced_accuracy"
    assert not any("class_weights" in name for name in _head().learn(["a", "b"]).state_dict())


def _validation(sharpness=3.0, count=400, seed=0):
    """Logits of three classes that are right as often as softmax(logits / sharpness) says, and the class numbers."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 3, generator=generator)
    return sharpness * logits, torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_the_temperature_is_the_one_of_least_cross_entropy(class_weight):
    logits, truth = _validation()
    head = _head(calibrated=True, class_weight=class_weight).learn([*"aaaabbc"])
    head.calibrate(logits, truth)
    each = np.ones(400) if class_weight is None else head.class_weights[truth]

    def cross_entropy(temperature):
        return log_loss(truth, (logits.double() / temperature).softmax(1), sample_weight=each)

    expected = minimize_scalar(cross_entropy, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-7}).x
    assert head.temperature.item() == pytest.approx(expected, rel=1e-4)
    if class_weight is None:
        assert head.temperature.item() == pytest.approx(3, rel=0.15), "the sharpness that the logits were given"


def test_calibration_lowers_the_error_of_confidence_and_nothing_else():
    (logits, truth), (others, unseen) = _validation(), _validation(seed=1)
    plain, head = _head().learn(CLASSES), _head(calibrated=True).learn(CLASSES)
    plain.calibrate(logits, truth)
    head.calibrate(logits, truth)
    found = {}
    for name, model in {"plain": plain, "calibrated": head}.items():
        metrics = model.metrics()
        for metric in metrics.values():
            metric.update(*model.metric_inputs(others, unseen))
        found[name] = {key: metric.compute().item() for key, metric in metrics.items()}
    assert found["plain"]["ece"] > 0.1 > 0.06 > found["calibrated"]["ece"]
    assert found["plain"]["accuracy"] == found["calibrated"]["accuracy"]
    torch.testing.assert_close(plain.probabilities(others), others.softmax(1))
    assert (
        "not calibrated" in plain.card_note() and "not calibrated" in _head(calibrated=True).learn(CLASSES).card_note()
    )
    assert f"calibrated on the validation split (temperature {head.temperature.item():.3f})" in head.card_note()


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
def test_sets_hold_the_label_as_often_as_promised(coverage):
    (logits, truth), (others, unseen) = _validation(count=4000), _validation(count=4000, seed=1)
    head = _head(coverage=coverage).learn(CLASSES)
    assert head.records(others)[0]["set"] == CLASSES and "set of labels" not in head.card_note()
    head.calibrate(logits, truth)
    sets = [record["set"] for record in head.records(others)]
    held = np.mean([CLASSES[label] in labels for label, labels in zip(unseen, sets, strict=True)])
    most_likely = (unseen == others.argmax(1)).double().mean().item()
    assert held == pytest.approx(max(coverage, most_likely), abs=0.02)
    found = {}
    for name, metric in head.calibration_metrics().items():
        for part in (slice(0, 1000), slice(1000, None)):
            metric.update(*head.metric_inputs(others[part], unseen[part]))
        found[name] = metric.compute().item()
    assert found == pytest.approx({"coverage": held, "set_size": np.mean([len(labels) for labels in sets])})
    assert f"for {coverage:.0%} of samples" in head.card_note()
    assert _head().calibration_metrics() == {}


def test_calibration_error_is_the_mean_gap_of_the_bins():
    head = _head().learn(CLASSES)
    logits, truth = _validation(count=3000)
    shares = head.probabilities(logits)
    confidence, right = shares.max(1).values.numpy(), (shares.argmax(1) == truth).numpy()
    bins = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins)]
    metric = head.metrics()["ece"]
    metric.update(shares, truth)
    assert metric.compute().item() == pytest.approx(sum(gaps), abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.floats(0.01, 100))
def test_a_temperature_keeps_labels_and_the_order_of_samples(seed, count, scale):
    generator = torch.Generator().manual_seed(seed)
    logits, truth = scale * torch.randn(count, 3, generator=generator), torch.randint(3, (count,), generator=generator)
    plain, head, again = _head().learn(CLASSES), *(_head(calibrated=True).learn(CLASSES) for _ in range(2))
    head.calibrate(logits, truth)
    order = torch.randperm(count, generator=generator)
    again.calibrate(logits[order], truth[order])
    assert head.temperature > 0
    assert again.temperature.item() == pytest.approx(head.temperature.item(), rel=1e-4)
    assert (head.decode(logits) == plain.decode(logits)).all()
    torch.testing.assert_close(head.probabilities(logits[order]), head.probabilities(logits)[order])
