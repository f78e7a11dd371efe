"""Measures of labels: bounded however many classes there are, and unchanged where they are few."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from metatx.metrics import labels
from metatx.metrics.labels import ClassScores, Pairs, SomeClasses, average_precision, roc_area


def _drawn(classes, count, seed):
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(count, classes, generator=generator)
    return shares / shares.sum(1, keepdim=True), torch.randint(0, classes, (count,), generator=generator)


def _measured(metric, *batches):
    for batch in batches:
        metric.update(*batch)
    return metric.compute().item()


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 6), st.integers(1, 12), st.integers(0, 99), st.integers(7, 9))
def test_few_classes_are_measured_all(classes, count, seed, most):
    shares, truth = _drawn(classes, count, seed)
    flags = torch.nn.functional.one_hot(truth, classes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "MOST", most)
        for measure, targets in ((roc_area, truth), (average_precision, flags)):
            some = _measured(SomeClasses(measure, classes), (shares, targets))
            whole = _measured(Pairs(measure), (shares, targets))
            assert some == whole or (np.isnan(some) and np.isnan(whole))


def test_of_many_classes_some_are_measured_as_all_would_be(monkeypatch):
    monkeypatch.setattr(labels, "MOST", 4)
    shares, truth = _drawn(10, 200, 0)
    metric = SomeClasses(roc_area, 10)
    halves = [(shares[:90], truth[:90]), (shares[90:], truth[90:])]
    areas = [roc_auc_score(truth == number, shares[:, number]) for number in (0, 2, 5, 7)]
    assert _measured(metric, *halves) == pytest.approx(np.mean(areas))
    assert sum(part.numel() for part in metric.predictions) == 200 * 4, "only these are kept"
    flags = torch.nn.functional.one_hot(truth, 10)
    chosen = [0, 2, 5, 7]
    expected = average_precision(shares[:, chosen].numpy(), flags[:, chosen].numpy())
    assert _measured(SomeClasses(average_precision, 10), (shares, flags)) == pytest.approx(expected)


def test_no_sample_of_a_measured_class_has_no_area(monkeypatch):
    monkeypatch.setattr(labels, "MOST", 2)
    shares, _ = _drawn(9, 3, 0)
    assert np.isnan(_measured(SomeClasses(roc_area, 9), (shares, torch.tensor([1, 2, 3]))))


def test_scores_of_classes_count_each_class_not_each_pair():
    classes = 20_000
    shares, truth = _drawn(classes, 64, 1)
    shares[range(32), truth[:32]] = 1.0
    metric = ClassScores(classes, "recall")
    right = pd.Series((shares.argmax(1) == truth).numpy())
    assert _measured(metric, (shares, truth)) == pytest.approx(right.groupby(truth.numpy()).mean().mean())
    assert sum(state.numel() for state in metric.metric_state.values()) == 3 * classes
