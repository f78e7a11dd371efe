"""Records of many classes."""

import numpy as np
import pytest
import torch

from metatx.layers.top_k import check_top_k, shown_classes, top_classes


def test_the_likeliest_come_first_with_labels_as_json_knows_them():
    probabilities = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.1, 0.4]])
    tops = top_classes(probabilities, np.array([7, 8, 9]), 2)
    assert [[entry["label"] for entry in top] for top in tops] == [[8, 9], [7, 9]]
    assert [entry["probability"] for entry in tops[0]] == pytest.approx([0.6, 0.3])
    assert type(tops[0][0]["label"]) is int


@pytest.mark.parametrize(("top_k", "count", "expected"), [(None, 1000, None), (None, 1001, 10), (3, 50, 3), (9, 4, 4)])
def test_few_classes_are_all_named_unless_said_otherwise(top_k, count, expected):
    assert shown_classes(top_k, count) == expected


def test_no_class_at_all_is_refused():
    check_top_k(None)
    with pytest.raises(ValueError, match="top_k is 0; records name at least 1 class"):
        check_top_k(0)
