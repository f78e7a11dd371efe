"""Regression: standardised inside, the target's unit outside."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from metatx.errors import SampleError
from metatx.registry import create, lookup

TARGETS = np.random.default_rng(0).normal(300, 40, 50)


def test_metrics_are_scikit_learn_s_in_the_target_s_unit():
    head = create("heads", "regression", 4).fit(TARGETS.tolist())
    output = torch.randn(50, generator=torch.Generator().manual_seed(0))
    truth = torch.stack([head.encode(target) for target in TARGETS])
    predicted = head.decode(output)
    np.testing.assert_allclose(predicted, output.numpy() * TARGETS.std() + TARGETS.mean(), rtol=1e-5)
    found = {}
    for name, metric in head.metrics().items():
        metric.update(*head.scored(output, truth))
        found[name] = metric.compute().item()
    assert found["rmse"] == pytest.approx(root_mean_squared_error(TARGETS, predicted), rel=1e-5)
    assert found["mae"] == pytest.approx(mean_absolute_error(TARGETS, predicted), rel=1e-5)
    assert found["r2"] == pytest.approx(r2_score(TARGETS, predicted), rel=1e-4)


def test_loss_does_not_depend_on_the_unit():
    losses = []
    for unit in (1.0, 1000.0):
        head = create("heads", "regression", 4).fit((TARGETS * unit).tolist())
        output = torch.linspace(-1, 1, 50)
        losses.append(head.loss(output, torch.tensor(TARGETS * unit, dtype=torch.float32)).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_bad_targets_are_refused():
    head = create("heads", "regression", 4)
    with pytest.raises(ValueError, match="All 3 targets equal 2"):
        head.fit([2, 2, 2])
    with pytest.raises(ValueError, match="2 of 3 targets are missing or infinite"):
        head.fit([1.0, None, np.inf])
    with pytest.raises(SampleError, match="'much'; expected a number"):
        head.encode("much")


def test_accepts_numbers_that_are_no_classes():
    accepts = lookup("heads", "regression").accepts
    assert accepts([0.5, 1.0]) and accepts(list(range(500)))
    assert not accepts(["a"]) and not accepts([0, 1] * 20)
