"""The frozen transformer: attention over packed sequences, and that nothing can change it."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from metatx import Backbone, TokenSequence, load_backbone
from metatx.backbone.attention import Packing
from metatx.backbone.stem import StemConfig
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from tests.backbone.networks import BARE, TINY, timm_block, tiny


def sequences(*lengths: int, dim: int = 32) -> TokenSequence:
    generator = torch.Generator().manual_seed(sum(lengths))
    return TokenSequence(torch.randn(sum(lengths), dim, generator=generator), lengths)


def dense(backbone: Backbone, tokens: torch.Tensor) -> torch.Tensor:
    """The plain way: one sequence (N, D), timm's own blocks."""
    blocks = nn.Sequential(*(timm_block(backbone.config, block) for block in backbone.blocks))
    x = torch.cat([backbone.cls_token, tokens])[None]
    return backbone.norm(blocks(backbone.norm_pre(x)))[0]


@pytest.mark.parametrize("config", [TINY, BARE], ids=["prefix", "bare"])
@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=12))
def test_a_sequence_does_not_depend_on_its_neighbours(config: BackboneConfig, lengths: list[int]) -> None:
    backbone = tiny(config)
    batch = sequences(*lengths)
    with torch.no_grad():
        out = backbone(batch)
        assert out.lengths == tuple(length + config.prefix for length in lengths)
        assert out.num_prefix_tokens == config.prefix
        pairs = zip(out.embeddings.split(out.lengths), batch.embeddings.split(lengths), strict=True)
        for together, tokens in pairs:
            torch.testing.assert_close(together, dense(backbone, tokens), atol=1e-5, rtol=0)


def test_several_layers_lie_side_by_side_in_the_order_of_the_batch() -> None:
    backbone, batch = tiny(), sequences(5, 2, 9)
    with torch.no_grad():
        one, two = backbone(batch), backbone(batch, layers=2)
        assert torch.equal(two.embeddings[:, 32:], one.embeddings)
        del backbone.blocks[1]
        for found, tokens in zip(
            two.embeddings[:, :32].split(two.lengths), batch.embeddings.split(batch.lengths), strict=True
        ):
            torch.testing.assert_close(found, dense(backbone, tokens), atol=1e-5, rtol=0)
    for layers in (0, 3):
        with pytest.raises(ValueError, match=f"{layers} layers are asked for; this backbone has 2"):
            tiny()(batch, layers=layers)


@settings(deadline=None, max_examples=10)
@given(st.permutations(range(7)))
def test_permuting_the_batch_permutes_the_result(order: list[int]) -> None:
    backbone, batch = tiny(), sequences(5, 1, 300, 5, 17, 1, 64)
    parts = batch.embeddings.split(batch.lengths)
    shuffled = TokenSequence(torch.cat([parts[i] for i in order]), tuple(batch.lengths[i] for i in order))
    out, again = backbone(batch), backbone(shuffled)
    expected = torch.cat([out.embeddings.split(out.lengths)[i] for i in order])
    torch.testing.assert_close(again.embeddings, expected, atol=1e-5, rtol=0)


def test_gradients_match_the_plain_way() -> None:
    backbone, batch = tiny(), sequences(3, 40, 3, 9)
    packed, plain = (batch.embeddings.clone().requires_grad_() for _ in range(2))
    backbone(batch.with_embeddings(packed)).embeddings.square().sum().backward()
    torch.cat([dense(backbone, part) for part in plain.split(batch.lengths)]).square().sum().backward()
    torch.testing.assert_close(packed.grad, plain.grad, atol=1e-4, rtol=1e-4)


def test_facts_of_the_sequence_stay() -> None:
    batch = TokenSequence(
        torch.randn(12, 32),
        (4, 4, 4),
        sequences_per_sample=(1, 2),
        sources=("photo", "photo", "words"),
        fuse_at=(0, 1),
        grids={"photo": (2, 2)},
        context={"scale": torch.ones(2)},
    )
    out = tiny()(batch)
    for name in ("sequences_per_sample", "sources", "fuse_at", "grids", "context"):
        assert getattr(out, name) is getattr(batch, name)
    assert (out.lengths, out.num_prefix_tokens) == ((7, 7, 7), 3)
    assert out.cls().shape == out.mean().shape == (2, 32)


def test_frozen_blocks_keep_only_what_autograd_needs() -> None:
    """Of a frozen linear layer only the weight is kept, so of the MLP's tensors only GELU's input."""
    config = BackboneConfig(dim=32, depth=2, num_heads=2, mlp_dim=128)
    backbone, batch = tiny(config), sequences(40, 40)
    kept: list[tuple[int, ...]] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone(batch.with_embeddings(batch.embeddings.requires_grad_()))
    assert kept.count((82, 128)) == config.depth
    # Five LayerNorms keep their input; nothing else of that shape is kept.
    assert kept.count((82, 32)) == 2 * config.depth + 1


def test_no_graph_where_nothing_below_trains() -> None:
    assert not tiny()(sequences(4, 5)).embeddings.requires_grad


@pytest.mark.parametrize("lengths", [(4, 5), (4, 4)])
def test_residual_stays_in_full_precision_under_autocast(lengths: tuple[int, int]) -> None:
    batch = sequences(*lengths)
    with torch.autocast("cpu", torch.bfloat16):
        out = tiny(BARE)(batch.with_embeddings(batch.embeddings.bfloat16()))
    assert out.embeddings.dtype == torch.float32


class Holder(nn.Module):
    """A model that holds a backbone, as a user's may."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.layer = nn.Linear(32, 32)


def test_train_apply_and_init_leave_it_alone() -> None:
    backbone = tiny()
    before, holder = backbone.fingerprint, Holder(backbone)

    def wreck(module: nn.Module) -> None:
        for parameter in module.parameters(recurse=False):
            nn.init.zeros_(parameter)

    holder.train().apply(wreck)
    assert holder.layer.training and not holder.layer.weight.any()
    assert not any(module.training for module in backbone.modules())
    assert backbone.fingerprint == before


@pytest.mark.parametrize("strict", [True, False])
def test_load_state_dict_refuses_its_weights(strict: bool) -> None:
    backbone = tiny()
    before, holder = backbone.fingerprint, Holder(backbone)
    state = {name: torch.zeros_like(value) for name, value in holder.state_dict().items()}
    with pytest.raises(ValueError, match="frozen; leave them out"):
        holder.load_state_dict(state, strict=strict)
    with pytest.raises(ValueError, match="weights of the backbone"):
        backbone.load_state_dict(backbone.state_dict(), strict=strict)
    assert backbone.fingerprint == before
    own = {name: value for name, value in state.items() if not name.startswith("backbone.")}
    holder.load_state_dict(own, strict=False)
    assert not holder.layer.weight.any()


def test_training_changes_no_byte() -> None:
    backbone = tiny()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    holder = Holder(backbone).train()
    optimizer = torch.optim.AdamW(holder.parameters(), lr=0.1, weight_decay=0.1)
    batch, start = sequences(4, 9), holder.layer.weight.clone()
    for _ in range(2):
        out = holder.backbone(batch.with_embeddings(holder.layer(batch.embeddings)))
        F.mse_loss(out.mean(), torch.ones(2, 32)).backward()
        optimizer.step()
    assert not torch.equal(holder.layer.weight, start)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_requires_grad_is_refused() -> None:
    backbone = tiny()
    with pytest.raises(ValueError, match="tune='scale', 'norm', 'lora' or 'full'"):
        backbone.requires_grad_()
    backbone.requires_grad_(False)
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) == 0


def test_adapters_around_linear_layers_take_effect_and_leave_the_fingerprint() -> None:
    from peft import LoraConfig, inject_adapter_in_model

    plain, adapted = tiny(), tiny()
    names = ["qkv", "attn.proj", "fc1", "fc2"]
    inject_adapter_in_model(LoraConfig(r=2, target_modules=names, init_lora_weights=False), adapted)
    assert adapted.fingerprint == plain.fingerprint
    assert adapted.num_parameters == plain.num_parameters
    out = adapted(sequences(3, 7))
    assert not torch.allclose(out.embeddings, plain(sequences(3, 7)).embeddings, atol=1e-3)
    out.embeddings.sum().backward()
    adapters = {name: p.grad for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(adapters) == 4 * 2 * TINY.depth
    assert all(gradient is not None for gradient in adapters.values())


def test_fingerprint_is_of_the_content() -> None:
    first, second = tiny(), tiny()
    assert first.fingerprint == second.fingerprint == copy.deepcopy(first).fingerprint
    with torch.no_grad():
        second.blocks[1].mlp.fc2.bias[0] += 1e-6
    assert first.fingerprint != second.fingerprint
    quick = BackboneConfig(**{**vars(TINY), "activation": "quick_gelu"})
    assert tiny(quick).fingerprint != first.fingerprint
    other_stem = StemConfig(patch_size=4, image_size=8, crop_pct=1.0)
    assert tiny(BackboneConfig(**{**vars(TINY), "stem": other_stem})).fingerprint != first.fingerprint


def test_weights_must_fit() -> None:
    weights = dict(tiny().named_weights())
    with pytest.raises(ValueError, match=r"1 of \d+ weights are missing: blocks.0.mlp.fc1.bias"):
        VisionTransformer(TINY, {k: v for k, v in weights.items() if k != "blocks.0.mlp.fc1.bias"}, spec="x")
    with pytest.raises(ValueError, match=r"norm.weight is \(31,\), not \(32,\)"):
        VisionTransformer(TINY, weights | {"norm.weight": torch.ones(31)}, spec="x")
    with pytest.raises(ValueError, match="no place in this backbone: blocks.2.norm1.weight"):
        VisionTransformer(TINY, weights | {"blocks.2.norm1.weight": torch.ones(32)}, spec="x")


def test_tokens_must_fit() -> None:
    with pytest.raises(ValueError, match="31 wide; this backbone's are 32"):
        tiny()(sequences(3, dim=31))
    with pytest.raises(ValueError, match="prefix tokens already"):
        tiny()(tiny()(sequences(3)))


def test_random_weights_mix_tokens_and_leave_the_generator() -> None:
    """A change of one token reaches the others: the blocks of a random control are no identity."""
    state = torch.get_rng_state()
    backbone = load_backbone("nano", pretrained=False)
    assert torch.equal(torch.get_rng_state(), state)
    batch = sequences(16, dim=192)
    changed = batch.embeddings.clone()
    changed[0] = -changed[0]
    change = backbone(batch).embeddings - backbone(batch.with_embeddings(changed)).embeddings
    assert change[2:].abs().mean() > 0.02


def test_a_thawed_copy_trains_and_the_shared_one_stays() -> None:
    shared = tiny()
    before, copied = shared.fingerprint, shared.trainable_copy()
    assert copied.fingerprint == before
    assert all(parameter.requires_grad for parameter in copied.parameters())
    copied(sequences(3, 5)).embeddings.square().sum().backward()
    blocks = [parameter for name, parameter in copied.named_parameters() if not name.startswith("stem.")]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in blocks)
    torch.optim.SGD(copied.parameters(), lr=0.1).step()
    assert copied.fingerprint != before == shared.fingerprint
    copied.load_state_dict(shared.state_dict())
    assert copied.fingerprint == before
    with pytest.raises(ValueError, match="frozen"):
        shared.load_state_dict(copied.state_dict())


def test_branches_are_scaled_between_none_and_as_they_are() -> None:
    backbone, batch = tiny(TINY), sequences(5, 2, 9)
    x = backbone.norm_pre(backbone.scale_residuals(0).cls_token)
    for block, half in zip(backbone.blocks, backbone.scale_residuals(0.5).blocks, strict=True):
        for branch in ("attn", "mlp"):
            args = (x, Packing((len(x),), 0, x.device)) if branch == "attn" else (x,)
            full, scaled = (getattr(owner, branch)(*args) for owner in (block, half))
            torch.testing.assert_close(scaled, full / 2)
    none, bare = backbone.scale_residuals(0.0)(batch), backbone.without_blocks()(batch)
    torch.testing.assert_close(none.embeddings, bare.embeddings)
    same = backbone.scale_residuals(1.0)
    assert same.fingerprint == backbone.fingerprint and same.spec == "tiny" and same.frozen


@pytest.mark.parametrize("config", [TINY, BARE], ids=["prefix", "bare"])
def test_without_blocks_only_the_norms_are_left(config: BackboneConfig) -> None:
    """The control of a comparison: its tokens are ``norm(norm_pre(tokens))``, as often as layers are asked for."""
    backbone, batch = tiny(config), sequences(5, 2, 9)
    bare = backbone.without_blocks()
    one, three = bare(batch), bare(batch, layers=3)
    for found, tokens in zip(one.embeddings.split(one.lengths), batch.embeddings.split(batch.lengths), strict=True):
        expected = backbone.norm(backbone.norm_pre(torch.cat([backbone.cls_token, tokens])))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert torch.equal(three.embeddings, one.embeddings.repeat(1, 3))
    assert bare.fingerprint != backbone.fingerprint and bare.spec == "tiny without blocks" and not bare.depth
    assert dict(bare.named_weights()).keys() == {
        name for name, _ in backbone.named_weights() if not name.startswith("blocks.")
    }
    with pytest.raises(ValueError, match="0 layers are asked for"):
        bare(batch, layers=0)
