"""Several processes give the numbers of one with the same batch: each tier, a whole run, a run that is stopped."""

import json
import sys

import pytest
from safetensors.torch import load_file

from tests.launching import launch

LAUNCHERS = {
    1: [sys.executable],
    2: [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2"],
}
SCRIPT = """
import atexit, json, os, signal, sys
from pathlib import Path

sys.path.insert(0, os.getcwd())
import torch
import metatx
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from metatx.cli import main
from metatx.training.distributed import processes
from metatx.training.loop import Training
from metatx.adapters.tiers import TIERS
from metatx.backbone.loading import save_backbone
from tests.conftest import waves

torch.set_num_threads(1)
out, found = Path(sys.argv[1]), {}
rank = os.environ.get("RANK", "0")  # a function that is registered first is called last
atexit.register(lambda: (out / f"ended_{rank}").write_text(str(torch.distributed.is_initialized())))
settings = {"epochs": 2, "batch_size": 20, "precision": "fp32", "sampling": "balanced"}
small = VisionTransformer(BackboneConfig(dim=32, depth=2, num_heads=2, mlp_dim=64), None, spec="small")
for tune in TIERS:
    options = {"calibrated": tune == "frozen", "norm": "layer" if tune == "norm" else "batch"}
    task = metatx.Task.from_data(small, "waves", waves(101), head_options=options, tune=tune)
    task.fit(waves(101), waves(51, seed=1), **settings)
    found[tune] = [*task.history, task.evaluate(waves(33, seed=2))]
    found["temperature"] = task.head.temperature.item() if tune == "frozen" else found["temperature"]
task = metatx.Task.from_data(metatx.load_backbone("nano"), "waves", waves(41))  # which has a stem to align with
task.fit(waves(41), waves(21, seed=1), **settings, token_warmup_steps=5)
found["aligned"] = [*task.history, task.evaluate(waves(13, seed=2))]

def pairs(seed):
    signals, labels = waves(41, seed)
    return [{"a": a, "b": b} for a, b in zip(signals, waves(41, 9)[0])], labels

inputs = [metatx.Input(name=name, modality="waves", frozen=name == "a") for name in "ab"]
task = metatx.Task.from_data(small, inputs, pairs(0), fusion_options={"product": 4})
task.fit(pairs(0), pairs(1), **settings)
found["fused"] = [*task.history, task.evaluate(pairs(2))]

state = processes()
if state.is_main_process:
    save_backbone(small, out / "small", about="tests")
    rows = [f"{a},{b},{'yes' if a * b > 8 else 'no'}" for a in range(10) for b in range(10)]
    (out / "rows.csv").write_text("a,b,label\\n" + "\\n".join(rows) + "\\n")
state.wait_for_everyone()
os.chdir(out)
words = "train rows.csv --modality tabular --target label --backbone small --tune lora".split()
words += "--epochs 2 --batch-size 30 --precision fp32 --tokenizer.hide 0".split()  # hides by chance
main(words)
real, calls = Training.step, iter(range(1, 1000))

def asking(*arguments):
    if next(calls) == 2 and state.process_index == state.num_processes - 1:  # one signal, to one process
        os.kill(os.getpid(), signal.SIGTERM)
    return real(*arguments)

Training.step = asking
try:
    main([*words, "--out", "stopped"])
except SystemExit as end:
    found["stopped"] = end.code
Training.step = real
main([*words, "--out", "stopped", "--resume"])
if state.is_main_process:
    found["processes"] = state.num_processes
    Path("found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Folder, numbers and what was printed, by number of processes."""
    results = {}
    for count, command in LAUNCHERS.items():
        out = tmp_path_factory.mktemp(f"on{count}")
        results[count] = (out, *launch(command, SCRIPT, out))
    return results


@pytest.mark.parametrize("tune", ["frozen", "norm", "lora", "full", "aligned", "fused"])
def test_each_tier_has_the_losses_of_one_process(launched, tune):
    one, two = (launched[count][1] for count in LAUNCHERS)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one[tune]) == len(two[tune]) == 3
    for first, second in zip(one[tune], two[tune], strict=True):
        assert first.keys() == second.keys()
        for name in first.keys() - {"seconds"}:
            assert second[name] == pytest.approx(first[name], abs=1e-4), name
    assert one["temperature"] == pytest.approx(two["temperature"], rel=1e-3)


def test_a_run_is_written_and_told_once(launched):
    for folder, _, done in launched.values():
        assert sorted(path.name for path in (folder / "runs").iterdir()) == ["rows"]
        assert {path.name for path in (folder / "runs/rows").iterdir()} == {
            "task", "metrics.json", "config.yaml", "history.csv", "curves.png", "checkpoint.safetensors",
        }  # fmt: skip
        assert done.stdout.count("saved in runs/rows") == 1
    one, two = (json.loads((launched[count][0] / "runs/rows/metrics.json").read_text()) for count in LAUNCHERS)
    assert two["test"] == pytest.approx(one["test"], abs=1e-4) and two["baseline"] == one["baseline"]


def test_the_group_of_processes_ends_before_python_does(launched):
    for count, (folder, _, _) in launched.items():
        assert [(folder / f"ended_{rank}").read_text() for rank in range(count)] == ["False"] * count


def test_a_signal_to_one_process_stops_all_and_all_go_on(launched):
    for count, (folder, found, done) in launched.items():
        assert found["stopped"] == 128 + 15
        assert done.stderr.count("Stopped by SIGTERM after 0 epochs and 2 steps") == 1, count
        stopped, whole = (load_file(folder / name / "task/model.safetensors") for name in ("stopped", "runs/rows"))
        assert all((stopped[name] == tensor).all() for name, tensor in whole.items())
