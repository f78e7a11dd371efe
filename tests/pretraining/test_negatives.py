"""Negatives: never what belongs together, more often what is near, and the same however a batch is spread."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.pretraining.batch import Batch
from metatx.pretraining.contrastive import matches
from metatx.pretraining.negatives import Compared, draw_negatives

KEYS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=9)


@given(KEYS, st.floats(-1e4, 1e4))
@settings(max_examples=100, deadline=None)
def test_pairs_that_belong_together_are_never_drawn(keys, high):
    same = matches(torch.tensor(keys).T)
    logits = torch.where(same, high, torch.randn(same.shape) * 100)
    drawn = draw_negatives(logits, same, torch.Generator().manual_seed(0))
    for row, column in enumerate(drawn.tolist()):
        assert (column == -1) == bool(same[row].all())
        assert column == -1 or not same[row, column]


def test_what_is_near_is_drawn_more_often():
    logits = torch.tensor([[0.0, 3.0, 0.0]]).log1p().expand(3, 3)
    same = torch.eye(3, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_negatives(logits, same, generator) for _ in range(2000)])
    share = (drawn[:, 0] == 1).float().mean().item()
    assert abs(share - 0.8) < 0.03, "a softmax of log 4 and log 1"


def test_pairs_are_sorted_by_position_whatever_their_order():
    positions = torch.tensor([7, 2, 5])
    batch = Batch({"text": {"tokens": torch.tensor([[70], [20], [50]])}}, torch.zeros(2, 3), positions, 0, 0.0)
    logits = torch.arange(9.0).view(3, 3)
    compared = Compared.of(
        [batch.part(slice(0, 2)), batch.part(slice(2, 3))], positions, logits, logits > 4, samples=True
    )
    assert compared.positions.tolist() == [2, 5, 7]
    assert compared.logits.tolist() == [[4, 5, 3], [7, 8, 6], [1, 2, 0]]
    assert compared.same.tolist() == [[False, True, False], [True, True, True], [False, False, False]]
    assert compared.rows(batch).tolist() == [2, 0, 1]
    chosen = compared.collated("text", torch.tensor([0, 2, 2]), torch.device("cpu"))
    assert chosen["tokens"].flatten().tolist() == [20, 70, 70]
