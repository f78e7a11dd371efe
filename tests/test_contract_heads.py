"""Every head that ships keeps its contract: a few rows of the table each."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from metatx import TokenSequence, registry
from metatx.encoding.collate import collate
from metatx.testing import check_head
from tests.samples import objects, pooling_heads

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class HeadRow:
    targets: list[Any]
    bad_targets: list[Any]
    options: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    prefixes: tuple[int, ...] = (1, 0)
    sequence: Callable[..., TokenSequence] | None = None
    features: Any = None


def behind_a_backbone(channels: str) -> Callable[[int, int, int], TokenSequence]:
    """What the time_series tokenizer gives for two channels, one of them with a gap, and tokens put in front."""

    def sequence(count: int, dim: int, prefix: int) -> TokenSequence:
        samples = [RNG.normal(size=(2, 40)) + RNG.normal() for _ in range(count)]
        for sample in samples[::3]:
            sample[1, :20] = np.nan
        tokenizer = registry.create("tokenizers", "time_series", dim, channels=channels).learn(samples)
        tokens = tokenizer(collate([tokenizer.encode(sample) for sample in samples]))
        longer = [torch.cat([torch.randn(prefix, dim), one]) for one in tokens.embeddings.split(tokens.lengths)]
        embeddings, lengths = torch.cat(longer).detach(), tuple(map(len, longer))
        return replace(tokens, embeddings=embeddings, lengths=lengths, num_prefix_tokens=prefix)

    return sequence


def on_a_grid(count: int, dim: int, prefix: int) -> TokenSequence:
    """Tokens of pictures, 4 rows of 6."""
    return TokenSequence(
        torch.randn(count * (24 + prefix), dim), (24 + prefix,) * count, grids={"": (4, 6)}, num_prefix_tokens=prefix
    )


def at_points(count: int, dim: int, prefix: int) -> TokenSequence:
    """Tokens at five centres of clouds of ten points each."""
    context = {"centres": torch.rand(count, 5, 3), "points": torch.rand(count, 10, 3)}
    lengths = (5 + prefix,) * count
    return TokenSequence(torch.randn(sum(lengths), dim), lengths, num_prefix_tokens=prefix, context=context)


def masks(*shape: int) -> list[np.ndarray]:
    """Twelve masks of one of three codes, with places that have none."""
    found = [np.full(shape, i % 3, dtype=np.uint8) for i in range(12)]
    for mask in found:
        mask[0] = 255
    return found


HEADS = {
    "segmentation": [
        HeadRow(
            masks(10, 14),
            ["nowhere.png", np.full((4, 4), 7), np.full((4, 4), 0.5), np.zeros((0, 4), dtype=int), None],
            [{}, {"layers": 2, "cells": 1, "dice": 1.0}, {"classes": ["sky", "road", "tree"]}],
            sequence=on_a_grid,
            features=RNG.random((12, 10, 14, 3)),
        ),
        HeadRow(masks(10), [], sequence=at_points, features=RNG.random((12, 10, 3))),
    ],
    "detection": [
        HeadRow(
            [objects(8.0 + 30 * (i % 3), ["cat", "dog", "eel"][i % 3]) for i in range(11)]
            + [objects(bbox=[], category=[])],
            [
                objects(name="cow"),
                objects(width=0),
                objects(bbox=[[1, 1, 5]]),
                objects(category=[]),
                {"bbox": [], "category": []},
                None,
            ],
            [{}, {"layers": 2, "cells": 2, "dropout": 0.0}],
            sequence=on_a_grid,
            features=RNG.random((12, 64, 96, 3)),
        )
    ],
    "classification": [
        HeadRow(
            ["cat", "dog", "eel"] * 6,
            ["cow", 1, ["cat"], np.nan],
            [
                {},
                {"pooling": "mean", "hidden": 16, "dropout": 0.1},
                {"label_smoothing": 0.1, "calibrated": True},
                {"layers": 3},
            ],
        ),
        HeadRow([True, False, False] * 5, ["yes"], [{"pooling": "cls"}], prefixes=(1,)),
    ],
    "regression": [
        HeadRow(
            (1000 + 50 * RNG.normal(size=16)).tolist(),
            ["many", np.inf, np.nan],
            [{}, {"objective": "huber", "dropout": 0.1}, {"pooling": "both", "layers": 2}],
        )
    ],
    "multilabel": [
        HeadRow(
            [["cat", "dog"], ["eel"], [], ["cat"], ["dog", "eel"]] * 4,
            ["cow", ["cat", "cow"], 1, [1, 2], np.nan, [["cat"]]],
            [{}, {"pooling": "mean", "hidden": 16, "dropout": 0.1}, {"objective": "asymmetric", "layers": 2}],
        ),
        HeadRow([[1, 0, 0], [0, 1, 1], "b|c", "|"] * 4, [[1, 0], [2, 0, 0]], [{"classes": ["a", "b", "c"]}]),
    ],
    "embedding": [
        HeadRow(
            ["ann", "bob", "cleo"] * 6,
            [["ann"], np.nan, 1.5, {}],
            [{}, {"size": 8, "pooling": "mean", "dropout": 0.1}, {"layers": 2, "temperature": 0.2}],
        ),
    ],
    "forecasting": [
        HeadRow(
            list(RNG.normal(size=(12, 2, 5))),
            [np.zeros((2, 4)), np.full((2, 5), np.inf), "text"],
            [
                {"horizon": 5, "tokens": 4, **more}
                for more in ({}, {"linear": 8}, {"quantiles": [0.1, 0.5, 0.9], "dropout": 0.1})
            ],
            sequence=behind_a_backbone("separate"),
            features=RNG.normal(size=(12, 2, 20)),
        ),
        HeadRow(
            list(RNG.normal(size=(12, 2, 5))),
            [],
            [{"horizon": 5, "tokens": 4, "per_sequence": 2}],
            sequence=behind_a_backbone("mixed"),
            features=RNG.normal(size=(12, 2, 20)),
        ),
    ],
}


HEAD_CASES = [(name, row, options) for name, cases in HEADS.items() for row in cases for options in row.options]


def test_everything_that_ships_has_a_row():
    assert sorted(HEADS) == pooling_heads()


@pytest.mark.parametrize(("name", "row", "options"), HEAD_CASES)
def test_head_keeps_the_contract(name, row, options):
    check_head(
        registry.lookup("heads", name),
        row.targets,
        options=options,
        bad_targets=row.bad_targets,
        prefixes=row.prefixes,
        sequence=row.sequence,
        features=row.features,
    )
