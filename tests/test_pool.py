"""The pool: a batch that mixes tasks answers as each task alone."""

import numpy as np
import pytest

import metatx
from metatx.errors import TaskError
from tests.conftest import waves


@pytest.fixture(scope="module")
def pool(nano, table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    pool = metatx.TaskPool(nano)
    rows = metatx.Task.from_data(nano, "tabular", table, target="kind").fit(table, epochs=1)
    rows.save_pretrained(folder / "rows")
    pool.add("rows", folder / "rows")
    deep = metatx.Task.from_data(nano, "waves", waves(40), head_options={"layers": 3}).fit(waves(40), epochs=1)
    pool.add("waves", deep)
    image = metatx.Task.from_data(nano, "image", ([np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)], ["a", "b"]))
    pool.add("image", image)
    return pool


def test_mixed_answers_are_those_of_each_task(pool, table):
    signals = waves(6, seed=5)[0]
    rows = table.drop(columns="kind").to_dict("records")
    pictures = list(np.random.default_rng(0).integers(0, 255, (3, 20, 30, 3), dtype=np.uint8))
    requests = [("waves", signals[0]), ("rows", rows[0]), ("image", pictures[0]), ("waves", signals[1])]
    requests += [("rows", row) for row in rows[1:9]] + [("image", picture) for picture in pictures[1:]]
    answers = pool.predict(requests)
    for (name, sample), answer in zip(requests, answers, strict=True):
        assert answer == pool.task(name).with_settings(precision="fp32").predict([sample])[0]


def test_one_pass_through_the_backbone(pool, table):
    calls = []
    handle = pool.backbone.register_forward_hook(lambda *_: calls.append(1))
    row = table.drop(columns="kind").iloc[0].to_dict()
    pool.predict([("rows", row), ("waves", waves(1)[0][0]), ("rows", row)])
    handle.remove()
    assert len(calls) == 1


def test_what_cannot_be_answered_is_named(pool, tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'waves'"):
        pool.predict([("wave", None)])
    with pytest.raises(metatx.SampleError, match=r"sample 1: signal is \(1, 4\)"):
        pool.predict([("waves", np.zeros((1, 4)))])
    with pytest.raises(ValueError, match="nothing to predict"):
        pool.predict([])
    with pytest.raises(ValueError, match="has a task 'waves' already"):
        pool.add("waves", pool.task("waves"))
    with pytest.raises(FileNotFoundError):
        pool.add("new", tmp_path / "none")
    other = metatx.Task.from_data(metatx.load_backbone("nano", pretrained=False), "waves", waves(20))
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(TaskError, match="trained on backbone"):
        pool.add("other", tmp_path / "other")
    assert [task.name for task in pool.list()] == ["image", "rows", "waves"]
