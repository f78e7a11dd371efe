"""BCCD, end to end, on a few pictures of blood."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from recipes import image_bccd
from tests.recipes.common import check_run, real

COUNTS = {"train": 16, "val": 4, "test": 6}


@pytest.fixture
def folder(tmp_path):
    there, rng = real("image/bccd"), np.random.default_rng(0)
    for split, count in COUNTS.items():
        (tmp_path / split).mkdir()
        if there is None:
            content = made(tmp_path / split, count, rng)
        else:
            content = json.loads((there / f"{split}.json").read_text())
            content["images"] = content["images"][:count]
            kept = {image["id"] for image in content["images"]}
            content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
            for image in content["images"]:
                (tmp_path / split / image["file_name"]).symlink_to(there / split / image["file_name"])
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    return tmp_path


def made(folder, count, rng):
    """Discs of two colours on grey, 160 x 120 pixels, in COCO's form."""
    images, annotations = [], []
    for i in range(count):
        picture = Image.new("RGB", (160, 120), (190, 190, 190))
        for left in (5, 60, 110):
            category, top, size = int(rng.integers(1, 3)), int(rng.integers(0, 80)), int(rng.integers(26, 38))
            box = (left, top, left + size, top + size)
            ImageDraw.Draw(picture).ellipse(box, fill=(200, 80, 80) if category == 1 else (60, 30, 120))
            annotation = {"id": len(annotations), "image_id": i, "category_id": category}
            annotations.append({**annotation, "bbox": [left, top, size, size]})
        picture.save(folder / f"{i}.jpg")
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 160, "height": 120})
    categories = [{"id": 1, "name": "RBC"}, {"id": 2, "name": "WBC"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def test_bccd(folder, tmp_path):
    out = tmp_path / "out"
    (report,) = image_bccd.main(
        data=str(folder), seeds=(0,), epochs=20, batch_size=4, grid=(24, 32), lr=4e-3, hidden=32, out=str(out)
    )
    check_run(report, out / "seed0", [str(path) for path in sorted((folder / "test").iterdir())[:3]])
    assert report.test["ap50"] > 0.08
