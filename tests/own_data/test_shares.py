"""Two processes with unequal shares give the numbers of one: every head, 1 to 9 samples to measure."""

import math
import sys

import pytest

from tests.launching import launch

LAUNCHERS = {
    1: [sys.executable],
    2: [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2"],
}
HEADS = ("classification", "regression", "multilabel", "embedding", "forecasting", "segmentation", "detection", "r2")
SCRIPT = """
import json, os, sys
from pathlib import Path

sys.path.insert(0, os.getcwd())
import numpy as np
import torch
import metatx
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from metatx.heads.regression import RegressionHead
from metatx.training.distributed import processes
from tests.conftest import waves

torch.set_num_threads(1)
rng, out, found = np.random.default_rng(0), Path(sys.argv[1]), {}
signals, loud = waves(21)
pictures = [rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(21)]
masks = [np.repeat(rng.integers(0, 3, (32, 1)), 32, 1).astype(np.uint8) for _ in range(21)]
boxes = [
    {"bbox": rng.uniform(2, 14, (i % 3, 4)).tolist(), "category": ["cat", "dog"][: i % 3], "width": 32, "height": 32}
    for i in range(21)
]


@metatx.register_head("r2")
class OfAPlugin(RegressionHead):  # with metrics of torchmetrics' own, in all the forms of their states
    def metrics(self):
        from torchmetrics import ConcordanceCorrCoef, R2Score
        from torchmetrics.wrappers import LambdaInputTransformer

        class First(LambdaInputTransformer):
            higher_is_better = True

        turned = First(R2Score(), lambda values: -values, lambda values: -values)
        return {**super().metrics(), "r2": turned, "concordance": ConcordanceCorrCoef()}


of_waves = {"head": None, "samples": signals, "modality": "waves"}
kinds = {
    "classification": of_waves | {"targets": [f"{a}{i % 2}" for i, a in enumerate(loud)]},
    "regression": of_waves | {"targets": [1e9 + s.std() for s in signals], "head": "regression"},
    "r2": of_waves | {"targets": [s.std() for s in signals], "head": "r2"},
    "multilabel": of_waves | {"targets": [[a, "b"][i % 2 :] for i, a in enumerate(loud)]},
    "embedding": of_waves | {"targets": [f"{a}{i % 2}" for i, a in enumerate(loud)], "head": "embedding"},
    "forecasting": {
        "samples": [s[:2] for s in signals], "targets": [s[:2, :4] for s in signals], "modality": "time_series",
        "head": "forecasting", "head_options": {"horizon": 4, "tokens": 2, "linear": 8},
    },
    "segmentation": {"samples": pictures, "targets": masks, "head": "segmentation", "modality": "image"},
    "detection": {"samples": pictures, "targets": boxes, "head": "detection", "modality": "image"},
}
small = VisionTransformer(BackboneConfig(dim=32, depth=4, num_heads=2, mlp_dim=64), None, spec="small")
for name, kind in kinds.items():
    samples, targets, modality = kind.pop("samples"), kind.pop("targets"), kind.pop("modality")
    more = {"tokenizer_options": {"image_size": [32, 32]}} if modality == "image" else {}
    task = metatx.Task.from_data(small, modality, (samples[:12], targets[:12]), **kind, **more)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in task.head.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    task.set_inference(batch_size=3, precision="fp32")
    found[name] = [task.evaluate((samples[12 : 12 + n], targets[12 : 12 + n])) for n in range(1, 10)]
    # Five samples to train on leave one process an empty share of the last batch, one to validate on an empty split.
    task.fit((samples[:5], targets[:5]), (samples[12:13], targets[12:13]), epochs=1, batch_size=4, precision="fp32")
    found[name].append(task.evaluate((samples[12:15], targets[12:15])))
if processes().is_main_process:
    (out / "found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Numbers of all heads, and what was said, by number of processes."""
    return {count: launch(words, SCRIPT, tmp_path_factory.mktemp(f"on{count}")) for count, words in LAUNCHERS.items()}


@pytest.mark.parametrize("head", HEADS)
def test_processes_of_unequal_shares_measure_what_one_does(launched, head):
    (one, _), (two, _) = launched.values()
    assert len(one[head]) == 10 and one.keys() == set(HEADS)
    for samples, (first, second) in enumerate(zip(one[head][:9], two[head][:9], strict=True), 1):
        assert second == pytest.approx(first, abs=1e-5, nan_ok=True), samples
    assert not all(map(math.isnan, first.values()))


@pytest.mark.parametrize("head", HEADS)
def test_a_validation_split_without_a_sample_for_each_process_trains(launched, head):
    (one, _), (two, _) = launched.values()
    assert two[head][9]["loss"] == pytest.approx(one[head][9]["loss"], rel=0.05), "dropout is another on each process"


def test_what_is_not_defined_is_told_once_and_without_warnings(launched):
    for _, done in launched.values():
        assert done.stderr.count("Not defined on the split of 1 sample: auroc.") == 1
        assert "torchmetrics" not in done.stderr
