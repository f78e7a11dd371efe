"""Attention within units of any lengths: its wiring, with a loop in the place of the GPU's kernel."""

import inspect
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.nn.attention import varlen

import metatx
from metatx import TokenSequence
from metatx.backbone import attention, language_attention
from metatx.backbone.attention import Packing
from metatx.backbone.precision import set_precision
from metatx.backbone.varlen import takes_lengths
from tests.backbone.language_models import write_model
from tests.backbone.networks import BARE, TINY, tiny
from tests.fake_cuda import GPU, fake_cuda, faked

LENGTHS = tuple(3 + 7 * i % 190 for i in range(64))


def looped(q, k, v, offsets, offsets_k, longest, longest_k, *, window_size):
    """What ``varlen_attn`` computes, one unit after the other."""
    assert offsets.dtype == torch.int32 and offsets is offsets_k and longest == longest_k == offsets.diff().max()
    assert q.dtype == k.dtype == v.dtype
    parts = []
    for start, stop in pairwise(offsets.tolist()):
        unit = [x[start:stop].transpose(0, 1) for x in (q, k, v)]
        causal = window_size == (-1, 0)
        parts.append(F.scaled_dot_product_attention(*unit, is_causal=causal).transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Let the backbones take the kernel of a GPU, which a loop stands for."""
    monkeypatch.setattr(varlen, "varlen_attn", looped)
    for module in (attention, language_attention):
        monkeypatch.setattr(module, "takes_lengths", lambda values: True)


@pytest.fixture
def capable(monkeypatch):
    """Let torch take fake CUDA tensors for those of a GPU with bfloat16."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)


def test_the_loop_takes_what_the_kernel_takes() -> None:
    known = inspect.signature(varlen.varlen_attn).parameters
    assert list(known)[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert "window_size" in known


@pytest.mark.parametrize("config", [TINY, BARE], ids=["prefix", "bare"])
@torch.no_grad()
def test_it_is_attention_by_groups(config, monkeypatch) -> None:
    backbone = tiny(config)
    calls = []

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 3))
    def compare(lengths, at) -> None:
        sequence = TokenSequence(torch.randn(sum(lengths), backbone.dim), tuple(lengths))
        if len(lengths) > 1:
            pair = (2, *(1,) * (len(lengths) - 2))
            sequence = TokenSequence(
                sequence.embeddings, sequence.lengths, sequences_per_sample=pair, fuse_at=(at,) * len(pair)
            )
        by_groups = backbone(sequence).embeddings
        with monkeypatch.context() as patched:
            patched.setattr(attention, "takes_lengths", lambda values: calls.append(values) or True)
            patched.setattr(varlen, "varlen_attn", looped)
            torch.testing.assert_close(backbone(sequence).embeddings, by_groups, atol=1e-5, rtol=1e-5)

    compare()
    assert calls


@pytest.mark.parametrize("kind", ["bert", "llama"])
@torch.no_grad()
def test_it_is_the_attention_of_language_models(kind, tmp_path, request) -> None:
    backbone = metatx.load_backbone(f"transformers:{write_model(tmp_path / kind, kind)}")
    sequence = TokenSequence(torch.randn(14, backbone.dim), (5, 2, 6, 1))
    by_groups = backbone(sequence).embeddings
    request.getfixturevalue("on_a_gpu")
    torch.testing.assert_close(backbone(sequence).embeddings, by_groups, atol=1e-5, rtol=1e-5)


def test_gradients_pass(on_a_gpu) -> None:
    backbone = tiny(TINY)
    tokens = torch.randn(9, backbone.dim, requires_grad=True)
    backbone(TokenSequence(tokens, (2, 4, 3))).embeddings.square().sum().backward()
    assert tokens.grad is not None and tokens.grad.abs().amin(1).min() > 0


def test_offsets_are_those_of_units_in_block_order() -> None:
    assert Packing((4, 1, 2), 1, torch.device("cpu"), [2, 1]).offsets.tolist() == [0, 3, 10]


def test_the_cpu_and_full_precision_take_groups(capable) -> None:
    assert not takes_lengths(torch.empty(3, 2, 64, dtype=torch.bfloat16))
    with fake_cuda():
        types = (torch.float32, torch.bfloat16, torch.float16)
        assert [takes_lengths(torch.empty(3, 2, 64, dtype=type, device=GPU)) for type in types] == [False, True, True]
        widths = (264, 20)
        assert not any(takes_lengths(torch.empty(3, 2, w, dtype=torch.bfloat16, device=GPU)) for w in widths)


@torch.no_grad()
def test_mixed_lengths_take_few_kernels(capable) -> None:
    with fake_cuda() as work:
        backbone = set_precision(faked(metatx.load_backbone("nano")), "bf16")
        sequence = TokenSequence(torch.empty(sum(LENGTHS), backbone.dim, device=GPU), LENGTHS)
        work.kernels.clear()
        backbone(sequence)
    assert len(work.kernels) < 90  # and not six a length and block
    assert work.kernels.count("torch_attn::_varlen_attn") == backbone.depth
    assert work.waits == []


def test_weights_are_cast_once(capable) -> None:
    with fake_cuda() as work, torch.no_grad():
        backbone = set_precision(faked(metatx.load_backbone("nano")), "bf16")
        layer = backbone.blocks[0].mlp.fc1
        work.kernels.clear()
        assert layer(torch.empty(5, 192, device=GPU)).dtype == torch.bfloat16
    assert work.kernels == ["_to_copy", "addmm"]  # of the tokens alone
