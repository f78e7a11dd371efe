"""The attention pool of a backbone's weights: vectors as timm's, of each sequence alone; chosen, saved, refused."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from timm.layers import AttentionPoolLatent
from timm.models import VisionTransformer
from torch import nn

import metatx
from metatx import Backbone, TokenSequence, load_backbone
from metatx.backbone import vit
from metatx.backbone.attention_pool import AttentionPoolConfig
from metatx.backbone.conversion import from_timm
from metatx.backbone.loading import save_backbone
from metatx.backbone.zoo import SOURCES, timm_config, timm_pool
from metatx.errors import TaskError
from metatx.sequence import concatenate, divide
from metatx.training.frozen_features import frozen_features
from tests.conftest import waves

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 0}
SIGLIP = {**SMALL, "global_pool": "map", "class_token": False}


def scrambled(model: nn.Module) -> nn.Module:
    """The model with every weight drawn anew."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def of_timm(model: VisionTransformer, leave_out: str = "-") -> Backbone:
    model.pretrained_cfg = timm.get_pretrained_cfg("vit_base_patch16_siglip_224").to_dict()
    config = timm_config(model)
    tensors = {name: value for name, value in model.state_dict().items() if not name.startswith(leave_out)}
    config = config if len(tensors) == len(model.state_dict()) else replace(config, attention_pool=None)
    return vit.VisionTransformer(config, from_timm(tensors, config), spec="siglip")


@pytest.fixture(scope="module")
def siglip() -> Backbone:
    return of_timm(scrambled(VisionTransformer(**SIGLIP)))


@pytest.fixture(scope="module")
def other_pool(siglip) -> Backbone:
    """The same blocks with another pool."""
    weights = dict(siglip.named_weights())
    return siglip.rebuilt(siglip.config, {**weights, "attention_pool.latent": weights["attention_pool.latent"] + 1})


@torch.no_grad()
def check_parity(backbone: Backbone, model: nn.Module, side: int) -> None:
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    stem = backbone.stem
    output = backbone(TokenSequence.pack(stem(images), grid=(stem.config.side,) * 2))
    features = model.forward_features((images - stem.mean) / stem.std)
    expected = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(output.attended(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "options",
    [{}, {"class_token": True, "reg_tokens": 2}, {"class_token": True, "pool_include_prefix": True}],
    ids=["siglip", "prefix left out", "prefix read"],
)
def test_vectors_are_timm_s(options) -> None:
    model = scrambled(VisionTransformer(**{**SIGLIP, **options}))
    check_parity(of_timm(model), model, SMALL["img_size"])


def test_of_timm_s_own_blocks_too() -> None:
    name = "vit_pe_core_tiny_patch16_384"
    model = scrambled(timm.create_model(name, num_classes=0))
    del model.blocks[1:]
    source = SOURCES["timm"](name)
    config = replace(source.config, depth=1)
    check_parity(source.kind(config, source.convert(model.state_dict(), config), spec=name), model, 384)


@pytest.mark.parametrize("activation", [nn.GELU, timm.layers.GELUTanh])
@torch.no_grad()
def test_either_gelu(activation) -> None:
    model = VisionTransformer(**SIGLIP)
    model.attn_pool = scrambled(
        AttentionPoolLatent(48, num_heads=4, norm_layer=timm.layers.LayerNorm, act_layer=activation)
    )
    backbone = of_timm(scrambled(model))
    sequence = TokenSequence.pack(torch.randn(2, 5, 48), grid=None)
    expected = model.attn_pool(sequence.unpack()[0])
    torch.testing.assert_close(backbone.attention_pool(sequence), expected, atol=1e-4, rtol=0)


def test_a_pool_of_another_form_is_not_offered() -> None:
    model = VisionTransformer(**SIGLIP)
    assert timm_pool(model) == AttentionPoolConfig(num_heads=3, mlp_dim=192)
    for options in ({"latent_len": 2}, {"qk_norm": True}, {"pool_type": "avg"}, {"out_features": 0}):
        model.attn_pool = AttentionPoolLatent(48, num_heads=3, norm_layer=timm.layers.LayerNorm, **options)
        assert timm_pool(model) is None
    assert timm_pool(VisionTransformer(**SMALL)) is None


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch(siglip) -> None:
    parts = [torch.randn(length, 48) for length in (3, 1, 7, 4)]
    together = siglip(TokenSequence(torch.cat(parts), (3, 1, 7, 4), sequences_per_sample=(2, 0, 1, 1)))
    alone = torch.cat([siglip(TokenSequence(part, (len(part),))).attended() for part in parts])
    expected = torch.stack([alone[:2].mean(0), torch.zeros(48), alone[2], alone[3]])
    torch.testing.assert_close(together.attended(), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_batches_that_pass_together_keep_their_pool(siglip) -> None:
    batches = [TokenSequence.pack(torch.randn(2, length, 48)) for length in (3, 5)]
    for batch, divided in zip(batches, divide(siglip(concatenate(batches)), batches), strict=True):
        torch.testing.assert_close(divided.attended(), siglip(batch).attended(), atol=1e-5, rtol=0)


def test_the_pool_is_of_no_account_where_no_head_uses_it(siglip, other_pool) -> None:
    """Fingerprints are those of before there were pools; random weights too."""
    bare = of_timm(scrambled(VisionTransformer(**SIGLIP)), leave_out="attn_pool.")
    assert bare.attention_pool is None and bare.attention_pool_fingerprint is None
    assert siglip.fingerprint == bare.fingerprint == other_pool.fingerprint
    assert siglip.randomised().fingerprint == bare.randomised().fingerprint
    assert siglip.attention_pool_fingerprint != other_pool.attention_pool_fingerprint


def test_a_checkpoint_without_the_pool_gives_a_backbone_without(tmp_path) -> None:
    tensors = scrambled(timm.create_model("test_vit3")).state_dict()
    torch.save(tensors, tmp_path / "whole.pt")
    torch.save({name: value for name, value in tensors.items() if "attn_pool" not in name}, tmp_path / "cut.pt")
    whole, cut = (load_backbone("timm:test_vit3", checkpoint=tmp_path / f"{name}.pt") for name in ("whole", "cut"))
    assert whole.attention_pool is not None and cut.attention_pool is None
    assert whole.fingerprint == cut.fingerprint


def a_task(backbone: Backbone, **options) -> metatx.Task:
    return metatx.Task.from_data(backbone, "waves", waves(40), head_options={"pooling": "attention"}, **options)


@pytest.mark.parametrize("head", ["classification", "multilabel", "regression", "embedding"])
def test_a_backbone_without_a_pool_is_refused(nano, siglip, head) -> None:
    samples, labels = waves(8)
    targets = {"multilabel": [[label] for label in labels], "regression": np.arange(8.0)}.get(head, labels)
    options = {"head": head, "head_options": {"pooling": "attention"}}
    with pytest.raises(ValueError, match="weights of nano have no attention pool, .* choose 'mean', 'cls' or 'both'"):
        metatx.Task.from_data(nano, "waves", (samples, targets), **options)
    assert len(metatx.Task.from_data(siglip, "waves", (samples, targets), **options).predict(samples)) == 8


def test_it_reads_the_last_layer() -> None:
    with pytest.raises(ValueError, match="layers is 2; the weights' attention pool reads the last layer only"):
        metatx.create("heads", "classification", 48, pooling="attention", layers=2)


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_it_is_saved_and_trains_no_weight_of_its_own(siglip, other_pool, tmp_path, tune) -> None:
    folder = save_backbone(siglip, tmp_path / "backbone", about="a test")
    backbone = load_backbone(str(folder))
    assert backbone.attention_pool_fingerprint == siglip.attention_pool_fingerprint
    task = a_task(backbone, tune=tune)
    plain = metatx.Task.from_data(backbone, "waves", waves(40), tune=tune, head_options={"pooling": "mean"})
    assert task.model.trainable_parameters == plain.model.trainable_parameters
    task.fit(waves(40), epochs=2, lr=1e-2)
    assert task.backbone.attention_pool_fingerprint == siglip.attention_pool_fingerprint
    task.save_pretrained(tmp_path / "task")
    again = metatx.Task.from_pretrained(tmp_path / "task", backbone=None if tune == "full" else siglip)
    signals = waves(8, seed=1)[0]
    np.testing.assert_array_equal(again.predict_proba(signals), task.predict_proba(signals))
    if tune != "full":
        with pytest.raises(TaskError, match="needs the attention pool of .*, not that of siglip"):
            metatx.Task.from_pretrained(tmp_path / "task", backbone=other_pool)


def test_a_pool_of_tasks_answers_as_each_task(siglip) -> None:
    values = np.arange(40.0)
    options = {"attention": {"pooling": "attention"}, "mean": {"pooling": "mean"}}
    tasks = {
        name: metatx.Task.from_data(siglip, "waves", (waves(40)[0], values), head="regression", head_options=each)
        for name, each in options.items()
    }
    pool = metatx.TaskPool(siglip)
    for name, task in tasks.items():
        pool.add(name, task.fit((waves(40)[0], values), epochs=1, lr=1e-2))
    requests = [(name, signal) for signal in waves(4, seed=1)[0] for name in tasks]
    expected = [tasks[name].predict([signal])[0] for name, signal in requests]
    np.testing.assert_allclose(pool.predict(requests), expected, rtol=1e-5)


def test_cached_features_are_of_one_pool(siglip, other_pool) -> None:
    features = []
    for backbone in (siglip, other_pool):
        task = a_task(backbone)
        task.tokenizer.load_state_dict(a_task(siglip).tokenizer.state_dict())
        task.tokenizer.requires_grad_(False)
        features.append(frozen_features(task.model, task.encode(waves(20), "train"), task.settings, lambda x, _: x))
    assert not torch.equal(*(each.features for each in features))
