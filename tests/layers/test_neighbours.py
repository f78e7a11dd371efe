"""Centres far from each other, and what is near them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.layers.neighbours import farthest_points, nearest, sorted_order


def test_rows_are_sorted_by_the_first_column_then_the_next():
    rows = np.array([[2, 1, 9], [1, 2, 0], [1, 1, 5], [1, 1, 4]])
    assert sorted_order(rows).tolist() == [3, 2, 1, 0]


def test_centres_are_spread_and_start_farthest_from_the_middle():
    points = np.array([[0, 0, 0], [1, 0, 0], [10, 0, 0], [0, 4, 0], [0.5, 0, 0]], dtype=float)
    assert farthest_points(points, 4).tolist() == [2, 3, 1, 0]
    assert farthest_points(points, 7)[:5].tolist() == [2, 3, 1, 0, 4]  # then some come again
    assert farthest_points(np.ones((3, 3)), 4).tolist() == [0] * 4


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_neighbours_are_the_nearest(seed, count):
    points = np.random.default_rng(seed).normal(size=(30, 3))
    found = nearest(points, np.array([4, 9]), count)
    distances = np.linalg.norm(points[[4, 9], None] - points, axis=2)
    expected = np.argsort(distances, axis=1)[:, np.arange(count) % 30]  # again where there are too few
    np.testing.assert_array_equal(found, expected)
    assert found[:, 0].tolist() == [4, 9]
