"""timm's own blocks as a backbone: features as timm's, positions by grid, adapters, folders, pools."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from timm.models.beit import RelativePositionBias

import metatx
from metatx import Backbone, TokenSequence, load_backbone
from metatx.adapters.batched import FixedAdapter, MixedAdapter
from metatx.adapters.lora import LoraOptions, lora_adapter, norm_adapter
from metatx.adapters.peft_format import read_adapter, write_adapter
from metatx.adapters.tiers import merged
from metatx.backbone.loading import save_backbone
from metatx.backbone.timm_blocks import TimmBlocks
from metatx.backbone.timm_positions import BiasTable
from metatx.backbone.zoo import SOURCES
from metatx.layers.pooling import pool_tokens
from metatx.sequence import concatenate, divide
from tests.conftest import waves

NAMES = [
    "test_vit4",  # blocks with RMS norms, registers without a class token
    "test_vit_relpos",  # relative positions of each block
    "vit_tiny_patch16_dinov3_qkvb",  # rotary positions, class token and registers
    "eva02_tiny_patch14_224",  # rotary positions and SwiGLU
]
SHALLOW = 2  # blocks


def scrambled(name: str) -> tuple[Backbone, torch.nn.Module]:
    """A backbone with the random weights of a timm model, of few blocks, and that model."""
    generator = torch.Generator().manual_seed(0)
    model = timm.create_model(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    del model.blocks[SHALLOW:]
    source = SOURCES["timm"](name)
    config = replace(source.config, depth=SHALLOW)
    return TimmBlocks(config, source.convert(model.state_dict(), config), spec=f"timm:{name}"), model


@pytest.fixture(scope="module", params=NAMES)
def pair(request) -> tuple[Backbone, torch.nn.Module]:
    return scrambled(request.param)


@pytest.fixture(scope="module")
def backbone(pair) -> Backbone:
    return pair[0]


@pytest.fixture(scope="module")
def rotary() -> Backbone:
    return scrambled("vit_tiny_patch16_dinov3_qkvb")[0]


def pictures(backbone: Backbone, rows: int, columns: int, count: int = 1) -> TokenSequence:
    """Tokens of random numbers on a grid."""
    tokens = torch.randn(count, rows * columns, backbone.dim, generator=torch.Generator().manual_seed(rows))
    return TokenSequence.pack(tokens, grid=(rows, columns))


def row(backbone: Backbone, count: int) -> TokenSequence:
    """Tokens of random numbers without a grid."""
    return replace(pictures(backbone, 1, count), grids={})


@torch.no_grad()
def test_features_are_timm_s(pair) -> None:
    backbone, model = pair
    side = backbone.stem.config.image_size
    images = torch.rand(2, 3, side, side)
    found = backbone(TokenSequence.pack(backbone.stem(images), grid=(backbone.stem.config.side,) * 2))
    expected = model.forward_features((images - backbone.stem.mean) / backbone.stem.std)
    torch.testing.assert_close(found.unpack()[0], expected, atol=1e-4, rtol=0)
    assert (found.num_prefix_tokens, found.has_cls) == (model.num_prefix_tokens, model.cls_token is not None)


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_neighbours(backbone) -> None:
    fused = TokenSequence(
        torch.randn(16, backbone.dim),
        (6, 4, 6),
        sequences_per_sample=(2, 1),
        sources=("a", "b", "a"),
        fuse_at=(1, 0),
        grids={"a": (3, 2)},
    )
    batches = [pictures(backbone, 2, 3, 2), pictures(backbone, 3, 2), row(backbone, 6), row(backbone, 4), fused]
    together = divide(backbone(concatenate(batches), layers=2), batches)
    for batch, found in zip(batches, together, strict=True):
        torch.testing.assert_close(found.embeddings, backbone(batch, layers=2).embeddings, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_sequences_that_meet_change_one_another(backbone) -> None:
    sample = TokenSequence(torch.randn(9, backbone.dim), (4, 5), sequences_per_sample=(2,), fuse_at=(1,))
    other = sample.with_embeddings(torch.cat([sample.embeddings[:4], torch.randn(5, backbone.dim)]))
    first = slice(0, 4 + backbone.num_prefix_tokens)
    assert (backbone(sample).embeddings[first] - backbone(other).embeddings[first]).abs().max() > 1e-4
    apart = [backbone(replace(batch, fuse_at=None)).embeddings[first] for batch in (sample, other)]
    torch.testing.assert_close(*apart)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_dinov3_qkvb", "test_vit_relpos"])
@torch.no_grad()
def test_positions_are_those_of_the_grid_or_of_the_order(name: str) -> None:
    backbone, _ = scrambled(name)
    plain = row(backbone, 6)
    as_row, as_grid = (backbone(replace(plain, grids={"": grid})).embeddings for grid in ((1, 6), (2, 3)))
    assert torch.equal(backbone(plain).embeddings, as_row)
    assert (as_row - as_grid).abs().max() > 1e-4
    backwards = backbone(plain.with_embeddings(plain.embeddings.flip(0))).embeddings
    prefix = backbone.num_prefix_tokens
    assert (backwards[prefix:].flip(0) - as_row[prefix:]).abs().max() > 1e-4
    film = replace(row(backbone, 12), grids={"": (2, 2, 3)})
    assert backbone(film).embeddings.isfinite().all()
    with pytest.raises(ValueError, match=r"Sequence 0 has 6 tokens, which do not fill its grid \(2, 2\)"):
        backbone(replace(plain, grids={"": (2, 2)}))


@torch.no_grad()
def test_tokens_behind_a_grid_have_no_place(backbone) -> None:
    tokens = torch.randn(2 * 3 + 2, backbone.dim)
    turned = tokens[[*range(6), 7, 6]]
    found = []
    for each in (tokens, turned):
        alone = TokenSequence(each, (8,), grids={"": (2, 3)}, trailing=(2,))
        whole = concatenate([pictures(backbone, 2, 3), alone, row(backbone, 8)])
        found.append(divide(backbone(whole), [pictures(backbone, 2, 3), alone, row(backbone, 8)])[1].embeddings)
        torch.testing.assert_close(found[-1], backbone(alone).embeddings, atol=1e-5, rtol=1e-5)
    assert (found[0][-1] - found[0][-2]).abs().max() > 1e-3
    torch.testing.assert_close(found[1], found[0][[*range(len(found[0]) - 2), -1, -2]], atol=1e-5, rtol=1e-5)


def test_a_table_of_relative_positions_is_timm_s_and_is_resampled_for_other_grids() -> None:
    theirs = RelativePositionBias((3, 3), 2)
    with torch.no_grad():
        theirs.relative_position_bias_table.normal_()
    ours = BiasTable(theirs.relative_position_bias_table, (3, 3))
    assert torch.equal(ours((3, 3), 1), theirs())
    wide = ours((2, 5), 1)
    assert wide.shape == (2, 11, 11)
    assert torch.equal(wide[:, 0, :2], theirs()[:, 0, :2]), "those of the class token stay"
    wide.sum().backward()
    assert theirs.relative_position_bias_table.grad.any()


OPTIONS = [LoraOptions(target_modules=["attn.proj"]), LoraOptions(r=3, target_modules=["mlp.fc2"], use_dora=True)]


def trained(backbone: Backbone) -> list:
    """Adapters that change the backbone, and None."""
    torch.manual_seed(0)
    made = [lora_adapter(backbone, options) for options in OPTIONS]
    if any(isinstance(layer, torch.nn.LayerNorm) for layer in backbone.adaptable_layers().values()):
        made.append(norm_adapter(backbone))
    with torch.no_grad():
        for parameter in torch.nn.ModuleList(made).parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return [*(adapter.eval() for adapter in made), None]


@torch.no_grad()
def test_adapters_of_several_tasks_share_a_pass(backbone) -> None:
    adapters, before = trained(backbone), backbone.fingerprint
    batches = [pictures(backbone, 2, 3) for _ in adapters] + [row(backbone, 4) for _ in adapters]
    chosen = adapters * 2
    mixed = MixedAdapter([adapter and FixedAdapter(adapter, backbone) for adapter in chosen])
    together = divide(backbone(concatenate(batches), adapter=mixed), batches)
    for batch, adapter, found in zip(batches, chosen, together, strict=True):
        alone = backbone(batch, adapter=adapter).embeddings
        torch.testing.assert_close(found.embeddings, alone, atol=1e-4, rtol=1e-4)
        changed = (alone - backbone(batch).embeddings).abs().max().item()
        assert (changed > 1e-3) == (adapter is not None)
    assert backbone.fingerprint == before


@torch.no_grad()
def test_every_adaptable_layer_is_applied_through_the_adapter(backbone) -> None:
    layers, seen = backbone.adaptable_layers(), []

    class Notes:
        def on(self, backbone, packing):
            return lambda layer, x: (seen.append(layer), layer(x))[1]

    backbone(row(backbone, 3), adapter=Notes())
    assert set(layers.values()) <= set(seen)
    for block in range(SHALLOW):
        assert {f"blocks.{block}.{leaf}" for leaf in ("attn.qkv", "attn.proj", "mlp.fc2")} <= set(layers)


@torch.no_grad()
def test_merged_weights_give_the_same_and_peft_s_files_bring_an_adapter_back(backbone, tmp_path) -> None:
    batch = row(backbone, 5)
    for number, adapter in enumerate(trained(backbone)[:-1]):
        expected = backbone(batch, adapter=adapter).embeddings
        torch.testing.assert_close(merged(backbone, adapter)(batch).embeddings, expected, atol=1e-4, rtol=1e-4)
        write_adapter(adapter, tmp_path / str(number))
        again = read_adapter(tmp_path / str(number), backbone).eval()
        assert torch.equal(backbone(batch, adapter=again).embeddings, expected)


def test_gradients_reach_tokens_and_adapters_but_no_weight(backbone) -> None:
    adapter, tokens = lora_adapter(backbone, OPTIONS[0]), row(backbone, 4).embeddings.requires_grad_()
    backbone(TokenSequence(tokens, (4,)), adapter=adapter).embeddings.square().sum().backward()
    assert tokens.grad.any() and any(parameter.grad.any() for parameter in adapter.parameters())
    assert all(parameter.grad is None for parameter in backbone.parameters())


@torch.no_grad()
def test_folder_round_trip_controls_and_trainable_copy(backbone, tmp_path) -> None:
    batch = row(backbone, 4)
    again = load_backbone(str(save_backbone(backbone, tmp_path / "own", about="tests")))
    assert type(again) is TimmBlocks and again.fingerprint == backbone.fingerprint
    assert torch.equal(again(batch).embeddings, backbone(batch).embeddings)
    control = load_backbone(str(tmp_path / "own"), pretrained=False)
    assert control.fingerprint == backbone.randomised().fingerprint != backbone.fingerprint
    assert control(batch).embeddings.isfinite().all()
    assert backbone.without_blocks()(batch).embeddings.shape == backbone(batch).embeddings.shape
    copy = backbone.trainable_copy()
    with torch.enable_grad():
        copy(batch).embeddings.square().sum().backward()
    assert all(parameter.grad is not None for name, parameter in copy.named_parameters() if "blocks" in name)
    assert isinstance(again, metatx.Backbone) and not again.training and not again.train().training


def test_tasks_of_a_pool_answer_as_alone(rotary) -> None:
    pictured = [np.random.default_rng(i).integers(0, 255, (64, 64, 3)).astype(np.uint8) for i in range(6)]
    tasks = {}
    for name, modality, samples, options in (
        ("series", "time_series", waves(6)[0], {}),
        ("image", "image", pictured, {"image_size": 64}),
    ):
        for tune in ("frozen", "lora", "scale"):
            task = metatx.Task.from_data(
                rotary, modality, (samples, ["a", "b"] * 3), head="classification", tune=tune, tokenizer_options=options
            )
            tasks[f"{name} {tune}"] = task.eval(), samples
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for task, _ in tasks.values():
            for parameter in task.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    pool = metatx.TaskPool(rotary)
    for name, (task, _) in tasks.items():
        pool.add(name, task)
    asked = [(name, sample) for name, (_, samples) in tasks.items() for sample in samples[:2]]
    vectors = pool.embed(asked)
    for (name, sample), vector in zip(asked, vectors, strict=True):
        (alone,) = pool.embed([(name, sample)])
        np.testing.assert_allclose(vector, alone, atol=1e-4)
    answers = pool.predict(asked)
    assert answers == [tasks[name][0].predict([sample])[0] for name, sample in asked]


@pytest.mark.parametrize("name", ["test_vit2", "test_vit3", "test_vit4"])
def test_registers_without_a_class_token_are_not_pooled(name: str) -> None:
    backbone = load_backbone(f"timm:{name}", pretrained=False)
    left: TokenSequence = backbone(row(backbone, 3))
    assert (left.num_prefix_tokens, left.has_cls) == (1, False)
    with pytest.raises(ValueError, match="no CLS token; pool by the mean"):
        left.cls()
    assert torch.equal(pool_tokens(left, "both"), torch.cat([left.mean(), left.mean()], dim=1))
