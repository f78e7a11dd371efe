"""Alignment before tuning: the distance is Fréchet's, only what makes tokens learns, and a killed run ends the same."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image

import metatx
from metatx.backbone.vit import VisionTransformer
from metatx.training import loop as training
from metatx.training import token_warmup as token_warmup
from metatx.training.token_warmup import frechet_distance, stem_statistics, warm_up_tokens
from tests.conftest import waves

SETTINGS = metatx.TrainingSettings(epochs=2, batch_size=32, lr=3e-3, precision="fp32", token_warmup_steps=12)


@pytest.fixture(autouse=True)
def _few_tokens(monkeypatch):
    monkeypatch.setattr(token_warmup, "TOKENS", 1024)


def _task(nano, **options):
    return metatx.Task.from_data(nano, "waves", waves(100), head_options={"dropout": 0.2}, **options)


def _aligned(task, **changes):
    data = task.encode(waves(100), "train")
    return warm_up_tokens(task.model, data, replace(SETTINGS, **changes), lambda items, what: items)


def _weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _statistics(tokens):
    root = scipy.linalg.sqrtm(np.cov(tokens.double().numpy(), rowvar=False)).real
    return token_warmup.TokenStatistics(tokens.mean(0), torch.tensor(root, dtype=torch.float32))


@pytest.mark.parametrize("count", [200, 5])  # 5: fewer tokens than dimensions
def test_distance_is_that_of_the_formula(count):
    rng = torch.Generator().manual_seed(0)
    tokens = (torch.randn(count, 8, generator=rng) * torch.arange(1, 9) + 0.5).requires_grad_()
    other = torch.randn(100, 8, generator=rng) @ torch.randn(8, 8, generator=rng)
    first, second = (np.cov(values.detach().double().numpy(), rowvar=False) for values in (tokens, other))
    means = (tokens.mean(0) - other.mean(0)).square().sum().item()
    expected = means + np.trace(first + second - 2 * scipy.linalg.sqrtm(first @ second).real)
    distance = frechet_distance(tokens, _statistics(other))
    assert distance.item() == pytest.approx(expected, rel=1e-4)
    distance.backward()
    assert tokens.grad.isfinite().all() and tokens.grad.abs().sum() > 0
    assert frechet_distance(other, _statistics(other)).item() == pytest.approx(0, abs=1e-3)


def test_statistics_are_of_tokens_as_they_enter_the_blocks(nano):
    state = torch.get_rng_state()
    entered, again = [], stem_statistics(nano)
    with nano.stem.register_forward_hook(lambda _, inputs, output: entered.append(inputs[0])):
        found = stem_statistics(nano)
    assert torch.equal(state, torch.get_rng_state()) and torch.equal(found.root, again.root)
    with torch.no_grad():
        pictures = torch.cat(entered)
        entering = nano.norm_pre(nano.stem(pictures).flatten(0, 1))
    assert pictures.shape == (16, 3, 64, 64) and pictures.std() > 0.12 and 0 <= pictures.min() and pictures.max() <= 1
    torch.testing.assert_close(found.mean, entering.mean(0))
    torch.testing.assert_close(found.root @ found.root, entering.T.cov(), atol=1e-3, rtol=1e-3)
    assert frechet_distance(entering, found).item() == pytest.approx(0, abs=0.05)


def test_two_photographs_stand_for_pictures(nano):
    if "METATX_DATA" not in os.environ:
        pytest.skip("METATX_DATA is not set: the folder that holds image/cifar10_subset")
    files = sorted((Path(os.environ["METATX_DATA"]) / "image" / "cifar10_subset" / "test").rglob("*.jpg"))[::10][:64]
    pictures = np.stack([np.asarray(Image.open(file).convert("RGB").resize((64, 64))) for file in files])
    with torch.no_grad():
        tokens = nano.norm_pre(nano.stem(torch.tensor(pictures).permute(0, 3, 1, 2) / 255).flatten(0, 1))
    assert (
        5 * frechet_distance(tokens, stem_statistics(nano)).item()
        < _aligned(_task(nano), token_warmup_steps=1)["before"]
    )


def test_only_what_makes_tokens_learns(nano):
    task, fingerprint = _task(nano, tune="full"), nano.fingerprint
    before = _weights(task)
    found = _aligned(task, token_warmup_steps=60)
    assert found["steps"] == 60 and found["after"] < 0.5 * found["before"]
    changed = {
        name.partition(".")[0] for name, value in task.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"tokenizer"} and nano.fingerprint == fingerprint
    assert all(parameter.grad is None for parameter in task.parameters())


def test_a_norm_behind_the_tokenizer_learns_too():
    weights = {name: value for name, value in metatx.load_backbone("nano").named_weights() if "norm_pre" not in name}
    config = replace(metatx.load_backbone("nano").config, norm_pre=False)
    task = _task(VisionTransformer(config, weights, spec="without norm_pre"))
    before = _weights(task.model.norm)
    found = _aligned(task)
    assert found["after"] < found["before"] and not _same(before, _weights(task.model.norm))


class Killed(BaseException):
    """Nothing catches it."""


def _run(nano, folder):
    task = _task(nano, tokenizer_options={"noise": 0.1})
    return task.fit(waves(100), waves(50, seed=1), out=folder, resume=True, **vars(SETTINGS))


@pytest.mark.parametrize(("place", "call"), [("frechet_distance", 7), ("warm_up_tokens", 1), ("Training.step", 3)])
def test_a_killed_run_ends_as_the_one_that_was_not(nano, tmp_path, monkeypatch, place, call):
    whole = _run(nano, tmp_path / "whole")
    calls, owner = [], training.Training if "." in place else (training if place == "warm_up_tokens" else token_warmup)
    name = place.rpartition(".")[2]
    original = getattr(owner, name)

    def killing(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, killing)
        with pytest.raises(Killed):
            _run(nano, tmp_path / "killed")
    aligned, align = [], training.warm_up_tokens
    monkeypatch.setattr(training, "warm_up_tokens", lambda *parts: aligned.append(1) or align(*parts))
    resumed = _run(nano, tmp_path / "killed")
    assert len(aligned) == (0 if place == "Training.step" else 1), "what is done is not done again"
    assert _same(_weights(whole), _weights(resumed)) and resumed.token_warmup == whole.token_warmup
    assert [row["train_loss"] for row in resumed.history] == [row["train_loss"] for row in whole.history]


def test_the_record_of_a_run_has_steps_and_distances(nano, table, tmp_path):
    for steps in (12, 0):
        out, settings = tmp_path / f"{steps}", replace(SETTINGS, epochs=1, token_warmup_steps=steps)
        options = {"backbone": nano, "target": "kind", "settings": settings, "baseline": False}
        report = metatx.run(table, "tabular", **options, out=out)
        written = json.loads((out / "metrics.json").read_text())["token_warmup"]
        assert written == (report.task.token_warmup or None)
        assert ("12 steps of token warm-up; distance to the stem's tokens" in str(report)) == bool(steps)
        assert written is None or (written["steps"] == 12 and 0 < written["after"] < written["before"])


def test_what_cannot_be_aligned_is_refused(nano):
    with pytest.raises(ValueError, match="token_warmup_steps is -1; it must be at least 0"):
        metatx.TrainingSettings(token_warmup_steps=-1)
    weights = {name: value for name, value in nano.named_weights() if not name.startswith("stem.")}
    stemless = VisionTransformer(replace(nano.config, stem=None), weights, spec="stemless")
    with pytest.raises(ValueError, match=r"^stemless has no stem.*leave token_warmup_steps at 0.$"):
        _task(stemless).fit(waves(40), **vars(SETTINGS))
    images = ([np.full((64, 64, 3), value, np.uint8) for value in range(40)], ["dark", "bright"] * 20)
    with pytest.raises(ValueError, match=r"^There is nothing to align: the image tokenizer trains no weights here"):
        metatx.Task.from_data(nano, "image", images).fit(images, **vars(SETTINGS))
    with pytest.raises(
        ValueError, match="Tokens in the alignment are not finite; try a lower learning rate than 0.003"
    ):
        task = _task(nano)
        torch.nn.init.constant_(task.tokenizer.proj.bias, torch.inf)
        _aligned(task)
