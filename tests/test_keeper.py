"""Runs that are killed or asked to stop, at any moment, go on to the very weights of the run that was not."""

import json
import os
import signal
from functools import partial

import numpy as np
import pandas as pd
import pytest

import metatx
from metatx.backbone import BackboneConfig
from metatx.cli import main
from metatx.training import Training
from metatx.weights import save_backbone
from tests.killing import Life, run_apart

KILLS = 20
OPTIONS = "--tune lora --adapter.dropout 0.1 --head.dropout 0.2 --epochs 3 --batch-size 8 --lr 0.01 --precision fp32"
WEIGHTS = ("task/model.safetensors", "task/adapter/adapter_model.safetensors")


def _train(folder, out, begin=None, errors=None):
    """``metatx train``, that goes on where it can; ``begin`` is called when everything is imported."""
    os.chdir(folder)
    if errors is not None:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if begin is not None:
        begin()
    words = f"train rows.csv --modality tabular --target label --backbone small {OPTIONS}"
    main([*words.split(), "--checkpoint-steps", "2", "--out", out, "--resume"])


def _counted(folder, out):
    """A whole life; the number of its calls goes to a file."""
    lives = []
    _train(folder, out, lambda: lives.append(Life()))
    (folder / "calls").write_text(str(lives[0].over()))


def _killed(folder, out, end):
    _train(folder, out, lambda: Life(end))


def _asked(folder, out, place, count, number):
    """The process sends itself a signal at a call of a method of ``Training``, in its middle as good as at its end."""
    real, calls = getattr(Training, place), iter(range(1, count + 1))

    def asking(*arguments):
        if next(calls, None) == count:
            os.kill(os.getpid(), number)
        return real(*arguments)

    _train(folder, out, partial(setattr, Training, place, asking), folder / "errors.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table, a small backbone, and a whole run on them."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=160), "b": rng.choice(["red", "blue"], 160)})
    frame.assign(label=np.where((frame.a > 0) ^ (frame.b == "red"), "yes", "no")).to_csv(folder / "rows.csv")
    config = BackboneConfig(dim=32, depth=2, num_heads=2, mlp_dim=64)
    save_backbone(metatx.Backbone(config, None, spec="small"), folder / "small", about="tests")
    assert run_apart(_counted, folder, "whole") == 0
    return folder


def _same_end(folder, out):
    for name in WEIGHTS:
        assert (folder / out / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
    numbers = [json.loads((folder / run / "metrics.json").read_text()) for run in (out, "whole")]
    assert numbers[0]["test"] == numbers[1]["test"] and numbers[0]["validation"] == numbers[1]["validation"]


def test_killed_twenty_times_it_ends_with_the_same_weights(folder):
    life = int((folder / "calls").read_text())
    # A life begins anew with each start, but for what the checkpoint saves; so the kills reach ever further.
    moments = np.sort(np.random.default_rng(0).integers(1, life, KILLS))
    starts = []
    for moment in moments:
        starts.append(run_apart(_killed, folder, "killed", int(moment)))
    assert starts.count(-signal.SIGKILL) >= KILLS - 5, starts
    assert run_apart(_train, folder, "killed") == 0
    _same_end(folder, "killed")
