"""Tables, metadata and COCO files that name files, and what lies beside pictures: found, or told with row and place."""

import json
import os
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metatx.data.tables import as_table, read_splits
from metatx.reading.names import Lookup
from tests.coco_files import CONTENT
from tests.own_data.layouts import held, lines_told, put, written

PNG = (".png",)
told = pytest.fixture(lines_told)


# Metadata, and tables that name files


@pytest.mark.parametrize("form", ["metadata.csv", "metadata.jsonl", "metadata.parquet", "Metadata.CSV"])
@pytest.mark.parametrize("key", ["file_name", "File_Name", "file", "path"])
def test_metadata_above_the_splits_are_joined(tmp_path, form, key, told):
    put(tmp_path, "train/0.png", "train/1.png", "test/0.png", "test/9.png", ".hidden/3.png")
    frame = pd.DataFrame({key: ["train\\1.png", "test/0.png", "train/0.png"], "label": ["b", "c", "a"]})
    written(tmp_path / form, frame)
    assert held(read_splits(tmp_path, PNG)) == {"train": [("1.png", "b"), ("0.png", "a")], "test": [("0.png", "c")]}
    assert f"{tmp_path / form} does not name 1 of the files below it, such as {tmp_path / 'test/9.png'}" in told[-1]


def test_metadata_in_each_split_are_joined(tmp_path):
    for split in ("Train", "test"):
        put(tmp_path, f"{split}/0.png", f"{split}/1.png")
        written(
            tmp_path / split / "metadata.jsonl", pd.DataFrame({"file_name": ["1.png", "0.png"], "label": ["b", "a"]})
        )
    assert held(read_splits(tmp_path, PNG)) == dict.fromkeys(("train", "test"), [("1.png", "b"), ("0.png", "a")])


def test_metadata_may_name_several_files_a_row(tmp_path):
    put(tmp_path, "train/0.png", "train/0_mask.png")
    frame = pd.DataFrame({"image_file_name": ["train/0.png"], "mask_file_name": ["train/0_mask.png"]})
    written(tmp_path / "metadata.csv", frame)
    (row,) = read_splits(tmp_path, PNG)["train"]
    assert row == {"file": str(tmp_path / "train/0.png"), "mask": str(tmp_path / "train/0_mask.png")}


def test_metadata_without_a_target_take_the_folder_for_label(tmp_path):
    put(tmp_path, "train/a/0.png", "train/b/0.png")
    written(tmp_path / "metadata.csv", pd.DataFrame({"file_name": ["train/b/0.png", "train/a/0.png"], "who": [1, 2]}))
    assert held(read_splits(tmp_path, PNG)) == {"train": [("0.png", "b"), ("0.png", "a")]}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([0, 1], "row 1: file_name is '0', and there is no such file"),
        (["a.png", None], "row 2: file_name is None"),
        (["a.png", "  "], "row 2: file_name is '  '"),
        (["gone.png", "too.png"], "row 1: file_name is 'gone.png', and there is no such file, .* looked in "),
        (["train/a.png", "a.png"], "row 2: a.png lies in no folder of a split"),
    ],
)
def test_odd_names_in_metadata_are_told_with_their_row(tmp_path, names, said):
    put(tmp_path, "a.png", "train/a.png")
    written(tmp_path / "metadata.jsonl", pd.DataFrame({"file_name": names, "label": ["a", "b"]}))
    with pytest.raises(ValueError, match=f"metadata.jsonl, {said}"):
        read_splits(tmp_path, PNG)


def test_a_missing_file_is_told_with_its_row_and_where_it_was_looked_for(tmp_path, told):
    put(tmp_path, "a.png")
    written(tmp_path / "metadata.csv", pd.DataFrame({"file_name": ["a.png", "gone.png"], "label": ["a", "b"]}))
    written(tmp_path / "t.csv", pd.DataFrame({"image": ["gone.png", "a.png"], "label": ["a", "b"]}))
    assert held(read_splits(tmp_path, PNG)) == {"all": [("a.png", "a"), ("gone.png", "b")]}
    assert (
        f"1 of 2 files that column file_name names are missing, or exist twice, the first "
        f"'gone.png' in row 2; looked in {tmp_path}" in told[-1]
    )
    assert read_splits(tmp_path / "t.csv", PNG)["all"]["image"][0] == str(tmp_path / "gone.png")
    assert "in row 1" in told[-1]


def test_two_metadata_files_are_refused(tmp_path):
    put(tmp_path, "a.png", "metadata.csv", "metadata.jsonl")
    with pytest.raises(ValueError, match="metadata.csv and metadata.jsonl; leave one"):
        read_splits(tmp_path, PNG)


@pytest.mark.parametrize("form", ["t.csv", "t.jsonl", "t.parquet", "t.json"])
def test_names_in_a_table_are_looked_up_beside_it_first(tmp_path, monkeypatch, form):
    put(tmp_path / "here", "0.png", "1.png")
    put(tmp_path / "data", "0.png", "sub/0.png", "0_mask.npy")
    frame = pd.DataFrame(
        {"label": ["a", "b", "c"], "image": ["0.png", "sub\\0.png", "1.png"], "mask": ["0_mask.npy"] * 3}
    )
    file = written(tmp_path / "data" / form, frame)
    monkeypatch.chdir(tmp_path / "here")
    table = as_table(file, PNG, "train")
    assert table.column_names == ["label", "image", "mask"]
    assert table["image"][:] == [str(tmp_path / "data/0.png"), str(tmp_path / "data/sub/0.png"), "1.png"]
    assert table["mask"][0] == str(tmp_path / "data/0_mask.npy")
    assert as_table(file, (), "train")["image"][0] == "0.png", "where no files are read, words stay words"


@pytest.mark.parametrize("places", ["", "train/", "images/", "train_images/"])
@pytest.mark.parametrize("ids", [["x1", "x2"], [1, 2]])
def test_ids_without_suffix_name_the_one_file_of_that_stem(tmp_path, places, ids):
    put(tmp_path, *(f"{places}{id_ if isinstance(id_, str) else f'00{id_}'}.PNG" for id_ in ids))
    written(tmp_path / "train.csv", pd.DataFrame({"id": ids, "label": [1, 2]}))
    table = read_splits(tmp_path / "train.csv", PNG)["all"]
    assert [os.path.basename(file) for file in table["id"]] == (
        ["x1.PNG", "x2.PNG"] if ids[0] == "x1" else ["001.PNG", "002.PNG"]
    )
    assert table["label"][:] == [1, 2], "numbers that are no names stay"


def test_one_odd_cell_does_not_spoil_a_column(tmp_path, told):
    put(tmp_path, "1.png", "2.png", "3.PNG")
    for names in (["1.png", "2.PNG", "3.png", None, "4.gif"], [1, 2, 3, 57, None]):
        table = read_splits(written(tmp_path / "t.csv", pd.DataFrame({"file": names})), PNG)["all"]
        assert table["file"][:3] == [str(tmp_path / name) for name in ("1.png", "2.png", "3.PNG")]
        assert None in table["file"][:]
        assert "1 of 5 files that column file names are missing" in told[-1]
    read_splits(written(tmp_path / "t.csv", pd.DataFrame({"file": [57, 58]})), PNG)
    assert f"column file names no files, such as '57'; looked in {tmp_path}" in told[-1]


def test_a_target_may_name_files_that_are_there_and_else_stays(tmp_path):
    put(tmp_path, "0.png", "masks/0.png")
    frame = pd.DataFrame({"image": ["0.png"], "label": ["masks/0.png"]})
    assert read_splits(written(tmp_path / "t.csv", frame), PNG)["all"]["label"][:] == [str(tmp_path / "masks/0.png")]
    frame = frame.assign(label="gone.png")
    assert read_splits(written(tmp_path / "t.csv", frame), PNG)["all"]["label"][:] == ["gone.png"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["a", "B c", "été", "x.y", "0"]), min_size=1, max_size=4), st.data())
def test_a_name_is_found_with_any_separators_on_any_machine(parts, data):
    with tempfile.TemporaryDirectory() as folder:
        name = "/".join(parts) + ".png"
        put(Path(folder), name)
        prefix = data.draw(st.sampled_from(["", "./", "/home/other/data/", "C:\\data\\", "d:/", "\\\\host\\share\\"]))
        spelled = "".join(data.draw(st.sampled_from("/\\")) if letter == "/" else letter for letter in name)
        for written_so in (spelled, spelled.replace(".png", ".PNG"), spelled.removesuffix(".png")):
            assert Lookup([Path(folder)], PNG).find(prefix + written_so) == Path(folder) / name
        assert Lookup([Path(folder)], PNG).find(prefix + "gone" + spelled) is None


def test_an_id_of_two_files_is_no_name(tmp_path):
    put(tmp_path, "1.png", "1.jpg")
    written(tmp_path / "t.csv", pd.DataFrame({"id": [1], "label": [1]}))
    assert read_splits(tmp_path / "t.csv", (".png", ".jpg"))["all"]["id"][:] == [1]


def test_a_path_of_another_machine_is_found_by_its_end(tmp_path):
    put(tmp_path, "a/0.png", "b/0.png")
    names = ["C:\\Users\\me\\data\\a\\0.png", "/home/other/data/b/0.png"]
    table = read_splits(written(tmp_path / "t.csv", pd.DataFrame({"image": names})), PNG)["all"]
    assert table["image"][:] == [str(tmp_path / "a/0.png"), str(tmp_path / "b/0.png")]
    put(tmp_path, "0.png")
    names = ["C:\\x\\c\\0.png", "C:\\x\\d\\0.png"]
    with pytest.raises(ValueError, match="for both only .* is here"):
        read_splits(written(tmp_path / "t.csv", pd.DataFrame({"image": names})), PNG)


def test_the_one_table_of_a_folder_says_what_its_files_are(tmp_path):
    put(tmp_path, "images/0.png", "images/1.png")
    written(tmp_path / "labels.csv", pd.DataFrame({"image": ["images/1.png", "0.png"], "label": ["b", "a"]}))
    table = read_splits(tmp_path, PNG)["all"]
    assert table["image"][:] == [str(tmp_path / "images/1.png"), str(tmp_path / "images/0.png")]
    written(tmp_path / "DATA.CSV", pd.DataFrame({"x": [1]}))
    (tmp_path / "labels.csv").unlink()
    assert held(read_splits(tmp_path, PNG)) == {"all": [("0.png", "images"), ("1.png", "images")]}
    assert read_splits(tmp_path, ())["all"].to_dict() == {"x": [1]}


# Boxes and masks


def coco(path, *names):
    """A COCO file of the pictures of these names, of which the first has boxes."""
    images = [{"id": 7 + i, "file_name": name, "width": 60, "height": 40} for i, name in enumerate(names)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(CONTENT | {"images": images}))


def pictures(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(folder / name)


@pytest.mark.parametrize(
    ("file", "place", "named"),
    [
        ("annotations.json", "images/", ""),
        ("annotations.json", "images/", "images/"),
        ("result.JSON", "", ""),
        ("annotations/instances_default.json", "images/", ""),
        ("annotations/annotations.json", "images/", ""),
        ("annotations.json", "images/", "images\\"),
        ("annotations.json", "images/", "D:\\work\\images\\"),
        ("annotations.json", "images/", "/home/other/coco/images/"),
    ],
)
def test_one_coco_file_beside_its_pictures_is_read(tmp_path, file, place, named):
    pictures(tmp_path, f"{place}a.png", f"{place}b.png")
    coco(tmp_path / file, f"{named}a.png", f"{named}b.png")
    table = read_splits(tmp_path, PNG)["all"]
    assert table["file"][:] == [str(tmp_path / f"{place}a.png"), str(tmp_path / f"{place}b.png")]
    assert len(table["objects"][0]["bbox"]) == 3, "a crowd among them"


def test_coco_files_know_splits_in_any_spelling(tmp_path):
    for split in ("Train2017", "VAL2017"):
        pictures(tmp_path, f"{split}/{split}.png")
        coco(tmp_path / "annotations" / f"instances_{split}.json", f"{split}.png")
        table = json.loads((tmp_path / "annotations" / f"instances_{split}.json").read_text())
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(table | {"annotations": []}))
    assert held(read_splits(tmp_path, PNG)) == {"train": ["Train2017.png"], "validation": ["VAL2017.png"]}
    (tmp_path / "annotations" / "instances_VAL2017.json").rename(tmp_path / "annotations" / "instances_minival.json")
    with pytest.raises(ValueError, match="instances_minival.json is of no known split"):
        read_splits(tmp_path, PNG)


def test_pairs_know_splits_below_them(tmp_path):
    put(tmp_path, *(f"{part}/{split}/{part[0]}/0.png" for part in ("Images", "Masks") for split in ("Train", "val")))
    with pytest.raises(ValueError, match="no partner of the same name, such as Train/I/0"):
        read_splits(tmp_path, PNG)
    put(tmp_path / "b", *(f"{part}/{split}/0.png" for part in ("Images", "Masks") for split in ("Train", "val")))
    found = read_splits(tmp_path / "b", PNG)
    assert {split: table.to_dict() for split, table in found.items()} == {
        split: {
            "file": [str(tmp_path / "b/Images" / name / "0.png")],
            "mask": [str(tmp_path / "b/Masks" / name / "0.png")],
        }
        for split, name in (("train", "Train"), ("validation", "val"))
    }


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["images/0.png", "labels/0.txt"], "as YOLO writes them; metatx reads boxes from COCO json"),
        (["train/images/0.png", "train/labels/0.txt", "data.yaml"], "as YOLO writes them"),
        (["images/train/0.png", "labels/train/0.txt"], "as YOLO writes them"),
        (["JPEGImages/0.png", "Annotations/0.xml"], "as Pascal VOC writes them"),
        (["images/0.png", "labels/0.png"], "if those are masks, call it masks/"),
    ],
)
def test_boxes_in_other_forms_are_named(tmp_path, files, said):
    with pytest.raises(ValueError, match=said):
        read_splits(put(tmp_path, *files), PNG)


@pytest.mark.parametrize(
    ("suffixes", "containers", "files", "said"),
    [
        ((), {}, ["walk/0.csv", "run/1.csv"], r"holds \.csv 2; .* Give a table \(\.csv, "),
        ((), {".mat": None}, ["a.mat", "b.mat"], r"holds \.mat 2; .* files \.mat, one by itself or each called"),
        (PNG, {}, ["a/0.gif", "a/1"], r"holds no \.png, but \.gif 1, without suffix 1; expected"),
        (PNG, {}, [".hidden/0.png"], r"holds no \.png, but nothing"),
    ],
)
def test_a_folder_that_holds_nothing_to_read_says_what_it_holds_and_what_is_read(
    tmp_path, suffixes, containers, files, said
):
    with pytest.raises(ValueError, match=said):
        read_splits(put(tmp_path, *files), suffixes, None, containers)


@pytest.mark.parametrize("ending", ["", ".png"])
def test_files_divided_among_folders_beside_their_table_are_found(tmp_path, ending, told):
    put(tmp_path, "part_1/a.png", "part_2/b.png", "part_1/c.png", "part_2/c.png")
    written(tmp_path / "t.csv", pd.DataFrame({"image_id": [f"{name}{ending}" for name in "abc"], "label": [1, 2, 3]}))
    found = as_table(tmp_path / "t.csv", PNG, "train")["image_id"][:]
    assert found[:2] == [str(tmp_path / "part_1/a.png"), str(tmp_path / "part_2/b.png")]
    assert "1 of 3 files that column image_id names are missing, or exist twice, the first 'c" in told[-1]


def test_a_file_that_is_missing_among_others_is_not_taken_from_another_folder(tmp_path, told):
    put(tmp_path, "train_images/a.png", "test_images/b.png")
    written(tmp_path / "train.csv", pd.DataFrame({"image": ["b.png", "a.png"], "label": [1, 2]}))
    names = as_table(tmp_path / "train.csv", PNG, "train")["image"][:]
    assert names == [str(tmp_path / "b.png"), str(tmp_path / "train_images/a.png")]
