"""Language models as a backbone: features as transformers', sequences apart, adapters in peft's names, folders."""

import copy
import os
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel

import metatx
from metatx import Backbone, TokenSequence
from metatx.adapters.batched import FixedAdapter, MixedAdapter
from metatx.adapters.lora import LoraOptions, lora_adapter, norm_adapter
from metatx.adapters.peft_format import read_adapter, write_adapter
from metatx.adapters.tiers import merged
from metatx.backbone.loading import save_backbone
from metatx.sequence import concatenate, divide
from tests.adapters.trained import scramble
from tests.backbone.language_models import CAUSAL, ENCODERS, write_model

KINDS = ["bert", "llama"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {kind: write_model(place / kind, kind) for kind in (*ENCODERS, *CAUSAL)}


@pytest.fixture(scope="module")
def backbones(folders) -> dict[str, Backbone]:
    return {kind: metatx.load_backbone(f"transformers:{folder}") for kind, folder in folders.items()}


def sequences(*lengths: int, seed: int = 0) -> TokenSequence:
    tokens = torch.randn(sum(lengths), 64, generator=torch.Generator().manual_seed(seed))
    return TokenSequence(tokens, lengths)


@torch.no_grad()
def theirs(model, backbone: Backbone, sequence: TokenSequence) -> torch.Tensor:
    """Output of transformers' model for each sequence alone, with the prefix in front."""
    parts = torch.split(sequence.embeddings, list(sequence.lengths))
    inputs = [torch.cat([backbone.cls_token, part])[None] for part in parts]
    return torch.cat([model(inputs_embeds=each).last_hidden_state[0] for each in inputs])


@torch.no_grad()
@pytest.mark.parametrize("kind", [*ENCODERS, *CAUSAL])
def test_features_are_those_of_transformers(folders, backbones, kind) -> None:
    model = AutoModel.from_pretrained(folders[kind]).eval()
    batch = sequences(5, 3, 9, 3)
    found = backbones[kind](batch).embeddings
    expected = theirs(model, backbones[kind], batch)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_words_are_read_as_transformers_reads_them(folders, backbones, kind) -> None:
    vocabulary = backbones[kind].stems["text"]
    numbers, _ = vocabulary.tokenize(["a good film"], 100)
    model = AutoModel.from_pretrained(folders[kind]).eval()
    ids = torch.tensor([[*vocabulary.prefix, *numbers, *vocabulary.suffix]])
    tokens = vocabulary(torch.tensor([*numbers, *vocabulary.suffix]))
    found = backbones[kind](TokenSequence(tokens, (len(tokens),)))
    torch.testing.assert_close(found.embeddings, model(input_ids=ids).last_hidden_state[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), layers=st.sampled_from([1, 2]))
def test_a_sequence_is_read_alone_as_among_others(backbones, kind, lengths, layers) -> None:
    batches = [sequences(length, seed=at) for at, length in enumerate(lengths)]
    with torch.no_grad():
        together = divide(backbones[kind](concatenate(batches), layers=layers), batches)
        for batch, found in zip(batches, together, strict=True):
            alone = backbones[kind](batch, layers=layers)
            torch.testing.assert_close(found.embeddings, alone.embeddings, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(found.cls(), alone.cls(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_causal_model_pools_the_last_token_and_reads_nothing_behind(backbones) -> None:
    backbone = backbones["llama"]
    batch = sequences(4, 6)
    found = backbone(batch)
    assert backbone.causal and backbone.has_cls and found.has_cls
    torch.testing.assert_close(found.cls(), found.embeddings[[3, 9]], atol=0, rtol=0)
    shorter = backbone(TokenSequence(batch.embeddings[:3], (3,)))
    torch.testing.assert_close(shorter.embeddings, found.embeddings[:3], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_encoder_pools_its_class_token(backbones) -> None:
    found = backbones["bert"](sequences(4, 6))
    assert not backbones["bert"].causal and found.lengths == (5, 7)
    torch.testing.assert_close(found.cls(), found.embeddings[[0, 5]], atol=0, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_backbone_is_frozen_and_its_control_is_always_the_same(folders, backbones, kind) -> None:
    backbone = backbones[kind]
    assert not any(parameter.requires_grad for parameter in backbone.train().parameters()) and not backbone.training
    control = metatx.load_backbone(f"transformers:{folders[kind]}", pretrained=False)
    assert not control.pretrained and control.fingerprint == backbone.randomised().fingerprint != backbone.fingerprint
    table = backbone.stems["text"].embedding.weight
    assert backbone.token_rms == pytest.approx(table.square().mean().sqrt().item())
    assert backbone.without_blocks()(sequences(3)).embeddings.shape[1] == 64


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_backbone_is_read_again(backbones, kind, tmp_path) -> None:
    again = metatx.load_backbone(str(save_backbone(backbones[kind], tmp_path / "b", about="test")))
    assert again.fingerprint == backbones[kind].fingerprint
    assert again.stems["text"].tokenize(["a film"], 9) == backbones[kind].stems["text"].tokenize(["a film"], 9)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_several_adapters_in_one_pass_and_merged(backbones, kind) -> None:
    backbone = backbones[kind]
    adapters = [scramble(lora_adapter(backbone, LoraOptions(r=2)))]
    adapters.append(scramble(lora_adapter(backbone, LoraOptions(use_dora=True))))
    if kind == "bert":
        adapters.append(scramble(norm_adapter(backbone)))
    batches = [sequences(3, 5, seed=at) for at in range(len(adapters) + 1)]
    owners = [FixedAdapter(adapter, backbone) for adapter in adapters]
    mixed = MixedAdapter([owner for owner in (*owners, None) for _ in range(2)])
    together = divide(backbone(concatenate(batches), adapter=mixed), batches)
    plain = backbone(batches[0]).embeddings
    assert (together[0].embeddings - plain).abs().max() > 1e-2
    for batch, found, adapter in zip(batches, together, [*adapters, None], strict=True):
        alone = backbone(batch, adapter=adapter).embeddings
        torch.testing.assert_close(found.embeddings, alone, atol=2e-5, rtol=1e-4)
        if adapter is not None:
            torch.testing.assert_close(merged(backbone, adapter)(batch).embeddings, alone, atol=2e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_peft_and_we_read_one_another_s_adapters(folders, backbones, kind, tmp_path) -> None:
    backbone = backbones[kind]
    adapter = scramble(lora_adapter(backbone, LoraOptions(r=3)))
    write_adapter(adapter, tmp_path / "ours")
    model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(folders[kind]), tmp_path / "ours").eval()
    batch = sequences(4, 7)
    expected = theirs(model, backbone, batch)
    found = backbone(batch, adapter=adapter).embeddings
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    model.save_pretrained(tmp_path / "theirs")
    again = read_adapter(tmp_path / "theirs", backbone)
    torch.testing.assert_close(backbone(batch, adapter=again).embeddings, found, atol=1e-6, rtol=0)


def test_a_model_without_layer_norms_says_so(backbones) -> None:
    with pytest.raises(ValueError, match="trains LayerNorms, and .* has none; use tune='lora'"):
        norm_adapter(backbones["llama"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_trainable_copy_trains_and_the_shared_one_stays(backbones, kind) -> None:
    before = backbones[kind].fingerprint
    own = backbones[kind].trainable_copy()
    own(sequences(3, 4)).embeddings.square().mean().backward()
    trained = [name for name, parameter in own.named_parameters() if parameter.grad is not None]
    assert any(name.startswith(f"{own.blocks_name}.1.") for name in trained)
    assert backbones[kind].fingerprint == before
    assert copy.deepcopy(own).fingerprint == before


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_near_full(backbones, kind) -> None:
    batch = sequences(4, 7)
    expected = backbones[kind](batch).embeddings
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = backbones[kind](batch).embeddings.float()
    assert 0 < (found - expected).abs().mean() < 0.03 * expected.std()


@torch.no_grad()
def test_tokens_that_trail_have_no_position(backbones) -> None:
    batch = sequences(5)
    tokens = batch.embeddings.clone()
    tokens[3:] = tokens[4]  # the last two are alike
    trailing = replace(batch.with_embeddings(tokens), trailing=(2,))
    found = backbones["bert"](trailing).embeddings
    torch.testing.assert_close(found[-1], found[-2], atol=1e-5, rtol=0)
    apart = backbones["bert"](replace(trailing, trailing=None)).embeddings
    assert (apart[-1] - apart[-2]).abs().max() > 1e-3


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", ["minilm_l6_v2", "smollm2_135m"])
def test_real_weights_are_read_as_transformers_reads_them(name) -> None:
    folder = Path(os.environ.get("METATX_WEIGHTS", "")) / name
    assert (folder / "config.json").is_file(), f"put transformers' folder of the model to $METATX_WEIGHTS/{name}"
    backbone = metatx.load_backbone(f"transformers:{folder}")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    vocabulary = backbone.stems["text"]
    texts = ["The capital of France is Paris.", "no", "A dog runs along the beach, into the sea."]
    ids = [[*vocabulary.tokenize([text], 100)[0], *vocabulary.suffix] for text in texts]
    tokens = vocabulary(torch.tensor([number for numbers in ids for number in numbers]))
    found = backbone(TokenSequence(tokens, tuple(map(len, ids)))).embeddings
    whole = [model(input_ids=torch.tensor([[*vocabulary.prefix, *numbers]])).last_hidden_state[0] for numbers in ids]
    expected = torch.cat(whole)
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-4)
