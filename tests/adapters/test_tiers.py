"""Tiers: what each trains, what it leaves alone, and how it is kept; the shared backbone never changes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import metatx
from metatx.adapters.peft_format import read_adapter, write_adapter
from metatx.adapters.tiers import TIERS
from metatx.backbone.stem import StemConfig
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from metatx.errors import TaskError
from metatx.training.frozen_features import cacheable
from metatx.training.loop import Training
from metatx.training.optimizer import parameter_groups
from tests.adapters.trained import scramble
from tests.conftest import waves

CONFIG = BackboneConfig(
    dim=32, depth=3, num_heads=2, mlp_dim=64, norm_pre=True, stem=StemConfig(patch_size=4, image_size=8)
)
NORMS = 2 * 32 * (1 + 2 * 3 + 1)
LORA = 3 * 8 * ((32 + 96) + (32 + 32))
QUICK = {"epochs": 2, "batch_size": 16, "lr": 3e-3, "precision": "fp32", "checkpoint_seconds": 0.0}
SIGNALS = waves(8, seed=3)[0]


@pytest.fixture(scope="module")
def backbone() -> VisionTransformer:
    return VisionTransformer(CONFIG, None, spec="tiny")


def build(backbone, tune, seed=0, **options):
    return metatx.Task.from_data(backbone, "waves", waves(40), tune=tune, adapter_options=options, seed=seed)


def weights(task):
    return {name: tensor.clone() for name, tensor in task.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("tune", TIERS)
def test_each_tier_trains_its_own_and_leaves_the_shared_backbone(backbone, tune):
    before, task = backbone.fingerprint, build(backbone, tune)
    own = dict(frozen=0, scale=2 * 3, norm=NORMS, lora=LORA, full=backbone.num_parameters - 16 * 3 * 32 - 32 - 4 * 32)
    assert task.tune == tune
    assert task.trainable_parameters == own[tune] + build(backbone, "frozen").trainable_parameters
    start = weights(task)
    task.fit(waves(40), **QUICK)
    assert backbone.fingerprint == before
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in backbone.parameters())
    moved = {name for name, tensor in task.state_dict().items() if not torch.equal(tensor, start[name])}
    assert moved == {name for name, parameter in task.model.named_parameters() if parameter.requires_grad}
    assert (task.backbone is backbone) == (tune != "full") and not task.backbone.training


def test_tuning_helps_a_random_backbone(backbone):
    losses = {}
    for tune in TIERS:
        history = build(backbone, tune).fit(waves(40), **{**QUICK, "epochs": 12}).history
        losses[tune] = history[-1]["train_loss"]
    assert losses["full"] < losses["lora"] < losses["norm"] < losses["frozen"]


@pytest.mark.parametrize(
    ("tune", "options", "message"),
    [
        ("lorra", {}, "Unknown tune 'lorra'. Did you mean 'lora'. Choices: frozen, scale, norm, lora, full"),
        ("norm", {"r": 4}, "tune='norm' takes no adapter options; r would need tune='lora'"),
        ("lora", {"rank": 4}, "Unknown adapter option 'rank'"),
        ("lora", {"r": 0}, "r is 0"),
        ("scale", {"r": 2}, "Unknown adapter option 'r'. Choices: per_channel"),
        ("scale", {"per_channel": 1}, "per_channel is 1; it must be true or false"),
    ],
)
def test_what_cannot_be_tuned_is_said_in_one_line(backbone, tune, options, message):
    with pytest.raises(ValueError, match=message):
        build(backbone, tune, **options)


def test_two_tasks_trained_in_turn_on_one_backbone_are_as_trained_alone(backbone):
    def tasks():
        return build(backbone, "lora"), build(backbone, "lora", seed=1, r=2, use_dora=True), build(backbone, "norm")

    data = waves(40), waves(40, seed=7), waves(40, seed=8)
    expected = []
    for task, samples in zip(tasks(), data, strict=True):
        for _ in range(2):
            task.fit(samples, **QUICK)
        expected.append(task.predict_proba(SIGNALS))
    turns = tasks()
    for _ in range(2):
        for task, samples in zip(turns, data, strict=True):
            task.fit(samples, **QUICK)
    for task, answers in zip(turns, expected, strict=True):
        np.testing.assert_array_equal(task.predict_proba(SIGNALS), answers)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


@pytest.mark.parametrize("tune", ["scale", "norm", "lora", "full", "merged"])
def test_saved_and_loaded_is_the_same_task(backbone, tune, tmp_path):
    task = build(backbone, "lora" if tune == "merged" else tune).fit(waves(40), **QUICK)
    task = task.merge() if tune == "merged" else task
    folder, shared = task.save_pretrained(tmp_path / "task"), tune in ("scale", "norm", "lora")
    extra = "adapter" if shared else "backbone"
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors", extra}
    loaded = metatx.Task.from_pretrained(folder, backbone=backbone if shared else None)
    np.testing.assert_array_equal(loaded.predict_proba(SIGNALS), task.predict_proba(SIGNALS))
    assert same(weights(loaded), weights(task)) and (loaded.backbone is backbone) == shared
    assert (loaded.tune, loaded.trainable_parameters) == (tune, task.trainable_parameters)
    assert (loaded.backbone.spec, loaded.backbone.fingerprint) == ("tiny", task.backbone.fingerprint)
    card = (folder / "README.md").read_text()
    assert f"{task.trainable_parameters:,} parameters" in card and f"`{extra}/`" in card
    assert ("cannot be shared" in card) != shared
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_text() == (folder / "config.json").read_text()


@pytest.mark.parametrize("tune", ["full", "merged"])
def test_a_task_with_a_backbone_of_its_own_cannot_be_shared(backbone, tune, tmp_path):
    task = build(backbone, "full") if tune == "full" else build(backbone, "norm").merge()
    folder, pool = task.save_pretrained(tmp_path / "task"), metatx.TaskPool(backbone)
    for given in (task, folder):
        with pytest.raises(ValueError, match=f"has its own backbone .tune {tune}., which cannot be shared") as caught:
            pool.add("own", given)
        assert "\n" not in str(caught.value)
    assert not pool.tasks()


@pytest.mark.parametrize("modality", ["waves", "image"])
@pytest.mark.parametrize("tune", ["scale", "norm", "lora"])
def test_a_merged_copy_answers_the_same_and_stands_alone(backbone, tune, modality):
    pictures = list(np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8))
    samples, data = (SIGNALS, waves(40)) if modality == "waves" else (pictures, (pictures, list("abababab")))
    task = metatx.Task.from_data(backbone, modality, data, tune=tune).fit(data, **QUICK)
    scramble(task.adapter)
    before, answers, merged = backbone.fingerprint, task.predict_proba(samples), task.merge()
    np.testing.assert_allclose(merged.predict_proba(samples), answers, atol=1e-5)
    assert merged.tune == "merged" and merged.backbone.fingerprint != before
    merged.fit(data, **QUICK)
    np.testing.assert_array_equal(task.predict_proba(samples), answers)
    assert backbone.fingerprint == before
    for other in (build(backbone, "frozen"), build(backbone, "full"), merged):
        with pytest.raises(ValueError, match="no adapter to merge"):
            other.merge()


@pytest.mark.parametrize("modality", ["waves", "image"])
@pytest.mark.parametrize("tune", TIERS)
def test_a_retuned_task_starts_from_the_answers_it_had(backbone, tune, modality):
    pictures = list(np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8))
    samples, data = (SIGNALS, waves(40)) if modality == "waves" else (pictures, (pictures, list("abababab")))
    frozen = metatx.Task.from_data(backbone, modality, data).fit(data, **QUICK)
    answers, deeper = frozen.predict_proba(samples), frozen.retune(tune, {"r": 2} if tune == "lora" else None)
    np.testing.assert_allclose(deeper.predict_proba(samples), answers, atol=1e-6)
    assert deeper.tune == tune and (deeper.backbone is backbone) == (tune != "full")
    deeper.fit(data, **QUICK)
    assert np.abs(deeper.predict_proba(samples) - answers).max() > 1e-4
    np.testing.assert_array_equal(frozen.predict_proba(samples), answers)
    if tune != "frozen":
        with pytest.raises(ValueError, match=f"tuned already .{tune}.; start from a frozen one"):
            deeper.retune("norm")


def test_further_training_that_does_not_help_changes_nothing(backbone):
    held = waves(20, seed=1)
    task = build(backbone, "frozen").fit(waves(40), held, **{**QUICK, "epochs": 8})
    deeper, before = task.retune("lora"), task.evaluate(held)
    learned = weights(deeper)
    signals, labels = waves(40)
    deeper.fit((signals, labels[::-1]), held, **{**QUICK, "lr": 0.1})  # labels that are wrong
    assert same(weights(deeper), learned) and deeper.evaluate(held)["accuracy"] == before["accuracy"] > 0.5
    assert max(row["validation_accuracy"] for row in deeper.history) <= before["accuracy"]


@pytest.mark.parametrize("tune", ["scale", "norm", "lora", "full"])
def test_a_run_stopped_by_an_error_resumes_to_the_same_weights(backbone, tune, tmp_path, monkeypatch):
    options = {"dropout": 0.2, "use_dora": True} if tune == "lora" else {}
    held, step, count = waves(20, seed=1), Training.step, 0

    def run(folder):
        return build(backbone, tune, **options).fit(waves(40), held, out=tmp_path / folder, resume=True, **QUICK)

    def failing(self, *arguments):
        nonlocal count
        count += 1
        if count in (2, 5):
            raise KeyboardInterrupt
        return step(self, *arguments)

    whole = run("whole")
    monkeypatch.setattr(Training, "step", failing)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    stopped = run("stopped")
    assert count == 8, "six steps, two of which were tried twice"
    assert same(weights(whole), weights(stopped))
    np.testing.assert_array_equal(whole.predict_proba(SIGNALS), stopped.predict_proba(SIGNALS))


def test_another_tier_or_adapter_does_not_resume(backbone, tmp_path):
    build(backbone, "lora").fit(waves(40), out=tmp_path, **QUICK)
    for tune, options, message in (("frozen", {}, "tune lora -> frozen"), ("lora", {"alpha": 8}, "alpha 16 -> 8")):
        with pytest.raises(ValueError, match=message):
            build(backbone, tune, **options).fit(waves(40), out=tmp_path, resume=True, **QUICK)


def test_a_block_learns_slower_than_the_next(backbone):
    task = build(backbone, "full")
    scales = {}
    for group in parameter_groups(task.model, metatx.TrainingSettings(layer_decay=0.5), 3):
        assert all((parameter.ndim > 1) == (group["weight_decay"] > 0) for parameter in group["params"])
        scales |= {id(parameter): group["scale"] for parameter in group["params"]}
    found = {
        name: scales[id(parameter)] for name, parameter in task.model.named_parameters() if id(parameter) in scales
    }
    own = "own_backbone."
    expected = {"cls_token": 1 / 16, "norm_pre": 1 / 16, "blocks.0": 1 / 8, "blocks.1": 1 / 4, "blocks.2": 1 / 2}
    for name, scale in found.items():
        wanted = [value for start, value in expected.items() if name.startswith(own + start)]
        assert scale == (wanted[0] if wanted else 1), name
    assert len(found) == len(scales) and set(found.values()) == {1, *expected.values()}
    slow = build(backbone, "full").fit(waves(40), **QUICK, layer_decay=1e-6)
    start = dict(backbone.named_weights())
    torch.testing.assert_close(slow.backbone.blocks[1].attn.qkv.weight, start["blocks.1.attn.qkv.weight"])
    with pytest.raises(ValueError, match="layer_decay is 0; it must be above 0"):
        metatx.TrainingSettings(layer_decay=0)


def test_features_are_kept_only_where_the_backbone_stays(backbone):
    data = ([np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)], ["a", "b"])
    tasks = {tune: metatx.Task.from_data(backbone, "image", data, tune=tune) for tune in TIERS}
    assert {tune: cacheable(task.model) for tune, task in tasks.items()} == {tune: tune == "frozen" for tune in TIERS}
    assert cacheable(tasks["lora"].merge().model)


def test_a_pool_answers_as_each_task_alone(backbone):
    pool, data = metatx.TaskPool(backbone), (waves(40)[0], np.linspace(0, 9, 40).tolist())
    for seed, (name, tune) in enumerate(
        {"plain": "frozen", "a": "lora", "b": "lora", "n": "norm", "s": "scale", "other": "frozen"}.items()
    ):
        task = metatx.Task.from_data(backbone, "waves", data, tune=tune, seed=seed).fit(data, **QUICK)
        if task.adapter is not None:
            scramble(task.adapter)
        pool.add(name, task)
    names = [task.name for task in pool.tasks()]
    requests = [(name, signal) for signal in SIGNALS for name in names]
    expected = [pool.task(name).predict([signal])[0] for name, signal in requests]
    np.testing.assert_allclose(pool.predict(requests), expected, atol=1e-5)
    assert len({round(float(answer), 3) for answer in expected[1:5]}) == 4, "each adapter changes the answer"


def test_an_adapter_from_a_folder_goes_to_a_task(backbone, tmp_path):
    first, second = build(backbone, "lora"), build(backbone, "frozen")
    write_adapter(scramble(first.adapter), tmp_path / "adapter")
    before = second.embed(SIGNALS)
    second.adapter = read_adapter(tmp_path / "adapter", backbone)
    assert second.tune == "lora" and second.trainable_parameters == first.trainable_parameters
    np.testing.assert_array_equal(second.embed(SIGNALS), first.embed(SIGNALS))
    assert np.abs(second.embed(SIGNALS) - before).max() > 1e-3


def test_a_damaged_adapter_or_backbone_is_refused_in_one_line(backbone, tmp_path):
    folder = build(backbone, "lora").save_pretrained(tmp_path / "lora")
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"half")
    own = build(backbone, "full").save_pretrained(tmp_path / "full")
    (own / "backbone" / "model.safetensors").unlink()
    for broken, shared in ((folder, backbone), (own, None)):
        with pytest.raises(TaskError, match="is damaged|does not exist") as caught:
            metatx.Task.from_pretrained(broken, backbone=shared)
        assert "\n" not in str(caught.value) and str(broken) in str(caught.value)


def test_tasks_of_before_the_tiers_are_frozen(backbone, tmp_path):
    folder = build(backbone, "frozen").save_pretrained(tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    old = {name: value for name, value in config.items() if name not in ("tune", "adapter", "trainable_parameters")}
    (folder / "config.json").write_text(json.dumps({**old, "version": 1}))
    assert metatx.Task.from_pretrained(folder, backbone=backbone).tune == "frozen"
    (folder / "config.json").write_text(json.dumps({**config, "tune": "other"}))
    with pytest.raises(TaskError, match="has tune 'other', which is not known here"):
        metatx.Task.from_pretrained(folder, backbone=backbone)


def test_peft_is_imported_only_to_write_its_format(nano, tmp_path):
    metatx.Task.from_data(nano, "waves", waves(40), tune="lora").save_pretrained(tmp_path / "task")
    code = f"""
import sys, metatx, tests.conftest
task = metatx.Task.from_pretrained({str(tmp_path / "task")!r})
assert task.tune == "lora" and len(task.predict(tests.conftest.waves(2)[0])) == 2
print("peft" in sys.modules)
"""
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert found.stdout.strip() == "False", found.stderr
