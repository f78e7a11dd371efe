"""Losses of dense answers, beside values worked out by hand."""

import pytest
import torch

from metatx.layers.losses import dice_loss, forecast_loss

TARGET = torch.tensor([[1.0, torch.nan, 3.0]])


def test_missing_values_cost_nothing():
    output = torch.tensor([[2.0, 100.0, 3.0]])
    assert forecast_loss(output, TARGET, None) == pytest.approx(0.5)


def test_pinball_loss_of_each_quantile():
    output = torch.tensor([[[0.0, 2.0], [9.0, 9.0], [3.0, 3.0]]])
    expected = (0.1 * 1 + (1 - 0.9) * 1) / 2 / 2
    assert forecast_loss(output, TARGET, [0.1, 0.9]) == pytest.approx(expected)


def test_dice_loss_counts_the_classes_that_are_there():
    sure = torch.tensor([[50.0, 0, 0], [0, 50.0, 0]])
    assert dice_loss(sure, torch.tensor([0, 1])) == pytest.approx(0, abs=1e-6)
    assert dice_loss(sure, torch.tensor([0, 0])) == pytest.approx(1 - 2 / 3, abs=1e-6)
