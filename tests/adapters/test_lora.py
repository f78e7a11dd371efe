"""Adapters: they change what a task computes, and nothing else; merged into weights they give the same."""

import pytest
import torch

import metatx
from metatx.adapters.lora import Adapter, LoraLayer, LoraOptions, linear_layers, lora_adapter, norm_adapter
from metatx.adapters.scale import ScaleOptions, scale_adapter
from metatx.adapters.tiers import merged
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from metatx.sequence import TokenSequence
from tests.adapters.trained import EVERY, scramble

CONFIG = BackboneConfig(dim=32, depth=3, num_heads=2, mlp_dim=64, norm_pre=True, qk_norm=True)
KINDS = {
    "norm": None,
    "lora": {},
    "all layers": {"target_modules": EVERY},
    "rslora": {"use_rslora": True, "r": 4, "alpha": 3},
    "dora": {"use_dora": True, "target_modules": EVERY},
    "scale": {"per_channel": False},
    "scale of channels": {"per_channel": True},
}


@pytest.fixture(scope="module")
def backbone() -> VisionTransformer:
    return VisionTransformer(CONFIG, None, spec="tiny")


def adapter(backbone: VisionTransformer, kind: str) -> Adapter:
    options = KINDS[kind]
    if kind.startswith("scale"):
        return scale_adapter(backbone, ScaleOptions(**options))
    return norm_adapter(backbone) if options is None else lora_adapter(backbone, LoraOptions(**options))


def tokens(*lengths: int) -> TokenSequence:
    return TokenSequence(torch.randn(sum(lengths), 32, generator=torch.Generator().manual_seed(0)), lengths)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_changes_nothing_and_every_part_of_a_trained_one_counts(
    backbone: VisionTransformer, kind: str
) -> None:
    new, before = adapter(backbone, kind).eval(), backbone.fingerprint
    plain = backbone(tokens(3, 7), layers=3).embeddings
    torch.testing.assert_close(backbone(tokens(3, 7), layers=3, adapter=new).embeddings, plain, atol=1e-5, rtol=0)
    out = backbone(tokens(3, 7), layers=3, adapter=scramble(new)).embeddings
    assert (out - plain).abs().max() > 0.01
    out.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in new.parameters())
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert backbone.fingerprint == before
    assert torch.equal(backbone(tokens(3, 7), layers=3).embeddings, plain), "the next task's pass is its own"


@pytest.mark.parametrize("kind", KINDS)
def test_merged_weights_give_the_same(backbone: VisionTransformer, kind: str) -> None:
    trained, before = scramble(adapter(backbone, kind)), backbone.fingerprint
    own = merged(backbone, trained)
    expected = backbone(tokens(3, 7), layers=2, adapter=trained).embeddings
    torch.testing.assert_close(own(tokens(3, 7), layers=2).embeddings, expected, atol=1e-5, rtol=1e-5)
    assert backbone.fingerprint == before != own.fingerprint
    assert not any(parameter.requires_grad for parameter in own.parameters())


def test_dropout_acts_in_training_on_the_update_alone(backbone: VisionTransformer) -> None:
    layer = backbone.blocks[0].attn.qkv
    part, x = LoraLayer(layer, LoraOptions(dropout=0.5)), torch.randn(4, 32)
    assert torch.equal(part(layer, x), layer(x)), "B is zero"
    torch.nn.init.ones_(part.lora_B.weight)
    assert not torch.equal(part(layer, x), part(layer, x))
    part.eval()
    assert torch.equal(part(layer, x), part(layer, x))


def test_under_autocast_the_update_runs_in_bf16_and_the_residual_in_fp32(backbone: VisionTransformer) -> None:
    trained = scramble(adapter(backbone, "dora"))
    exact = backbone(tokens(3, 7), adapter=trained).embeddings
    with torch.autocast("cpu", torch.bfloat16):
        part = trained.get_submodule("blocks.0.attn.qkv")
        assert part(backbone.blocks[0].attn.qkv, torch.randn(4, 32)).dtype == torch.bfloat16
        out = backbone(tokens(3, 7), adapter=trained).embeddings
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, exact, atol=0.1, rtol=0)
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in trained.parameters())


@pytest.mark.parametrize(
    ("wanted", "count", "kept"),
    [
        (["attn.qkv", "attn.proj"], 6, ["attn.proj", "attn.qkv"]),
        (["proj"], 3, ["attn.proj"]),
        (["blocks.1.mlp.fc1"], 1, ["blocks.1.mlp.fc1"]),
        (r"blocks\.[01]\.attn\.qkv", 2, ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]),
    ],
)
def test_target_modules_are_peft_s_and_kept_by_names_that_mean_one_thing(backbone, wanted, count, kept) -> None:
    made = lora_adapter(backbone, LoraOptions(target_modules=wanted))
    assert (len(made.names), made.options["target_modules"]) == (count, kept)
    assert set(linear_layers(backbone)) > set(made.names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "r is 0; the rank of a LoRA adapter is a whole number of at least 1"),
        ({"r": 2.5}, "r is 2.5"),
        ({"alpha": -1}, "alpha is -1; it must be a number above 0"),
        ({"dropout": 1}, "dropout is 1; it must be at least 0 and below 1"),
        ({"rank": 8}, "Unknown adapter option 'rank'.*Choices: r, alpha, dropout, target_modules, use_dora"),
        ({"target_modules": ["qkv", "gate"]}, "called 'gate'; .* list of attn.qkv, attn.proj, mlp.fc1, mlp.fc2"),
        ({"target_modules": "attn.qkv"}, "called 'attn.qkv'; .*one regular expression for whole names"),
        ({"target_modules": "(("}, r"target_modules is '\(\('"),
        ({"target_modules": []}, "target_modules is empty; name layers of attn.qkv"),
    ],
)
def test_options_that_cannot_be_used_are_refused_in_one_line(backbone, options, message) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        lora_adapter(backbone, LoraOptions.of(options))
    assert "\n" not in str(caught.value)


def test_an_adapter_is_no_part_of_the_backbone(backbone: VisionTransformer) -> None:
    made = adapter(backbone, "lora")
    assert backbone.num_parameters == sum(p.numel() for p in backbone.parameters())
    assert sum(p.numel() for p in made.parameters()) == 3 * 8 * ((32 + 96) + (32 + 32))


def test_a_backbone_without_layer_norms_has_no_norm_tier():
    backbone = metatx.load_backbone("timm:test_vit4", pretrained=False)
    with pytest.raises(ValueError, match="norm' trains LayerNorms, and timm:test_vit4 has none; use tune"):
        norm_adapter(backbone)
