"""load_backbone: parity with the source models, and refusal of all that does not fit."""

import importlib.resources
import json
import os
import re
from functools import partial
from pathlib import Path

import huggingface_hub
import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import LayerNorm
from timm.models import VisionTransformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from metatx import Backbone, TokenSequence, load_backbone
from metatx.backbone import vit
from metatx.backbone.conversion import from_open_clip, from_timm
from metatx.backbone.loading import save_backbone
from metatx.backbone.zoo import SOURCES, timm_config

IMAGES = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def features(backbone: Backbone, images: Tensor = IMAGES) -> Tensor:
    """Tokens behind the backbone (B, P + N, D)."""
    assert backbone.stem is not None
    with torch.no_grad():
        return backbone(TokenSequence.pack(backbone.stem(images))).unpack()[0]


def normalised(backbone: Backbone) -> Tensor:
    assert backbone.stem is not None
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.stem.config.mean, backbone.stem.config.std))
    return (IMAGES - mean) / std


def scramble(model: nn.Module) -> nn.Module:
    """Every weight drawn anew, so that none can be left out or swapped unnoticed."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if parameter.ndim == 1 else 0.1 * noise)
    return model.eval()


@pytest.fixture(scope="module", params=["ViT-B-16", "ViT-B-32-quickgelu"])
def clip_file(request, tmp_path_factory):
    """An open_clip model with random weights, and the file they were saved to."""
    with torch.device("meta"):
        model = open_clip.create_model(request.param, device="meta").eval()
    scramble(model.visual.to_empty(device="cpu"))
    path = tmp_path_factory.mktemp("clip") / "open_clip_pytorch_model.bin"
    tower = {name: value for name, value in model.state_dict().items() if name.startswith("visual.")}
    torch.save({"logit_scale": torch.ones(()), **tower}, path)
    return request.param, model, path


def test_open_clip_parity(clip_file) -> None:
    name, model, path = clip_file
    backbone = load_backbone(f"open_clip:{name}", checkpoint=path)
    assert backbone.activation == ("quick_gelu" if "quickgelu" in name else "gelu")
    with torch.no_grad():
        pooled = features(backbone)[:, 0] @ model.visual.proj
        expected = model.encode_image(normalised(backbone))
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


def test_open_clip_tower_alone_gives_the_same(clip_file) -> None:
    name, model, _ = clip_file
    config = SOURCES["open_clip"](name).config
    whole, alone = (from_open_clip(part.state_dict(), config) for part in (model, model.visual))
    assert whole.keys() == alone.keys()
    assert all(torch.equal(whole[key], alone[key]) for key in whole)


def test_stated_activation_must_match(clip_file) -> None:
    name, _, path = clip_file
    beside = path.with_name("open_clip_config.json")
    for quick in (True, False):
        beside.write_text(json.dumps({"model_cfg": {"quick_gelu": quick, "vision_cfg": {}}}))
        if quick == ("quickgelu" in name):
            load_backbone(f"open_clip:{name}", checkpoint=path)
        else:
            with pytest.raises(ValueError, match="was trained with .*gelu, says open_clip_config.json"):
                load_backbone(f"open_clip:{name}", checkpoint=path)
    beside.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        load_backbone(f"open_clip:{name}", checkpoint=path)
    beside.unlink()


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("open_clip:ViT-B-32/openai", "open_clip:ViT-B-32-quickgelu/openai"),
        ("open_clip:ViT-B-16-quickgelu/laion2b_s34b_b88k", None),
        ("timm:vit_base_patch16_clip_224.openai", "timm:vit_base_patch16_clip_quickgelu_224.openai"),
        ("timm:vit_large_patch14_clip_224.dfn2b", "timm:vit_large_patch14_clip_quickgelu_224.dfn2b"),
        ("timm:vit_base_patch32_clip_224.metaclip_400m", "quickgelu_224.metaclip_400m"),
        ("timm:vit_base_patch16_clip_224.dfn2b", "open_clip:ViT-B-16-quickgelu/dfn2b"),
        ("open_clip:roberta-ViT-B-32/laion2b_s12b_b32k", "open_clip has no model that fits them"),
    ],
)
def test_activation_mismatch_of_published_weights_is_refused(spec: str, wanted: str | None, tmp_path) -> None:
    """Before anything is fetched, and for a local copy of the same weights too."""
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    for checkpoint in (None, tmp_path / "x.safetensors"):
        with pytest.raises(ValueError, match=re.escape(wanted) if wanted else "Unknown weights of open_clip's"):
            load_backbone(spec, checkpoint=checkpoint)


def test_timm_parity_on_real_weights() -> None:
    if "METATX_WEIGHTS" not in os.environ:
        pytest.skip("METATX_WEIGHTS is not set: the folder that holds vit_tiny_augreg/model.safetensors")
    path = Path(os.environ["METATX_WEIGHTS"]) / "vit_tiny_augreg" / "model.safetensors"
    model = timm.create_model("vit_tiny_patch16_224").eval()
    model.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    backbone = load_backbone("timm:vit_tiny_patch16_224", checkpoint=path)
    with torch.no_grad():
        expected = model.forward_features(normalised(backbone))
    torch.testing.assert_close(features(backbone), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("layers", [2, 3])
def test_the_last_layers_are_timm_s(layers: int) -> None:
    """Each through the final norm, oldest first."""
    model = scramble(VisionTransformer(**{**PLAIN, "depth": 3}))
    model.pretrained_cfg = timm.get_pretrained_cfg("vit_base_patch16_224").to_dict()
    config = timm_config(model)
    backbone = vit.VisionTransformer(config, from_timm(model.state_dict(), config), spec="test")
    images = IMAGES[..., :64, :64]
    with torch.no_grad():
        found = backbone(TokenSequence.pack(backbone.stem(images)), layers=layers)
        pairs = model.get_intermediate_layers(
            normalised(backbone)[..., :64, :64], n=layers, norm=True, return_prefix_tokens=True
        )
        expected = torch.cat([torch.cat([prefix, patches], dim=1) for patches, prefix in pairs], dim=2)
    torch.testing.assert_close(found.unpack()[0], expected, atol=1e-4, rtol=0)


PLAIN = {"img_size": 64, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 2, "num_classes": 5}


@pytest.mark.parametrize(
    "options",
    [
        {"reg_tokens": 4, "init_values": 1e-5, "no_embed_class": True},
        {"reg_tokens": 2, "qk_norm": True, "qkv_bias": False},
        {"pre_norm": True, "act_layer": "quick_gelu", "norm_layer": partial(LayerNorm, eps=1e-5)},
        {"global_pool": "avg", "mlp_ratio": 48 / 11},
        {"global_pool": "avg", "class_token": False},
        {"global_pool": "avg", "class_token": False, "reg_tokens": 2},
        {"global_pool": "map", "class_token": False},
    ],
    ids=["dinov2", "qk norm", "clip", "mean-pooled", "no class token", "registers alone", "siglip"],
)
def test_timm_parity_of_every_part(options: dict) -> None:
    model = scramble(VisionTransformer(**PLAIN, **options))
    model.pretrained_cfg = timm.get_pretrained_cfg("vit_base_patch16_224").to_dict()
    config = timm_config(model)
    backbone = vit.VisionTransformer(config, from_timm(model.state_dict(), config), spec="test")
    with torch.no_grad():
        expected = model.forward_features(normalised(backbone)[..., :64, :64])
    torch.testing.assert_close(features(backbone, IMAGES[..., :64, :64]), expected, atol=1e-4, rtol=0)
    assert (backbone.num_prefix_tokens, backbone.has_cls) == (model.num_prefix_tokens, model.cls_token is not None)


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory) -> Path:
    """Weights of timm's ``test_vit``, a tiny model by name."""
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(scramble(timm.create_model("test_vit")).state_dict(), path)
    return path


def test_checkpoints_of_every_form_give_the_same(timm_file, tmp_path) -> None:
    tensors = load_file(timm_file)
    expected = load_backbone("timm:test_vit", checkpoint=timm_file).fingerprint
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in tensors.items()}}, tmp_path / "a.pth")
    torch.save({"model": tensors}, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    for name in ("a.pth", "b.pt"):
        assert load_backbone("timm:test_vit", checkpoint=tmp_path / name).fingerprint == expected


def test_half_precision_is_read_as_float32(timm_file, tmp_path) -> None:
    half = {name: value.half() for name, value in load_file(timm_file).items()}
    save_file(half, tmp_path / "half.safetensors")
    save_file({name: value.float() for name, value in half.items()}, tmp_path / "full.safetensors")
    first = load_backbone("timm:test_vit", checkpoint=tmp_path / "half.safetensors")
    second = load_backbone("timm:test_vit", checkpoint=tmp_path / "full.safetensors")
    assert first.fingerprint == second.fingerprint
    assert {parameter.dtype for parameter in first.parameters()} == {torch.float32}


def test_damaged_and_foreign_files_are_refused_by_name(timm_file, tmp_path) -> None:
    content = timm_file.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "picture.pth").write_bytes(b"GIF89a and so on")
    torch.save({"model": load_file(timm_file)}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save(nn.Linear(2, 2), tmp_path / "object.pth")
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    names = [
        "cut.safetensors",
        "empty.safetensors",
        "picture.pth",
        "cut.pth",
        "empty.pth",
        "object.pth",
        "list.pth",
    ]
    for name in names:
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))) as caught:
            load_backbone("timm:test_vit", checkpoint=tmp_path / name)
        assert "\n" not in str(caught.value), name
    for path, reason in ((tmp_path / "none.pth", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(FileNotFoundError, match=f"{re.escape(str(path))} {reason}"):
            load_backbone("timm:test_vit", checkpoint=path)


def test_a_pickle_is_never_run(tmp_path) -> None:
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="holds more than weights"):
        load_backbone("timm:test_vit", checkpoint=tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_what_does_not_fit_is_refused(timm_file, tmp_path) -> None:
    tensors = load_file(timm_file)
    changes = {
        "missing: blocks.0.mlp.fc1.weight": {"blocks.0.mlp.fc1.weight": None},
        "missing: cls_token": {"cls_token": None, "reg_token": None},
        "no place in this backbone: blocks.9.norm1.bias": {"blocks.9.norm1.bias": torch.ones(64)},
        r"stem.positions is \(\d+, 64\), not": {"pos_embed": torch.ones(1, 17, 64)},
    }
    for reason, change in changes.items():
        changed = {name: value for name, value in (tensors | change).items() if value is not None}
        save_file(changed, tmp_path / "x.safetensors")
        with pytest.raises(ValueError, match=rf"x.safetensors does not fit timm:test_vit: .*{reason}"):
            load_backbone("timm:test_vit", checkpoint=tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("nanno", "Did you mean 'nano'"),
        ("timm:vit_tiny_patch16_225", "timm has no model .*Did you mean vit_tiny_patch16_224"),
        ("timm:vit_tiny_patch16_224.nonsense", "Choices: augreg_in21k"),
        ("timm:swin_tiny_patch4_window7_224", "is a SwinTransformer, whose way from images to tokens is not known"),
        ("timm:naflexvit_base_patch16_gap", "is a NaFlexVit, whose way"),
        ("timm:vit_base_r50_s16_224", r"a stem that does more than cut images into patches \(HybridEmbed\)"),
        ("timm:vit_base_patch16_sapiens2", "reads images that are not square"),
        ("open_clip:hf-hub:eve/model", "open_clip has no model 'hf-hub:eve'"),
        ("open_clip:local-dir:/tmp", "open_clip has no model 'local-dir:'"),
        ("timm:hf-hub:eve/model", "timm has no model 'hf-hub:eve/model'"),
        ("open_clip:ViT-B-17", "open_clip has no model .*Did you mean ViT-B-16"),
        ("open_clip:RN50", "no plain Vision Transformer"),
        ("open_clip:coca_ViT-B-32", "attentional_pool"),
        ("open_clip:ViT-B-16-SigLIP", "use timm:vit_base_patch16_siglip_224"),
        ("open_clip:ViT-B-16", "Name the weights: .*laion2b_s34b_b88k"),
        ("meta-transformer:base", "give it as checkpoint"),
        ("meta-transformer:huge", "Choices: base, large"),
    ],
)
def test_unknown_and_unusable_specs(spec: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_backbone(spec)


def test_meta_transformer_parity(tmp_path) -> None:
    with torch.device("meta"):
        blocks = nn.Sequential(*(Block(768, 12, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(12)))
    state = scramble(blocks.to_empty(device="cpu")).state_dict()
    assert len(state) == 144 and sum(value.numel() for value in state.values()) == 85_054_464
    torch.save(state, tmp_path / "Meta-Transformer_base_patch16_encoder.pth")
    path = tmp_path / "Meta-Transformer_base_patch16_encoder.pth"
    backbone = load_backbone("meta-transformer:base", checkpoint=path)
    assert backbone.num_parameters == 85_054_464
    assert (backbone.stem, backbone.normalises_input, len(backbone.cls_token)) == (None, False, 0)
    tokens = torch.randn(3, 11, 768)
    with torch.no_grad():
        out, expected = backbone(TokenSequence.pack(tokens)).unpack()[0], blocks(tokens)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-5)
    with pytest.raises(ValueError, match="does not fit meta-transformer:large: .*missing: blocks.12"):
        load_backbone("meta-transformer:large", checkpoint=path)


def test_nano_is_small_and_says_what_it_is(nano) -> None:
    folder = Path(str(importlib.resources.files("metatx"))) / "nano"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8e6
    config, card = json.loads((folder / "config.json").read_text()), (folder / "README.md").read_text()
    assert "sha256" in config
    assert "non-commercial research only" in config["weights"] and config["weights"] in card
    assert (nano.spec, nano.dim, nano.normalises_input, nano.pretrained) == ("nano", 192, True, True)
    random = dict(load_backbone("nano", pretrained=False).named_weights())
    assert not any(torch.allclose(weight, random[name]) for name, weight in nano.named_weights() if weight.ndim > 1)


@pytest.mark.parametrize("spec", ["timm:vit_tiny_patch16_224", "open_clip:ViT-B-16/laion2b_s34b_b88k"])
def test_what_cannot_be_fetched_is_said_in_one_line(spec: str, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=f"The weights of {spec} could not be fetched") as caught:
        load_backbone(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["nano", "timm:test_vit", "open_clip:ViT-S-32"])
def test_random_weights_are_the_same_each_time(spec: str) -> None:
    first, second = (load_backbone(spec, pretrained=False) for _ in range(2))
    assert first.fingerprint == second.fingerprint and not first.pretrained
    with pytest.raises(ValueError, match="not both"):
        load_backbone(spec, pretrained=False, checkpoint="x.pth")


def test_saved_folder_round_trip(tmp_path) -> None:
    backbone = load_backbone("timm:test_vit", pretrained=False)
    folder = save_backbone(backbone, tmp_path / "mine", about="random")
    again = load_backbone(str(folder))
    assert again.fingerprint == backbone.fingerprint and again.config == backbone.config
    assert again.spec == str(folder)
    with pytest.raises(ValueError, match="has its own weights"):
        load_backbone(str(folder), checkpoint="x.pth")


def test_damaged_folders_are_refused(tmp_path) -> None:
    folder = save_backbone(load_backbone("timm:test_vit", pretrained=False), tmp_path / "mine", about="random")
    config = (folder / "config.json").read_text()
    for content in (
        "{",
        "[]",
        '{"format": "other"}',
        config.replace('"dim"', '"width"'),
        config.replace("gelu", "relu"),
    ):
        (folder / "config.json").write_text(content)
        with pytest.raises(ValueError, match="config.json is damaged, or not a backbone's"):
            load_backbone(str(folder))
    (folder / "config.json").write_text(config.replace('"depth": 6', '"depth": 7'))
    with pytest.raises(ValueError, match="mine is damaged: .* missing"):
        load_backbone(str(folder))
    (folder / "config.json").write_text(config)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        load_backbone(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors does not exist"):
        load_backbone(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="is no backbone: it has no config.json"):
        load_backbone(str(folder))


def test_the_hash_of_the_file_is_checked(tmp_path) -> None:
    """One bit of a weight, which the file's own format does not notice."""
    folder = save_backbone(load_backbone("timm:test_vit", pretrained=False), tmp_path / "mine", about="random")
    fingerprint = load_backbone(str(folder)).fingerprint
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"SHA-256 is [0-9a-f]{64}, not [0-9a-f]{64}; fetch it again") as caught:
        load_backbone(str(folder))
    assert "\n" not in str(caught.value)
    # A folder from before hashes were written: read as it is.
    config = json.loads((folder / "config.json").read_text())
    del config["sha256"]
    (folder / "config.json").write_text(json.dumps(config))
    assert load_backbone(str(folder)).fingerprint != fingerprint
