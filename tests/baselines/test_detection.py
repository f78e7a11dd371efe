"""Boxes: COCO files there and back, and the classical detector."""

import json

import numpy as np
import pytest
from PIL import Image

from metatx.baselines.detection import BlobForest, MedianBoxes
from metatx.data.tables import read_splits
from metatx.reading.coco import read_coco
from metatx.writing.coco import write_coco
from tests.coco_files import CONTENT

LAYOUTS = {
    "beside": ("train.json", "train"),
    "same folder": ("train.json", "."),
    "coco": ("annotations/instances_train2017.json", "train2017"),
    "roboflow": ("train/_annotations.coco.json", "train"),
}


def put(folder, layout):
    """A COCO data set of two pictures; its json file."""
    file, pictures = (folder / part for part in LAYOUTS[layout])
    for part in (file.parent, pictures):
        part.mkdir(parents=True, exist_ok=True)
    for image in CONTENT["images"]:
        Image.new("RGB", (60, 40)).save(pictures / image["file_name"])
    file.write_text(json.dumps(CONTENT))
    return file


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_the_published_layouts(tmp_path, layout):
    put(tmp_path, layout)
    table = read_splits(tmp_path, (".png",))["train"]
    assert [file.rsplit("/")[-1] for file in table["file"]] == ["a.png", "b.png"]
    first, second = table["objects"]
    assert first == {
        "bbox": [[1, 2, 10, 20], [30, 5, 8, 8.5], [0, 0, 60, 40]],
        "category": ["disc", "cell", "cell"],
        "iscrowd": [0, 0, 1],
        "width": 60,
        "height": 40,
    }
    assert not second["bbox"] and not second["category"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": [{"id": 7, "file_name": "gone.png"}]}, "has an image_id|no image gone.png"),
        (
            {"annotations": [{"id": 4, "image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}]},
            "annotation 4 has image_id 1, which is none of the 2",
        ),
        ({"images": [], "annotations": []}, "no image|no samples"),
    ],
)
def test_broken_files_are_named(tmp_path, change, said):
    file = put(tmp_path, "beside")
    file.write_text(json.dumps(CONTENT | change))
    with pytest.raises(ValueError, match=said):
        read_coco(file)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("annotations", {"bbox": None}, "bbox of entry 1 of annotations is None"),
        ("annotations", {"bbox": "1 2 3 4"}, "bbox of entry 1 of annotations is '1 2 3 4'"),
        ("annotations", {"bbox": [1, 2, None, 4]}, r"bbox of annotation 1 is \[1, 2, None, 4\]; expected four numbers"),
        ("annotations", {"image_id": [7]}, r"image_id of entry 1 of annotations is \[7\]"),
        ("images", {"file_name": None}, "file_name of entry 1 of images is None"),
        ("categories", {"name": {}}, "name of entry 1 of categories is {}"),
    ],
)
def test_broken_entries_are_named(tmp_path, part, change, said):
    file, content = put(tmp_path, "beside"), json.loads(json.dumps(CONTENT))
    content[part][0] |= change
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"train.json: {said}"):
        read_coco(file)
    file.write_text(json.dumps(CONTENT | {part: {}}))
    with pytest.raises(ValueError, match=f"{part} is a dict; expected a list"):
        read_coco(file)


def test_the_size_is_that_of_the_upright_picture(tmp_path):
    file, content = put(tmp_path, "beside"), json.loads(json.dumps(CONTENT))
    del content["images"][0]["width"]
    file.write_text(json.dumps(content))
    assert [objects["width"] for objects in read_coco(file)["objects"]] == [60, 60]
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (60, 40)).save(tmp_path / "train" / "b.png", exif=exif)
    with pytest.raises(ValueError, match="says that b.png is 60 x 40 pixels; it is 40 x 60"):
        read_coco(file)
    (tmp_path / "train" / "b.png").write_bytes(b"")  # a bad sample, which the tokenizer names
    assert read_coco(file)["objects"][1]["width"] == 60


def test_a_split_of_another_name_is_told(tmp_path):
    file = put(tmp_path, "coco")
    file.rename(file.with_name("instances_mine.json"))
    with pytest.raises(ValueError, match="instances_mine.json is of no known split; splits are called train,"):
        read_splits(tmp_path, (".png",))


@pytest.mark.parametrize("text", ["{", '{"images": []}', "[1, 2]", ""])
def test_other_files_are_refused(tmp_path, text):
    file = tmp_path / "train.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="train.json"):
        read_coco(file)


def test_what_is_written_is_read(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    answer = {
        "boxes": np.array([[1, 2, 11, 22.126]]),
        "labels": ["disc"],
        "scores": np.array([0.91234]),
        "extent": (40, 60),
    }
    write_coco(tmp_path / "found.json", ["elsewhere/a.png"], [answer], ["cell", "disc"])
    (row,) = read_coco(tmp_path / "found.json")
    assert row["objects"] == {"bbox": [[1, 2, 10, 20.126]], "category": ["disc"], "width": 60, "height": 40}
    assert json.loads((tmp_path / "found.json").read_text())["annotations"][0]["score"] == 0.91234


def test_boxes_below_the_threshold_are_written_and_not_read_as_true(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    boxes, scores = np.array([[1, 2, 11, 22], [5.0, 5, 9, 9]]), np.array([0.9, 0.1])
    whole = {"boxes": boxes, "labels": ["disc", "cell"], "scores": scores}
    answers = [{"boxes": boxes[:1], "labels": ["disc"], "scores": scores[:1], "extent": (40, 60), "all": whole}, None]
    write_coco(tmp_path / "found.json", ["a.png", "bad.png"], answers, ["cell", "disc"], threshold=0.3)
    content = json.loads((tmp_path / "found.json").read_text())
    assert [entry["score"] for entry in content["annotations"]] == [0.9, 0.1]
    assert [image["file_name"] for image in content["images"]] == ["a.png", "bad.png"]
    assert [objects["category"] for objects in read_coco(tmp_path / "found.json")["objects"]] == [["disc"], []]


def blots(count, rng):
    """White pictures (60, 80), each with a red square and a blue bar, and their boxes."""
    pictures, boxes = np.ones((count, 60, 80, 3), dtype=np.float32), []
    for picture in pictures:
        left, top = rng.integers(2, 20, 2)
        picture[top : top + 12, left : left + 12] = [1, 0, 0]
        picture[40:46, left + 20 : left + 50] = [0, 0, 1]
        square = [0, left / 80, top / 60, (left + 12) / 80, (top + 12) / 60]
        boxes.append(np.array([square, [1, (left + 20) / 80, 40 / 60, (left + 50) / 80, 46 / 60]]))
    return pictures, boxes


def test_blob_forest_finds_areas_of_one_colour():
    rng = np.random.default_rng(0)
    pictures, boxes = blots(12, rng)
    found = BlobForest().fit(pictures[:8], boxes[:8]).predict(pictures[8:])
    for answer, truth in zip(found, boxes[8:], strict=True):
        best = np.stack([answer[answer[:, 0] == k][answer[answer[:, 0] == k][:, 5].argmax()] for k in (0, 1)])
        np.testing.assert_allclose(best[:, :5], truth, atol=0.03)
    assert BlobForest().fit(pictures[:8], boxes[:8]).predict(np.ones((1, 60, 80, 3), dtype=np.float32))[0].shape[1] == 6


def test_median_boxes_are_the_same_for_all():
    _, boxes = blots(9, np.random.default_rng(1))
    first, second = MedianBoxes().fit(None, boxes).predict([0, 0])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first[0, :5], np.median([b[0] for b in boxes], axis=0))
    assert first[:, 5].tolist() == [1, 1]
