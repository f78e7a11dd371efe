"""One row for each tokenizer and head that ships; the conformance kit holds all of them to one contract."""

import numpy as np
import pandas as pd
import pytest
import torch

import metatx
from metatx.registry import create, lookup
from metatx.sequence import as_sequence
from metatx.stem import Stem, StemConfig
from metatx.testing import check_head, check_tokenizer

RNG = np.random.default_rng(0)
DIM = 48


def _rows():
    frame = pd.DataFrame(
        {
            "age": RNG.integers(18, 90, 60),
            "gain": np.where(RNG.random(60) < 0.2, np.nan, RNG.normal(size=60)),
            "job": RNG.choice(["a", "b", None], 60),
            "member": RNG.random(60) < 0.5,
            "since": pd.date_range("2020-01-01", periods=60, freq="5D").astype(str),
        }
    )
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _gap(series):
    series[0, 3:6] = np.nan
    return series


ROW = _rows()[0]
TOKENIZERS = {
    "tabular": ({"bins": 8}, _rows(), [{**ROW, "age": "old"}, {**ROW, "gain": np.inf}, {"age": 3}, 7]),
    "image": (
        {},
        [RNG.integers(0, 255, (size, 20, 3), dtype=np.uint8) for size in (16, 24, 40)],
        ["none.png", np.zeros((0, 4)), np.full((8, 8), np.nan), {"bytes": b"no image", "path": None}],
    ),
    "time_series": (
        {"patch_size": 6, "stride": 3},
        [_gap(RNG.normal(size=(2, length)) * (1 + length)) for length in (12, 20, 33, 5)],
        [np.zeros((3, 20)), np.full((2, 9), np.nan), [["x"]], [], np.full((2, 9), np.inf)],
    ),
}


def _series_tokens(count):
    """What the time_series tokenizer gives for ``count`` windows of two channels, as a backbone would pass it on."""
    generator = np.random.default_rng(1)
    samples = [generator.normal(size=(2, 24)) + generator.normal() for _ in range(count)]
    tokenizer = create("tokenizers", "time_series", DIM, patch_size=6, stride=3, lookback=24).fit(samples)
    batch = {name: torch.stack([tokenizer.encode(s)[name] for s in samples]) for name in tokenizer.encode(samples[0])}
    sequence = as_sequence(tokenizer(batch))
    return sequence.with_embeddings(sequence.embeddings.detach())


HEADS = {
    "classification": ({}, ["a", "b", "c"] * 6, ["d", None], None),
    "regression": ({}, RNG.normal(5, 2, 18).tolist(), ["many", None, np.inf], None),
    "forecasting": (
        {"horizon": 4, "tokens": 3},
        [np.cumsum(RNG.normal(size=(2, 4)), axis=1) for _ in range(12)],
        [np.zeros((3, 4)), np.zeros((2, 5)), "rising"],
        _series_tokens,
    ),
}


def _stem():
    torch.manual_seed(0)
    stem = Stem(DIM, StemConfig(patch_size=8, image_size=16))
    torch.nn.init.normal_(stem.positions)
    return stem


@pytest.mark.parametrize("name", [name for name in metatx.names("tokenizers") if name != "waves"])
def test_tokenizer_keeps_the_contract(name):
    options, samples, bad = TOKENIZERS[name]
    check_tokenizer(lookup("tokenizers", name), samples, dim=DIM, options=options, bad_samples=bad, stem=_stem())


def test_trainable_stem_keeps_the_contract():
    _, samples, bad = TOKENIZERS["image"]
    options = {"freeze_stem": False, "augment": "strong"}
    check_tokenizer(lookup("tokenizers", "image"), samples, dim=DIM, options=options, bad_samples=bad, stem=_stem())


@pytest.mark.parametrize("options", [{"channels": "mixed"}, {"normalize": "training"}, {"lookback": 10}])
def test_time_series_options_keep_the_contract(options):
    base, samples, bad = TOKENIZERS["time_series"]
    check_tokenizer(lookup("tokenizers", "time_series"), samples, dim=DIM, options={**base, **options}, bad_samples=bad)


@pytest.mark.parametrize("name", metatx.names("heads"))
def test_head_keeps_the_contract(name):
    options, targets, bad, sequence = HEADS[name]
    check_head(lookup("heads", name), targets, dim=DIM, options=options, bad_targets=bad, sequence=sequence)
