"""A stem folded to one channel sees what the RGB stem sees in a grey picture."""

import pytest
import torch
from torch import nn

from metatx import load_backbone
from metatx.backbone.stem import Stem, StemConfig
from metatx.layers.folding import folded_stem


def stem(bias: bool = True) -> Stem:
    torch.manual_seed(0)
    config = StemConfig(patch_size=4, image_size=12, bias=bias, mean=(0.1, 0.4, 0.6), std=(0.2, 0.3, 0.5))
    made = Stem(8, config).requires_grad_(False)
    nn.init.normal_(made.positions)
    return made


@pytest.mark.parametrize("size", [(12, 12), (8, 20), (64, 36)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_rgb_stem_on_grey_pictures(size: tuple[int, int], bias: bool) -> None:
    rgb, grey = stem(bias), torch.rand(2, 1, *size)
    folded = folded_stem(rgb, 8)
    torch.testing.assert_close(folded(grey), rgb(grey.expand(-1, 3, -1, -1)), atol=1e-5, rtol=0)
    assert folded.grid(*size) == (size[0] // 4, size[1] // 4)


@pytest.mark.parametrize("spec", ["nano", "timm:vit_tiny_patch16_224", "open_clip:ViT-B-32"])
def test_equals_the_stem_of_real_backbones(spec: str) -> None:
    backbone = load_backbone(spec, pretrained=spec == "nano")
    assert backbone.stem is not None
    folded = folded_stem(backbone.stem, backbone.dim)
    for sides in ((2, 3), (backbone.stem.config.side,) * 2):
        grey = torch.rand(1, 1, *(side * backbone.stem.config.patch_size for side in sides))
        with torch.no_grad():
            expected = backbone.stem(grey.expand(-1, 3, -1, -1))
            torch.testing.assert_close(folded(grey), expected, atol=1e-4, rtol=0)


def test_is_trainable_and_leaves_the_backbone_s_stem_alone() -> None:
    rgb = stem()
    before = {name: tensor.clone() for name, tensor in rgb.state_dict().items()}
    folded = folded_stem(rgb, 8)
    optimizer = torch.optim.SGD(folded.parameters(), lr=1.0)
    folded(torch.rand(2, 1, 12, 12)).square().mean().backward()
    assert {name for name, p in folded.named_parameters() if p.grad is not None} == {
        "proj.weight",
        "proj.bias",
        "positions",
    }
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in rgb.state_dict().items())


@pytest.mark.parametrize("dim", [64, 192, 384])
def test_without_a_stem_filters_are_orthogonal(dim: int) -> None:
    folded = folded_stem(None, dim)
    filters = folded.proj.weight.detach().view(dim, -1)
    short = filters @ filters.T if dim <= 256 else filters.T @ filters
    torch.testing.assert_close(short, torch.eye(len(short)), atol=1e-4, rtol=0)
    tokens = folded(torch.rand(1, 1, 32, 48))
    assert tokens.shape == (1, 6, dim) and tokens.requires_grad
