"""How far blocks move tokens: the definition, one sequence at a time, and what training for it does."""

from dataclasses import replace

import pytest
import torch

from metatx.backbone.attention import Packing
from metatx.pretraining.loop import PretrainingSettings, pretrain
from metatx.pretraining.paired_data import PairedDataset
from metatx.pretraining.transport import pass_with_transport_cost
from metatx.sequence import TokenSequence
from tests.pairs import colour_alignment, coloured, small_backbone


def sequences(*lengths):
    return TokenSequence(torch.randn(sum(lengths), 48, generator=torch.Generator().manual_seed(0)), lengths)


def moved(backbone, tokens):
    """The action of one sequence, block by block."""
    packing = Packing((len(tokens),), 1, tokens.device)
    entered = x = backbone.norm_pre(torch.cat([backbone.cls_token, tokens]))
    steps = []
    for block in backbone.blocks:
        left = block(x, packing)
        steps.append((left - x).norm() ** 2 / entered.norm() ** 2)
        x = left
    return torch.stack(steps).mean()


def test_it_is_the_mean_over_sequences_of_any_length():
    backbone, batch = small_backbone(), sequences(7, 2, 9, 2)
    left, action = pass_with_transport_cost(backbone, batch)
    assert torch.equal(left.embeddings, backbone(batch).embeddings) and left.lengths == (8, 3, 10, 3)
    alone = [moved(backbone, tokens) for tokens in batch.embeddings.split(batch.lengths)]
    torch.testing.assert_close(action, torch.stack(alone).mean())
    assert not any(block._forward_hooks for block in backbone.blocks), "the backbone is left as it was"


def test_a_pass_that_fails_leaves_nothing_behind():
    backbone = small_backbone()
    with pytest.raises(ValueError, match="wide"):
        pass_with_transport_cost(backbone, replace(sequences(3), embeddings=torch.zeros(3, 5)))
    assert not any(block._forward_hooks for block in backbone.blocks)


def test_it_goes_with_the_square_of_branches():
    still = small_backbone().scale_residuals(0.0)
    assert pass_with_transport_cost(still, sequences(4, 6))[1].item() == 0
    near, nearer = (small_backbone().scale_residuals(scale) for scale in (0.02, 0.01))
    ratio = pass_with_transport_cost(near, sequences(4, 6))[1] / pass_with_transport_cost(nearer, sequences(4, 6))[1]
    assert ratio.item() == pytest.approx(4, rel=0.05)


def test_pretraining_with_it_moves_pictures_and_other_tokens_less():
    samples, found = coloured(96), {}
    for weight in (0.0, 4.0):
        alignment = colour_alignment(small_backbone().trainable_copy(), samples)
        settings = PretrainingSettings(batch_size=16, epochs=4, lr=3e-3, precision="fp32", transport_weight=weight)
        history = pretrain(alignment, PairedDataset(alignment, samples), settings)
        assert history[-1]["train_loss"] < history[0]["train_loss"]
        pictures = alignment.tower("image").tokens(PairedDataset(alignment, samples).batch(range(8))[0]["image"])
        found[weight] = [
            pass_with_transport_cost(alignment.backbone, x)[1].item() for x in (pictures, sequences(5, 12))
        ]
    assert all(kept < 0.5 * free for kept, free in zip(found[4.0], found[0.0], strict=True)), found
