"""Files of a task's folder: plain ones only, bounded, and every damage one class of error."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from metatx.disk.task_files import (
    FILES,
    check_finite,
    content_of,
    damage,
    plain_file,
    read_json,
    read_shapes,
    signature_of,
    stored_bytes,
)
from metatx.errors import TaskError


@pytest.fixture
def folder(tmp_path):
    """A folder with one file, beside a secret."""
    (tmp_path / "secret").write_text('{"a": 1}')
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "config.json").write_text('{"a": 1}')
    return tmp_path / "task"


def test_a_plain_file_is_one_of_the_folder(folder, tmp_path):
    assert plain_file(folder, "config.json").read_text() == '{"a": 1}'
    (folder / "inside").symlink_to("config.json")
    (tmp_path / "alias").symlink_to("task")
    assert plain_file(folder, "inside") and plain_file(tmp_path / "alias", "config.json")
    with pytest.raises(FileNotFoundError):
        plain_file(folder, "none")


def strange(folder):
    """Everything that is no plain file of the folder, by name."""
    (folder / "out").symlink_to("../secret")
    (folder / "far").symlink_to(os.path.abspath(folder / ".." / "secret"))
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    (folder / "x").symlink_to("y")
    (folder / "y").symlink_to("x")
    (folder / "gone").symlink_to("nowhere")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    return [
        "out",
        "far",
        "up",
        "up/secret",
        "loop",
        "x",
        "loop/x",
        "gone",
        "device",
        "folder",
        "pipe",
        "../secret",
        "a\0b",
    ]


def test_anything_else_is_refused_without_being_opened(folder):
    for name in strange(folder):
        with pytest.raises(TaskError) as caught:
            read_json(folder, name)
        assert "\n" not in str(caught.value)


def test_links_of_the_hub_s_cache_lead_to_blobs_of_the_same_repository(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("models--ada--waves", "models--eve--other"):
        (tmp_path / "hub" / name / "blobs").mkdir(parents=True)
        (tmp_path / "hub" / name / "blobs" / "1a2b").write_text("{}")
    snapshot = tmp_path / "hub" / "models--ada--waves" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/1a2b")
    assert read_json(snapshot, "config.json") == {}
    (snapshot / "README.md").symlink_to("../../../models--eve--other/blobs/1a2b")
    with pytest.raises(TaskError, match="leads out"):
        read_json(snapshot, "README.md")
    outside = tmp_path / "snapshots" / "abc"
    outside.mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1a2b").write_text("{}")
    (outside / "config.json").symlink_to("../../blobs/1a2b")
    with pytest.raises(TaskError, match="leads out"):
        read_json(outside, "config.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "deep"),
        ("[" * 40 + "]" * 40, "more than 32 deep"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1e999}', "too large"),
        ('{"a": 1' + "0" * 30 + "}", "64 bits"),
        ('{"a": 1' + "0" * 5000 + "}", "digits"),
        ('{"a": "\\ud800"}', "surrogates"),
        ('{"\\ud800": 1}', "surrogates"),
        ("{", "Expecting"),
        ("", "Expecting"),
        ("[" + " " * (9 << 20) + "]", "more than 8 MB"),
    ],
)
def test_json_that_others_could_not_work_with_is_refused(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(TaskError, match=message) as caught:
        read_json(folder, "config.json")
    assert "\n" not in str(caught.value)
    (folder / "config.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(TaskError, match="decode"):
        read_json(folder, "config.json")


def test_shapes_come_from_a_header_that_is_bounded(folder):
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(())}, folder / "model.safetensors")
    assert read_shapes(folder, "model.safetensors") == {"a": (2, 3), "b": ()}
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:4], b"", (11 << 20).to_bytes(8, "little") + b" " * 100):
        file.write_bytes(content)
        with pytest.raises(TaskError, match="damaged"):
            read_shapes(folder, "model.safetensors")


def test_weights_are_finite_and_statistics_are_numbers(folder):
    good = {"weight": torch.ones(3), "scale": torch.tensor([1.0, torch.inf]), "count": torch.tensor([1])}
    check_finite(good, {"weight"}, folder)
    for name, value in (("weight", torch.inf), ("weight", torch.nan), ("scale", torch.nan)):
        with pytest.raises(TaskError, match=f"{name} holds 1 values that are not finite"):
            check_finite({**good, name: torch.tensor([1.0, value])}, {"weight"}, folder)


def test_content_and_signature_tell_a_change(folder):
    first, before = content_of(folder), signature_of(folder)
    assert len(before) == len(FILES)
    os.utime(folder / "config.json", ns=(1, 1))
    assert content_of(folder) == first and signature_of(folder) != before
    status = (folder / "config.json").stat()
    (folder / "config.json").write_text('{"a": 2}')
    os.utime(folder / "config.json", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert content_of(folder) != first and signature_of(folder) != before, "also of equal size and time"
    (folder / "README.md").symlink_to("README.md")
    assert signature_of(folder) != before


@pytest.mark.parametrize(
    "error", [KeyError("dim"), RecursionError(), MemoryError(), AttributeError("a\nb"), OSError(5, "x")]
)
def test_every_error_of_a_damaged_folder_is_one(error, folder):
    with pytest.raises(TaskError, match="is damaged: ") as caught, damage(folder):
        raise error
    assert "\n" not in str(caught.value)
    with pytest.raises(ImportError), damage(folder):
        raise ImportError("a package is missing")


def test_numbers_in_json_are_kept(folder):
    value = {"a": [1, -2.5, None, True, "ä"], "b": {"c": 2**62}}
    (folder / "config.json").write_text(json.dumps(value))
    assert read_json(folder, "config.json") == value


def test_holes_of_a_file_are_not_counted(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.write(b"x" * 5000)
        file.truncate(1 << 30)
    assert 5000 <= stored_bytes(tmp_path / "a") < 1 << 20
    (tmp_path / "b").write_bytes(b"x" * 5000)
    assert stored_bytes(tmp_path / "b") == 5000
