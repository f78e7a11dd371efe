"""Adapters of many tasks in one pass: each sequence as with its own task's adapter alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.adapters.batched import FixedAdapter, MixedAdapter
from metatx.backbone.attention import Packing
from metatx.sequence import TokenSequence
from tests.adapters.trained import OPTIONS, adapters
from tests.backbone.networks import BARE, TINY, tiny


@pytest.mark.parametrize("config", [TINY, BARE], ids=["prefix", "bare"])
@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, len(OPTIONS) + 4), st.integers(1, 3)), min_size=1, max_size=12))
@torch.no_grad()
def test_each_sequence_is_read_with_its_own_adapter(config, case):
    backbone = tiny(config)
    known = adapters(backbone)
    fixed = [adapter and FixedAdapter(adapter, backbone) for adapter in known]
    owners, lengths = [owner for owner, _ in case], tuple(length for _, length in case)
    batch = TokenSequence(torch.randn(sum(lengths), backbone.dim), lengths)
    mixed = MixedAdapter([fixed[owner] for owner in owners])
    found = backbone(batch, layers=2, adapter=mixed)
    parts = zip(owners, batch.embeddings.split(lengths), found.embeddings.split(found.lengths), strict=True)
    for owner, tokens, together in parts:
        alone = backbone(TokenSequence(tokens, (len(tokens),)), layers=2, adapter=known[owner]).embeddings
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_backbone_product_is_computed_once_and_left_as_it_is():
    backbone, calls = tiny(), []
    before = backbone.fingerprint
    fixed = [FixedAdapter(adapter, backbone) for adapter in adapters(backbone)[:4]]
    backbone.blocks[0].mlp.fc1.register_forward_hook(lambda *_: calls.append(1))
    lengths = (4, 2, 4, 3)
    backbone(TokenSequence(torch.randn(13, 32), lengths), adapter=MixedAdapter(fixed))
    assert len(calls) == 1
    assert backbone.fingerprint == before


def test_neighbours_of_one_task_are_taken_together():
    owners = ["a", "b", "a", None, "a"]
    packing = Packing((5, 2, 5, 2, 3), 1, torch.device("cpu"))
    assert packing.rows(owners) == [("b", slice(0, 3)), (None, slice(3, 6)), ("a", slice(6, 22))]
    fused = Packing((5, 2, 5, 2, 3), 1, torch.device("cpu"), units=(1, 1, 1, 2))
    assert fused.rows(["a", "b", "a", "c", "c"]) == [("b", slice(0, 3)), ("a", slice(3, 15)), ("c", slice(15, 22))]
