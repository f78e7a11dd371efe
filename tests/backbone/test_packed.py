"""Packed weights: answers of the plain layers, whatever the neighbours; gradients; copies, casts and files."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import metatx
from metatx import Backbone, TokenSequence
from metatx.adapters.lora import LoraOptions, lora_adapter
from metatx.backbone import packed
from metatx.backbone.loading import save_backbone
from metatx.backbone.precision import set_precision
from metatx.backbone.vit import BackboneConfig
from tests.backbone.networks import BARE, TINY, tiny

ERRORS = {"fp32": 1e-6, "bf16": 2e-2, "int8": 4e-2}  # relative ones
LOOSE = {precision: bound for precision, bound in ERRORS.items() if packed.packs(precision)}
DEEP = BackboneConfig(dim=64, depth=1, num_heads=2, mlp_dim=3072, prefix=0)  # long sums, for which kernels are chosen


def tokens(backbone: Backbone, lengths: tuple[int, ...], seed: int = 0) -> TokenSequence:
    drawn = torch.randn(sum(lengths), backbone.dim, generator=torch.Generator().manual_seed(seed))
    return TokenSequence(drawn, lengths)


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "vit": lambda: tiny(TINY),
    "no prefix": lambda: tiny(BARE),
    "timm's blocks": lambda: metatx.load_backbone("timm:vit_tiny_patch16_rope_224", pretrained=False),
}
PACKED = {precision: set_precision(tiny(DEEP), precision) for precision in LOOSE}


@pytest.mark.parametrize("precision", LOOSE)
@pytest.mark.parametrize("name", ["vit", "no prefix"])
def test_features_are_those_of_the_plain_layers(name: str, precision: str) -> None:
    backbone = BACKBONES[name]()
    sequence = tokens(backbone, (5, 40, 1))
    expected = backbone(sequence).embeddings
    actual = set_precision(backbone, precision)(sequence).embeddings
    assert actual.dtype == torch.float32
    assert error(actual, expected) < LOOSE[precision]
    assert all(layer.packed for layer in backbone.blocks.modules() if isinstance(layer, nn.Linear))
    torch.testing.assert_close(set_precision(backbone, None)(sequence).embeddings, expected, rtol=0, atol=0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=6), st.sampled_from(sorted(LOOSE)))
def test_no_bit_of_a_sequence_depends_on_its_neighbours(lengths: list[int], precision: str) -> None:
    backbone = PACKED[precision]
    batch = tokens(backbone, tuple(lengths))
    with torch.no_grad():
        outputs = backbone(batch).embeddings.split(lengths)
        for alone, output in zip(batch.embeddings.split(lengths), outputs, strict=True):
            assert torch.equal(backbone(TokenSequence(alone, (len(alone),))).embeddings, output)


@pytest.mark.parametrize("precision", LOOSE)
@pytest.mark.parametrize("adapted", [False, True])
def test_gradients_are_those_of_the_plain_layers(adapted: bool, precision: str) -> None:
    backbone = tiny(TINY)
    adapter = lora_adapter(backbone, LoraOptions(target_modules=["qkv", "fc2"], use_dora=True)) if adapted else None
    for name, parameter in adapter.named_parameters() if adapter else ():
        if "lora_B" in name:
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    trained = dict(adapter.named_parameters()) if adapter else {}

    def gradients() -> list[torch.Tensor]:
        sequence = tokens(backbone, (5, 9))
        sequence.embeddings.requires_grad_()
        loss = backbone(sequence, adapter=adapter).embeddings.sin().sum()
        return list(torch.autograd.grad(loss, [sequence.embeddings, *trained.values()]))

    expected = gradients()
    set_precision(backbone, precision)
    for actual, plain in zip(gradients(), expected, strict=True):
        assert error(actual, plain) < 4 * LOOSE[precision]


def test_weights_that_are_made_to_train_get_their_gradients() -> None:
    layer = PACKED["fp32"].blocks[0].mlp.fc1  # type: ignore[union-attr]
    layer = copy.deepcopy(layer)
    assert isinstance(layer, nn.Linear)
    layer.weight.requires_grad = True
    layer(torch.ones(3, 64)).sum().backward()  # type: ignore[no-untyped-call]
    assert layer.weight.grad is not None


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda backbone: pickle.loads(pickle.dumps(backbone))])
@pytest.mark.parametrize("precision", LOOSE)
def test_a_copy_computes_the_same_with_weights_of_its_own(clone: Any, precision: str) -> None:
    backbone = set_precision(tiny(), precision)
    sequence = tokens(backbone, (3, 7))
    made = clone(backbone)
    assert torch.equal(made(sequence).embeddings, backbone(sequence).embeddings)
    with torch.no_grad():
        for weight in made.parameters():
            weight.zero_()
    made.to("cpu")  # what is moved is packed anew
    assert not made(sequence).embeddings.any()
    assert backbone(sequence).embeddings.any()


def test_a_cast_to_half_and_back_ends_with_packed_weights() -> None:
    backbone = set_precision(tiny(), "fp32")
    layer = backbone.get_submodule("blocks.0.mlp.fc1")
    backbone.half()
    assert layer(torch.ones(2, 32, dtype=torch.float16)).dtype == torch.float16
    backbone.float()
    expected = set_precision(copy.deepcopy(backbone), None)(tokens(backbone, (4,))).embeddings
    assert error(backbone(tokens(backbone, (4,))).embeddings, expected) < 1e-6
    assert layer.packed


def test_identity_and_files_are_those_of_the_plain_weights(tmp_path: Path) -> None:
    plain = tiny()
    backbone = set_precision(tiny(), "bf16")
    assert backbone.fingerprint == plain.fingerprint
    assert backbone.computation != plain.computation == plain.fingerprint
    folder = save_backbone(backbone, tmp_path / "saved", about="a test")
    loaded = metatx.load_backbone(str(folder), precision="bf16")
    assert loaded.fingerprint == plain.fingerprint
    sequence = tokens(plain, (6,))
    assert torch.equal(loaded(sequence).embeddings, backbone(sequence).embeddings)
    assert torch.equal(backbone.trainable_copy()(sequence).embeddings, plain(sequence).embeddings)


def test_without_the_operators_the_plain_layers_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "packs", lambda precision: False)
    backbone = tiny()
    sequence = tokens(backbone, (5, 2))
    expected = backbone(sequence).embeddings
    assert torch.equal(set_precision(backbone, "fp32")(sequence).embeddings, expected)
    with torch.autocast("cpu", torch.bfloat16):
        half = backbone(sequence).embeddings
    assert torch.equal(set_precision(backbone, "bf16")(sequence).embeddings, half)


def test_operators_that_multiply_otherwise_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    packed.packs.cache_clear()
    monkeypatch.setattr(packed, "F", type("F", (), {"linear": lambda *given: F.linear(*given) + 1}))
    assert not packed.packs("fp32")
    packed.packs.cache_clear()


def test_where_the_hardware_has_no_int8_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metatx.backbone.precision.packs", lambda precision: False)
    with pytest.raises(ValueError, match="int8 needs a CPU with VNNI"):
        set_precision(tiny(), "int8")


def test_errors_say_which_precisions_there_are() -> None:
    with pytest.raises(ValueError, match="fp32, bf16"):
        metatx.load_backbone("nano", precision="fp23")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frozen"):
        set_precision(tiny().trainable_copy(), "fp32")
