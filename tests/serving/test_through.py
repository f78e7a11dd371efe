"""Tasks in a served folder whose inputs are read by another backbone first."""

import numpy as np

import metatx
from metatx.pool.requests import read
from metatx.serving.catalog import common_others
from metatx.serving.skeleton import from_skeleton, skeleton
from tests.through import BACKBONE, DATA, samples, task


def test_the_backbones_of_a_folder_are_loaded_once(tmp_path):
    way = {"backbone": "nano", "pretrained": False}
    inputs = [metatx.Input(name="photo", modality="image", through=way), metatx.Input(name="words", modality="text")]
    made = metatx.Task.from_data(BACKBONE, inputs, DATA)
    for name in ("first", "second"):
        made.save_pretrained(tmp_path / name)
    task().save_pretrained(tmp_path / "third")  # of a backbone that has no name to load it by
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/config.json").write_text("{}")
    (other,) = common_others(tmp_path)
    assert other.fingerprint == made.others[0].fingerprint
    pool = metatx.TaskPool(BACKBONE, others=[other])
    for name in ("first", "second"):
        pool.add(name, tmp_path / name)
    asked = [(name, sample) for name in ("first", "second") for sample in samples(2)]
    assert pool.predict(asked) == [*made.predict(samples(2)), *made.predict(samples(2))]
    assert pool.task("first").others[0] is pool.task("second").others[0] is other


def test_a_process_that_reads_has_no_weights():
    made = task()
    ready = from_skeleton(skeleton(made))
    assert ready.others == [None]
    encoded, _ = read(ready, samples(1), [0], False)
    wanted, _ = read(made, samples(1), [0], False)
    assert all(np.array_equal(encoded[0][name], tensor) for name, tensor in wanted[0].items())
