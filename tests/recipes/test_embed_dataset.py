"""Embedding with Ray Data: a run that is killed goes on with what is missing, and ends with the same files."""

import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import ray
import torch

import metatx
from recipes import embed_dataset
from tests.clusters import keep_to, processes, started, until

PARTS, ROWS = 10, 800


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """A Ray of two cores that keeps its files to itself and is gone afterwards."""
    keep_to(tmp_path, monkeypatch)
    handler, before = signal.getsignal(signal.SIGTERM), set(processes())
    context = started(ray.init, include_dashboard=False)
    monkeypatch.setenv("RAY_ADDRESS", context.address_info["address"])  # for the process that is killed
    yield
    ray.shutdown()
    signal.signal(signal.SIGTERM, handler)
    until(lambda: set(processes()) <= before)


@pytest.fixture
def task(nano, table, tmp_path):
    built = metatx.Task.from_data(nano, "tabular", table, target="kind", inputs=["a", "b", "c"])
    built.save_pretrained(tmp_path / "task")
    return built


def state(folder):
    """Of each file of vectors: which it is, and when it was written."""
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in folder.glob("part-*")}


@pytest.fixture
def one_thread():
    """As in a worker of Ray, so that the vectors are the same bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_killed_run_goes_on_and_ends_with_the_same_files(cluster, one_thread, task, table, tmp_path):
    frame = table.sample(PARTS * ROWS, replace=True, random_state=0, ignore_index=True)
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    frame[: 4 * ROWS].to_parquet(data / "first.parquet", row_group_size=ROWS)
    frame[4 * ROWS :].to_parquet(data / "second.parquet", row_group_size=ROWS)
    command = [sys.executable, embed_dataset.__file__, str(tmp_path / "task"), str(data), "--out", str(out)]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: killed.poll() is not None or out.is_dir() and state(out))
    killed.kill()
    killed.wait()
    until(lambda: not processes("MapWorker"))
    before = state(out)
    assert 0 < len(before) < PARTS

    assert embed_dataset.main(str(tmp_path / "task"), str(data), out=str(out), workers=2) == PARTS - len(before)
    assert len(state(out)) == PARTS and state(out).items() >= before.items()
    assert embed_dataset.main(str(tmp_path / "task"), str(data), out=str(out)) == 0
    vectors = np.stack(pd.read_parquet(out).embedding)
    expected = [task.embed(frame[start : start + ROWS]) for start in range(0, len(frame), ROWS)]
    assert vectors.dtype == np.float32 and (vectors == np.concatenate(expected)).all()

    frame.iloc[::-1].to_parquet(data / "second.parquet", row_group_size=ROWS)
    with pytest.raises(ValueError, match="another task or of other data"):
        embed_dataset.main(str(tmp_path / "task"), str(data), out=str(out))


def test_an_index_of_all_row_groups_goes_on_where_it_was_stopped(cluster, tmp_path, monkeypatch):
    names = [f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in ("shoe", "watch", "bag", "hat")]
    frame = pd.DataFrame({"name": [*names[:-1], None], "price": np.arange(12.0)})
    frame.to_parquet(tmp_path / "data.parquet", row_group_size=4)
    arguments = {"out": str(tmp_path / "out"), "input": {"text": "name"}, "index": str(tmp_path / "index")}
    add = metatx.Index.add
    monkeypatch.setattr(metatx.Index, "add", lambda *given, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        embed_dataset.main("nano", str(tmp_path / "data.parquet"), **arguments)
    assert metatx.Index.open(tmp_path / "index").total == 4
    monkeypatch.setattr(metatx.Index, "add", add)
    assert embed_dataset.main("nano", str(tmp_path / "data.parquet"), **arguments) == 0
    found = metatx.Index.open(tmp_path / "index")
    expected = metatx.Index.build(tmp_path / "other", metatx.Alignment.from_pretrained("nano"), {"text": "name"}, frame)
    numbers, vectors = found.vectors("text")
    assert (numbers == expected.vectors("text")[0]).all() and len(numbers) == 11
    np.testing.assert_allclose(vectors, expected.vectors("text")[1], atol=1e-3)
    assert found.rows([11]) == expected.rows([11]) and found.sources == expected.sources
    embed_dataset.main("nano", str(tmp_path / "data.parquet"), **arguments)
    assert metatx.Index.open(tmp_path / "index").total == 12
    with pytest.raises(ValueError, match="name their columns"):
        embed_dataset.main("nano", str(tmp_path / "data.parquet"), index="index")


def test_wrong_data_is_one_line(task, tmp_path):
    (tmp_path / "words.parquet").write_text("no table")
    pd.DataFrame({"a": [1.0], "b": ["red"]}).to_parquet(tmp_path / "few.parquet")
    for name, line in (("none", "holds none"), ("words.parquet", "cannot be read"), ("few.parquet", "column 'c'")):
        with pytest.raises((ValueError, OSError), match=line):
            embed_dataset.main(str(tmp_path / "task"), str(tmp_path / name), out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
