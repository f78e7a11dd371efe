"""Balanced sampling: each class equally often, by seed and epoch alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import metatx
from metatx.encoding.sampling import balanced_order, class_numbers
from metatx.examples import Examples
from metatx.training.batches import epoch_batches
from tests.conftest import waves


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 99))
def test_each_class_comes_equally_often_and_no_sample_before_all_of_its_class(classes, seed):
    classes = np.array(classes)
    drawn = balanced_order(classes, np.random.default_rng(seed))
    assert len(drawn) == len(classes)
    counts = [int((classes[drawn] == code).sum()) for code in set(classes.tolist())]
    assert max(counts) - min(counts) <= 1
    for code in set(classes.tolist()):
        times = np.bincount(drawn, minlength=len(classes))[classes == code]
        assert times.max() - times.min() <= 1
    assert drawn.tolist() == balanced_order(classes, np.random.default_rng(seed)).tolist()


def _lopsided(count):
    """Waves of which one in eight is loud."""
    signals, labels = waves(count * 5)
    loud = [i for i, label in enumerate(labels) if label == "loud"][: count // 8]
    kept = [i for i, label in enumerate(labels) if label == "quiet"][: count - len(loud)] + loud
    return [signals[i] for i in kept], [labels[i] for i in kept]


def _labels_drawn(nano, epoch, balanced=True, seed=0):
    data = _lopsided(80)
    task = metatx.Task.from_data(nano, "waves", data)
    classes = class_numbers(task.encode(data, "train")) if balanced else None
    batches = epoch_batches(80, 16, seed, epoch, classes=classes)
    assert [len(batch) for batch in batches] == [16] * 5
    return [[data[1][i] for i in batch] for batch in batches], batches


def test_batches_are_balanced_and_depend_on_seed_and_epoch_alone(nano):
    labels, batches = _labels_drawn(nano, 0)
    assert sum(batch.count("loud") for batch in labels) == 40
    assert sum(batch.count("loud") for batch in _labels_drawn(nano, 0, balanced=False)[0]) == 10
    assert _labels_drawn(nano, 0)[1] == batches
    assert _labels_drawn(nano, 1)[1] != batches
    assert _labels_drawn(nano, 0, seed=1)[1] != batches


def test_targets_that_are_no_classes_are_refused(nano, table):
    data = (list(np.zeros((8, 3, 40), dtype=np.float32)), [0.5 * i for i in range(8)])
    task = metatx.Task.from_data(nano, "waves", data, head="regression")
    with pytest.raises(ValueError, match="targets of the regression head are no class numbers; choose"):
        task.fit(data, epochs=1, sampling="balanced")
    with pytest.raises(ValueError, match="sampling is 'equal'; expected one of 'plain', 'balanced'"):
        metatx.TrainingSettings(sampling="equal")


def test_class_numbers_leave_out_bad_samples(nano):
    signals, labels = waves(6)
    task = metatx.Task.from_data(nano, "waves", (signals, labels))
    data = task.encode(Examples([*signals[:2], signals[2][:1], *signals[3:]], labels), "train", skip_bad=True)
    expected = [task.head.classes.index(label) for i, label in enumerate(labels) if i != 2]
    assert class_numbers(data).tolist() == expected
