"""Histograms and moments, beside numpy's."""

import numpy as np
import pytest
import torch

from metatx.layers.distributions import distributions

EDGES = torch.tensor([[-0.5, 0.0, 0.5], [-1.0, 0.1, 2.0]])


@pytest.mark.parametrize("cuts", [None, [-0.4, 0.7]])
def test_distributions_are_numpys(cuts):
    sets = [torch.randn(count, 2, generator=torch.Generator().manual_seed(count)) for count in (50, 200)]
    found, shares = distributions(sets, EDGES, cuts and (1, torch.tensor(cuts)))
    parts = 1 if cuts is None else 4
    assert found.shape == (2, parts, 2, 6) and shares.shape == (2, parts)
    for i, values in enumerate(one.numpy() for one in sets):
        slices = np.searchsorted(cuts or [], values[:, 1])
        for part, rows in enumerate([values, *(values[slices == at] for at in range(parts - 1))]):
            for column in range(2):
                codes = np.searchsorted(EDGES[column].numpy(), rows[:, column])
                np.testing.assert_allclose(found[i, part, column, :4], np.bincount(codes, minlength=4) / len(rows))
            np.testing.assert_allclose(found[i, part, :, 4], rows.mean(0), atol=1e-6)
            np.testing.assert_allclose(found[i, part, :, 5], rows.std(0), atol=1e-6)
            np.testing.assert_allclose(shares[i, part], len(rows) / len(values) * (3 if part else 1), atol=1e-6)


def test_an_empty_slice_has_zeros():
    found, shares = distributions([torch.ones(5, 2)], EDGES, (1, torch.tensor([3.0])))
    assert not found[0, 2].any() and shares[0].tolist() == [1, 2, 0]
