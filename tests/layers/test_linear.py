"""Linear layers that start at zero, or as a regression."""

import numpy as np
import torch

from metatx.layers.linear import LinearBypass, zero_linear


def test_zero_layer_gives_zero():
    assert not zero_linear(3, 2)(torch.randn(4, 3)).any()


def test_bypass_maps_the_last_steps_of_each_channel():
    bypass = LinearBypass(steps=2, outputs=3)
    series = torch.randn(4, 2, 5)
    assert bypass(series).shape == (4, 2, 3) and not bypass(series).any(), "it starts at zero"
    weights = np.random.default_rng(0).normal(size=(3, 3))  # of two steps and the bias, for three steps ahead
    bypass.load_state_dict(LinearBypass.start(weights))
    expected = series[..., -2:].numpy() @ weights[:2] + weights[2]
    np.testing.assert_allclose(bypass(series).detach(), expected, rtol=1e-5)
    short = torch.nn.functional.pad(series[..., -1:], (1, 0))
    assert torch.equal(bypass(series[..., -1:]), bypass(short)), "what a short series lacks is 0"


def test_each_quantile_starts_with_the_same_forecast():
    bypass = LinearBypass(steps=2, outputs=6)
    bypass.load_state_dict(LinearBypass.start(np.random.default_rng(0).normal(size=(3, 2)), quantiles=3))
    forecast = bypass(torch.randn(1, 1, 2)).view(2, 3)
    assert torch.equal(forecast, forecast[:, :1].expand(2, 3)) and forecast[0, 0] != forecast[1, 0]
