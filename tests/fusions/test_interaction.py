"""What a sum of the inputs' scores cannot answer, and what meets can: whether two inputs match."""

import pytest
import torch
from torch import nn

from tests.fusions.meetings import backbone, batch, built, fused

BACKBONE = backbone()
KINDS = torch.randn(2, 2, 3, 32, generator=torch.Generator().manual_seed(0))  # of each of two inputs, two kinds
MATCHES = torch.tensor([1.0, 0.0, 0.0, 1.0])


def loss_after(name: str, steps: int, **options) -> float:
    """Loss of the four pairs of kinds, of which those of equal number match, after training on them."""
    fusion = built(name, BACKBONE, **options)
    tokens = torch.cat([torch.cat([KINDS[0, first], KINDS[1, second]]) for first in (0, 1) for second in (0, 1)])
    pairs = batch([[[3], [3], []]] * 4).with_embeddings(tokens)
    head = nn.Linear(64, 1)
    optimizer = torch.optim.AdamW([*fusion.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(steps):
        logits = head(fused(fusion, BACKBONE, pairs).flatten(1))[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, MATCHES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_late_fusion_is_a_sum() -> None:
    assert loss_after("late", 100) > 0.69, "no better than chance"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("late", {"product": 8}),
        ("bottleneck", {"at": 0}),
        ("coattention", {}),
        ("gated", {}),
        ("early", {}),
        ("mid", {}),
    ],
)
def test_inputs_that_meet_can_be_compared(name, options) -> None:
    assert loss_after(name, 100, **options) < 0.2
