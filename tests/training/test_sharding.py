"""A backbone divided between two processes: the numbers of one, half of the weights in each, whole again behind it."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file

import metatx
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from tests.conftest import waves
from tests.launching import launch

LAUNCH = "-m accelerate.commands.accelerate_cli launch --use_fsdp --fsdp_version 2 --num_processes 2".split()
SMALL = BackboneConfig(dim=32, depth=2, num_heads=2, mlp_dim=64)
SETTINGS = {"epochs": 2, "batch_size": 20, "precision": "fp32"}
TIERS = {"frozen": {}, "norm": {}, "lora": {"use_dora": True}}
SCRIPT = """
import json, os, signal, sys
from pathlib import Path

sys.path.insert(0, os.getcwd())
import torch
from accelerate.utils import gather_object
import metatx
from metatx.backbone.block import Block
from metatx.backbone.vit import VisionTransformer
from metatx.errors import Stopped
from metatx.training.distributed import processes
from metatx.training.loop import Training
from tests.conftest import waves
from tests.training.test_sharding import SETTINGS, SMALL, TIERS, built

torch.set_num_threads(1)
out, found, held, types = Path(sys.argv[1]), {}, [], set()
real, forward = Training.step, Block.forward
backbone = VisionTransformer(SMALL, None, spec="small")
before, parameters = backbone.fingerprint, [*map(id, backbone.parameters())]

def seen(training, *arguments):
    weights = [p for p in [*backbone.blocks.parameters(), *kept] if p.ndim > 1 or p.numel() == 0]
    held.append(sum(getattr(p, "_local_tensor", p).nbytes for p in weights))
    if len(held) == stop and processes().process_index == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return real(training, *arguments)

def run(block, *arguments):
    types.add(str(block.attn.qkv.weight.dtype))
    return forward(block, *arguments)

def fitted(name, task, launch=True, **settings):
    os.environ["ACCELERATE_USE_FSDP"] = str(launch).lower()  # as accelerate launch --use_fsdp has set it
    held.clear(), types.clear()
    try:
        task.fit(waves(101), waves(41, seed=1), **{**SETTINGS, **settings})
    except Stopped:
        return
    finally:
        assert backbone.fingerprint == before and parameters == [*map(id, backbone.parameters())]
    found[name] = {"held": sorted({*gather_object(held)}), "types": sorted(types)}
    found[name]["rows"] = [*task.history, task.evaluate(waves(33, seed=2))]
    found[name]["answers"] = task.predict_proba(waves(7, seed=3)[0]).tolist()
    if processes().is_main_process:
        task.save_pretrained(out / name)

stop, kept, Training.step, Block.forward = -1, [*backbone.blocks.parameters()], seen, run
assert os.environ["ACCELERATE_USE_FSDP"] == "true"
for tune in TIERS:
    fitted(tune, built(backbone, tune))
    fitted(f"{tune} whole", built(backbone, tune), launch=False)
fitted("asked", built(backbone, "lora"), launch=False, shard=True)
for tune in ("norm", "lora"):
    fitted(f"{tune} bf16", built(backbone, tune), precision="bf16")
    fitted(f"{tune} bf16 whole", built(backbone, tune), precision="bf16", launch=False)
stop = 2
fitted("stopped", built(backbone, "lora"), out=out / "run")
stop, found["steps"] = -1, len(held)
fitted("stopped", built(backbone, "lora"), out=out / "run", resume=True)
cached = built(backbone, "frozen")
cached.tokenizer.requires_grad_(False), cached.model.norm.requires_grad_(False)
fitted("cached", cached)
try:
    fitted("full", built(backbone, "full"))
except ValueError as error:
    found["full"] = str(error)
if processes().is_main_process:
    (out / "found.json").write_text(json.dumps(found))
"""


def built(backbone, tune):
    return metatx.Task.from_data(backbone, "waves", waves(101), tune=tune, adapter_options=TIERS.get(tune))


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Folder and numbers of two processes that were launched for FSDP."""
    out = tmp_path_factory.mktemp("on2")
    found, _ = launch([sys.executable, *LAUNCH], SCRIPT, out)
    return out, found


def whole(folder, name):
    return {file.name: load_file(file) for file in sorted((folder / name).rglob("*.safetensors"))}


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)


@pytest.mark.parametrize("tune", TIERS)
def test_each_tier_has_the_numbers_of_one_process(launched, tune):
    task = built(VisionTransformer(SMALL, None, spec="small"), tune)
    task.fit(waves(101), waves(41, seed=1), **SETTINGS, shard=True)  # which is nothing to one process
    rows, found = [*task.history, task.evaluate(waves(33, seed=2))], launched[1][tune]
    for first, second in zip(rows, found["rows"], strict=True):
        for name in first.keys() - {"seconds"}:
            assert second[name] == pytest.approx(first[name], abs=1e-4), name
    answers = torch.from_numpy(task.predict_proba(waves(7, seed=3)[0]))
    torch.testing.assert_close(torch.tensor(found["answers"]), answers, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [*TIERS, "norm bf16", "lora bf16"])
def test_the_saved_task_is_that_of_whole_backbones(launched, name):
    same(whole(launched[0], name), whole(launched[0], f"{name} whole"))
    configs = [json.loads((launched[0] / each / "config.json").read_text()) for each in (name, f"{name} whole")]
    assert configs[0] == configs[1]


def test_each_process_holds_half_of_the_matrices(launched):
    every = sum(4 * p.numel() for p in VisionTransformer(SMALL, None, spec="small").blocks.parameters() if p.ndim > 1)
    for name in (*TIERS, "norm bf16", "asked"):
        assert launched[1][name]["held"] == [every // 2], name
    for name in ("lora whole", "cached"):  # features that are cached do not pass through the blocks
        assert launched[1][name]["held"] == [2 * every], name  # the backbone's, and the same as they were at first


def test_matrices_are_gathered_as_autocast_would_cast_them(launched):
    types = {name: launched[1][name]["types"] for name in ("norm", "norm bf16", "lora bf16")}
    whole, half = ["torch.float32"], ["torch.bfloat16"]
    assert types == {"norm": whole, "norm bf16": half, "lora bf16": whole}  # DoRA reads them in full


def test_a_stopped_run_goes_on_to_the_same_weights(launched):
    assert launched[1]["steps"] == 2
    same(whole(launched[0], "stopped"), whole(launched[0], "lora"))


def test_a_backbone_of_the_tasks_own_is_refused(launched):
    assert "with tune 'full' the task has its own" in launched[1]["full"]
