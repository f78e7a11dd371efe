"""The cache on disk: what is written is read, and the least recently used goes."""

import logging
import multiprocessing
import os
import random

import pytest
import torch

import metatx
from metatx.disk.cache import cache_folder, read_cached, write_cached
from tests.conftest import waves


def test_what_is_written_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path and read_cached("a/b") is None
    write_cached("a/b", {"x": torch.arange(3)})
    assert torch.equal(read_cached("a/b")["x"], torch.arange(3))


def test_the_least_recently_used_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    monkeypatch.setenv("METATX_CACHE_GB", "2.5e-6")  # two files of 1 kB and a little
    for number, name in enumerate(("k/one", "k/two")):
        write_cached(name, {"x": torch.zeros(250)})
        os.utime(tmp_path / f"{name}.safetensors", (number, number))
    assert read_cached("k/one") is not None  # used now
    write_cached("k/three", {"x": torch.zeros(250)})
    assert read_cached("k/two") is None
    assert read_cached("k/one") is not None and read_cached("k/three") is not None
    write_cached("k/large", {"x": torch.zeros(2500)})  # alone too large, but just written
    assert read_cached("k/large") is not None and read_cached("k/one") is None


def test_what_is_damaged_or_gone_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    write_cached("x/a", {"t": torch.ones(3)})
    path = tmp_path / "x" / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-2])
    assert read_cached("x/a") is None and read_cached("x/b") is None
    (tmp_path / "x" / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    write_cached("x/a", {"t": torch.ones(3)})
    assert read_cached("x/a")["t"].tolist() == [1, 1, 1]


def test_of_a_file_with_a_changed_byte_anywhere_nothing_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([True]), "c": torch.zeros(0), "d": torch.tensor(1)}
    write_cached("x", {**tensors, "e": torch.ones(2, dtype=torch.bfloat16)})
    path = tmp_path / "x.safetensors"
    whole = path.read_bytes()
    for at in range(len(whole)):
        content = bytearray(whole)
        content[at] ^= 1
        path.write_bytes(content)
        found = read_cached("x")
        assert found is None or all(torch.equal(found[name], value) for name, value in tensors.items()), at
        assert path.exists() == (found is not None), "what is of no use is removed"
    for content in (b"", whole[:5], whole[:-1], whole + b"x"):
        path.write_bytes(content)
        assert read_cached("x") is None
    path.write_bytes(whole)
    assert torch.equal(read_cached("x")["a"], tensors["a"])


def test_a_file_from_before_there_were_checksums_is_none(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    save_file({"x": torch.ones(3)}, tmp_path / "x.safetensors")
    assert read_cached("x") is None


@pytest.mark.parametrize("place", ["/dev/null/x", "file/x", "~nobody-here/x"])
def test_a_cache_that_cannot_be_written_ends_no_training(nano, tmp_path, monkeypatch, caplog, place):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METATX_CACHE", place)
    task = metatx.Task.from_data(nano, "waves", waves(20))
    for parameter in task.tokenizer.parameters():
        parameter.requires_grad_(False)
    with caplog.at_level(logging.INFO, "metatx"):
        task.fit(waves(20), waves(10, seed=1), epochs=1)
        write_cached("more", {"x": torch.ones(1)})
    assert caplog.text.count("Nothing can be kept in the cache") == 1 and place in caplog.text


def test_a_full_disk_is_told_once(tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with caplog.at_level(logging.INFO, "metatx"):
        for name in ("a", "b"):
            write_cached(name, {"x": torch.ones(1)})
            assert read_cached(name) is None
    assert caplog.text.count("No space left on device") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["x", "nan", "-1", "1 GB"])
def test_a_limit_that_is_no_number_is_told_and_the_usual_taken(tmp_path, monkeypatch, caplog, text):
    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    monkeypatch.setenv("METATX_CACHE_GB", text)
    with caplog.at_level(logging.INFO, "metatx"):
        for name in ("a", "b"):
            write_cached(name, {"x": torch.ones(1)})
    assert read_cached("a") is not None and read_cached("b") is not None
    assert caplog.text.count(f"METATX_CACHE_GB is {text!r}; expected a number") == 1


def _reads_and_writes(seed):
    """Errors, and wrong answers, of one of several runs."""
    chosen, found = random.Random(seed), []
    for _ in range(150):
        number = chosen.randrange(12)
        try:
            kept = read_cached(f"k/{number}")
            if kept is None:
                write_cached(f"k/{number}", {"x": torch.full((9000,), float(number))})
            elif kept["x"].unique().tolist() != [number]:
                found.append(number)
        except BaseException as error:
            found.append(repr(error))
    return found


def test_runs_share_it_without_harm(tmp_path, monkeypatch):
    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    monkeypatch.setenv("METATX_CACHE_GB", "0.0003")
    with multiprocessing.get_context("fork").Pool(3) as runs:
        assert runs.map(_reads_and_writes, range(3)) == [[], [], []]
    assert sum(file.stat().st_size for file in tmp_path.rglob("*")) < 2 * 300_000
