"""The cache on disk: what is written is read, and the least recently used goes."""

import os

import torch

from metatx.cache import cache_folder, read_cached, write_cached


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
