"""Frozen blocks that the main input passes as if it were alone are computed once, and change no number of a run."""

import numpy as np
import pytest
import torch

import metatx
from metatx.training.read_inputs import inputs_read_once, read_inputs
from tests.backbone.language_models import write_model
from tests.through import OTHER, WAY, samples

ANSWERS = ["even", "odd"] * 4
SETTINGS = {"epochs": 2, "batch_size": 4, "precision": "fp32", "lr": 0.01}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Folder of the cache of one test."""
    monkeypatch.setenv("METATX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module", params=["bert", "llama"])
def model(request, tmp_path_factory) -> metatx.Backbone:
    folder = write_model(tmp_path_factory.mktemp("models") / request.param, request.param, num_hidden_layers=4)
    return metatx.load_backbone(f"transformers:{folder}")


def data(some_without=""):
    """Samples of which each question comes twice, and one has no photo; one lacks ``some_without``."""
    questions = [each["words"] for each in samples(4)]
    made = [{**each, "words": questions[at % 4]} for at, each in enumerate(samples())]
    made[3]["photo"] = None
    if some_without:
        made[5][some_without] = None
    return made, ANSWERS


def task(model, every=2, options=None, words=None, given=None, **choices):
    inputs = [
        metatx.Input(name="photo", modality="image", through=WAY),
        metatx.Input(name="words", modality="text", options={"context": 24, "overlap": 4, **(words or {})}),
    ]
    fusion_options = {"every": every, "aside": True, "product": 2, **(options or {})}
    head = {"head": "classification", **choices}
    return metatx.Task.from_data(
        model,
        inputs,
        given or data(),
        fusion="gated",
        fusion_options=fusion_options,
        main="words",
        others={"other": OTHER},
        **head,
    )


@pytest.mark.parametrize("every", [1, 3, 4])
@pytest.mark.parametrize("without", ["", "words"])
def test_a_run_on_what_was_read_is_the_run_without_a_cache(model, every, without) -> None:
    given = data(without)
    runs = [task(model, every, given=given).fit(given, given, **SETTINGS, cache=cached) for cached in (False, True)]
    plain, cached = (run.state_dict() for run in runs)
    for name, tensor in plain.items():
        torch.testing.assert_close(cached[name], tensor, atol=1e-5, rtol=1e-4, msg=name)
    np.testing.assert_allclose(*(run.predict_proba(data()[0]) for run in runs), atol=1e-5)
    assert np.std(runs[0].predict_proba(data()[0])[:, 0]) > 1e-3


def test_each_question_passes_the_first_blocks_once(model) -> None:
    passed = []
    hook = model.blocks[0].register_forward_hook(lambda _, given, out: passed.append(given[0].shape[1]))
    try:
        task(model).fit(data(), **SETTINGS)
        once = task(model).tokenizer.tokenizer("words")
        lengths = once(
            {key: [once.encode(each["words"])[key] for each in samples(4)] for key in ("tokens", "segments")}
        )
        assert passed == [sum(lengths.lengths) + 4 * model.num_prefix_tokens]
    finally:
        hook.remove()


def test_what_may_change_before_the_first_exchange_is_not_kept(model) -> None:
    assert inputs_read_once(task(model).model) == ["photo", "words"]
    assert inputs_read_once(task(model, options={"aside": False}).model) == ["photo"]
    assert inputs_read_once(task(model, options={"dropout": 0.2}).model) == ["photo"]
    assert inputs_read_once(task(model, tune="lora").model) == ["photo"]
    assert inputs_read_once(task(model, words={"freeze_stem": False}).model) == ["photo"]
    assert inputs_read_once(task(model, every=3, head_options={"layers": 2}).model) == ["photo", "words"]
    assert inputs_read_once(task(model, every=4, head_options={"layers": 2}).model) == ["photo"]


def files(cache, made) -> int:
    encoded = made.encode(data(), "train")
    assert "words" in read_inputs(made.model, encoded, made.settings, lambda items, what: items)
    return len(list(cache.rglob("read/*.safetensors")))


def test_what_decides_the_tokens_decides_the_file(model, cache) -> None:
    assert files(cache, task(model)) == 2
    assert files(cache, task(model, options={"latents": 3})) == 2
    assert files(cache, task(model, every=3)) == 3
    assert files(cache, task(model, words={"overlap": 2})) == 4
    assert files(cache, task(model).set_inference(precision="bf16")) == 6
