"""CIFAR-10, CamVid, BCCD and RegDB, end to end, on a few pictures."""

import json
import os
from pathlib import Path

import image_bccd
import image_camvid
import image_cifar10
import image_regdb
import numpy as np
import pytest
from PIL import Image, ImageDraw

import metatx
from tests.recipes.cifar10 import few_images
from tests.recipes.common import check_run, real, train

SCENES = {"train": 16, "val": 4, "test": 5}
CELLS = {"train": 16, "val": 4, "test": 6}
PEOPLE = {"train": 12, "test": 6}
PICTURES = 4  # of each person and kind


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return few_images(tmp_path_factory.mktemp("cifar10"))


def pictures(folder):
    return [str(path) for path in sorted((folder / "test").rglob("*.jpg"))[::8]]


def test_cifar10(nano, images, tmp_path):
    report = train(image_cifar10.RECIPE, nano, images, tmp_path / "out", epochs=20, head_options={"layers": 2})
    check_run(report, tmp_path / "out" / "seed0", pictures(images))


def test_cifar10_with_pretrained_weights(images, tmp_path):
    """The frozen weights carry the task: random ones in the same shape are far behind."""
    if "METATX_WEIGHTS" not in os.environ:
        pytest.skip("METATX_WEIGHTS is not set: the folder that holds vit_tiny_augreg/model.safetensors")
    weights = Path(os.environ["METATX_WEIGHTS"]) / "vit_tiny_augreg" / "model.safetensors"
    accuracy = {}
    for pretrained in (True, False):
        checkpoint = weights if pretrained else None
        backbone = metatx.load_backbone("timm:vit_tiny_patch16_224", checkpoint=checkpoint, pretrained=pretrained)
        report = train(image_cifar10.RECIPE, backbone, images, tmp_path / str(pretrained), epochs=30)
        check_run(report, tmp_path / str(pretrained) / "seed0", pictures(images))
        accuracy[pretrained] = report.test["accuracy"]
    if real("image/cifar10_subset") is not None:
        assert accuracy[True] > accuracy[False] + 0.2


@pytest.fixture
def scenes(tmp_path):
    there, rng = real("image/camvid_small"), np.random.default_rng(0)
    for split, count in SCENES.items():
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
    return tmp_path


@pytest.mark.parametrize("augment", ["none", "light"])
def test_camvid(nano, scenes, tmp_path, augment):
    out = tmp_path / "out"
    options = {"tokenizer_options": {"augment": augment}, "head_options": {"hidden": 32}}
    recipe = image_camvid.RECIPE.changed(grid=(12, 16), **options)
    report = train(recipe, nano, scenes, out, epochs=8, batch_size=4, lr=3e-3)
    pictures = [str(path) for path in sorted((scenes / "test" / "images").iterdir())[:3]]
    check_run(report, out / "seed0", pictures)
    assert len(report.task.predict(pictures)) == 3 and report.test["miou"] > 0.12


@pytest.fixture
def cells(tmp_path):
    there, rng = real("image/bccd"), np.random.default_rng(0)
    for split, count in CELLS.items():
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


def test_bccd(nano, cells, tmp_path):
    out = tmp_path / "out"
    recipe = image_bccd.RECIPE.changed(grid=(24, 32), head_options={"hidden": 32})
    report = train(recipe, nano, cells, out, epochs=20, batch_size=4, lr=4e-3)
    check_run(report, out / "seed0", [str(path) for path in sorted((cells / "test").iterdir())[:3]])
    assert report.test["ap50"] > 0.08


@pytest.fixture
def people(tmp_path):
    """People in two greys, above and below; visible pictures with a tint."""
    rng = np.random.default_rng(0)
    (tmp_path / "idx").mkdir()
    for split, count in PEOPLE.items():
        for kind in ("visible", "thermal"):
            lines = []
            (tmp_path / kind.title() / split).mkdir(parents=True)
            colours = np.random.default_rng(split == "train").integers(20, 235, (count, 2, 1))
            for person in range(count):
                for i in range(PICTURES):
                    picture = np.repeat(colours[person], 32, axis=0)[:, None].repeat(32, 1)
                    picture = picture + (0 if kind == "thermal" else np.array([15, 0, -15]))
                    picture = (picture + rng.normal(size=(64, 32, 3)) * 5).clip(0, 255).astype(np.uint8)
                    name = f"{kind.title()}/{split}/{person}_{i}.bmp"
                    Image.fromarray(picture).save(tmp_path / name)
                    lines.append(f"{name} {person}")
            (tmp_path / "idx" / f"{split}_{kind}_3.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_people_of_a_split_are_in_no_other(people):
    splits = image_regdb.read(people, trial=3)
    found = {split: set(table.person) for split, table in splits.items()}
    assert {split: len(names) for split, names in found.items()} == {"train": 9, "validation": 3, "test": 6}
    assert not found["train"] & found["test"] and not found["train"] & found["validation"]
    assert set(splits["test"].kind) == {"visible", "thermal"}
    with pytest.raises(FileNotFoundError, match="train_visible_7"):
        image_regdb.read(people, trial=7)
    (people / "idx" / "train_visible_3.txt").write_text("Visible/a.bmp\n")
    with pytest.raises(ValueError, match="line 1: 'Visible/a.bmp'; expected a picture and a person's number"):
        image_regdb.read(people, trial=3)


def test_regdb(nano, people, tmp_path, capsys):
    recipe = image_regdb.RECIPE.read_with(trial=3).changed(grid=(4, 4), head_options={"layers": 2, "size": 32})
    report = train(recipe, nano, people, tmp_path / "out", epochs=20, batch_size=24)
    check_run(report, tmp_path / "out" / "seed0", recipe.read(people)["test"].file.tolist()[:3])
    printed = capsys.readouterr().out
    assert "visible among thermal: rank-1" in printed and "thermal among visible: rank-1" in printed
    first = float(printed.split("visible among thermal: rank-1 ")[1].split(",")[0])
    assert first > 2 / PEOPLE["test"], "better than twice chance"
