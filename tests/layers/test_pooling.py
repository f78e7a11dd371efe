"""Pooling: what each name gives, and how wide it is."""

import pytest
import torch

from metatx.layers.pooling import pool_tokens, pooled_width
from metatx.sequence import TokenSequence


@pytest.mark.parametrize("pooling", ["cls", "mean", "both"])
def test_pooling_is_what_it_is_called(pooling):
    sequence = TokenSequence(torch.arange(20.0).view(5, 4), (2, 3), prefix=1)
    first, mean = torch.tensor([[0.0, 1, 2, 3], [8, 9, 10, 11]]), torch.tensor([[4.0, 5, 6, 7], [14, 15, 16, 17]])
    expected = {"cls": first, "mean": mean, "both": torch.cat([first, mean], dim=1)}[pooling]
    assert torch.equal(pool_tokens(sequence, pooling), expected)
    assert pooled_width(2, pooling, layers=2) == expected.shape[1]


def test_without_cls_both_are_the_mean():
    sequence = TokenSequence(torch.randn(5, 4), (2, 3))
    assert torch.equal(pool_tokens(sequence, "both"), sequence.mean().repeat(1, 2))
    with pytest.raises(ValueError, match="no CLS token; pool by the mean"):
        pool_tokens(sequence, "cls")


@pytest.mark.parametrize("name", ["classification", "regression"])
def test_heads_refuse_what_there_is_not(name):
    from metatx.registry import create

    with pytest.raises(ValueError, match="pooling is 'max'; expected one of 'cls', 'mean', 'both'"):
        create("heads", name, 4, pooling="max")
    with pytest.raises(ValueError, match="layers is 0; a head reads at least one"):
        create("heads", name, 4, layers=0)
