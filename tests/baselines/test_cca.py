"""Regularised CCA: equal to scikit-learn's without a ridge, and to the eigenvectors of its definition with one."""

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from metatx.baselines.cca import RegularisedCCA


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(80, 3))
    left = shared @ rng.normal(size=(3, 5)) + 0.5 * rng.normal(size=(80, 5))
    right = shared @ rng.normal(size=(3, 4)) + 0.5 * rng.normal(size=(80, 4)) + 7
    return left, right


def test_correlations_are_those_of_scikit_learn(pairs) -> None:
    model = RegularisedCCA(strength=0.0).fit(*pairs)
    scores = CCA(n_components=4, max_iter=5000, tol=1e-10).fit(*pairs).transform(*pairs)
    expected = [np.corrcoef(left, right)[0, 1] for left, right in zip(*(score.T for score in scores), strict=True)]
    assert model.correlations_ == pytest.approx(expected, abs=1e-5)


def test_correlations_with_a_ridge_are_the_eigenvalues_of_the_definition(pairs) -> None:
    left, right = (side - side.mean(0) for side in pairs)
    covariances = [side.T @ side / 80 for side in (left, right)]
    ridged = [c + 0.3 * np.trace(c) / len(c) * np.eye(len(c)) for c in covariances]
    cross = left.T @ right / 80
    squares = np.linalg.eigvals(np.linalg.solve(ridged[0], cross) @ np.linalg.solve(ridged[1], cross.T)).real
    expected = np.sqrt(np.sort(squares)[::-1][:4])
    assert RegularisedCCA(strength=0.3).fit(*pairs).correlations_ == pytest.approx(expected, abs=1e-8)


def test_vectors_of_both_sides_of_a_pair_are_near(pairs) -> None:
    model = RegularisedCCA(strength=0.01).fit(*pairs)
    likeness = model.transform(pairs[0], 0) @ model.transform(pairs[1], 1).T
    assert (np.diag(likeness) > np.median(likeness, axis=1)).mean() > 0.95
    assert np.linalg.norm(model.transform(pairs[0], 0), axis=1) == pytest.approx(1)


def test_more_features_than_pairs_and_constant_ones_are_no_trouble() -> None:
    rng = np.random.default_rng(1)
    wide = np.hstack([rng.normal(size=(12, 40)), np.ones((12, 2))])
    model = RegularisedCCA(strength=1.0).fit(wide, wide[:, :20])
    assert np.isfinite(model.transform(wide, 0)).all() and len(model.correlations_) <= 20
    nothing = RegularisedCCA(strength=0.1).fit(wide, np.ones((12, 3)))
    assert not nothing.transform(wide, 0).any() and not nothing.transform(np.zeros((2, 3)), 1).any()


def test_a_path_is_the_models_one_by_one(pairs) -> None:
    for model, strength in zip(RegularisedCCA.path(*pairs, (0.1, 2.0)), (0.1, 2.0), strict=True):
        assert model.strength == strength
        assert model.correlations_ == pytest.approx(RegularisedCCA(strength).fit(*pairs).correlations_)


def test_bad_arguments_are_refused(pairs) -> None:
    with pytest.raises(ValueError, match="strength is -1"):
        RegularisedCCA(-1)
    with pytest.raises(ValueError, match="found 80 and 79"):
        RegularisedCCA().fit(pairs[0], pairs[1][:79])
