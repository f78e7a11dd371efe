"""Classical features of any kind as numbers."""

import numpy as np

from metatx.baselines.described import NumbersOfFeatures


def test_numbers_are_scaled_and_filled() -> None:
    rows = [np.array([1.0, 5.0]), np.array([3.0, np.nan]), np.array([5.0, 7.0])]
    numbers = NumbersOfFeatures().fit(rows).transform(rows)
    assert np.allclose(numbers.mean(0), 0) and np.allclose(numbers.std(0), 1) and numbers[1, 1] == 0


def test_words_that_training_did_not_see_are_none() -> None:
    model = NumbersOfFeatures().fit(["red car", "blue car", "red house"])
    seen, unseen = model.transform(["red car", "zebra"])
    assert np.linalg.norm(seen) > 0.9 and not unseen.any()


def test_names_become_indicators() -> None:
    rows = [{"kind": "a", "size": 1.0}, {"kind": "b", "size": 2.0}, {"kind": "a", "size": 3.0}]
    model = NumbersOfFeatures().fit(rows)
    assert model.transform([{"size": 2.0, "kind": "b"}, {"kind": "new", "size": 2.0}]).round(6).tolist() == [
        [0.0, 0.0, 1.0],
        [0.0, 0.0, 0.0],
    ]
