"""Latents that read any number of tokens, and attention between tokens of one sample."""

import pytest
import torch

from metatx import TokenSequence
from metatx.layers.cross_attention import CrossAttention, padded_pairs
from metatx.layers.resampler import Resampler

TOKENS = torch.randn(3, 7, 128)
MASK = torch.arange(7) < torch.tensor([7, 3, 0])[:, None]


@torch.no_grad()
def test_padding_is_not_read() -> None:
    resampler = Resampler(128, 5, depth=2)
    found = resampler(TOKENS, MASK)
    assert found.shape == (3, 5, 128)
    torch.testing.assert_close(found[1:2], resampler(TOKENS[1:2, :3]), atol=1e-5, rtol=1e-5)
    changed = torch.where(MASK[..., None], TOKENS, 9.0)
    torch.testing.assert_close(found, resampler(changed, MASK))
    assert found[2].isfinite().all(), "of a sample without a token too"


def test_every_token_and_every_weight_has_a_part() -> None:
    resampler = Resampler(128, 5, depth=2)
    tokens = TOKENS.clone().requires_grad_()
    resampler(tokens, MASK).square().sum().backward()
    assert torch.equal(tokens.grad.abs().sum(-1) > 0, MASK)
    assert all(weight.grad.abs().sum() > 0 for weight in resampler.parameters())


@pytest.mark.parametrize("options", [{"latents": 0}, {"depth": 0}])
def test_a_resampler_that_reads_nothing(options) -> None:
    with pytest.raises(ValueError, match="give at least 1 each"):
        Resampler(128, **options)


@torch.no_grad()
def test_cross_attention_is_that_of_torch() -> None:
    layer = CrossAttention(128)
    assert layer.num_heads == 2
    theirs = torch.nn.MultiheadAttention(128, 2, batch_first=True)
    theirs.in_proj_weight.copy_(torch.cat([layer.q.weight, layer.kv.weight]))
    theirs.in_proj_bias.zero_()
    theirs.out_proj.load_state_dict(layer.proj.state_dict())
    queries = torch.randn(2, 4, 128)
    found = layer(layer.queries(queries), layer.keys_values(TOKENS[:2]), MASK[:2])
    normed = layer.context_norm(TOKENS[:2])
    wanted, _ = theirs(layer.norm(queries), normed, normed, key_padding_mask=~MASK[:2])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dim", "heads"), [(32, 1), (192, 3), (200, 2), (100, 1)])
def test_heads_divide_the_width(dim, heads) -> None:
    assert CrossAttention(dim).num_heads == heads


def test_tokens_are_padded_with_those_of_their_own_sample() -> None:
    sequence = TokenSequence(torch.arange(10.0)[:, None], (2, 1, 1, 3, 2, 1), sequences_per_sample=(3, 1, 2))
    first, rest = padded_pairs(
        sequence, [True, False, False, True, True, False], [False, True, True, False, False, True]
    )
    assert (first.index.tolist(), rest.index.tolist()) == ([[0, 1], [7, 8]], [[2, 3], [9, 9]])
    assert (first.mask.tolist(), rest.mask.tolist()) == ([[True, True]] * 2, [[True, True], [True, False]])
    assert rest.unpad(rest.pad(sequence.embeddings)).flatten().tolist() == [2, 3, 9]
    assert rest.numbers().tolist() == [2, 3, 9]
