"""Runs that are killed or asked to stop, at any moment, go on to the very weights of the run that was not."""

import json
import os
import signal
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from torch import nn

import metatx
from metatx.backbone.loading import save_backbone
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from metatx.cli import main
from metatx.training.checkpoint import Checkpoint
from metatx.training.interrupts import CheckpointSchedule
from metatx.training.loop import Training
from tests.killing import Life, forked, run_apart

KILLS = 20
OPTIONS = "--tune lora --adapter.dropout 0.1 --head.dropout 0.2 --epochs 3 --batch-size 8 --lr 0.01 --precision fp32"
ASKED = {"SIGTERM": ("step", 11), "SIGINT": ("measure", 2)}  # at the so manyeth call of a method of Training
WEIGHTS = ("task/model.safetensors", "task/adapter/adapter_model.safetensors")


def _train(out):
    """``metatx train``, that goes on where it can."""
    words = f"train rows.csv --modality tabular --target label --backbone small {OPTIONS} --no-baseline"
    main([*words.split(), "--checkpoint-steps", "2", "--out", out, "--resume"])


def _lived(out, end, diary):
    """A run that is killed at a call after training began; the number of calls of training where it was not."""
    real, calls = Training.run, []

    def run(training, resume):
        life = Life(end, diary)
        history = real(training, resume)
        calls.append(life.calls)
        return history

    Training.run = run
    _train(out)
    sys.setprofile(None)
    Training.run = real
    return calls[0]


def _asked(out, name):
    """A run that sends itself a signal."""
    place, count = ASKED[name]
    real, calls = getattr(Training, place), iter(range(1, 1000))

    def asking(*arguments):
        if next(calls) == count:
            os.kill(os.getpid(), signal.Signals[name])
        return real(*arguments)

    setattr(Training, place, asking)
    os.dup2(os.open(f"{out}.txt", os.O_WRONLY | os.O_CREAT), 2)
    _train(out)


def _all_runs(folder):
    """All of this page's runs, in forks of a process that has made one."""
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    torch.set_num_threads(1)
    _train("whole")
    found = {"calls": _lived("counted", None, None), "starts": []}
    rng = np.random.default_rng(0)
    while found["starts"].count(-signal.SIGKILL) < KILLS:
        end = int(rng.integers(1, 3 * found["calls"] / KILLS))
        found["starts"].append(forked(_lived, "killed", end, folder / "diary.txt"))
    for name in ASKED:
        found[name] = forked(_asked, name, name)
    found["resumed"] = [forked(_train, out) for out in ("killed", *ASKED)]
    (folder / "found.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A table, a small backbone, the runs on them, and what they ended with."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=160), "b": rng.choice(["red", "blue"], 160)})
    frame.assign(label=np.where((frame.a > 0) ^ (frame.b == "red"), "yes", "no")).to_csv(folder / "rows.csv")
    config = BackboneConfig(dim=32, depth=2, num_heads=2, mlp_dim=64)
    save_backbone(VisionTransformer(config, None, spec="small"), folder / "small", about="tests")
    assert run_apart(_all_runs, folder) == 0
    return folder, json.loads((folder / "found.json").read_text())


def _check_end(folder, out):
    for name in WEIGHTS:
        assert (folder / out / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
    numbers = [json.loads((folder / run / "metrics.json").read_text()) for run in (out, "whole")]
    assert all(numbers[0][split] == numbers[1][split] for split in ("test", "validation"))
    assert not list((folder / out).glob(".*")), "nothing half-written is left"


def test_killed_at_twenty_moments_it_ends_with_the_same_weights(runs):
    folder, found = runs
    assert set(found["starts"]) <= {0, -signal.SIGKILL} and found["starts"].count(-signal.SIGKILL) == KILLS
    struck = (folder / "diary.txt").read_text().splitlines()
    assert len(struck) == KILLS
    writing, stepping = (sum(place in line for line in struck) for place in ("Checkpoint.save", "Training.step"))
    assert writing and stepping and writing + stepping < KILLS, "kills strike in checkpoints, in steps, and elsewhere"
    assert found["resumed"] == [0] * 3
    _check_end(folder, "killed")


@pytest.mark.parametrize(("name", "done"), [("SIGTERM", "0 epochs and 11 steps"), ("SIGINT", "1 epochs and 15 steps")])
def test_a_signal_stops_it_saved_with_one_line_and_it_goes_on(runs, name, done):
    folder, found = runs
    assert found[name] == 128 + signal.Signals[name]
    *_, line = (folder / f"{name}.txt").read_text().splitlines()  # behind lines of epochs
    assert line == (
        f"metatx: Stopped by {name} after {done}, which are kept. Go on with --out {name} --resume "
        f"(in Python: out='{name}', resume=True)."
    )
    _check_end(folder, name)


def test_resume_without_a_folder_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["train", "rows.csv", "--modality", "tabular", "--resume"])
    assert "--resume goes on with a run in a folder; name it with --out" in capsys.readouterr().err


def _keeper(folder):
    module = nn.Linear(1, 1)
    settings = metatx.TrainingSettings()
    return CheckpointSchedule(
        Accelerator(), Checkpoint(folder, module, torch.optim.AdamW(module.parameters()), settings)
    )


def test_signals_are_left_alone_without_a_checkpoint_and_outside_a_run(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    keeper, inside = _keeper(tmp_path), []
    with keeper:
        assert all(signal.getsignal(number).__self__ is keeper for number in (signal.SIGTERM, signal.SIGINT))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    with _keeper(None):
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before

    def elsewhere():
        with _keeper(tmp_path):
            inside.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert inside, "only the main thread may take signals"
