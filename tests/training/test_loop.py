"""The loop: it learns, never touches the backbone, resumes exactly, and is the same on two processes."""

import json
import math
import signal
import time

import numpy as np
import pytest
import torch
from accelerate import Accelerator, tracking
from accelerate.tracking import GeneralTracker
from accelerate.utils import DistributedType
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from transformers import TrainerCallback

import metatx
from metatx.encoding.encoded import EncodedDataset
from metatx.examples import Examples
from metatx.inference import ask, decoded
from metatx.training.frozen_features import cacheable
from metatx.training.loop import Training
from tests.conftest import waves
from tests.killing import FORKS

QUICK = {"epochs": 3, "batch_size": 32, "precision": "fp32", "checkpoint_seconds": 0.0}


def _task(nano, **options):
    return metatx.Task.from_data(nano, "waves", waves(100), head_options={"dropout": 0.2}, **options)


def _weights(task):
    return {name: tensor.clone() for name, tensor in task.state_dict().items()}


def _same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_training_learns_and_leaves_every_backbone_byte(nano):
    fingerprint = nano.fingerprint
    task = _task(nano).fit(waves(300), waves(100, seed=1), epochs=8, lr=3e-3)
    assert task.evaluate(waves(200, seed=2))["accuracy"] > 0.9
    assert nano.fingerprint == fingerprint
    assert not any(parameter.requires_grad for parameter in nano.parameters())


def test_nothing_done_to_a_task_reaches_the_backbone(nano):
    fingerprint = nano.fingerprint
    task = _task(nano)
    task.train()
    task.model.apply(lambda module: [nn.init.zeros_(weight) for weight in module.parameters(recurse=False)])
    task.load_state_dict({name: torch.ones_like(tensor) for name, tensor in task.state_dict().items()})
    task.model.requires_grad_(True)
    assert not nano.training and nano.fingerprint == fingerprint
    assert not any(parameter.requires_grad for parameter in nano.parameters())
    assert not any(name.startswith("backbone") for name in task.state_dict())


def test_same_seed_same_weights_other_seed_others(nano):
    first, second, other = (_weights(_task(nano, seed=seed).fit(waves(100), **QUICK, seed=seed)) for seed in (0, 0, 1))
    assert _same(first, second)
    assert not _same(first, other)


def test_the_best_epoch_is_kept(nano):
    held = waves(100, seed=1)
    task = _task(nano).fit(waves(100), held, epochs=6, lr=0.03, precision="fp32", batch_size=16)
    best = max(row["validation_accuracy"] for row in task.history)
    assert task.evaluate(held)["accuracy"] == pytest.approx(best)


def _chosen(nano, rows, validation=True, **changes):
    """The record of a run whose epochs give these validation metrics."""
    task = _task(nano)
    held = EncodedDataset.of(Examples(*waves(8)), task.tokenizer, task.head) if validation else None
    settings = metatx.TrainingSettings(epochs=len(rows), batch_size=64, **changes)
    data = EncodedDataset.of(Examples(*waves(16)), task.tokenizer, task.head)
    training = Training(task.model, data, held, settings)
    training.measure = lambda data, progress: {"f1": 0.0, **rows[progress.epoch]}
    return training.run(resume=False)


@pytest.mark.parametrize(
    ("metric", "rows", "kept"),
    [
        (None, [(1.0, 0.9), (1.0, 0.1), (1.0, 0.5)], "epoch 2 of 3, with the best validation accuracy (1.0000)"),
        (None, [(0.5, 0.9), (0.9, 0.8), (0.8, 0.1)], "epoch 2 of 3"),
        (None, [(math.nan, 0.1), (0.2, 0.9), (math.nan, 0.1)], "epoch 2 of 3"),
        (None, [(0.2, math.nan), (0.2, 0.9)], "epoch 2 of 2"),
        ("loss", [(0.9, 0.9), (0.5, 0.2), (0.8, 0.3)], "epoch 2 of 3, with the best validation loss (0.2000)"),
    ],
)
def test_epoch_kept_is_the_best_and_of_equal_ones_that_of_the_lowest_loss(nano, metric, rows, kept):
    assert kept in _chosen(nano, [{"accuracy": accuracy, "loss": loss} for accuracy, loss in rows], metric=metric).kept


def test_run_says_what_it_kept_where_nothing_was_chosen(nano):
    assert "the last epoch, 2; there is no validation split" in _chosen(nano, [{}, {}], validation=False).kept
    held = waves(40, seed=1)
    task = _task(nano).fit(waves(100), held, epochs=8, lr=3e-3)
    before = _weights(task)
    task.fit(waves(100), held, epochs=1, lr=1e-9, metric="accuracy")
    assert task.kept == "Kept: the weights before training; no epoch was better by validation accuracy."
    assert _same(before, _weights(task))


def test_unknown_metric_is_refused_before_training(nano):
    with pytest.raises(ValueError, match="Unknown metric 'accurcy'. Did you mean 'accuracy'?"):
        _task(nano).fit(waves(40), metric="accurcy")


def test_line_an_epoch_of_long_runs_now_and_then(nano, caplog):
    with caplog.at_level("INFO", logger="metatx"):
        _task(nano).fit(waves(16), waves(8), epochs=2, batch_size=16)
        short = list(caplog.messages)
        caplog.clear()
        _task(nano).fit(waves(16), epochs=40, batch_size=16)
    assert [line.split(",")[0][:10] for line in short] == ["epoch 1/2:", "epoch 2/2:"]
    assert "validation accuracy" in short[0] and "validation loss" in short[0]
    assert [line.partition("/")[0] for line in caplog.messages] == [f"epoch {n}" for n in range(2, 41, 2)]


def test_calibration_sees_the_whole_validation_split_once_on_the_best_weights(nano):
    held, seen = waves(50, seed=1), []
    task = _task(nano, seed=1)
    task.head.calibrates = True
    task.head.calibrate = lambda output, target: seen.append((output, target, _weights(task), task.model.training))
    task.fit(waves(100), held, **QUICK)
    ((output, target, weights, training),) = seen
    assert not training and _same(weights, _weights(task))
    pieces = ask(task.model, task.settings, task.queries(held[0]), decoded(torch.clone))
    answered = [piece.answers for piece in pieces]
    torch.testing.assert_close(output, torch.cat(answered))
    assert [task.head.classes[code] for code in target] == held[1]
    task.fit(waves(100), **QUICK)
    assert len(seen) == 1, "there was no validation split"


def test_a_finished_run_resumed_is_calibrated_alike(nano, tmp_path):
    options = {"head_options": {"calibrated": True}}
    first, again = (
        metatx.Task.from_data(nano, "waves", waves(100), **options).fit(
            waves(100), waves(50, seed=1), out=tmp_path, resume=True, **QUICK, lr=0.01
        )
        for _ in range(2)
    )
    assert first.head.temperature != 1 and _same(_weights(first), _weights(again))
    assert len(again.history) == 3
    first.save_pretrained(tmp_path / "task")
    assert first.head.card_note() in (tmp_path / "task" / "README.md").read_text()
    loaded = metatx.Task.from_pretrained(tmp_path / "task", backbone=nano)
    np.testing.assert_array_equal(loaded.predict_proba(waves(5)[0]), first.predict_proba(waves(5)[0]))


def test_patience_stops(nano):
    outcome = _chosen(nano, [{"accuracy": 0.5, "loss": 0.7}] * 50, patience=2)
    assert len(outcome.history) == 4  # the first is best; two more without a better one, and the one that says so


def test_rate_rises_and_falls(nano):
    history = _task(nano).fit(waves(64), epochs=10, lr=1.0e-3, batch_size=32, warmup=0.2).history
    rates = [row["lr"] for row in history]
    assert rates[1] == pytest.approx(1e-3)
    assert rates[0] < rates[1] and all(a > b for a, b in zip(rates[1:], rates[2:], strict=False))
    assert rates[-1] < 2e-5


def test_a_loss_that_is_not_finite_stops_with_advice(nano):
    task = _task(nano)
    with torch.no_grad():
        task.head.output.bias.fill_(torch.inf)
    with pytest.raises(ValueError, match="in epoch 1, step 1; try a lower learning rate"):
        task.fit(waves(40), epochs=1)


def _whole_run(folder):
    """A run to its end, from its checkpoint where there is one; in a process of its own."""
    torch.set_num_threads(1)
    nano = metatx.load_backbone("nano")
    task = _task(nano, tokenizer_options={"noise": 0.1})
    settings = {"epochs": 15, "batch_size": 16, "precision": "fp32", "checkpoint_seconds": 0.0}
    task.fit(waves(100), waves(50, seed=1), out=folder, resume=True, **settings)
    task.save_pretrained(folder / "task")


def test_a_run_killed_at_any_moment_ends_as_the_one_that_was_not(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "killed"
    for attempt in range(6):
        process = FORKS.Process(target=_whole_run, args=(folder,))
        process.start()
        before = _progress(folder)
        while process.is_alive() and _progress(folder) == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"attempt {attempt} was over before it could be killed"
    for name in ("killed", "whole"):
        process = FORKS.Process(target=_whole_run, args=(tmp_path / name,))
        process.start()
        process.join()
        assert process.exitcode == 0
    whole, killed = ((tmp_path / name / "task" / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    assert whole == killed
    rows = [_progress(tmp_path / name)["history"] for name in ("whole", "killed")]
    for first, second in zip(*rows, strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}


def _progress(folder):
    try:
        with safe_open(folder / "checkpoint.safetensors", "pt") as file:
            return json.loads(file.metadata()["state"])
    except OSError:
        return None


def test_other_settings_do_not_resume(nano, tmp_path):
    _task(nano).fit(waves(40), out=tmp_path, **QUICK)
    with pytest.raises(ValueError, match="lr 0.001 -> 0.01"):
        _task(nano).fit(waves(40), out=tmp_path, resume=True, **QUICK, lr=0.01)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="is damaged"):
        _task(nano).fit(waves(40), out=tmp_path, resume=True, **QUICK)


def test_features_of_a_frozen_path_are_cached_and_change_nothing(nano, tmp_path, monkeypatch):
    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    images = np.random.default_rng(0).integers(0, 255, (60, 64, 64, 3), dtype=np.uint8)
    data = (list(images), ["dark" if image[:20].mean() < 127.5 else "bright" for image in images])
    settings = {"epochs": 3, "precision": "fp32", "batch_size": 16}
    plain = metatx.Task.from_data(nano, "image", data).fit(data, **settings, cache=False)
    assert not list(tmp_path.rglob("*.safetensors"))
    first = metatx.Task.from_data(nano, "image", data)
    assert cacheable(first.model)
    first.fit(data, **settings)
    (cached,) = tmp_path.rglob("features/*.safetensors")
    written = cached.stat().st_ino
    metatx.Task.from_data(nano, "image", data, head_options={"dropout": 0.1}).fit(data, **settings)
    assert cached.stat().st_ino == written, "what pool gives does not depend on dropout"
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(first.state_dict()[name], tensor, atol=1e-4, rtol=1e-4)
    other = ([*images[:-1], 255 - images[-1]], data[1])
    metatx.Task.from_data(nano, "image", other).fit(other, **settings)
    assert len(list(tmp_path.rglob("features/*.safetensors"))) == 2, "other data, other features"


def test_augmentation_depends_on_seed_epoch_and_sample_alone(nano):
    task = _task(nano, tokenizer_options={"noise": 1.0})
    data = EncodedDataset.of(Examples(*waves(6)), task.tokenizer, task.head, augment=True)
    first = data.batch([0, 1, 2])[0]["signal"]
    torch.randn(10)
    again = data.batch([2, 1])[0]["signal"]
    assert torch.equal(again, first[[2, 1]])
    data.epoch = 1
    assert not torch.equal(data.batch([2, 1])[0]["signal"], again)


def test_workers_give_the_same_weights(nano):
    options = {"tokenizer_options": {"noise": 0.1}}
    alone = _task(nano, **options).fit(waves(60), **QUICK)
    helped = _task(nano, **options).fit(waves(60), **QUICK, workers=2)
    assert _same(_weights(alone), _weights(helped))


def test_tensorboard_events_are_written(nano, tmp_path):
    _task(nano).fit(waves(40), out=tmp_path, epochs=1, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"train_loss", "lr"} <= set(events.Tags()["scalars"])
    assert [each.step for each in events.Scalars("train_loss")] == [1]
    header = (tmp_path / "history.csv").read_text().splitlines()[0]
    assert header == "epoch,train_loss,lr,seconds"


def test_a_tracker_of_accelerate_is_told_the_settings_each_epoch_and_the_end(nano, tmp_path, monkeypatch):
    told = []

    class Tracker(GeneralTracker):
        name = "aim"
        requires_logging_directory = False
        tracker = None

        def __init__(self, run_name):
            super().__init__()
            told.append(run_name)

        def start(self):
            told.append("start")

        def store_init_configuration(self, values):
            told.append(values["lr"])

        def log(self, values, step, **options):
            told.append((step, values["train_loss"]))

        def finish(self):
            told.append("finish")

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "aim", Tracker)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["aim"])
    task = _task(nano).fit(waves(40), out=tmp_path, epochs=2, lr=1e-3, track="aim")
    assert told == ["metatx", "start", 1e-3, *((row["epoch"], row["train_loss"]) for row in task.history), "finish"]
    for name, error in (("wandbb", ValueError), ("wandb", ImportError)):
        with pytest.raises(error, match="wandb"):
            _task(nano).fit(waves(40), out=tmp_path / name, epochs=1, track=name)
        assert not (tmp_path / name).exists()


def test_callbacks_see_each_epoch_and_end_the_run(nano):
    class Watch(TrainerCallback):
        def __init__(self):
            self.calls = []

        def on_log(self, args, state, control, logs=None, **options):
            self.calls.append((state.global_step, state.max_steps, logs["train_loss"]))

        def on_epoch_end(self, args, state, control, **options):
            control.should_training_stop = state.epoch == 2

    class Ends:
        ended = 0

        def on_train_end(self, args, state, control):
            self.ended = len(state.log_history)

    watch, ends = Watch(), Ends()
    task = _task(nano).fit(waves(40), epochs=5, batch_size=20, callbacks=[watch, ends])
    assert [row["train_loss"] for row in task.history] == [loss for *_, loss in watch.calls]
    assert [call[:2] for call in watch.calls] == [(2, 10), (4, 10)] and ends.ended == 2
    with pytest.raises(TypeError, match="on_epoch_end"):
        _task(nano).fit(waves(40), epochs=1, callbacks=[print])


def test_a_launch_that_shards_what_is_trained_is_refused(nano, monkeypatch):
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(ValueError, match="configured for FSDP, which divides trained weights; .* --multi_gpu"):
        _task(nano).fit(waves(40), epochs=1)
