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


def test_a_component_without_a_name_is_not_saved(nano, tmp_path):
    task = metatx.Task.from_data(nano, "waves", waves(8))
    task.model.tokenizer = type("Unnamed", (type(task.tokenizer),), {"name": ""})(nano.dim)
    with pytest.raises(ValueError, match="Unnamed has no name by which a saved task finds it again; nothing was"):
        task.save_pretrained(tmp_path / "task")
    assert not (tmp_path / "task").exists()
