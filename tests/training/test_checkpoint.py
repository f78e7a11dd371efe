"""A checkpoint is replaced in one step: killed at any point of the writing, a process leaves the old or the new one."""

import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from metatx.settings import TrainingSettings
from metatx.training.checkpoint import Checkpoint, Progress
from tests.killing import die, run_apart


def _checkpoint(folder, value=0.0, **settings):
    module = nn.Linear(4, 4)
    nn.init.constant_(module.weight, value)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return Checkpoint(folder, module, optimizer, TrainingSettings(**settings))


def _half(tensors, path, metadata):
    """Dies in the middle of the file."""
    safetensors.torch.save_file = REAL_SAVE
    safetensors.torch.save_file(tensors, path, metadata=metadata)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])
    die()


def _dying_before(real):
    return lambda *_, **__: die()


def _dying_after(real):
    def call(*arguments, **named):
        real(*arguments, **named)
        die()

    return call


REAL_SAVE = safetensors.torch.save_file
POINTS = {
    "before the file": (safetensors.torch, "save_file", _dying_before, "old"),
    "within the file": (safetensors.torch, "save_file", lambda real: _half, "old"),
    "behind the file": (safetensors.torch, "save_file", _dying_after, "old"),
    "before the flush": (os, "fsync", _dying_before, "old"),
    "behind the flush": (os, "fsync", _dying_after, "old"),
    "before the swap": (os, "replace", _dying_before, "old"),
    "behind the swap": (os, "replace", _dying_after, "new"),
}


def _write(folder, value, step, point=None):
    checkpoint = _checkpoint(folder, value)
    if point is not None:
        module, name, dying, _ = POINTS[point]
        setattr(module, name, dying(getattr(module, name)))
    best = {"weight": torch.full((4, 4), value), "bias": torch.zeros(4)}
    checkpoint.save(Progress(epoch=1, step=step, history=[{"epoch": 1}], best_state=best))


@pytest.mark.parametrize("point", list(POINTS))
def test_killed_while_writing_leaves_the_old_or_the_new_one(tmp_path, point):
    _write(tmp_path, 1.0, 10)
    assert run_apart(_write, tmp_path, 2.0, 20, point) == -9
    step, value = (10, 1.0) if POINTS[point][-1] == "old" else (20, 2.0)
    fresh = _checkpoint(tmp_path)
    progress = fresh.load()
    assert (progress.epoch, progress.step) == (1, step)
    assert progress.best_state["weight"][0].tolist() == [value] * 4
    torch.testing.assert_close(fresh.module.weight, _checkpoint(None, value).module.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"], "what was left is cleared away"
    fresh.save(progress)


def test_weights_moments_and_numbers_come_back_bit_for_bit(tmp_path):
    first = _checkpoint(tmp_path, 0.1)
    history = [{"epoch": 1, "loss": 0.1 + 0.2, "auroc": float("nan")}] * 3
    first.save(Progress(epoch=3, step=7, loss_sum=1 / 3, best=[-1e-300], best_epoch=2, history=history))
    second = _checkpoint(tmp_path, 5.0)
    progress = second.load()
    assert (progress.loss_sum, progress.best, progress.history[0]["loss"]) == (1 / 3, [-1e-300], 0.1 + 0.2)
    for name, tensor in first.module.state_dict().items():
        assert torch.equal(second.module.state_dict()[name], tensor)
    moments = [each.optimizer.state_dict()["state"] for each in (first, second)]
    for index, state in moments[0].items():
        assert all(torch.equal(moments[1][index][name], tensor) for name, tensor in state.items())


def test_it_is_due_after_so_many_steps_or_seconds(tmp_path):
    by_steps = _checkpoint(tmp_path, checkpoint_steps=3, checkpoint_seconds=1e9)
    due = []
    for _ in range(7):
        due.append(by_steps.due())
        if due[-1]:
            by_steps.save(Progress())
    assert due == [False, False, True, False, False, True, False]
    assert not any(_checkpoint(tmp_path, checkpoint_seconds=1e9).due() for _ in range(5))
    assert _checkpoint(tmp_path, checkpoint_seconds=0.0).due()
    with pytest.raises(ValueError, match="checkpoint_steps is -1; it must be at least 0"):
        TrainingSettings(checkpoint_steps=-1)


def test_foreign_and_damaged_files_are_refused(tmp_path):
    _checkpoint(tmp_path).save(Progress())
    with pytest.raises(ValueError, match="of a run with other settings: lr 0.001 -> 0.5"):
        _checkpoint(tmp_path, lr=0.5).load()
    assert _checkpoint(tmp_path, workers=2, checkpoint_steps=9).load() == Progress(), "these change no number"
    path = tmp_path / "checkpoint.safetensors"
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    for content in (b"", whole[:100], whole[:-1], flipped, b"no safetensors at all"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="checkpoint.safetensors is damaged .*remove it to start anew"):
            _checkpoint(tmp_path).load()
    safetensors.torch.save_file({"task.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is damaged"):
        _checkpoint(tmp_path).load()


def test_what_a_killed_process_left_half_written_goes_when_the_run_goes_on(tmp_path):
    _checkpoint(tmp_path).save(Progress())
    for name in ("checkpoint.safetensors", "history.csv"):
        (tmp_path / f".{name}.123").write_bytes(b"half")
    _checkpoint(tmp_path).load()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def _change(path, state=None, tensors=None, *, sums=False):
    """Write a checkpoint anew with changes of its state and names of its tensors, as an older one without checksums."""
    with safe_open(path, "pt") as file:
        header, held = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    found = {**json.loads(header["state"]), **(state or {})}
    text = json.dumps({name: value for name, value in found.items() if value != "GONE"})
    held = {(tensors or {}).get(name, name): tensor for name, tensor in held.items()}
    safetensors.torch.save_file(held, path, metadata={**(header if sums else {}), "state": text})


def _keep(folder):
    checkpoint = _checkpoint(folder, 0.5)
    checkpoint.save(Progress(epoch=1, step=3, loss_sum=0.5, best=[0.5, -1.0], history=[{"epoch": 1}]))
    return folder / "checkpoint.safetensors"


@pytest.mark.parametrize(
    ("state", "tensors", "message"),
    [
        ({"epoch": "x"}, {}, "epoch is 'x'"),
        ({"epoch": True}, {}, "epoch is True"),
        ({"epoch": "GONE"}, {}, "it lacks epoch"),
        ({"history": [5]}, {}, "history is "),
        ({"history": []}, {}, "history has 0 rows of 1 epochs"),
        ({"facts": [1]}, {}, "facts is "),
        ({"settings": None}, {}, "settings is None"),
        ({"later": 1}, {}, "later is not known here; perhaps a newer metatx wrote it"),
        ({"step": 10**9}, {}, "step is 1000000000; expected 0 to 9"),
        ({"step": -1}, {}, "step is -1"),
        ({}, {"task.bias": "foo"}, "tensor foo is not known"),
        ({}, {"task.bias": "task.other"}, "task.bias is nothing, not "),
        ({}, {"task.bias": "best.bias"}, "task.bias is nothing"),
        ({}, {"optimizer.0.step": "optimizer.x.y"}, "tensor optimizer.x.y is not known"),
        ({}, {"optimizer.0.step": "optimizer.999.step"}, "optimizer.0 holds|optimizer.999 is of no parameter"),
        (
            {},
            {"optimizer.0.exp_avg": "optimizer.1.exp_avg", "optimizer.1.exp_avg": "optimizer.0.exp_avg"},
            "exp_avg is",
        ),
    ],
)
def test_damaged_metadata_are_told_and_nothing_changes(tmp_path, state, tensors, message):
    path = _keep(tmp_path)
    _change(path, state, tensors)
    (tmp_path / ".history.csv.1").write_bytes(b"half")
    fresh = _checkpoint(tmp_path)
    fresh.most = 9
    with pytest.raises(ValueError, match=f"is damaged .*({message}).*; remove it to start anew"):
        fresh.load()
    assert (tmp_path / ".history.csv.1").exists() and not fresh.module.weight.allclose(torch.tensor(0.5))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=2) | st.dictionaries(st.text(max_size=5), part, max_size=2),
    max_leaves=4,
)
KEYS = ("epoch", "step", "loss_sum", "best", "best_epoch", "alignment", "history", "settings", "facts", "new")


@settings(max_examples=60, deadline=None)
@given(key=st.sampled_from(KEYS), value=VALUES, sums=st.booleans())
def test_any_other_state_is_refused_or_loaded_as_it_is(tmp_path_factory, key, value, sums):
    folder = tmp_path_factory.mktemp("run")
    _change(_keep(folder), {key: value}, sums=sums)
    try:
        progress = _checkpoint(folder).load()
    except ValueError as error:
        assert "checkpoint.safetensors is " in str(error)
    else:
        assert key == "facts" or repr(getattr(progress, key)) == repr(value)
