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
