"""Inputs that are frozen below the fusion are read from a cache, one by one, and change no number of a run."""

import numpy as np
import pytest
import torch

import metatx
from metatx.training.frozen_features import cacheable_inputs, pooled_inputs
from tests.conftest import waves
from tests.mixed_tasks import small_backbone
from tests.training.stopping import stopped_after

SETTINGS = {"epochs": 3, "batch_size": 16, "precision": "fp32", "lr": 0.01}
BOTH = ("left", "right")


@pytest.fixture(scope="module")
def small():
    return small_backbone()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Folder of the cache of one test."""
    monkeypatch.setenv("METATX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pairs(count, seed=0, missing=True):
    """Pairs of ten signals, some of them missing, and if both are equally loud."""
    signals, loudness = waves(10)
    rng = np.random.default_rng(seed)
    samples = []
    labels = []
    for at in range(count):
        left, right = rng.integers(0, 10, 2)
        sample = {"left": signals[left], "right": signals[right]}
        if missing and at % 3:
            sample[BOTH[at % 2]] = None
        samples.append(sample)
        labels.append("same" if loudness[left] == loudness[right] else "other")
    return samples, labels


def fused(small, frozen=BOTH, data=None, noise=0.0, **options):
    inputs = [
        metatx.Input(name=name, modality="waves", frozen=name in frozen, options={"noise": noise}) for name in BOTH
    ]
    return metatx.Task.from_data(small, inputs, data or pairs(40), **options)


def files(cache):
    return sorted(path.name for path in cache.rglob("features/*.safetensors"))


@pytest.mark.parametrize("frozen", [BOTH, ("left",), ("right",)])
def test_a_run_on_cached_inputs_is_the_run_without_a_cache(small, frozen):
    options = {"fusion_options": {"product": 4, "dropout": 0.3}, "head_options": {"dropout": 0.1}}
    runs = []
    for cached in (False, True):
        task = fused(small, frozen, **options)
        task.fit(pairs(40), pairs(30, seed=1), **SETTINGS, cache=cached)
        runs.append((task, task.evaluate(pairs(20, seed=2))))
    (plain, measured), (cached, again) = runs
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(cached.state_dict()[name], tensor, atol=1e-5, rtol=1e-4, msg=name)
    assert again == pytest.approx(measured, abs=1e-5)
    for rows in zip(plain.history, cached.history, strict=True):
        first, second = ({name: value for name, value in row.items() if name != "seconds"} for row in rows)
        assert second == pytest.approx(first, abs=1e-5)


def test_each_different_value_passes_the_backbone_once(small, cache):
    passed = []
    samples = pairs(40)[0]
    different = sum(len({id(sample[name]) for sample in samples if sample[name] is not None}) for name in BOTH)
    hook = small.register_forward_pre_hook(lambda module, args: passed.append(len(args[0].lengths)))
    try:
        fused(small).fit(pairs(40), **SETTINGS)
        assert sum(passed) == different, "however many epochs and samples there are"
        fused(small).fit(pairs(40), **SETTINGS)
        assert sum(passed) == different, "the second run reads the cache"
        fused(small, ("left",)).fit(pairs(40), **SETTINGS)
        live = 3 * sum(sample["right"] is not None for sample in samples)
        assert sum(passed) == different + live, "an input that trains passes live, and alone"
    finally:
        hook.remove()
    assert len(files(cache)) == 2


def _kept(small, cache, data=None, change=None, settings=None, **options):
    """Files in the cache after the features of a task were computed."""
    task = fused(small, data=data, **options)
    if change:
        change(task.tokenizer.tokenizer("left"))
    if settings:
        task.set_inference(**settings)
    pooled_inputs(task.model, task.encode(data or pairs(40), "train"), task.settings, lambda items, what: items)
    return files(cache)


def test_a_file_an_input_serves_all_that_read_it_alike(small, cache):
    first = _kept(small, cache)
    assert len(first) == 2
    assert first == _kept(small, cache, fusion_options={"product": 3, "dropout": 0.2}), "behind the features"
    assert first == _kept(small, cache, head_options={"pooling": "cls", "hidden": 4}), "behind the features"
    assert first == _kept(small, cache, data=(pairs(40)[0], pairs(40)[1][::-1])), "targets decide nothing"
    assert first == _kept(small, cache, frozen=("left",)), "the other input decides nothing"


OTHERS = {
    "samples": {"data": pairs(40, seed=1)},
    "weights": {"change": lambda tokenizer: tokenizer.proj.bias.data.add_(1.0)},
    "layers": {"head_options": {"layers": 2}},
    "precision": {"settings": {"precision": "bf16"}},
}


@pytest.mark.parametrize("what", OTHERS)
def test_others_have_files_of_their_own(small, cache, what):
    assert len(_kept(small, cache)) == 2
    assert len(_kept(small, cache, **OTHERS[what])) > 2


def test_inputs_that_share_a_tokenizer_have_a_file_each(small, cache):
    left = metatx.Input(name="left", modality="waves", frozen=True)
    inputs = [left, metatx.Input(name="right", modality="waves", shares="left")]
    task = metatx.Task.from_data(small, inputs, pairs(40))
    assert cacheable_inputs(task.model) == ["left", "right"]
    task.fit(pairs(40), **SETTINGS)
    assert len(files(cache)) == 2


@pytest.mark.parametrize(
    "options",
    [{"fusion": "early"}, {"fusion": "mid"}, {"tune": "lora"}, {"tune": "full"}, {"frozen": ()}, {"noise": 0.1}],
)
def test_what_trains_or_varies_is_not_cached(small, options):
    assert cacheable_inputs(fused(small).model) == [*BOTH]
    assert cacheable_inputs(fused(small, **options).model) == []


def test_an_input_missing_in_all_of_a_split(small):
    task = fused(small).fit(pairs(40), **SETTINGS)
    alone = [{"left": sample["left"], "right": None} for sample in pairs(10, missing=False)[0]]
    labels = pairs(10)[1]
    live = task.predict(alone)
    assert task.evaluate((alone, labels))["accuracy"] == pytest.approx(np.mean(live == np.array(labels)))


def test_a_frozen_tokenizer_keeps_its_weights_and_its_mode(small, tmp_path):
    task = fused(small, ("left",))
    parts = task.tokenizer.tokenizer("left"), task.tokenizer.norm("left")
    frozen = sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert task.trainable_parameters == fused(small, ()).trainable_parameters - frozen
    before = {name: tensor.clone() for name, tensor in task.tokenizer.state_dict().items()}
    task.fit(pairs(40), **SETTINGS)
    changed = {name for name, tensor in task.tokenizer.state_dict().items() if not torch.equal(before[name], tensor)}
    assert changed and all("right" in name for name in changed)
    task.model.train()
    modes = [task.tokenizer.tokenizer(name).training for name in BOTH]
    task.model.eval()
    assert modes == [False, True]
    task.save_pretrained(tmp_path / "task")
    loaded = metatx.Task.from_pretrained(tmp_path / "task", backbone=small)
    assert loaded.trainable_parameters == task.trainable_parameters
    np.testing.assert_array_equal(loaded.predict_proba(pairs(9)[0]), task.predict_proba(pairs(9)[0]))


@pytest.mark.parametrize("frozen", [BOTH, ("left",)])
@pytest.mark.parametrize("end", [1, 4])
def test_a_run_that_ends_at_any_step_and_is_resumed_is_the_unbroken_run(small, tmp_path, monkeypatch, frozen, end):
    settings = {**SETTINGS, "checkpoint_seconds": 0.0}
    data = pairs(40), pairs(30, seed=1)
    options = {"fusion_options": {"dropout": 0.3}, "noise": 0.0}
    whole = fused(small, frozen, **options).fit(*data, **settings, out=tmp_path / "whole")
    with stopped_after(end, monkeypatch):
        fused(small, frozen, **options).fit(*data, **settings, out=tmp_path / "broken")
    resumed = fused(small, frozen, **options).fit(*data, **settings, out=tmp_path / "broken", resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
