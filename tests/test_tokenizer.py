"""What all tokenizers share: positions, an orthogonal last map, a plain description for the baseline."""

import numpy as np
import pytest
import torch

from metatx.registry import create
from metatx.tokenizer import LearnedPositions, orthogonal_linear, sinusoidal_positions


def test_sinusoidal_positions_are_the_formula():
    found = sinusoidal_positions(torch.tensor([0.0, 3.0]), 8)
    angles = 3.0 / 10_000 ** (np.arange(0, 8, 2) / 8)
    np.testing.assert_allclose(found[1], np.concatenate([np.sin(angles), np.cos(angles)]), rtol=1e-5)
    assert found[0].tolist() == [0.0] * 4 + [1.0] * 4
    with pytest.raises(ValueError, match="even dim, not 7"):
        sinusoidal_positions(torch.zeros(1), 7)


def test_learned_positions_end():
    positions = LearnedPositions(8, 4)
    assert positions(3).shape == (3, 8)
    with pytest.raises(ValueError, match="raise max_length"):
        positions(5)


def test_the_last_map_keeps_distances():
    linear = orthogonal_linear(4, 16)
    inputs = torch.randn(10, 4)
    torch.testing.assert_close(torch.cdist(linear(inputs), linear(inputs)), torch.cdist(inputs, inputs))


def test_the_default_description_is_of_equal_length_for_all_lengths():
    tokenizer = create("tokenizers", "waves", 8)
    first, second = (tokenizer.describe(np.random.default_rng(0).normal(size=(3, n))) for n in (20, 35))
    assert first.shape == second.shape == (27,)
    assert np.isfinite(first).all()
