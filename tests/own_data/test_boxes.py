"""Boxes as people have them: ids of any kind, broken boxes, crowds, files of other programs and machines."""

import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import metatx
from metatx.cli import main
from metatx.data.table_files import read_table
from metatx.data.tables import read_splits
from metatx.heads.detection import DetectionHead
from metatx.reading.boxes import learnable
from metatx.reading.coco import read_coco

COUNT, WIDTH, HEIGHT = 12, 96, 64
NUMBERS = [700, 0, 31, 5, 2**40, 12, 13, 44, 2, 9, 8, 100]
WORDS = [
    f"{n:03}.png" for n in NUMBERS
]  # as some tools do: names of files, so that a column of them looks like pictures
SQUARE, BAR = 17, 4  # ids of categories, not in the order of their names


@pytest.fixture
def said(caplog, monkeypatch):
    """What is told, as one text."""
    logger = logging.getLogger("metatx")
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(caplog.handler)
    caplog.set_level("INFO", "metatx")
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)


def scene(folder, ids=NUMBERS, categories=(SQUARE, BAR), odd=False):
    """A COCO file of grey pictures with bright squares and dark bars; ``odd``: crowds, and boxes that are broken."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    images, annotations = [], []
    for number, image in enumerate(ids):
        picture = rng.normal(128, 8, (HEIGHT, WIDTH, 3))
        for place in (0, 1):
            kind = int(rng.integers(0, 2))
            width, height = (20, 20) if kind else (32, 12)
            left, top = int(rng.integers(0, 48 - width)) + 48 * place, int(rng.integers(0, 64 - height))
            picture[top : top + height, left : left + width] = 250 if kind else 10
            box = [left + 0.37 * kind, top, width, height]
            annotations.append({"image_id": image, "category_id": categories[1 - kind], "bbox": box, "iscrowd": 0})
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        images.append({"id": image, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT})
    if odd:
        first, second, third = ids[:3]
        for image, box, crowd in [
            (first, [10, 10, 5, 0], 0), (first, [80, 3, 40, 20], 0), (second, [3, 3, -4, 8], 0),
            (second, [0, 0, 96, 64], 1), (third, [200, 3, 5, 5], 0), (third, [40, -9.5, 30, 40], 0),
        ]:  # fmt: skip
            annotations.append({"image_id": image, "category_id": categories[0], "bbox": box, "iscrowd": crowd})
    for number, entry in enumerate(annotations):
        entry |= {"id": number + 1, "area": abs(entry["bbox"][2] * entry["bbox"][3])}
    names = [{"id": categories[0], "name": "square"}, {"id": categories[1], "name": "bar"}]
    file = folder / "ann.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    return file


@pytest.fixture(scope="module")
def detector(nano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    table = read_coco(scene(folder / "data"))
    task = metatx.Task.from_data(
        nano,
        "image",
        table,
        tokenizer_options={"image_size": [HEIGHT, WIDTH]},
        head_options={"layers": 2, "hidden": 32, "cells": 2, "threshold": 0.7},
    )
    task.fit(table, epochs=8, batch_size=4, lr=4e-3)
    return task, task.save_pretrained(folder / "task")


def judged(annotations, found):
    """AP and AP50 as pycocotools says them."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(annotations))
    measured = COCOeval(truth, truth.loadRes(json.loads(found.read_text())["annotations"]), "bbox")
    measured.evaluate()
    measured.accumulate()
    measured.summarize()
    return measured.stats[:2]


@pytest.mark.parametrize("odd", [False, True], ids=["plain", "crowds and broken boxes"])
@pytest.mark.parametrize(
    ("ids", "categories"),
    [(NUMBERS, (SQUARE, BAR)), (range(COUNT), (0, 1)), (WORDS, ("k-1", "k-0"))],
    ids=["numbers", "from 0", "words"],
)
def test_pycocotools_gives_the_average_precision_that_is_printed(detector, tmp_path, ids, categories, odd):
    task, saved = detector
    file = scene(tmp_path / "data", ids, categories, odd)
    main(["predict", str(saved), str(file), "--out", str(tmp_path / "boxes.json")])
    ours = task.evaluate(str(file))
    ap, ap50 = judged(file, tmp_path / "boxes.json")
    assert 0.2 < ap50 < 1 and 0.05 < ap < 1
    np.testing.assert_allclose([ours["ap"], ours["ap50"]], [ap, ap50], atol=1e-6)
    written = json.loads((tmp_path / "boxes.json").read_text())
    assert {image["id"]: image["file_name"] for image in written["images"]} == {
        image: f"{number}.png" for number, image in enumerate(ids)
    }
    assert {category["id"]: category["name"] for category in written["categories"]} == {
        categories[0]: "square",
        categories[1]: "bar",
    }


def test_equal_scores_in_all_pictures_are_measured_in_the_order_of_ids(nano, tmp_path):
    """Blank pictures get the same boxes, so that the order of the pictures alone decides which is right first."""
    file = scene(tmp_path)
    for picture in tmp_path.glob("*.png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(picture)
    options = {"tokenizer_options": {"image_size": [HEIGHT, WIDTH]}, "head_options": {"layers": 1, "hidden": 16}}
    task = metatx.Task.from_data(nano, "image", str(file), **options).fit(str(file), epochs=2, batch_size=4)
    queries = task.queries(str(file))
    task.head.write(tmp_path / "boxes.json", queries, list(task.predict(queries)))
    ours = task.evaluate(str(file))
    assert ours["ap50"] > 0
    np.testing.assert_allclose([ours["ap"], ours["ap50"]], judged(file, tmp_path / "boxes.json"), atol=1e-6)


def test_pictures_of_two_files_whose_ids_meet_are_numbered_anew(detector, tmp_path, said):
    task, _ = detector
    files = [scene(tmp_path / name, ids) for name, ids in {"a": range(COUNT), "b": range(5, 5 + COUNT)}.items()]
    queries = [query for file in files for query in task.queries(str(file))]
    task.head.write(tmp_path / "boxes.json", queries, list(task.predict(queries)))
    written = json.loads((tmp_path / "boxes.json").read_text())
    assert [image["id"] for image in written["images"]] == list(range(1, 2 * COUNT + 1))
    assert "ids differ or meet; they are numbered anew" in said()


def test_a_class_that_the_file_does_not_list_gets_an_id_of_its_own(detector, tmp_path):
    task, _ = detector
    file = scene(tmp_path)
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 9, "name": "car"}, {"id": SQUARE, "name": "square"}]
    content["annotations"] = []
    file.write_text(json.dumps(content))
    queries = task.queries(str(file))
    task.head.write(tmp_path / "boxes.json", queries, list(task.predict(queries)))
    written = json.loads((tmp_path / "boxes.json").read_text())["categories"]
    assert written == [*content["categories"], {"id": SQUARE + 1, "name": "bar"}]


def test_broken_boxes_cost_no_picture_and_are_told_once(nano, tmp_path, said):
    file = scene(tmp_path, odd=True)
    options = {"tokenizer_options": {"image_size": [HEIGHT, WIDTH]}, "head_options": {"layers": 1, "hidden": 16}}
    task = metatx.Task.from_data(nano, "image", str(file), **options)
    encoded = task.encode(str(file), "train")
    assert len(encoded) == COUNT and not encoded.bad
    learned = [learnable(boxes) for boxes in encoded.__getitems__(range(COUNT))[1]]
    assert sum(map(len, learned)) == 2 * COUNT + 2
    assert all((boxes[:, 1:] >= 0).all() and (boxes[:, 1:] <= 1).all() for boxes in learned)
    assert said().count("boxes left out, of no size or outside their picture: 3; cut at its edge: 2") == 1
    assert f"the first is in {tmp_path / '1.png'}" in said()  # of the lowest id
    assert np.isfinite(task.fit(encoded, epochs=1).evaluate(str(file))["loss"])


ANYWHERE = st.tuples(*[st.floats(-200, 200)] * 2, *[st.floats(-60, 200)] * 2)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(ANYWHERE, st.booleans()), max_size=6))
def test_what_is_learned_is_the_part_inside_the_picture(boxes):
    head = DetectionHead(4).learn([{"bbox": [[0, 0, 5, 5]], "category": ["a"], "width": 96, "height": 64}])
    target = {"bbox": [list(box) for box, _ in boxes], "category": ["a"] * len(boxes), "width": 96, "height": 64}
    target["iscrowd"] = [int(crowd) for _, crowd in boxes]
    expected = []
    for (left, top, width, height), crowd in boxes:
        corners = np.clip([left, top, left + width, top + height], 0, [96, 64, 96, 64])
        if not crowd and corners[2] - corners[0] > 1e-4 and corners[3] - corners[1] > 1e-4:
            expected.append(corners)
    found = learnable(head.encode(target)).numpy()[:, 1:] * [96, 64, 96, 64]
    np.testing.assert_allclose(found, np.array(expected).reshape(-1, 4), atol=1e-9)
    assert len(head.encode(target)) == len(boxes)


@pytest.mark.parametrize("box", [[np.nan, 1, 2, 3], [1, 1, np.inf, 2]])
def test_a_box_of_no_numbers_is_none(box):
    target = {"bbox": [[0, 0, 5, 5], box], "category": ["a", "a"], "width": 96, "height": 64}
    assert len(DetectionHead(4).learn([target]).encode(target)) == 1


def changed(tmp_path, change):
    """The COCO file of a scene after ``change(content)``."""
    file = scene(tmp_path / "data", range(COUNT))
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["images"][3].update(id=2), "image id 2 is both 2.png and 3.png"),
        (lambda c: c["images"][3].update(file_name="2.png"), "images 2 and 3 are both the file 2.png"),
        (lambda c: c["categories"][1].update(id=SQUARE), f"category id {SQUARE} is both square and bar"),
        (lambda c: c["categories"][1].update(name="square"), "categories 4 and 17 are both called square"),
        (
            lambda c: c["annotations"][0].update(image_id="0"),
            "annotation 1 is of image_id '0', which is none of the 12",
        ),
        (
            lambda c: c["annotations"][0].update(category_id=99),
            "annotation 1 is of category_id 99, which is none of the 2",
        ),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"bbox of annotation 1 is \[1, 2, 3\]; expected four"),
    ],
)
def test_ids_that_say_two_things_are_refused(tmp_path, change, said):
    with pytest.raises(ValueError, match=f"ann.json: {said}"):
        read_coco(changed(tmp_path, change))


def test_harmless_repetitions_are_read(tmp_path):
    def repeat(content):
        content["images"].append(content["images"][0])
        content["categories"] = [{"id": 0, "name": "square"}, *content["categories"]]  # Roboflow's root, without boxes
        for entry in content["annotations"]:
            entry.update(id=1, image_id=float(entry["image_id"]))  # as pandas writes whole numbers

    table = read_coco(changed(tmp_path, repeat))
    assert len(table) == COUNT and sum(len(objects["bbox"]) for objects in table["objects"]) == 2 * COUNT
    assert {"id": SQUARE, "name": "square"} in json.loads(table.info.description)
    assert {"id": 0, "name": "square"} not in json.loads(table.info.description)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("first", ["annotations", "categories", "images"])
def test_coco_is_read_in_any_encoding_and_order(tmp_path, encoding, first):
    def rename(content):
        content["categories"][0]["name"] = "Größe"
        parts = {first: content.pop(first), **content}
        content.clear()
        content.update(parts)

    file = changed(tmp_path, rename)
    plain = read_coco(file)[:]
    file.write_bytes(json.dumps(json.loads(file.read_text()), indent=1, ensure_ascii=False).encode(encoding))
    assert read_table(file)[:] == plain and read_splits(file, (".png",))["all"][:] == plain
    assert "Größe" in {name for objects in plain["objects"] for name in objects["category"]}


def test_rows_of_json_are_no_coco(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps([{"images": 1, "annotations": 2}]))
    (tmp_path / "rows2.json").write_text(json.dumps({"images": {"0": 1}, "labels": {"0": 2}}))
    assert read_table(tmp_path / "rows.json").column_names == ["images", "annotations"]
    assert read_table(tmp_path / "rows2.json").column_names == ["images", "labels"]


def test_pictures_without_annotations_are_asked_about(detector, tmp_path):
    task, _ = detector
    file = changed(tmp_path, lambda content: content.pop("annotations"))
    assert len(task.predict(str(file))) == COUNT


FOREIGN = ["{}", "C:\\data\\set\\{}", "/home/someone/else/{}", "..\\up\\{}", "images\\{}", "file://server/{}"]


@pytest.mark.parametrize("form", FOREIGN)
@pytest.mark.parametrize("place", [".", "images", "ann", "train2017", "pictures"])
def test_names_of_other_machines_are_found_beside(tmp_path, form, place):
    def rename(content):
        for image in content["images"]:
            image["file_name"] = form.format(image["file_name"])

    file = changed(tmp_path, rename)
    if place != ".":
        (file.parent / place).mkdir()
        for picture in file.parent.glob("*.png"):
            picture.rename(file.parent / place / picture.name)
    found = read_coco(file)
    assert [name.rsplit("/", 1)[-1] for name in found["file"]] == [f"{number}.png" for number in range(COUNT)]
    assert all((file.parent / place / f"{number}.png").samefile(name) for number, name in enumerate(found["file"]))


def test_names_that_lie_in_two_folders_are_refused(tmp_path):
    file = changed(tmp_path, lambda content: content["images"][0].update(file_name="D:\\0.png"))
    content = json.loads(file.read_text())
    content["images"], content["annotations"] = content["images"][:1], []
    file.write_text(json.dumps(content))
    (file.parent / "old").mkdir()
    (file.parent / "old" / "0.png").write_bytes((file.parent / "0.png").read_bytes())
    with pytest.raises(ValueError, match=r"pictures as 0.png are in .*data and in .*old; which are meant"):
        read_coco(file)
    (file.parent / "old" / "0.png").unlink()
    (file.parent / "0.png").unlink()
    with pytest.raises(ValueError, match=r"no picture D:.*0.png; looked in .*data.*old"):
        read_coco(file)


@pytest.mark.parametrize(
    ("said_so", "crowd"), [("0", 0), ("1", 1), (None, 0), (False, 0), (True, 1), ("false", 0), (1.0, 1)]
)
def test_a_crowd_is_what_its_flag_says(tmp_path, said_so, crowd):
    table = read_coco(changed(tmp_path, lambda held: held["annotations"][0].update(iscrowd=said_so)))
    assert table[:]["objects"][0].get("iscrowd", [0])[0] == crowd


def test_a_flag_that_says_neither_is_refused(tmp_path):
    with pytest.raises(ValueError, match="annotation 1: iscrowd is 'maybe'; expected 0 or 1"):
        read_coco(changed(tmp_path, lambda held: held["annotations"][0].update(iscrowd="maybe")))


@pytest.mark.parametrize("score", [None, "0.5", 0.5])
def test_scores_of_other_programs_leave_no_box_out(tmp_path, score):
    table = read_coco(changed(tmp_path, lambda held: held["annotations"][0].update(score=score)))
    assert sum(len(objects["bbox"]) for objects in table[:]["objects"]) == 2 * COUNT


@pytest.mark.parametrize("size", [(str(WIDTH), str(HEIGHT)), (0, 0), (None, None), (float(WIDTH), HEIGHT)])
def test_sizes_in_digits_or_unknown_are_read(tmp_path, size):
    read_coco(changed(tmp_path, lambda held: held["images"][0].update(width=size[0], height=size[1])))


def test_boxes_in_shares_are_refused(tmp_path):
    def shrink(held):
        for entry in held["annotations"]:
            entry["bbox"] = [side / WIDTH for side in entry["bbox"]]

    table = read_coco(changed(tmp_path, shrink))
    with pytest.raises(ValueError, match=f"All {2 * COUNT} boxes .* in pixels"):
        DetectionHead(8).learn(table["objects"][:])
