"""Folders and tables as they lie about: read whole, or refused by name; nothing is left out in silence."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metatx.cli import main
from metatx.data.tables import read_splits
from metatx.examples import Examples
from metatx.reading.folders import files_below, is_hidden
from metatx.reading.hyperspectral import spectra_of
from metatx.reading.split_names import split_of, splits_of
from tests.own_data.layouts import held, lines_told, put, written

PNG = (".png",)
BASES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing"),
}
HIDDEN = (".ipynb_checkpoints", ".git", ".DS_Store", "__MACOSX", "Thumbs.db", "desktop.ini", "._a", "@eaDir")
told = pytest.fixture(lines_told)


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
    import datasets

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
    put(tmp_path / "data", "a/0.png")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "data" / "a")
    (tmp_path / "data" / "a" / "again").symlink_to(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for folder in (tmp_path / "data", tmp_path / "link"):
        assert held(read_splits(folder, PNG)) == {"all": [("0.png", "a"), ("0.png", "b")]}


@pytest.mark.parametrize("link", ["b", "a/1.png", "a/deep/er.png", "train.csv", "metadata.csv", "masks"])
def test_links_out_of_the_folder_are_followed_only_if_asked(tmp_path, monkeypatch, link):
    put(tmp_path / "data", "a/0.png", "a/deep/0.png", "c/0.png")
    put(tmp_path / "elsewhere", "0.png")
    (tmp_path / "data" / link).symlink_to(tmp_path / "elsewhere" / ("0.png" if "." in link else ""))
    with pytest.raises(ValueError, match=f"{link} is a link that leads out of .*data; .*METATX_FOLLOW_LINKS=1"):
        read_splits(tmp_path / "data", PNG)
    if link in ("b", "a/1.png"):
        monkeypatch.setenv("METATX_FOLLOW_LINKS", "1")
        assert ("1.png", "a") in (found := held(read_splits(tmp_path / "data", PNG))["all"]) or ("0.png", "b") in found


@pytest.mark.parametrize("name", [b"a/\xff.png", b"\xff/0.png"])
def test_names_that_are_no_text_are_said(tmp_path, name):
    put(tmp_path, "a/0.png", "b/0.png")
    place = Path(tmp_path, os.fsdecode(name))
    put(tmp_path, os.fsdecode(name))
    for data in (tmp_path, place):
        with pytest.raises(ValueError, match=r"udcff.* is no UTF-8 .*; rename it") as caught:
            read_splits(data, PNG)
        str(caught.value).encode()


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
    assert config["head"]["fitted"]["classes"] == ["dark", "light"]


@pytest.mark.parametrize("names", [("trn", "tst"), ("train", "validate"), ("Trn_set", "TST")])
def test_further_spellings_of_splits(tmp_path, names):
    put(tmp_path, *(f"{name}/{label}/0.png" for name in names for label in "ab"))
    assert {*held(read_splits(tmp_path, (".png",)))} < {"train", "validation", "test"}


def test_folders_of_splits_that_were_unpacked_twice(tmp_path):
    put(tmp_path, *(f"data/data/{split}/{label}/0.png" for split in ("train", "test") for label in "ab"))
    assert held(read_splits(tmp_path, (".png",))) == dict.fromkeys(("test", "train"), [("0.png", "a"), ("0.png", "b")])
