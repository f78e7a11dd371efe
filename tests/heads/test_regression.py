"""Regression: standardised inside, the target's unit outside."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from metatx.errors import SampleError
from metatx.registry import create, lookup
from metatx.sequence import TokenSequence

TARGETS = np.random.default_rng(0).normal(300, 40, 50)


def test_metrics_are_scikit_learn_s_in_the_target_s_unit():
    head = create("heads", "regression", 4).learn(TARGETS.tolist())
    output = torch.randn(50, generator=torch.Generator().manual_seed(0))
    truth = torch.stack([head.encode(target) for target in TARGETS])
    predicted = head.decode(output)
    np.testing.assert_allclose(predicted, output.numpy() * TARGETS.std() + TARGETS.mean(), rtol=1e-5)
    found = {}
    for name, metric in head.metrics().items():
        metric.update(*head.metric_inputs(output, truth))
        found[name] = metric.compute().item()
    assert found["rmse"] == pytest.approx(root_mean_squared_error(TARGETS, predicted), rel=1e-5)
    assert found["mae"] == pytest.approx(mean_absolute_error(TARGETS, predicted), rel=1e-5)
    assert found["r2"] == pytest.approx(r2_score(TARGETS, predicted), rel=1e-4)


def test_loss_does_not_depend_on_the_unit():
    losses = []
    for unit in (1.0, 1000.0):
        head = create("heads", "regression", 4).learn((TARGETS * unit).tolist())
        output = torch.linspace(-1, 1, 50)
        losses.append(head.loss(output, torch.tensor(TARGETS * unit, dtype=torch.float32)).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_intervals_hold_the_number_as_often_as_promised():
    generator = torch.Generator().manual_seed(0)
    head = create("heads", "regression", 4, coverage=0.8).learn(TARGETS.tolist())
    output = torch.randn(4000, generator=generator)
    truth = torch.from_numpy(head.decode(output)) + 7 * torch.randn(4000, generator=generator).double()
    assert head.records(output)[0]["low"] is None and head.card_note() == ""
    head.calibrate(output[:2000], truth[:2000])
    records = head.records(output[2000:])
    held = np.mean([each["low"] <= true <= each["high"] for each, true in zip(records, truth[2000:], strict=True)])
    assert held == pytest.approx(0.8, abs=0.02)
    assert records[0]["high"] - records[0]["low"] == pytest.approx(2 * 7 * 1.2816, rel=0.05)
    found = {}
    for name, metric in head.calibration_metrics().items():
        metric.update(*head.metric_inputs(output[2000:], truth[2000:]))
        found[name] = metric.compute().item()
    assert found == pytest.approx({"coverage": held, "width": records[0]["high"] - records[0]["low"]})
    assert "for 80% of samples" in head.card_note()
    assert create("heads", "regression", 4).records(output[:1])[0].keys() == {"prediction"}


def test_bad_targets_are_refused():
    head = create("heads", "regression", 4)
    with pytest.raises(ValueError, match="All 3 targets equal 2"):
        head.learn([2, 2, 2])
    with pytest.raises(ValueError, match="2 of 3 targets are missing or infinite"):
        head.learn([1.0, None, np.inf])
    with pytest.raises(ValueError, match="no targets to learn from"):
        head.learn([])
    with pytest.raises(ValueError, match="All 10 targets equal 0.1"):
        head.learn([0.1] * 10)  # whose standard deviation rounds to more than 0
    with pytest.raises(ValueError, match="objective is 'mae'; expected one of 'mse', 'huber'"):
        create("heads", "regression", 4, objective="mae")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("much", "'much'; expected a number"),
        (None, "None; expected a number"),
        ([1.0, 2.0], "expected a number"),
        (np.nan, "nan; expected a finite number"),
        (-np.inf, "-inf; expected a finite number"),
    ],
)
def test_targets_that_are_no_numbers_are_bad_samples(target, message):
    with pytest.raises(SampleError, match=message):
        create("heads", "regression", 4).learn([1.0, 2.0]).encode(target)


@pytest.mark.parametrize("target", [7, 7.0, np.float32(7), np.int64(7), "7"])
def test_numbers_of_every_type_are_read(target):
    encoded = create("heads", "regression", 4).learn([target, 1.0]).encode(target)
    assert encoded.item() == 7 and encoded.dtype == torch.float64


def test_huber_counts_outliers_less():
    squared, huber = (create("heads", "regression", 4, objective=name).learn([-1.0, 1.0]) for name in ("mse", "huber"))
    output, target = torch.tensor([0.0, 0.0]), torch.tensor([0.5, 10.0])
    assert squared.loss(output, target).item() == pytest.approx((0.25 + 100) / 2)
    assert huber.loss(output, target).item() == pytest.approx((0.125 + 9.5) / 2)


def test_it_starts_from_the_mean():
    head = create("heads", "regression", 4).learn(TARGETS.tolist())
    output = head(head.pool(TokenSequence(torch.randn(5, 4), (2, 3))))
    np.testing.assert_allclose(head.decode(output.detach()), [TARGETS.mean()] * 2, rtol=1e-6)
    assert head.records(output.detach()) == [{"prediction": pytest.approx(TARGETS.mean())}] * 2
    with pytest.raises(TypeError, match="gives no probabilities"):
        head.probabilities(output)


def test_baselines_answer_in_the_target_s_unit():
    head = create("heads", "regression", 4).learn(TARGETS.tolist())
    _, estimator = head.trivial()
    estimator.fit(np.zeros((50, 1)), TARGETS)
    predicted, _ = head.metric_inputs(head.baseline_predict(estimator, np.zeros((3, 1))), torch.zeros(3))
    np.testing.assert_allclose(predicted, [TARGETS.mean()] * 3, rtol=1e-6)


def test_accepts_numbers_that_are_no_classes():
    accepts = lookup("heads", "regression").accepts
    assert accepts([0.5, 1.0]) and accepts(list(range(500)))
    assert not accepts(["a"]) and not accepts([0, 1] * 20) and not accepts([True, False])
    assert accepts(TARGETS) and accepts(np.arange(500)) and accepts([0.5, None])
    assert not accepts(np.array([0, 1] * 20)) and not accepts(np.array(["a", "b"]))
