"""Sequences of a sample that attend to one another from a block on, and what acts between blocks."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metatx import TokenSequence
from metatx.adapters.batched import FixedAdapter, MixedAdapter
from metatx.backbone.attention import Packing, stretches
from metatx.backbone.base import Backbone
from metatx.sequence import LATE, concatenate, divide
from tests.adapters.trained import adapters
from tests.backbone.networks import BARE, TINY, tiny

CPU = torch.device("cpu")


@st.composite
def samples(draw) -> list[TokenSequence]:
    """Batches of one sample each, of one to three sequences that meet at some block."""
    found = []
    for _ in range(draw(st.integers(1, 6))):
        lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
        at = draw(st.sampled_from([0, 1, 2, LATE]))
        tokens = torch.randn(sum(lengths), 32)
        found.append(TokenSequence(tokens, tuple(lengths), sequences_per_sample=(len(lengths),), fuse_at=(at,)))
    return found


def two_stages(backbone: Backbone, sample: TokenSequence) -> Tensor:
    """The plain way: every sequence by itself up to ``fuse_at``, all in one row behind it."""
    (at,) = sample.fuse_at
    prefix = len(backbone.cls_token)
    rows = [torch.cat([backbone.cls_token, tokens]) for tokens in sample.embeddings.split(sample.lengths)]
    rows = [backbone.norm_pre(row) for row in rows]
    for number, block in enumerate(backbone.blocks):
        rows = rows if number < at else [torch.cat(rows)]
        rows = [block(row, Packing((len(row) - prefix,), prefix, CPU)) for row in rows]
    return backbone.norm(torch.cat(rows))


@pytest.mark.parametrize("config", [TINY, BARE], ids=["prefix", "bare"])
@settings(deadline=None, max_examples=40)
@given(samples())
@torch.no_grad()
def test_samples_that_meet_at_different_blocks_share_a_pass(config, batch) -> None:
    backbone = tiny(config)
    together = divide(backbone(concatenate(batch)), batch)
    for sample, found in zip(batch, together, strict=True):
        torch.testing.assert_close(found.embeddings, two_stages(backbone, sample), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_block_at_which_sequences_meet_matters() -> None:
    backbone = tiny()
    sample = TokenSequence(torch.randn(5, 32), (2, 3), sequences_per_sample=(2,))
    found = [backbone(replace(sample, fuse_at=at)).embeddings for at in ((0,), (1,), (2,), None)]
    assert torch.equal(found[2], found[3]), "from the depth on they do not meet"
    assert all((one - other).abs().max() > 1e-3 for one, other in pairwise(found[:3]))


@torch.no_grad()
def test_several_layers_of_samples_that_meet_midway() -> None:
    backbone = tiny()
    batch = TokenSequence(torch.randn(9, 32), (4, 1, 4), sequences_per_sample=(2, 1), fuse_at=(1, LATE))
    both = backbone(batch, layers=2).embeddings
    assert torch.equal(both[:, 32:], backbone(batch).embeddings)
    apart = backbone(replace(batch, fuse_at=None), layers=2).embeddings
    torch.testing.assert_close(both[:, :32], apart[:, :32])


@settings(deadline=None, max_examples=20)
@given(samples(), st.data())
@torch.no_grad()
def test_each_sample_is_read_with_its_own_adapter_wherever_its_sequences_lie(batch, data) -> None:
    backbone = tiny()
    trained = adapters(backbone)
    chosen = [data.draw(st.sampled_from(trained)) for _ in batch]
    fixed = {adapter: adapter and FixedAdapter(adapter, backbone) for adapter in chosen}
    owners = [fixed[adapter] for adapter, sample in zip(chosen, batch, strict=True) for _ in sample.lengths]
    together = divide(backbone(concatenate(batch), adapter=MixedAdapter(owners)), batch)
    for sample, adapter, found in zip(batch, chosen, together, strict=True):
        alone = backbone(sample, adapter=adapter).embeddings
        torch.testing.assert_close(found.embeddings, alone, atol=1e-5, rtol=1e-5)


def test_blocks_are_passed_in_as_few_stretches_as_there_are_meetings() -> None:
    batch = TokenSequence(torch.randn(7, 32), (1, 2, 4), sequences_per_sample=(2, 1), fuse_at=(2, 1))
    (early, apart), (later, joint) = stretches(batch, 1, 4)
    assert (early, later) == (range(2), range(2, 4)), "a sample of one sequence meets nobody"
    assert (apart.groups, joint.groups) == ([(1, 2), (1, 3), (1, 5)], [(2, 5)])
    assert [blocks for blocks, _ in stretches(replace(batch, fuse_at=None), 1, 4)] == [range(4)]


def test_equal_lengths_are_not_gathered() -> None:
    tokens = torch.randn(12, 3)
    assert Packing((4, 4, 4), 0, CPU).enter(tokens, torch.empty(0, 3)) is tokens
    assert Packing((4, 5), 1, CPU).groups == [(1, 5), (1, 6)]


class Adds:
    """Adds 1 to the first token of each sequence behind the blocks it names, and notes what it saw."""

    def __init__(self, *blocks: int, amount: float = 1.0) -> None:
        self.blocks = blocks
        self.amount = amount
        self.seen: list[tuple[int, TokenSequence]] = []

    def __call__(self, block: int, sequence: TokenSequence) -> Tensor:
        self.seen.append((block, sequence))
        changed = sequence.embeddings.clone()
        starts = torch.tensor([0, *sequence.lengths[:-1]]).cumsum(0)
        changed[starts] += self.amount
        return changed


BATCH = TokenSequence(torch.randn(9, 32), (4, 1, 4), sequences_per_sample=(2, 1), fuse_at=(1, LATE))


@torch.no_grad()
def test_an_exchange_sees_what_leaves_a_block_in_the_order_of_the_batch() -> None:
    backbone, exchange = tiny(), Adds(0, 1, amount=0)
    assert torch.equal(backbone(BATCH, exchange=exchange).embeddings, backbone(BATCH).embeddings)
    (first, _), (last, behind) = exchange.seen
    assert (first, last) == (0, 1)
    assert (behind.lengths, behind.num_prefix_tokens, len(behind)) == ((7, 4, 7), 3, 2)
    torch.testing.assert_close(backbone.norm(behind.embeddings), backbone(BATCH).embeddings)


@torch.no_grad()
def test_what_an_exchange_changes_goes_on_through_the_blocks() -> None:
    backbone = tiny()
    plain, after = backbone(BATCH, layers=2), backbone(BATCH, layers=2, exchange=Adds(0, amount=100.0))
    first = (after.embeddings - plain.embeddings)[:, :32].abs().amax(1) > 0
    assert first.nonzero().flatten().tolist() == [0, 7, 11], "the first token of each sequence"
    assert ((after.embeddings - plain.embeddings)[:, 32:].abs().amax(1) > 0).all(), "one block on, all of them"
    assert len(Adds(5).seen) == 0


def test_gradients_pass_through_an_exchange() -> None:
    amount = torch.tensor(0.0, requires_grad=True)
    tiny()(BATCH, exchange=Adds(1, amount=amount)).embeddings.square().sum().backward()
    assert amount.grad is not None and amount.grad != 0


def test_places_begin_at_zero_in_each_sequence() -> None:
    packing = Packing((3, 1, 3), 1, torch.device("cpu"))
    assert packing.leave(packing.places()).tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 2, 3]
