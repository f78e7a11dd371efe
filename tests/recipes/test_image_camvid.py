"""CamVid, end to end, on a few scenes."""

import json

import numpy as np
import pytest
from PIL import Image

from recipes import image_camvid
from tests.recipes.common import check_run, real

COUNTS = {"train": 16, "val": 4, "test": 5}


@pytest.fixture
def folder(tmp_path):
    there, rng = real("image/camvid_small"), np.random.default_rng(0)
    classes = ["sky", "road", "car"]
    for split, count in COUNTS.items():
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
            if there is not None:
                found = sorted((there / split / kind).iterdir())
                for path in found[:: len(found) // count][:count]:
                    (tmp_path / split / kind / path.name).symlink_to(path)
        for i in range(count if there is None else 0):
            mask, at = np.zeros((90, 120), dtype=np.uint8), int(rng.integers(20, 90))
            mask[45:], mask[40:60, at : at + 25] = 1, 2
            picture = np.array([[200, 220, 250], [90, 90, 90], [200, 20, 20]])[mask] + rng.normal(size=(90, 120, 3))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(tmp_path / split / "images" / f"{i}.jpg")
            mask[:3] = 255
            Image.fromarray(mask).save(tmp_path / split / "masks" / f"{i}.png")
    if there is not None:
        classes = json.loads((there / "classes.json").read_text())["classes"]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": classes}))
    return tmp_path


@pytest.mark.parametrize("augment", ["none", "light"])
def test_camvid(folder, tmp_path, augment):
    out = tmp_path / "out"
    (report,) = image_camvid.main(
        data=str(folder),
        seeds=(0,),
        epochs=8,
        batch_size=4,
        hidden=32,
        grid=(12, 16),
        lr=3e-3,
        augment=augment,
        out=str(out),
    )
    pictures = [str(path) for path in sorted((folder / "test" / "images").iterdir())[:3]]
    check_run(report, out / "seed0", pictures)
    assert len(report.task.predict(pictures)) == 3 and report.test["miou"] > 0.12
