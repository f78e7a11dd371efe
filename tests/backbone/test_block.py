"""The block computes what timm's computes, with the same weights under the same names."""

import pytest
import torch

from metatx.backbone.attention import Packing
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from tests.backbone.networks import timm_block

OPTIONS = [
    {},
    {"activation": "quick_gelu"},
    {"qkv_bias": False},
    {"qk_norm": True},
    {"layer_scale": True},
    {"norm_eps": 1e-2, "qk_norm": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("mlp_dim", [64, 49])
def test_equals_timm_s_block(options: dict, mlp_dim: int) -> None:
    """Values, and the gradients of the input and of every weight."""
    config = BackboneConfig(dim=32, depth=1, num_heads=4, mlp_dim=mlp_dim, **options)
    (ours,) = VisionTransformer(config, None, spec="test").trainable_copy().blocks
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in ours.parameters():
            weight += 0.1 * torch.randn_like(weight)  # else all scales are one and all biases zero
    theirs = timm_block(config, ours)
    tokens, found, wanted = torch.randn(3, 7, 32), [], []
    for block, values in ((ours, found), (theirs, wanted)):
        x = tokens.clone().requires_grad_()
        out = block(x.flatten(0, 1), Packing((7, 7, 7), 0, x.device)) if block is ours else block(x).flatten(0, 1)
        out.square().mean().backward()
        values += [out, x.grad, *(weight.grad for weight in block.parameters())]
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
