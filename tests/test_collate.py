"""Collating stacks what is equal and keeps what is ragged."""

import pytest
import torch

from metatx.collate import collate, to_device


def test_equal_shapes_are_stacked_and_ragged_ones_kept():
    batch = collate([{"x": torch.zeros(2), "y": torch.zeros(1)}, {"x": torch.ones(2), "y": torch.ones(3)}])
    assert batch["x"].shape == (2, 2)
    assert [tensor.shape for tensor in batch["y"]] == [(1,), (3,)]
    assert to_device(batch, torch.device("meta"))["y"][1].device.type == "meta"


def test_other_fields_are_named():
    with pytest.raises(ValueError, match=r"\['x'\] and \['y'\]"):
        collate([{"x": torch.zeros(1)}, {"y": torch.zeros(1)}])
