"""RadHAR, end to end, on a few windows of three activities."""

import numpy as np
import pytest

from metatx.reading.point_cloud import Cloud
from recipes import point_cloud_radhar
from tests.recipes.common import check_run, real

ACTIVITIES = ("boxing", "squats", "walk")


@pytest.fixture
def folder(tmp_path):
    there = real("point_cloud/radhar")
    for split, count in (("train", 30), ("val", 10), ("test", 15)):
        points, names = made(count) if there is None else part(there / f"{split}.npz", count)
        label = np.searchsorted(ACTIVITIES, names)
        np.savez(
            tmp_path / f"{split}.npz",
            points=points[:, ::2],
            label=label,
            class_names=ACTIVITIES,
            columns=point_cloud_radhar.COLUMNS,
        )
    return tmp_path


def part(path, count):
    """So many windows of each activity."""
    with np.load(path) as arrays:
        names = arrays["class_names"][arrays["label"]]
        rows = np.concatenate([np.flatnonzero(names == name)[:count] for name in ACTIVITIES])
        return arrays["points"][rows], names[rows]


def made(count):
    """Activities that differ in how high and how far people move."""
    rng, names = np.random.default_rng(count), np.repeat(ACTIVITIES, count)
    reach = {"boxing": [0.2, 0.2, 0.2], "squats": [0.2, 0.2, 0.8], "walk": [0.8, 0.4, 0.2]}
    points = np.zeros((len(names), 400, 6), dtype=np.float16)
    points[..., :3] = rng.normal(size=(len(names), 400, 3)) * [[reach[name]] for name in names] + [2, 0, 0.3]
    points[..., 3:5] = rng.normal(size=(len(names), 400, 2))
    points[..., 5] = np.sort(rng.random((len(names), 400)))
    return points, names


@pytest.mark.parametrize("columns", ["xyz", "all"])
def test_radhar(folder, tmp_path, columns):
    out = tmp_path / "out"
    (report,) = point_cloud_radhar.main(
        data=str(folder), columns=columns, seeds=(0,), epochs=6, batch_size=12, groups=8, layers=2, out=str(out)
    )
    with np.load(folder / "test.npz") as arrays:
        clouds = [Cloud(points, tuple(arrays["columns"])) for points in arrays["points"][::4]]
    check_run(report, out / "seed0", clouds)
    assert report.test["accuracy"] > 0.6
    assert report.task.tokenizer.columns == point_cloud_radhar.COLUMNS[: 3 if columns == "xyz" else 6]
    assert any("(Singh" in line or "D2 shape" in line for line in str(report).splitlines())
