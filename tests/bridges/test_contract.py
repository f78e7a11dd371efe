"""What every bridge must do: tokens of the right width, nothing of neighbours, gradients to its weights alone."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import metatx
from metatx import TokenSequence

WIDTH, DIM = 24, 32
# Options, and the number of tokens of a sequence of a 2 x 3 grid with one prefix token, which is given as 7 tokens.
BRIDGES = {
    "linear": ({}, 6),
    "mlp": ({}, 6),
    "grid": ({"side": 2}, 4),
    "resampler": ({"latents": 5}, 5),
    "qformer": ({"queries": 5, "depth": 3}, 5),
}


def built(name: str) -> metatx.Bridge:
    torch.manual_seed(0)
    return metatx.create("bridges", name, DIM, **BRIDGES[name][0]).restore({"width": WIDTH})


def output(lengths: tuple[int, ...] = (7, 7), grid: tuple[int, ...] | None = (2, 3), prefix: int = 1) -> TokenSequence:
    """Output of another backbone."""
    grids = {} if grid is None else {"": grid}
    return TokenSequence(torch.randn(sum(lengths), WIDTH), lengths, grids=grids, num_prefix_tokens=prefix)


def cross(bridge: metatx.Bridge, sequence: TokenSequence) -> TokenSequence:
    return bridge(bridge.pool(sequence))


def test_the_table_has_every_bridge() -> None:
    assert sorted(BRIDGES) == metatx.names("bridges")


@pytest.mark.parametrize("name", BRIDGES)
def test_tokens_are_those_of_a_tokenizer(name) -> None:
    crossed = cross(built(name), replace(output((7, 7, 7)), sequences_per_sample=(2, 1), context={"a": 1}))
    count = BRIDGES[name][1]
    assert crossed.lengths == (count,) * 3
    assert crossed.embeddings.shape == (3 * count, DIM)
    assert (crossed.num_prefix_tokens, crossed.attention_pool) == (0, None)
    assert (crossed.sequences_per_sample, crossed.context) == ((2, 1), {"a": 1})
    if crossed.grid is not None:
        assert crossed.grid[0] * crossed.grid[1] == count


@pytest.mark.parametrize("name", [name for name in BRIDGES if name != "grid"])
@torch.no_grad()
def test_neighbours_and_padding_change_nothing(name) -> None:
    bridge = built(name)
    sequence = output((7, 3, 12), None)
    together = cross(bridge, sequence)
    parts = torch.split(sequence.embeddings, [7, 3, 12])
    alone = [cross(bridge, replace(sequence, embeddings=part, lengths=(len(part),))) for part in parts]
    torch.testing.assert_close(together.embeddings, torch.cat([each.embeddings for each in alone]), atol=1e-5, rtol=0)
    assert together.lengths == tuple(each.lengths[0] for each in alone)


@pytest.mark.parametrize("name", BRIDGES)
def test_gradients_reach_all_weights_and_pool_has_none(name) -> None:
    bridge = built(name)
    sequence = output()
    sequence.embeddings.requires_grad_()
    assert not cross(bridge, sequence).embeddings.eq(0).all()
    cross(bridge, sequence).embeddings.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in bridge.parameters())
    read = sequence.embeddings.grad.view(2, 7, -1).abs().sum((0, 2)) > 0
    assert read[1:].all()
    assert read[0] == (name in ("resampler", "qformer")), "the class token is read by those that read any tokens"


def test_the_grid_bridge_takes_means_of_parts() -> None:
    sequence = output()
    pooled = built("grid").pool(sequence)
    cells = sequence.embeddings.view(2, 7, WIDTH)[:, 1:].view(2, 2, 3, WIDTH).movedim(3, 1)
    means = F.adaptive_avg_pool2d(cells, 2)
    torch.testing.assert_close(pooled.embeddings.view(2, 2, 2, WIDTH), means.movedim(1, 3))
    torch.testing.assert_close(means[0, :, 0, 0], cells[0, :, 0, :2].mean(1))
    assert pooled.grid == (2, 2)


@pytest.mark.parametrize("grid", [None, (6,), (1, 2, 3)])
def test_the_grid_bridge_needs_rows_and_columns(grid) -> None:
    with pytest.raises(ValueError, match="choose another bridge, such as linear"):
        built("grid").pool(output(grid=grid))


@pytest.mark.parametrize(
    ("name", "options"),
    [("grid", {"side": 0}), ("resampler", {"latents": 0}), ("qformer", {"queries": 0}), ("qformer", {"every": 0})],
)
def test_options_that_leave_nothing(name, options) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        metatx.create("bridges", name, DIM, **options)
