"""Gains of the blocks: at 1 nothing changes, to the last bit; where a backbone's branches end."""

import pytest
import torch

import metatx
from metatx.adapters.scale import ScaleOptions, scale_adapter
from metatx.sequence import TokenSequence
from tests.adapters.trained import scramble
from tests.backbone.networks import BARE, TINY, tiny
from tests.conftest import waves


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_at_gain_1_a_task_answers_as_a_frozen_one_to_the_last_bit(nano, per_channel, precision):
    frozen = metatx.Task.from_data(nano, "waves", waves(8)).set_inference(precision=precision)
    scaled = frozen.retune("scale", {"per_channel": per_channel}).set_inference(precision=precision)
    assert (scaled.embed(waves(8)[0]) == frozen.embed(waves(8)[0])).all()
    scramble(scaled.adapter)
    assert (scaled.embed(waves(8)[0]) != frozen.embed(waves(8)[0])).any()


@pytest.mark.parametrize("config", [TINY, BARE], ids=["prefix", "bare"])
@torch.no_grad()
def test_gains_of_0_leave_the_tokens_that_entered(config):
    backbone = tiny(config)
    adapter = scale_adapter(backbone, ScaleOptions())
    for gain in adapter.parameters():
        gain.zero_()
    batch = TokenSequence(torch.randn(5, backbone.dim), (2, 3))
    alone = backbone.without_blocks()(batch).embeddings
    torch.testing.assert_close(backbone(batch, adapter=adapter).embeddings, alone)


def test_a_backbone_without_branches_to_scale_is_refused(nano):
    with pytest.raises(ValueError, match="0 of 0 branches of nano without blocks .* use tune='lora'"):
        scale_adapter(nano.without_blocks(), ScaleOptions())
