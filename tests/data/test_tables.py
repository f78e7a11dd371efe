"""Every way in which users keep data on disk, and every way in which that goes wrong."""

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from metatx.data.table_files import as_dataset
from metatx.data.tables import as_table, candidates, find_target, read_splits
from metatx.examples import Examples

FRAME = pd.DataFrame({"x": [1.0, 2.0, 3.0], "label": ["a", "b", "a"]})


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json", "jsonl"])
def test_tables_of_every_format_read_the_same(tmp_path, suffix):
    path = tmp_path / f"data.{suffix}"
    if suffix == "csv":
        FRAME.to_csv(path, index=False)
    elif suffix == "parquet":
        FRAME.to_parquet(path)
    else:
        FRAME.to_json(path, orient="records", lines=suffix == "jsonl")
    assert read_splits(str(path), ())["all"].to_dict() == FRAME.to_dict("list")


def test_folder_of_split_files(tmp_path):
    for name in ("train", "val", "test"):
        FRAME.to_csv(tmp_path / f"{name}.csv", index=False)
    assert sorted(read_splits(tmp_path, ())) == ["test", "train", "validation"]


def _files(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_folder_of_classes_labels_by_folder(tmp_path):
    _files(tmp_path, ["cat/1.png", "dog/2.PNG", "dog/notes.txt", "dog/.hidden.png"])
    table = read_splits(tmp_path, (".png",))["all"]
    assert table["label"][:] == ["cat", "dog"]
    assert [f.rsplit("/", 1)[1] for f in table["file"][:]] == ["1.png", "2.PNG"]


def test_folder_of_splits_of_classes(tmp_path):
    _files(tmp_path, ["train/cat/1.png", "val/cat/2.png", "test/dog/3.png"])
    tables = read_splits(tmp_path, (".png",))
    assert {split: table["label"][:] for split, table in tables.items()} == {
        "train": ["cat"],
        "validation": ["cat"],
        "test": ["dog"],
    }


def test_folder_of_classes_of_splits(tmp_path):
    """As ModelNet40 is published."""
    names = ["bed/train/1.off", "bed/test/2.off", "car/train/3.off", "car/test/4.off"]
    _files(tmp_path, names)
    tables = read_splits(tmp_path, (".off",))
    assert {split: table["label"][:] for split, table in tables.items()} == {
        "train": ["bed", "car"],
        "test": ["bed", "car"],
    }
    assert tables["train"].column_names == ["file", "label"]
    _files(tmp_path, ["car/5.off"])
    with pytest.raises(ValueError, match="car/5.off lies in no folder of a split, where 4 other files do"):
        read_splits(tmp_path, (".off",))


def test_folder_of_containers_named_by_split(tmp_path):
    readers = {".box": lambda path: {("train" if path.stem == "val" else "all"): Examples([path.stem])}}
    for name in ("train.box", "test.BOX", "other.box"):
        (tmp_path / name).touch()
    splits = read_splits(tmp_path, (), containers=readers)
    assert {split: list(part.inputs) for split, part in splits.items()} == {"train": ["train"], "test": ["test"]}
    (tmp_path / "val.box").touch()
    with pytest.raises(ValueError, match="val.box is named as one split, but holds train"):
        read_splits(tmp_path, (), containers=readers)


def test_folder_known_by_a_file(tmp_path):
    readers = {"contents.txt": lambda path: {"test": Examples([path])}}
    (tmp_path / "contents.txt").touch()
    for data in (tmp_path, tmp_path / "contents.txt"):
        assert read_splits(data, (), containers=readers)["test"].inputs == [tmp_path / "contents.txt"]


def test_metadata_names_files_and_splits(tmp_path):
    _files(tmp_path, ["1.png", "2.png"])
    pd.DataFrame({"file_name": ["1.png", "2.png"], "split": ["train", "test"], "label": [3, 4]}).to_csv(
        tmp_path / "metadata.csv", index=False
    )
    tables = read_splits(tmp_path, (".png",))
    assert tables["test"]["file"][:] == [str(tmp_path / "2.png")]
    assert tables["train"].column_names == ["label", "file"]


def test_split_column_is_found_or_named():
    frame = FRAME.assign(split=["train", "test", "dev"])
    assert sorted(read_splits(frame, ())) == ["test", "train", "validation"]
    assert sorted(read_splits(frame.rename(columns={"split": "part"}), (), "part")) == [
        "test",
        "train",
        "validation",
    ]
    assert list(read_splits(FRAME.assign(split=["left", "right", "left"]), ())) == ["all"]
    two = frame.assign(part=["test", "train", "train"])
    assert read_splits(two, (), "part")["train"].column_names == list(FRAME.columns)


def test_categories_arrays_and_mixed_cells_survive():
    frame = pd.DataFrame(
        {
            "category": pd.Categorical(["u", "v"]),
            "series": [np.ones((2, 3)), np.zeros((2, 4))],
            "mixed": [1, "many"],
            "gaps": [None, "w"],
        }
    )
    row = read_splits(frame, ())["all"][0]
    assert row == {"category": "u", "series": [[1.0] * 3] * 2, "mixed": "1", "gaps": None}


def test_datasets_and_rows_are_taken_as_they_are():
    assert as_table(Dataset.from_pandas(FRAME), (), "train")["x"][:] == [1.0, 2.0, 3.0]
    assert as_table([{"x": 1}, {"x": 2}], (), "train")["x"][:] == [1, 2]


def test_target_by_name_or_by_usual_name():
    table = as_table(FRAME, (), "train")
    assert find_target(table, None) == "label"
    assert find_target(table, "x") == "x"
    assert find_target(table.remove_columns("label"), None) is None


def test_candidates_leave_out_the_target():
    table = as_table(FRAME, (), "train")
    assert candidates(table, lambda value: True, without={"label"}) == ["x"]
    assert candidates(table, lambda value: isinstance(value, str), without=set()) == ["label"]
    table = as_table(FRAME.assign(label=[None, "b", "a"]), (), "train")
    assert candidates(table, lambda value: isinstance(value, str), without=set()) == ["label"], (
        "its first cell is empty"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.csv", "none.csv does not exist"),
        (lambda folder: _written(folder / "empty.csv", ""), "empty.csv holds no samples"),
        (lambda folder: _written(folder / "head.csv", "a,b\n"), "head.csv holds no samples"),
        (
            lambda folder: _written(folder / "bad.parquet", "x"),
            "bad.parquet cannot be read as parquet",
        ),
        (lambda folder: _written(folder / "data.xlsx", "x"), "is no table"),
        (lambda folder: folder, "holds no .png"),
        (lambda folder: FRAME.assign(fold=["train", "odd", "x"]), "fold holds odd, x"),
    ],
)
def test_bad_data_is_named_in_one_line(tmp_path, make, message):
    data = make(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        read_splits(data, (".png",), "fold" if isinstance(data, pd.DataFrame) else None)
    assert "\n" not in str(caught.value)


def _written(path, text):
    path.write_text(text)
    return path


def test_missing_columns_name_the_near_match():
    table = as_table(FRAME, (), "train")
    with pytest.raises(ValueError, match="Did you mean 'label'"):
        find_target(table, "lable")
    with pytest.raises(ValueError, match="label, class could each"):
        find_target(table.add_column("class", [1, 2, 3]), None)
    with pytest.raises(ValueError, match="no test split; it has train"):
        as_table({"train": 1}, (), "test") if False else as_table(FRAME.assign(split="train"), (), "test")
    with pytest.raises(TypeError, match="not int"):
        read_splits(3, ())


def test_masks_are_the_target_only_where_nothing_else_is():
    table = as_dataset([{"file": "a.png", "mask": "b.png", "label": "cat"}])
    assert find_target(table, None) == "label"
    assert find_target(table.remove_columns("label"), None) == "mask"


def test_shards_of_the_hub_are_put_together_by_split(tmp_path):
    for folder in (tmp_path / "plain", tmp_path / "with data" / "data"):
        folder.mkdir(parents=True)
        FRAME.iloc[:2].to_parquet(folder / "train-00000-of-00002.parquet")
        FRAME.iloc[2:].to_parquet(folder / "train-00001-of-00002.parquet")
        FRAME.iloc[:1].to_parquet(folder / "val-00000-of-00001.parquet")
        found = read_splits(tmp_path / folder.relative_to(tmp_path).parts[0], ())
        assert sorted(found) == ["train", "validation"]
        assert found["train"].to_dict() == FRAME.to_dict("list")
