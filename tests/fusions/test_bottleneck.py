"""Bottleneck tokens: the only way from one input to another, from one of the blocks on."""

import pytest
import torch

from tests.fusions.meetings import backbone, batch, built, passed, scramble

BACKBONE = backbone()
SAMPLE = [[[4], [3], []]]


def reach(fusion, layers: int) -> list[bool]:
    """For each of the last blocks, True if its output of the words depends on the photo."""
    sequence = batch(SAMPLE)
    tokens = sequence.embeddings.requires_grad_()
    output = passed(fusion, BACKBONE, sequence.with_embeddings(tokens), layers)
    words = output.embeddings[output.lengths[0] :][: 1 + 3].unflatten(1, (layers, -1))
    found = []
    for layer in range(layers):
        (gradient,) = torch.autograd.grad(words[:, layer].square().sum(), tokens, retain_graph=True)
        found.append(bool(gradient[:4].abs().max() > 0))
    return found


@pytest.mark.parametrize("at", [0, 1, 2])
def test_inputs_reach_each_other_from_the_block_behind_the_first_exchange_on(at) -> None:
    fusion = scramble(built("bottleneck", BACKBONE, at=at))
    assert reach(fusion, 4) == [number > at for number in range(4)]


@pytest.mark.parametrize("at", [3, 4])
def test_inputs_do_not_meet_from_the_last_block_on(at) -> None:
    assert not any(reach(scramble(built("bottleneck", BACKBONE, at=at)), 4))


def test_inputs_meet_through_the_bottleneck_alone() -> None:
    fusion = scramble(built("bottleneck", BACKBONE, at=0))
    fusion.blocks = ()  # the copies are no longer exchanged
    assert not any(reach(fusion, 4))


def test_by_default_inputs_meet_at_any_depth() -> None:
    small = backbone()
    for depth, blocks in [(2, [0]), (3, [1]), (4, [2]), (12, [8, 9, 10])]:
        small.config = small.config.__class__(**{**vars(small.config), "depth": depth})
        assert list(built("bottleneck", small).blocks) == blocks


@torch.no_grad()
def test_windows_of_one_input_count_as_one() -> None:
    fusion = scramble(built("bottleneck", BACKBONE, at=0))
    sequence = fusion.enter(batch([[[2], [3, 3, 3], []]]))
    tokens = torch.zeros_like(sequence.embeddings)
    photo = slice(2, 6)
    tokens[photo] = 1.0
    mixed = fusion(0, sequence.with_embeddings(tokens))
    assert torch.equal(mixed[photo], torch.full((4, 32), 0.5)), "half of it is the photo's, not a quarter"
    assert torch.equal(mixed[:2], tokens[:2]), "other tokens stay"
