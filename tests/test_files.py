"""A file or folder is written whole or not at all."""

import os
import stat

import pytest

from metatx.files import folder_written_whole, written_whole


def test_file_takes_its_place_at_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [f.name for f in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("other"), KeyboardInterrupt()])
def test_after_an_error_the_old_stays_and_nothing_is_left(tmp_path, error):
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "config.json").write_text("old")
    with pytest.raises(type(error)) as caught, folder_written_whole(folder) as temporary:
        (temporary / "config.json").write_text("half")
        raise error
    assert (folder / "config.json").read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["task"]
    if isinstance(error, OSError):
        assert str(folder) in str(caught.value)


def test_folder_is_replaced_whole(tmp_path):
    for text in ("first", "second"):
        with folder_written_whole(tmp_path / "task") as temporary:
            (temporary / "config.json").write_text(text)
    assert (tmp_path / "task" / "config.json").read_text() == "second"
    assert [f.name for f in tmp_path.iterdir()] == ["task"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    for name in (".task.partial-abc", ".task.partial-abc.old", ".task.settings", ".other.partial-abc"):
        (tmp_path / name).mkdir()
    with folder_written_whole(tmp_path / "task"):
        assert (tmp_path / ".task.partial-abc.old").exists(), "until the new one is there"
    assert sorted(f.name for f in tmp_path.iterdir()) == [".other.partial-abc", ".task.settings", "task"]


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_modes_are_those_of_the_umask_whatever_the_writer_set(tmp_path, mask, file, folder):
    before = os.umask(mask)
    try:
        with folder_written_whole(tmp_path / "task") as temporary:
            (temporary / "adapter").mkdir(mode=0o700)
            for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
                os.close(os.open(temporary / name, os.O_CREAT | os.O_WRONLY, 0o600))
        with written_whole(tmp_path / "checkpoint.safetensors") as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {
        "task": folder,
        "adapter": folder,
        "model.safetensors": file,
        "adapter_model.safetensors": file,
        "checkpoint.safetensors": file,
    }
