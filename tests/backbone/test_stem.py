"""From pictures to tokens by a backbone's own stem."""

import pytest
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed

from metatx import load_backbone
from metatx.backbone.stem import Stem, StemConfig

CONFIG = StemConfig(patch_size=4, image_size=12, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))


def stem() -> Stem:
    made = Stem(8, CONFIG)
    torch.nn.init.normal_(made.positions)
    return made


def test_tokens_are_normalised_patches_with_positions() -> None:
    made, images = stem(), torch.rand(2, 3, 12, 12)
    tokens = made(images)
    assert tokens.shape == (2, 9, 8)
    mean, std = (torch.tensor(v)[:, None, None] for v in (CONFIG.mean, CONFIG.std))
    patch = ((images[1] - mean) / std)[:, 4:8, 8:12]  # row 1, column 2
    expected = torch.einsum("dcij,cij->d", made.proj.weight, patch) + made.proj.bias + made.positions[5]
    torch.testing.assert_close(tokens[1, 5], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (1, 9), (7, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_positions_are_resampled_as_timm_does(grid: tuple[int, int], dtype: torch.dtype) -> None:
    made = stem().to(dtype)
    blank = made.mean.expand(1, 3, 4 * grid[0], 4 * grid[1])  # zero once normalised
    torch.nn.init.zeros_(made.proj.bias)
    expected = resample_abs_pos_embed(made.positions[None], list(grid), [3, 3], num_prefix_tokens=0)
    torch.testing.assert_close(made(blank), expected, atol=1e-6, rtol=0)


def test_another_image_size_matches_timm() -> None:
    backbone = load_backbone("timm:vit_tiny_patch16_224", pretrained=False)
    assert backbone.stem is not None
    large = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True).eval()
    ours = Stem(192, backbone.stem.config)
    with torch.no_grad():
        ours.proj.load_state_dict({"weight": large.patch_embed.proj.weight, "bias": large.patch_embed.proj.bias})
        ours.positions.copy_(large.pos_embed[0, 1:])
        images = torch.rand(1, 3, 64, 96)
        theirs = large._pos_embed(large.patch_embed((images - 0.5) / 0.5))[:, 1:]
        torch.testing.assert_close(ours(images), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(12, 14), (13, 12), (0, 12)])
def test_sizes_that_are_no_multiple_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"cannot be cut into patches of 4; resize them to multiples of 4"):
        stem()(torch.rand(1, 3, *size))
    with pytest.raises(ValueError, match="multiple of patch_size"):
        StemConfig(patch_size=5, image_size=12)


def test_grid() -> None:
    assert stem().grid(8, 20) == (2, 5)
