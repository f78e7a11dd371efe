"""Blocks that are computed again: less is kept, the numbers are the same."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from metatx.backbone import recompute
from metatx.sequence import TokenSequence
from tests.backbone.networks import TINY, tiny


def _step(trained):
    """Output and gradients of a pass, and the bytes that autograd kept for them."""
    backbone = tiny(TINY)
    if trained:
        backbone = backbone.trainable_copy()
    tokens = torch.randn(60, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        out = backbone(TokenSequence(tokens, (20, 33, 7)), layers=2).embeddings
    out.square().sum().backward()
    gradients = [weight.grad for weight in backbone.parameters() if weight.grad is not None]
    return [out.detach(), tokens.grad, *gradients], sum(kept.values())


@pytest.mark.parametrize("trained", [False, True])
def test_what_is_computed_again_is_the_same_bit_for_bit(monkeypatch, trained):
    plain, kept = _step(trained)
    monkeypatch.setattr(recompute, "LEAST", 0)
    monkeypatch.setattr(recompute, "available_memory", lambda: 0)
    again, less = _step(trained)
    assert len(again) == len(plain) and all(map(torch.equal, again, plain))
    assert less < kept / 2


def test_where_there_is_memory_all_is_kept(monkeypatch):
    kept = _step(False)[1]
    monkeypatch.setattr(recompute, "LEAST", 0)
    assert _step(False)[1] == kept
