"""Folders that are no language model, or one that cannot be used: one clear line each."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import metatx
from metatx import TokenSequence
from tests.backbone.language_models import byte_pairs, write_model


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "model", "bert")


def refused(folder, *, pretrained: bool = True) -> str:
    """The message, which must be one line, whatever was tried."""
    with pytest.raises((ValueError, OSError)) as error:
        metatx.load_backbone(f"transformers:{folder}", pretrained=pretrained)
    message = str(error.value)
    assert "\n" not in message and len(message) < 500
    return message


def change(folder, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def test_a_folder_that_is_no_model(tmp_path) -> None:
    assert refused(tmp_path) == f"{tmp_path} is no language model of transformers: it has no config.json."
    (tmp_path / "config.json").write_text('{"format": "metatx-task"}')
    assert "names no model_type of transformers" in refused(tmp_path)
    (tmp_path / "config.json").write_text("not JSON")
    assert f"The config.json of {tmp_path} is damaged, it is no JSON" in refused(tmp_path)


def test_a_name_that_is_not_to_be_had(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "nobody/nothing is no folder, and config.json cannot be had" in refused("nobody/nothing")


def test_an_architecture_that_takes_no_input_embeddings(folder) -> None:
    change(folder, model_type="clip")
    assert "of the architecture 'clip'; metatx reads text encoders and causal models of the" in refused(folder)


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("mistral", {"sliding_window": 16}, "attends within a window of 16 tokens"),
        ("bert", {"is_decoder": True}, "is a decoder of the encoder's kind"),
    ],
)
def test_what_is_not_computed_is_named(tmp_path, kind, changes, said) -> None:
    assert said in refused(write_model(tmp_path / "model", kind, **changes))


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_vocabulary_that_does_not_match(folder, pretrained) -> None:
    byte_pairs().save(str(folder / "tokenizer.json"))
    message = refused(folder, pretrained=pretrained)
    assert "tokens up to 255, the embedding table" in message and "give the tokenizer.json" in message


def test_a_tokenizer_that_is_missing_or_damaged(folder) -> None:
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer.json is damaged" in refused(folder)
    (folder / "tokenizer.json").unlink()
    assert "is incomplete: it has no tokenizer.json" in refused(folder)


def test_weights_that_are_missing_or_do_not_fit(folder) -> None:
    weights = load_file(folder / "model.safetensors")
    missing = weights.pop("encoder.layer.1.output.dense.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "1 weights are missing, such as encoder.layer.1.output.dense.weight" in refused(folder)
    weights["encoder.layer.1.output.dense.weight"] = missing[:3].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "do not fit its config.json" in refused(folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert f"The weights of {folder} are damaged" in refused(folder)


def test_a_checkpoint_with_a_head_is_read(folder, tmp_path) -> None:
    weights = load_file(folder / "model.safetensors")
    headed = {f"bert.{name}": value for name, value in weights.items()} | {"classifier.weight": torch.zeros(2, 64)}
    save_file(headed, tmp_path / "headed.safetensors")
    backbone = metatx.load_backbone(f"transformers:{folder}", checkpoint=tmp_path / "headed.safetensors")
    assert backbone.fingerprint == metatx.load_backbone(f"transformers:{folder}").fingerprint


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_sequence_longer_than_the_context(tmp_path, kind) -> None:
    place = write_model(tmp_path / "model", kind, max_position_embeddings=20)
    backbone = metatx.load_backbone(f"transformers:{place}")
    most = 20 - backbone.num_prefix_tokens
    backbone(TokenSequence(torch.zeros(most, 64), (most,)))
    with pytest.raises(metatx.SampleError, match=f"a sequence has {most + 1} tokens; .* reads at most {most}"):
        backbone(TokenSequence(torch.zeros(most + 1, 64), (most + 1,)))


def test_the_form_is_listed() -> None:
    from metatx.backbone.loading import backbones

    assert "transformers:NAME_OR_FOLDER" in backbones()
