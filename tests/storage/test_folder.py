"""Folders of tasks that lack a file, or hold what belongs to no part, are refused before anything is built."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import metatx
from metatx.errors import TaskError
from metatx.storage import folder as storage
from tests.conftest import waves


@pytest.fixture
def folder(nano, tmp_path):
    return metatx.Task.from_data(nano, "waves", waves(40)).save_pretrained(tmp_path / "task")


def test_tensors_of_no_part_are_refused_before_anything_is_built(folder, nano, monkeypatch):
    path = folder / "model.safetensors"
    save_file({**load_file(path), "zz": torch.zeros(2)}, path)
    monkeypatch.setattr(storage, "create", lambda *args, **kwargs: pytest.fail("it was built"))
    with pytest.raises(TaskError, match="model.safetensors is damaged: zz is of no part of a task"):
        metatx.Task.from_pretrained(folder, nano)


def test_a_file_that_lacks_is_named(folder, nano):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tune": "lora"}))
    with pytest.raises(TaskError, match="has no adapter/adapter_config.json"):
        metatx.Task.from_pretrained(folder, nano)


def test_options_that_cannot_be_used_are_named_with_their_part(folder, nano):
    config = json.loads((folder / "config.json").read_text())
    config["tokenizer"]["options"]["nothing"] = [0]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TaskError, match=r"the tokenizer waves .*nothing \[0\].*Unknown option"):
        metatx.Task.from_pretrained(folder, nano)


def test_an_adapter_that_the_tier_would_not_read_is_refused(nano, tmp_path):
    folder = metatx.Task.from_data(nano, "waves", waves(8), tune="lora").save_pretrained(tmp_path / "task")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tune": "frozen"}))
    for load in (
        lambda: metatx.Task.from_pretrained(folder, nano),
        lambda: metatx.TaskPool(nano).add("task", folder),
    ):
        with pytest.raises(TaskError, match="its tune is 'frozen', which has no adapter/, but there is one"):
            load()


def test_a_damaged_fact_is_refused_when_the_task_is_loaded(nano, tmp_path):
    folder = metatx.Task.from_data(nano, "waves", waves(8)).save_pretrained(tmp_path / "task")
    config = json.loads((folder / "config.json").read_text())
    for fitted, message in (
        ({"classes": "ab"}, "Fact of the classification head: classes is 'ab'; expected a list"),
        ({}, "Fact of the classification head: classes is missing"),
        ({"classes": ["a", "b"], "klass": 1}, "Unknown fact of the classification head 'klass'"),
    ):
        damaged = {**config, "head": {**config["head"], "fitted": fitted}}
        (folder / "config.json").write_text(json.dumps(damaged))
        with pytest.raises(TaskError, match=f"cannot be built with what it learned: {message}"):
            metatx.Task.from_pretrained(folder, nano)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (
            ("fusion", "fitted", "depth"),
            "6",
            "the fusion late .*what it learned: Fact of the late fusion: depth is '6'",
        ),
        (("fusion", "options", "product"), 10**8, "the fusion late .*with its options .*expected at most 10,000,000"),
        (
            ("tokenizer", "fitted", "parts", "b", "fact"),
            1,
            "the tokenizer inputs .*what it learned: The waves has no build, but was given fact",
        ),
        (
            ("tokenizer", "options", "inputs", 0, "options", "noise"),
            10**8,
            "the tokenizer inputs .*with its options .*expected at most 10,000,000",
        ),
    ],
)
def test_damage_within_several_inputs_is_named(keys, value, message, nano, tmp_path):
    samples, labels = waves(8)
    rows = [{"a": sample, "b": sample} for sample in samples]
    task = metatx.Task.from_data(nano, {"a": "waves", "b": "waves"}, (rows, labels))
    folder = task.save_pretrained(tmp_path / "task")
    config = json.loads((folder / "config.json").read_text())
    part = config
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TaskError, match=message):
        metatx.Task.from_pretrained(folder, nano)


def test_an_option_that_no_saved_task_may_hold_is_refused_before_training(nano):
    rows = [{"a": sample} for sample in waves(8)[0]]
    for choices, message in (
        (
            {"fusion_options": {"max_tokens": 10**8}},
            "LateFusion: the option 'max_tokens' is 100000000; expected at most",
        ),
        ({"tokenizer_options": {"a": {"noise": 10**8}}}, "Inputs: the option 'inputs' is .*; expected at most"),
    ):
        with pytest.raises(ValueError, match=message):
            metatx.Task.from_data(nano, {"a": "waves"}, (rows, ["x", "y"] * 4), **choices)


def test_a_component_without_a_name_is_not_saved(nano, tmp_path):
    task = metatx.Task.from_data(nano, "waves", waves(8))
    task.model.tokenizer = type("Unnamed", (type(task.tokenizer),), {"name": ""})(nano.dim)
    with pytest.raises(ValueError, match="Unnamed has no name by which a saved task finds it again; nothing was"):
        task.save_pretrained(tmp_path / "task")
    assert not (tmp_path / "task").exists()
