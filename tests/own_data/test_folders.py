"""Folders and tables as they lie about: read whole, or refused by name; nothing is left out in silence."""

import json
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metatx.cli import main
from metatx.data import as_table, read_splits
from metatx.examples import Examples
from metatx.progress import tell
from metatx.reading.cubes import spectra_of
from metatx.reading.folders import files_below, is_hidden
from metatx.reading.names import Lookup
from metatx.splits import split_of, splits_of
from tests.reading.test_boxes import CONTENT

PNG = (".png",)
BASES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing"),
}
HIDDEN = (".ipynb_checkpoints", ".git", ".DS_Store", "__MACOSX", "Thumbs.db", "desktop.ini", "._a", "@eaDir")


def put(folder, *names, content=b"x"):
    """Files of these names below a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def held(found):
    """What was read: of each split the names of its files, with labels where there are."""
    return {
        split: [
            (os.path.basename(row["file"]), row["label"]) if "label" in row else os.path.basename(row["file"])
            for row in table
        ]
        for split, table in found.items()
    }


@pytest.fixture
def told():
    """Lines that were told."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    tell("once, so that the logger is set up")
    logging.getLogger("metatx").addHandler(handler)
    yield lines
    logging.getLogger("metatx").removeHandler(handler)


# Names of splits


@st.composite
def spelt(draw):
    """A split, and a spelling of its name."""
    split = draw(st.sampled_from(sorted(BASES)))
    word = draw(st.sampled_from(BASES[split]))
    end = draw(st.sampled_from(["", "set", "_set", "-set", " set", "data", "_data", "-split", "_images", "2017"]))
    letters = [letter.upper() if draw(st.booleans()) else letter for letter in word + end]
    return split, draw(st.sampled_from(["", " ", "_"])) + "".join(letters)


@given(spelt())
def test_a_split_is_known_in_any_usual_spelling(found):
    split, name = found
    assert split_of(name) == split


@given(st.sampled_from([word for words in BASES.values() for word in words]), st.sampled_from("234567"))
def test_what_says_more_than_a_split_is_none(word, number):
    for name in (f"{word}_old", f"{word}{number}", f"my {word}", f"{word}_set{number}", f"{word}_val", f"un{word}ed"):
        assert split_of(name) is None, name
    assert not any(map(split_of, ("trainval", "invalid", "device", "fitness", "", "set", "2017", "éval")))
    assert [split_of(value) for value in (None, 3, 1.5, True)] == [None] * 4


def test_eval_beside_dev_is_a_test_split():
    assert splits_of(["train", "dev", "Eval"]) == {"train": "train", "dev": "validation", "Eval": "test"}
    assert splits_of(["train", "eval", "test"]) == {"train": "train", "eval": "validation", "test": "test"}


@pytest.mark.parametrize("names", [("Training", "Testing"), ("TRAIN", "Test_Set"), ("training set", "TESTSET")])
@pytest.mark.parametrize("layout", ["{split}/{kind}/0.png", "{kind}/{split}/0.png"])
def test_folders_of_splits_and_of_classes_know_them(tmp_path, names, layout):
    put(tmp_path, *(layout.format(split=split, kind=kind) for split in names for kind in ("glioma", "pituitary")))
    both = [("0.png", "glioma"), ("0.png", "pituitary")]
    assert held(read_splits(tmp_path, PNG)) == {"train": both, "test": both}


@pytest.mark.parametrize(
    "names", [("Train.csv", "VALID.csv"), ("TRAIN.CSV", "dev_set.CSV"), ("train-set.csv", "val.Csv")]
)
def test_tables_and_containers_know_them(tmp_path, names):
    for name in names:
        pd.DataFrame({"x": [1, 2], "Split": [name[:5], name[:5]] if "rain" in name.lower() else ["dev"] * 2}).to_csv(
            tmp_path / name, index=False
        )
    found = read_splits(tmp_path, ())
    assert sorted(found) == ["train", "validation"]
    assert found["train"].column_names == ["x"], "a column that says the same is no input"
    readers = {".csv": lambda path: {"all": Examples([path.name])}}
    assert {s: part.inputs for s, part in read_splits(tmp_path, (), None, readers).items()} == {
        "train": [names[0]],
        "validation": [names[1]],
    }


def test_shards_know_them_and_are_whole(tmp_path):
    for name in (
        "Training-00000-of-00002",
        "Training-00001-of-00002-ab12cd",
        "test_set-00000-of-00001",
        ".test-00000-of-1",
    ):
        pd.DataFrame({"x": [len(name)]}).to_parquet(tmp_path / f"{name}.parquet")
    assert {split: len(table) for split, table in read_splits(tmp_path, ()).items()} == {"train": 2, "test": 1}
    (tmp_path / "Training-00000-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match="Training-00001.* is one of 2 shards, of which 1 are there"):
        read_splits(tmp_path, ())


@pytest.mark.parametrize("column", ["split", "Split", "SPLIT", "data_split"])
def test_a_split_column_knows_them(column):
    frame = pd.DataFrame({"x": [1, 2, 3, 4], column: ["Train", "TRAINING", "Valid", "test set"]})
    found = read_splits(frame, ())
    assert {split: table.to_dict() for split, table in found.items()} == {
        "train": {"x": [1, 2]},
        "validation": {"x": [3]},
        "test": {"x": [4]},
    }


def test_a_column_of_splits_by_another_name_is_taken_and_told(told):
    frame = pd.DataFrame({"x": [1, 2, 3], "fold": ["train", "val", "test"]})
    assert sorted(read_splits(frame, ())) == ["test", "train", "validation"]
    assert "column fold says the split" in told[-1]
    for values in ([0, 1, 2], ["a", "b", "c"], ["train", "a", "b"]):
        assert list(read_splits(frame.assign(fold=values), ())) == ["all"], "folds of numbers are no splits"


@pytest.mark.parametrize("third", ["holdout", None, "test2"])
def test_a_split_column_that_is_half_known_is_refused(third):
    frame = pd.DataFrame({"x": [1, 2, 3], "split": ["train", "test", third]})
    with pytest.raises(ValueError, match=f"column split says {third} beside names of splits"):
        read_splits(frame, ())
    with pytest.raises(ValueError, match=rf"column split says {third} \(row 3\)"):
        read_splits(frame, (), "split")


def test_the_hub_knows_them(monkeypatch, told):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"x": [1]})
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"Train": table, "dev": table, "unsupervised": table})
    assert sorted(read_splits("hf:some/set", ())) == ["train", "validation"]
    assert "unsupervised are of no split" in told[-1]
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"full": table})
    assert list(read_splits("hf:some/set", ())) == ["all"]


def test_spectra_know_them():
    arrays = {"X": np.ones((3, 4)), "y": np.arange(3), "split": np.array(["Train", "VAL", "testing"])}
    assert sorted(spectra_of(arrays, "file")) == ["test", "train", "validation"]


# Half-known layouts


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["train/a/0.png", "train/b/0.png", "test_set2/a/0.png"], "test_set2"),
        (["Training/a/0.png", "Test_old/a/0.png"], "Test_old"),
        (["train/a/0.png", "extra/a/0.png", "test/a/0.png"], "extra"),
        (["train/0.png", "test_old/0.png"], "test_old"),
        (["train/0.png", "unlabelled/0.png"], "unlabelled"),
        (["trainval/0.png", "test/0.png"], "trainval"),
        (["Training_old/a/0.png", "Test_old/a/0.png"], "Test_old, Training_old"),
        (["seg_train/a/0.png", "seg_test/a/0.png", "seg_pred/0.png"], "seg_pred, seg_test, seg_train"),
        (["train/a/0.png", "Train/a/0.png", "test/a/0.png"], "both say that they are the train split"),
        (["val/a/0.png", "valid/a/0.png", "train/a/0.png"], "both say that they are the validation split"),
        (["bed/train/0.png", "bed/test/0.png", "car/train/0.png", "car/odd/0.png"], "car/odd/0.png"),
        (["images/train/0.png", "images/1.png", "masks/train/0.png", "masks/1.png"], "1 lies in no folder"),
    ],
)
def test_folders_that_would_be_left_out_are_refused_by_name(tmp_path, files, named):
    with pytest.raises(ValueError, match=named) as caught:
        read_splits(put(tmp_path, *files), PNG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kinds", [("train_station", "test_tube", "bus", "car", "cat"), ("test_a", "test_b")])
def test_classes_that_only_sound_like_splits_are_classes(tmp_path, kinds):
    put(tmp_path, *(f"{kind}/0.png" for kind in kinds))
    assert read_splits(tmp_path, PNG)["all"].unique("label") == sorted(kinds)


def test_a_folder_of_a_split_in_its_like_is_one(tmp_path):
    put(tmp_path, *(f"{name}/{name}/{kind}/0.png" for name in ("training_set", "test_set") for kind in "ab"))
    assert held(read_splits(tmp_path, PNG)) == dict.fromkeys(("train", "test"), [("0.png", "a"), ("0.png", "b")])


def test_a_folder_of_a_split_without_a_table_is_told(tmp_path, told):
    put(tmp_path, "train/0.png", "test/0.png")
    written(tmp_path / "train.csv", pd.DataFrame({"image": ["0.png"], "label": ["a"]}))
    assert read_splits(tmp_path, PNG)["train"]["image"][:] == [str(tmp_path / "train/0.png")]
    assert told == [f"{tmp_path}: test beside train.csv left out; no table."]


@pytest.mark.parametrize("name", ["train_old.csv", "test2.csv", "TEST.xlsx", "test.csv.gz", "Train.parquet"])
def test_tables_that_would_be_left_out_are_refused_by_name(tmp_path, name):
    put(tmp_path, "train.csv", content=b"x\n1\n")
    put(tmp_path, name)
    with pytest.raises(ValueError, match=name):
        read_splits(tmp_path, ())


def test_a_class_called_like_a_split_is_a_class_where_nothing_else_makes_sense(tmp_path, told):
    put(tmp_path, "bus/0.png", "car/0.png", "train/0.png")
    assert held(read_splits(tmp_path, PNG)) == {"all": [("0.png", name) for name in ("bus", "car", "train")]}
    assert "train lies among folders of other names" in told[0]
    put(tmp_path, "train/deep/1.png")
    with pytest.raises(ValueError, match="bus, car beside them would be left out"):
        read_splits(tmp_path, PNG)


def test_classes_called_like_splits_may_hold_splits(tmp_path):
    put(tmp_path, *(f"{kind}/{split}/0.png" for kind in ("bus", "train") for split in ("train", "test")))
    assert held(read_splits(tmp_path, PNG)) == dict.fromkeys(("train", "test"), [("0.png", "bus"), ("0.png", "train")])


def test_what_is_no_data_may_lie_beside_splits(tmp_path, told):
    put(tmp_path, "train/a/0.png", "test/a/0.png", "README.md", "docs/notes.txt", "logo.png", "sums.txt")
    assert held(read_splits(tmp_path, PNG)) == {"train": [("0.png", "a")], "test": [("0.png", "a")]}
    assert told == [
        f"{tmp_path}: 2 files of other kinds left out: .txt 2.",
        f"{tmp_path}: 1 file beside the data left out, as logo.png.",
    ]


def test_what_an_archive_wraps_is_read(tmp_path):
    put(tmp_path, "brain/Training/a/0.png", "brain/Testing/a/0.png", "__MACOSX/brain/._Training", "README.md")
    assert sorted(read_splits(tmp_path, PNG)) == ["test", "train"]


def test_files_of_other_kinds_are_counted_once(tmp_path, told):
    put(tmp_path, "a/0.png", "a/1.gif", "b/0.PNG", "b/2.GIF", *(f"b/{i}.txt" for i in range(4)), ".DS_Store")
    assert held(read_splits(tmp_path, PNG)) == {"all": [("0.png", "a"), ("0.PNG", "b")]}
    assert told == [f"{tmp_path}: 6 files of other kinds left out: .gif 2, .txt 4."]


def test_files_beside_folders_of_classes_have_no_label(tmp_path, told):
    put(tmp_path, "a/0.png", "b/0.png", "c.png")
    assert held(read_splits(tmp_path, PNG)) == {"all": [("0.png", "a"), ("0.png", "b"), ("c.png", None)]}
    assert "1 file without a label" in told[0]


def test_linked_folders_are_read_and_a_circle_ends(tmp_path):
    put(tmp_path / "elsewhere", "0.png")
    put(tmp_path / "data", "a/0.png")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "again").symlink_to(tmp_path / "data")
    assert held(read_splits(tmp_path / "data", PNG)) == {"all": [("0.png", "a"), ("0.png", "b")]}


# Hidden files


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8))
def test_a_name_that_begins_with_a_dot_is_hidden(name):
    assert is_hidden(f".{name}")
    assert not is_hidden(f"a{name}")


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_files_and_folders_are_no_data(tmp_path, name):
    data = put(tmp_path / ".cache" / "data", "a/0.png", "b/0.png")
    put(data, f"{name}/1.png", f"a/{name}/1.png", f"a/deep/{name}.png" if name.startswith(".") else "a/deep/2.png")
    labels = read_splits(data, PNG)["all"].unique("label")
    assert labels == ["a", "b"]
    assert not any(name in file.parts for file in files_below(data))


def test_hidden_files_are_no_data_in_any_layout(tmp_path):
    put(tmp_path / "pairs", "images/0.png", "images/._0.png", "masks/0.png", "masks/Thumbs.db", ".x/images/1.png")
    assert len(read_splits(tmp_path / "pairs", PNG)["all"]) == 1
    put(tmp_path / "splits", "train/0.png", ".train/0.png", "__MACOSX/train/0.png", ".test_old/1.png")
    assert held(read_splits(tmp_path / "splits", PNG)) == {"train": ["0.png"]}
    put(tmp_path / "tables", "train.csv", content=b"x\n1\n")
    put(tmp_path / "tables", "._train.csv", ".train.csv", ".metadata.csv")
    assert list(read_splits(tmp_path / "tables", ())) == ["train"]


# Metadata, and tables that name files


@pytest.mark.parametrize("form", ["metadata.csv", "metadata.jsonl", "metadata.parquet", "Metadata.CSV"])
@pytest.mark.parametrize("key", ["file_name", "File_Name", "file", "path"])
def test_metadata_above_the_splits_are_joined(tmp_path, form, key, told):
    put(tmp_path, "train/0.png", "train/1.png", "test/0.png", "test/9.png", ".hidden/3.png")
    frame = pd.DataFrame({key: ["train\\1.png", "test/0.png", "train/0.png"], "label": ["b", "c", "a"]})
    written(tmp_path / form, frame)
    assert held(read_splits(tmp_path, PNG)) == {"train": [("1.png", "b"), ("0.png", "a")], "test": [("0.png", "c")]}
    assert f"{tmp_path / form} does not name 1 of the files below it, as {tmp_path / 'test/9.png'}" in told[-1]


def written(path, frame):
    """A table in a file, by its suffix."""
    if path.suffix.lower() == ".parquet":
        frame.to_parquet(path)
    elif path.suffix.lower() == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=path.suffix == ".jsonl")
    return path


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
        f"1 of 2 files that column file_name names are not there, the first 'gone.png' in row 2; looked in {tmp_path}"
        in told[-1]
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
        assert "1 of 5 files that column file names are not there" in told[-1]
    read_splits(written(tmp_path / "t.csv", pd.DataFrame({"file": [57, 58]})), PNG)
    assert f"column file names no files, as '57'; looked in {tmp_path}" in told[-1]


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
    with pytest.raises(ValueError, match="instances_minival.json is of no split"):
        read_splits(tmp_path, PNG)


def test_pairs_know_splits_below_them(tmp_path):
    put(tmp_path, *(f"{part}/{split}/{part[0]}/0.png" for part in ("Images", "Masks") for split in ("Train", "val")))
    with pytest.raises(ValueError, match="no partner of the same name, as Train/I/0"):
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


# The command line


@pytest.mark.parametrize("layout", ["Training", "beside"])
def test_the_command_line_trains_and_predicts_from_them(tmp_path, layout, monkeypatch, capsys):
    """Pictures in folders of splits, and a table in capitals that names them without their suffix."""
    rows = []
    for split, count in {"Training": 6, "Valid": 2, "Testing": 2}.items():
        for kind, value in (("dark", 20), ("light", 220)):
            for i in range(count):
                name = f"{split}/{kind}/{split}{kind}{i}.PNG"
                (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (16, 16), (value, i, 0)).save(tmp_path / "data" / name, format="png")
                rows.append((name, kind, split))
    put(tmp_path / "data", ".ipynb_checkpoints/Training/0.png", "Training/.x/0.png")
    data = tmp_path / "data"
    if layout == "beside":
        table = pd.DataFrame(rows, columns=["id", "label", "Split"])
        table["id"] = [name.removesuffix(".PNG").replace("/", "\\") for name in table.id]
        data = written(tmp_path / "data" / "LABELS.CSV", table)
    monkeypatch.chdir(tmp_path)
    line = f"train {data} --modality image --epochs 1 --no-baseline --out run".split()
    main(line)
    main(["predict", "run/task", str(data)])
    assert sum("dark" in row or "light" in row for row in capsys.readouterr().out.splitlines()) >= 4
    config = json.loads((tmp_path / "run/task/config.json").read_text())
    assert config["head"]["options"]["classes"] == ["dark", "light"]
