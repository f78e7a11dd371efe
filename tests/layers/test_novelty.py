"""Novelty: distances by scikit-learn's covariance, and shares of a validation split."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf

from metatx.layers.novelty import Novelty, fitted_distance


def test_distance_is_the_mahalanobis_distance_to_the_nearest_mean():
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(90) % 3
    vectors = torch.randn(90, 5, generator=generator) @ torch.randn(5, 5, generator=generator) + 4 * groups[:, None]
    means = np.stack([vectors[groups == group].double().numpy().mean(0) for group in range(3)])
    shrunk = LedoitWolf(assume_centered=True).fit(vectors.double().numpy() - means[groups])
    queries = torch.randn(7, 5, generator=generator)
    expected = np.min([shrunk.mahalanobis(queries.double().numpy() - mean) for mean in means], axis=0) ** 0.5
    torch.testing.assert_close(fitted_distance(vectors, groups)(queries).numpy(), expected.astype(np.float32))


def test_features_that_never_vary_are_no_trouble():
    vectors = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    vectors[:, 1] = 2.0
    distance = fitted_distance(vectors, torch.zeros(40, dtype=torch.int64))
    assert distance(torch.cat([vectors, torch.full((1, 4), 9.0)])).isfinite().all()


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60), st.floats(-2e3, 2e3, width=32))
def test_novelty_is_the_share_of_lower_scores(scores, score):
    """To the share of one sample, between whose scores it is interpolated, and the steps of the quantiles kept."""
    novelty = Novelty(None)
    novelty.calibrate(torch.tensor(scores))
    share = novelty(torch.tensor([score])).item()
    slack = 1 / max(len(scores) - 1, 1) + 2e-3
    margin = 1e-6 * max(map(abs, (*scores, score)))  # scores are kept in float32
    below = np.mean([each < score - margin for each in scores])
    upto = np.mean([each <= score + margin for each in scores])
    assert below - slack <= share <= upto + slack and 0 <= share <= 1
