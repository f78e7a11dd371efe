"""Novelty fitted with a task: told in records, from wherever; saved with the task; refused where it cannot be."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import metatx
from metatx.errors import TaskError
from tests.conftest import waves

QUICK = {"epochs": 2, "batch_size": 32, "precision": "fp32"}


@pytest.fixture(scope="module")
def fitted(nano):
    """Tasks by the measure of novelty."""
    tasks = {kind: metatx.Task.from_data(nano, "waves", waves(100)) for kind in (None, "mahalanobis", "energy")}
    return {kind: task.fit(waves(100), waves(60, seed=1), novelty=kind, **QUICK) for kind, task in tasks.items()}


def test_novelty_changes_no_answer(fitted):
    samples = waves(20, seed=2)[0]
    plain = fitted[None].records(samples)
    assert not any("novelty" in record for record in plain)
    for kind in ("mahalanobis", "energy"):
        told = fitted[kind].records(samples)
        shares = [record.pop("novelty") for record in told]
        assert told == plain
        assert all(0 <= share <= 1 for share in shares) and len(set(shares)) > 5


def test_what_a_task_never_saw_is_novel(fitted):
    usual = [record["novelty"] for record in fitted["mahalanobis"].records(waves(60, seed=3)[0])]
    shifted = [signal + 20 for signal in waves(20, seed=3)[0]]
    assert 0.3 < np.mean(usual) < 0.7
    assert min(record["novelty"] for record in fitted["mahalanobis"].records(shifted)) > 0.98


@pytest.mark.parametrize("kind", ["mahalanobis", "energy"])
def test_saved_tasks_and_pools_tell_the_same(nano, fitted, kind, tmp_path):
    samples = waves(5, seed=2)[0]
    folder = fitted[kind].save_pretrained(tmp_path / "task")
    told = fitted[kind].records(samples)
    assert metatx.Task.from_pretrained(folder, backbone=nano).records(samples) == told
    assert "`novelty`" in (folder / "README.md").read_text()
    pool = metatx.TaskPool(nano)
    pool.add("signals", folder)
    pool.add("plain", fitted[None])
    requests = [pool.prepare(name, sample, "records") for sample in samples for name in ("signals", "plain")]
    pooled = [answers["novelty"] for answers in pool.answer(requests) if "novelty" in answers]
    assert pooled == pytest.approx([record["novelty"] for record in told], abs=2e-3)


def test_heads_without_classes_have_one_mean(nano):
    signals = waves(80)[0]
    numbers = [float(np.abs(signal).mean()) for signal in signals]
    task = metatx.Task.from_data(nano, "waves", (signals, numbers), head="regression", head_options={"layers": 2})
    task.fit((signals, numbers), (signals[:30], numbers[:30]), novelty="mahalanobis", **QUICK)
    assert len(task.model.novelty.distance.means) == 1
    assert {"prediction", "novelty"} <= task.records(signals[:1])[0].keys()


def test_training_again_without_novelty_leaves_none(nano):
    task = metatx.Task.from_data(nano, "waves", waves(60))
    task.fit(waves(60), waves(30, seed=1), novelty="mahalanobis", **QUICK)
    assert "novelty" not in task.fit(waves(60), waves(30, seed=1), **QUICK).records(waves(1)[0])[0]


def test_novelty_is_refused_before_training(nano):
    task = metatx.Task.from_data(nano, "waves", waves(60))
    with pytest.raises(ValueError, match="validation split"):
        task.fit(waves(60), novelty="mahalanobis", **QUICK)
    numbers = (waves(60)[0], np.linspace(0, 1, 60).tolist())
    regression = metatx.Task.from_data(nano, "waves", numbers, head="regression")
    with pytest.raises(ValueError, match="choose novelty 'mahalanobis'"):
        regression.fit(numbers, numbers, novelty="energy", **QUICK)
    assert not task.model.trained and not regression.model.trained


def test_damaged_novelty_is_no_task(nano, fitted, tmp_path):
    folder = fitted["mahalanobis"].save_pretrained(tmp_path / "task")
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in {
        "novelty.quantiles": torch.full((1001,), torch.nan),
        "novelty.distance.means": torch.zeros(2, 3),
    }.items():
        save_file({**tensors, name: tensor}, folder / "model.safetensors")
        with pytest.raises(TaskError, match="novelty"):
            metatx.Task.from_pretrained(folder, backbone=nano)
