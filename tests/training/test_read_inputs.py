"""What another backbone makes of an input is computed once, and changes no number of a run."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import metatx
from metatx.backbone.vit import VisionTransformer
from metatx.training.read_inputs import inputs_read_once, read_inputs
from tests.through import BACKBONE, OTHER, SHAPE, WAY, counted
from tests.training.stopping import stopped_after

SETTINGS = {"epochs": 3, "batch_size": 8, "precision": "fp32", "lr": 0.01}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Folder of the cache of one test."""
    monkeypatch.setenv("METATX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def data(count=24, seed=0):
    """Samples with one of five photos, or none, and a few words, or none."""
    photos = np.random.default_rng(9).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    rng = np.random.default_rng(seed)
    samples = [{"photo": photos[rng.integers(5)], "words": f"film {rng.integers(9)}"} for _ in range(count)]
    for at in range(0, count, 4):
        samples[at]["photo" if at % 8 else "words"] = None
    return samples, [["even", "odd"][at % 2] for at in range(count)]


def task(bridge="linear", options=None, other=OTHER, words=None, way=None, **choices):
    way = {**WAY, "bridge": bridge, **(way or {})}
    inputs = [
        metatx.Input(name="photo", modality="image", through=way, options=options or {}),
        metatx.Input(name="words", modality="text", **(words or {})),
    ]
    return metatx.Task.from_data(BACKBONE, inputs, data(), others={"other": other}, **choices)


@pytest.mark.parametrize(
    ("bridge", "choices"),
    [
        ("linear", {"fusion_options": {"dropout": 0.3}}),
        ("grid", {"fusion": "early", "tune": "lora"}),
        ("mlp", {"words": {"frozen": True}, "fusion_options": {"product": 2}}),
        ("mlp", {"words": {"frozen": True, "through": WAY}}),
        ("qformer", {"tokenizer_options": {"words": {"context": 16, "overlap": 4}}}),
    ],
)
def test_a_run_on_what_was_read_is_the_run_without_a_cache(bridge, choices):
    runs = [task(bridge, **choices).fit(data(), data(12, 1), **SETTINGS, cache=cached) for cached in (False, True)]
    plain, cached = (run.state_dict() for run in runs)
    for name, tensor in plain.items():
        torch.testing.assert_close(cached[name], tensor, atol=1e-5, rtol=1e-4, msg=name)
    rows = [[row["train_loss"] for row in run.history] for run in runs]
    assert rows[0] == pytest.approx(rows[1], abs=1e-5)


def test_each_different_value_is_read_once(monkeypatch, cache):
    passes = counted(monkeypatch, OTHER)
    task().fit(data(), **SETTINGS)
    assert sum(passes) == 5, "five photos in three epochs of 24 samples"
    task("mlp", seed=3).fit(data(), **SETTINGS)
    assert sum(passes) == 10, "another bridge may read other tokens"
    task(seed=3, fusion="early").fit(data(), **SETTINGS)
    assert sum(passes) == 10, "from the disk"
    task(options={"freeze_stem": False}).fit(data(), **SETTINGS)
    assert sum(passes) == 10 + 3 * 21, "a stem that trains gives other tokens each time"
    assert len(list(cache.rglob("read/*.safetensors"))) == 2


def files(cache, made, samples=None):
    encoded = made.encode(samples or data(), "train")
    assert list(read_inputs(made.model, encoded, made.settings, lambda items, what: items)) == ["photo"]
    return len(list(cache.rglob("read/*.safetensors")))


def test_what_decides_the_tokens_decides_the_file(cache):
    assert files(cache, task()) == 1
    assert files(cache, task(head_options={"pooling": "cls"}, main="words")) == 1
    assert files(cache, task(), (data()[0], data()[1][::-1])) == 1, "targets decide nothing"
    before = files(cache, task(), (data()[0][:3], data()[1][:3]))
    assert before == 2, "other photos"
    assert files(cache, task(options={"crop_pct": 0.5})) == before + 1
    assert files(cache, task(other=VisionTransformer(replace(SHAPE, depth=1), None, spec="other"))) == before + 2
    assert files(cache, task("grid")) == before + 3
    assert files(cache, task("grid", way={"side": 2})) == before + 4
    assert files(cache, task().set_inference(precision="bf16")) == before + 5


def test_what_varies_or_trains_before_the_other_backbone_is_not_kept():
    assert inputs_read_once(task().model) == ["photo"]
    assert inputs_read_once(task(tune="full").model) == ["photo"]
    assert inputs_read_once(task(options={"augment": "flip"}).model) == []
    assert inputs_read_once(task(options={"freeze_stem": False}).model) == []
    assert inputs_read_once(task(words={"through": WAY}).model) == ["photo"], "the tokenizer of words trains"
    assert inputs_read_once(task(words={"through": WAY, "frozen": True}).model) == ["photo", "words"]
    assert inputs_read_once(metatx.Task.from_data(BACKBONE, {"photo": "image"}, data()).model) == []


@pytest.mark.parametrize("end", [1, 4])
def test_a_run_that_ends_at_any_step_and_is_resumed_is_the_unbroken_run(tmp_path, monkeypatch, end):
    settings = {**SETTINGS, "checkpoint_seconds": 0.0}
    whole = task().fit(data(), data(12, 1), **settings, out=tmp_path / "whole")
    with stopped_after(end, monkeypatch):
        task().fit(data(), data(12, 1), **settings, out=tmp_path / "broken")
    resumed = task().fit(data(), data(12, 1), **settings, out=tmp_path / "broken", resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
