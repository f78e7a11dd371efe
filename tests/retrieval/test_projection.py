"""Points of a plane: the same for the same seed, with measures that can be checked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.retrieval import projection
from metatx.retrieval.projection import nearest, project


def clusters(count, width=24, seed=0):
    """Vectors around four centres, and the number of each one's centre."""
    rng = np.random.default_rng(seed)
    centres = 4 * rng.normal(size=(4, width))
    groups = np.arange(count) % 4
    return centres[groups] + rng.normal(size=(count, width)), groups


def test_what_is_near_stays_near_and_a_seed_gives_the_same():
    vectors, groups = clusters(160)
    seen = project(vectors)
    assert seen.points.shape == (160, 2) and np.abs(seen.points).max() == 1 and seen.method == "t-SNE"
    distances = np.linalg.norm(seen.points[:, None] - seen.points, axis=2) + np.eye(160) * 9
    assert (groups[distances.argmin(1)] == groups).mean() > 0.95
    assert seen.trustworthiness > 0.8 and 0.1 < seen.kept <= 1 and seen.measured == 160
    assert np.array_equal(project(vectors).points, seen.points)
    assert np.array_equal(project(4 * vectors).points, seen.points), "the cosine counts, not the length"


def test_flat_vectors_keep_all_neighbours_and_noise_keeps_few(monkeypatch):
    monkeypatch.setattr(projection, "FEW", 50)
    angles = np.linspace(0, 1, 60) ** 2
    flat = project(np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1))
    assert flat.method == "PCA" and flat.trustworthiness > 0.99 and flat.kept > 0.95
    noise = project(np.random.default_rng(0).normal(size=(200, 100)))
    assert noise.kept < 0.5 and noise.trustworthiness < 0.8
    assert "PCA of 200 vectors" in str(noise) and "neighbours kept" in str(noise)


def test_many_rows_are_measured_on_some(monkeypatch):
    monkeypatch.setattr(projection, "MEASURED", 30)
    seen = project(clusters(90)[0])
    assert seen.measured == 30 and "measured on 30" in str(seen)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 11])
def test_few_rows_are_drawn(count):
    seen = project(clusters(count)[0])
    assert seen.points.shape == (count, 2) and np.isfinite(seen.points).all()
    assert np.isnan(seen.kept) == (count == 1)
    assert nearest(clusters(count)[0], 10)[0].shape == (count, count - 1 if count < 11 else 10)


def test_equal_vectors_are_drawn():
    assert np.isfinite(project(np.ones((40, 8))).points).all()


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 40), k=st.integers(1, 50), block=st.integers(1, 200), seed=st.integers(0, 99))
def test_neighbours_are_those_of_all_cosines(count, k, block, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "BLOCK", block)
        rows, cosines = nearest(vectors, k)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    table = units @ units.T
    np.fill_diagonal(table, -2)
    assert rows.shape == (count, min(k, count - 1))
    np.testing.assert_allclose(cosines, -np.sort(-table, axis=1)[:, : rows.shape[1]], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(table, rows, 1), cosines, atol=1e-5)


@pytest.mark.parametrize("bad", [np.zeros((3, 2)), np.array([[1.0, np.nan]]), np.array([[1.0, np.inf], [1, 0]])])
def test_vectors_without_a_direction_are_refused(bad):
    with pytest.raises(ValueError, match="zero or not finite, the first in row 1"):
        project(bad)


def test_no_vectors_are_refused():
    with pytest.raises(ValueError, match=r"no vectors.*\(0, 8\)"):
        nearest(np.zeros((0, 8)), 3)
