"""Adapters on disk: peft reads ours and we read peft's, with the same features on timm's model."""

import json
import os
from pathlib import Path

import peft
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import metatx
from metatx.adapters.lora import LoraOptions, lora_adapter, norm_adapter
from metatx.adapters.peft_format import read_adapter, write_adapter
from metatx.adapters.scale import ScaleOptions, scale_adapter
from metatx.errors import TaskError
from metatx.sequence import TokenSequence
from tests.adapters.trained import EVERY, scramble

NAME = "vit_tiny_patch16_224"
IMAGES = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
OPTIONS = {
    "lora": {},
    "rslora": {"use_rslora": True, "r": 4, "target_modules": ["qkv", "proj"]},
    "dora": {"use_dora": True, "target_modules": EVERY},
    "some blocks": {"target_modules": r"blocks\.[2-4]\.mlp\.fc[12]"},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """ViT-Ti's weights: pretrained ones where METATX_WEIGHTS has them, else random ones."""
    if "METATX_WEIGHTS" in os.environ:
        return Path(os.environ["METATX_WEIGHTS"]) / "vit_tiny_augreg" / "model.safetensors"
    path = tmp_path_factory.mktemp("vit") / "model.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model(NAME).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def backbone(checkpoint):
    return metatx.load_backbone(f"timm:{NAME}", checkpoint=checkpoint)


@pytest.fixture
def model(checkpoint):
    """timm's own model, for peft to change."""
    return timm.create_model(NAME, checkpoint_path=str(checkpoint)).eval()


def made(backbone, kind):
    if kind == "norm":
        return scramble(norm_adapter(backbone))
    if kind.startswith("scale"):
        return scramble(scale_adapter(backbone, ScaleOptions(per_channel="channels" in kind)))
    return scramble(lora_adapter(backbone, LoraOptions(**OPTIONS[kind])))


@torch.no_grad()
def ours(backbone, adapter):
    return backbone(TokenSequence.pack(backbone.stem(IMAGES)), adapter=adapter).unpack()[0]


@torch.no_grad()
def theirs(backbone, model):
    config = backbone.stem.config
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.mean, config.std))
    return model.base_model.model.forward_features((IMAGES - mean) / std)


def close(found, expected):
    """To 1e-5 of the features' own scale."""
    print("DIFF", (found - expected).abs().max().item(), expected.abs().max().item())
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("kind", [*OPTIONS, "norm", "scale", "scale of channels"])
@pytest.mark.filterwarnings("error:Found missing adapter keys", "error:Some weights")
def test_peft_loads_ours_onto_timm_s_model_with_the_same_features(backbone, model, kind, tmp_path):
    adapter = made(backbone, kind)
    write_adapter(adapter, tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(model, tmp_path / "adapter")
    expected = theirs(backbone, loaded)
    close(ours(backbone, adapter), expected)
    assert (ours(backbone, None) - expected).abs().max() > 0.01
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert tensors.keys() == peft.get_peft_model_state_dict(loaded).keys()
    again = read_adapter(tmp_path / "adapter", backbone)
    assert torch.equal(ours(backbone, again), ours(backbone, adapter))
    assert again.options == adapter.options and again.tune == adapter.tune


@pytest.mark.parametrize("kind", ["dora", "layers", "norm", "gains"])
def test_we_load_peft_s_with_the_same_features(backbone, model, kind, tmp_path):
    config = {
        "dora": peft.LoraConfig(r=4, lora_alpha=2, target_modules=["attn.qkv", "fc2"], use_dora=True),
        "layers": peft.LoraConfig(
            target_modules=["attn.qkv"],
            layers_to_transform=[1, 5],
            layers_pattern="blocks",
            init_lora_weights="gaussian",
        ),
        "norm": peft.LNTuningConfig(target_modules=["norm1"]),
        "gains": peft.IA3Config(target_modules=["attn.qkv", "fc2"], feedforward_modules=[]),
    }[kind]
    adapted = peft.get_peft_model(model, config)
    scramble(adapted)
    model.eval()
    adapted.save_pretrained(tmp_path)
    close(ours(backbone, read_adapter(tmp_path, backbone)), theirs(backbone, adapted))


def test_the_same_adapter_is_the_same_file(backbone, tmp_path):
    adapter = made(backbone, "lora")
    for name in "ab":
        write_adapter(adapter, tmp_path / name)
    first, second = (sorted((tmp_path / name).iterdir()) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["attn.proj", "attn.qkv"] and config["lora_alpha"] == 16


def _config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _weights(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


KEY = "base_model.model.blocks.0.attn.qkv.lora_A.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "damaged, or no adapter"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "damaged, or no adapter"),
        (
            lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"1234"),
            "adapter_model.safetensors is damaged",
        ),
        (lambda folder: _config(folder, peft_type="LOHA"), "kinds LORA, LN_TUNING, IA3"),
        (lambda folder: _config(folder, bias="all"), "uses bias='all' of peft"),
        (lambda folder: _config(folder, rank_pattern={"qkv": 4}), "uses rank_pattern"),
        (lambda folder: _config(folder, init_lora_weights="pissa"), "uses init_lora_weights='pissa'"),
        (lambda folder: _config(folder, r=0), "damaged: r is 0"),
        (lambda folder: _config(folder, r=4), r"lora_A.weight is \(8, 192\), not \(4, 192\)"),
        (lambda folder: _weights(folder, lambda t: t.pop(KEY)), "blocks.0.attn.qkv.lora_A.weight is missing"),
        (lambda folder: _weights(folder, lambda t: t.update({KEY + "s": t[KEY].clone()})), "not known here"),
        (
            lambda folder: _weights(folder, lambda t: t.update({KEY.replace("s.0", "s.99"): torch.ones(1)})),
            "adapts blocks.99.attn.qkv, which this backbone does not have",
        ),
        (lambda folder: _weights(folder, dict.clear), "adapts nothing"),
    ],
)
def test_what_is_damaged_or_not_known_is_refused_in_one_line(backbone, tmp_path, damage, message):
    folder = tmp_path / "adapter"
    write_adapter(made(backbone, "lora"), folder)
    damage(folder)
    with pytest.raises(TaskError, match=message) as caught:
        read_adapter(folder, backbone)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
