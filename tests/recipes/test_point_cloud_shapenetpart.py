"""ShapeNetPart's recipe, on a small folder of the published form."""

import json

import numpy as np
import pytest

from recipes.point_cloud_shapenetpart import main, shapes
from tests.recipes.common import check_run

COUNTS = {"train": 16, "val": 4, "test": 4}


@pytest.fixture
def folder(tmp_path):
    """Tables of a top and a foot, of 90 to 120 points; and lamps, which are only there to be left out."""
    rng = np.random.default_rng(0)
    (tmp_path / "synsetoffset2category.txt").write_text("Table\t01\nLamp\t02\n")
    (tmp_path / "train_test_split").mkdir()
    for split, count in COUNTS.items():
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


def test_each_point_has_its_part(folder):
    splits = shapes(folder, "Table")
    assert {split: len(found) for split, found in splits.items()} == {"train": 12, "validation": 3, "test": 3}
    for cloud, parts in zip(splits["test"].inputs, splits["test"].targets, strict=True):
        assert cloud.points.shape == (len(parts), 6) and set(parts) == {12, 13}
    assert len(shapes(folder, None)["train"]) == 16
    with pytest.raises(ValueError, match="names no Cup; it has Lamp, Table"):
        shapes(folder, "Cup")


def test_shapenetpart(folder, tmp_path):
    (report,) = main(
        data=str(folder), category="Table", epochs=12, batch_size=4, groups=16, neighbours=8, out=str(tmp_path / "out")
    )
    clouds = list(shapes(folder, "Table")["test"].inputs)
    check_run(report, tmp_path / "out" / "seed0", clouds)
    assert report.test["miou"] > 0.8
    assert [len(parts) for parts in report.task.predict(clouds)] == [len(cloud.points) for cloud in clouds]
