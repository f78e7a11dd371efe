"""RadHAR on a few windows, and ShapeNetPart on a small folder of the published form, end to end."""

import json

import numpy as np
import point_cloud_radhar
import point_cloud_shapenetpart
import pytest

from metatx.reading.point_cloud import Cloud
from tests.recipes.common import check_run, real, train

COLUMNS = ["x", "y", "z", "velocity", "intensity", "t"]
ACTIVITIES = ("boxing", "squats", "walk")
SHAPES = {"train": 16, "val": 4, "test": 4}


@pytest.fixture
def windows(tmp_path):
    there = real("point_cloud/radhar")
    for split, count in (("train", 30), ("val", 10), ("test", 15)):
        points, names = made(count) if there is None else part(there / f"{split}.npz", count)
        label = np.searchsorted(ACTIVITIES, names)
        np.savez(
            tmp_path / f"{split}.npz",
            points=points[:, ::2],
            label=label,
            class_names=ACTIVITIES,
            columns=COLUMNS,
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
def test_radhar(nano, windows, tmp_path, columns):
    out = tmp_path / "out"
    options = {"tokenizer_options": {"groups": 8}, "head_options": {"layers": 2}}
    report = train(point_cloud_radhar.recipe(columns=columns), nano, windows, out, epochs=6, batch_size=12, **options)
    with np.load(windows / "test.npz") as arrays:
        clouds = [Cloud(points, tuple(arrays["columns"])) for points in arrays["points"][::4]]
    check_run(report, out / "seed0", clouds)
    assert report.test["accuracy"] > 0.6
    assert report.task.tokenizer.columns == COLUMNS[: 3 if columns == "xyz" else 6]
    assert any("(Singh" in line or "D2 shape" in line for line in str(report).splitlines())


@pytest.fixture
def shapes(tmp_path):
    """Tables of a top and a foot, of 90 to 120 points; and lamps, which are only there to be left out."""
    rng = np.random.default_rng(0)
    (tmp_path / "synsetoffset2category.txt").write_text("Table\t01\nLamp\t02\n")
    (tmp_path / "train_test_split").mkdir()
    for split, count in SHAPES.items():
        names = [f"shape_data/{'02' if i % 4 == 3 else '01'}/{split}{i}" for i in range(count)]
        (tmp_path / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(names))
        for name in names:
            top, foot = rng.uniform(-1, 1, (60, 3)), rng.uniform(-1, 1, (int(rng.integers(30, 60)), 3))
            points = np.concatenate([top * [1, 1, 0.05] + [0, 0, 1], foot * [0.1, 0.1, 1]])
            parts = np.repeat([12 + (4 if "/02/" in name else 0), 13], [60, len(foot)])
            path = (tmp_path / name.removeprefix("shape_data/")).with_suffix(".txt")
            path.parent.mkdir(exist_ok=True)
            np.savetxt(path, np.column_stack([points, np.tile([0, 0, 1], (len(points), 1)), parts]))
    return tmp_path


def test_each_point_has_its_part(shapes):
    splits = point_cloud_shapenetpart.read(shapes, category="Table")
    assert {split: len(found) for split, found in splits.items()} == {"train": 12, "validation": 3, "test": 3}
    for cloud, parts in zip(splits["test"].inputs, splits["test"].targets, strict=True):
        assert cloud.points.shape == (len(parts), 6) and set(parts) == {12, 13}
    assert len(point_cloud_shapenetpart.read(shapes)["train"]) == 16
    with pytest.raises(ValueError, match="names no Cup; it has Lamp, Table"):
        point_cloud_shapenetpart.read(shapes, category="Cup")


def test_shapenetpart(nano, shapes, tmp_path):
    recipe = point_cloud_shapenetpart.RECIPE.read_with(category="Table")
    options = {"groups": 16, "neighbours": 8}
    report = train(recipe, nano, shapes, tmp_path / "out", epochs=12, batch_size=4, tokenizer_options=options)
    clouds = list(recipe.read(shapes)["test"].inputs)
    check_run(report, tmp_path / "out" / "seed0", clouds)
    assert report.test["miou"] > 0.8
    assert [len(parts) for parts in report.task.predict(clouds)] == [len(cloud.points) for cloud in clouds]
