"""Measures of alignment, on vectors whose results are known."""

import numpy as np
import pytest

from metatx.retrieval.zero_shot import recalls, zero_shot_accuracy

AXES = np.eye(4, dtype=np.float32)


def test_recall_counts_partners_of_equal_text():
    found = recalls({"image": AXES, "text": AXES[[1, 0, 2, 3]]}, ["a", "b", "c", "d"])
    assert found["image_to_text_recall@1"] == found["text_to_image_recall@1"] == 0.5
    assert found["image_to_text_recall@5"] == 1, "of four, all are among the five nearest"
    shared = recalls({"image": AXES, "text": AXES[[1, 0, 2, 3]]}, ["a", "a", "c", "d"])
    assert shared["image_to_text_recall@1"] == 1


def test_recall_is_of_each_way():
    left = AXES.copy()
    left[1] = 0.9 * AXES[0] + 0.1 * AXES[1]  # the first text is nearest to it, and it to the second
    found = recalls({"image": left, "text": AXES}, list("abcd"), at=(1,))
    assert found == pytest.approx({"image_to_text_recall@1": 0.75, "text_to_image_recall@1": 1.0})


def test_zero_shot_takes_the_nearest_text():
    accuracy = zero_shot_accuracy(AXES, AXES[[0, 2]], ["cat", "dog"], ["cat", "dog", "dog", "dog"])
    assert accuracy == 0.5
