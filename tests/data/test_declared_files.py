"""Tables whose file columns are known: those are looked up beside the table, and no others."""

import pandas as pd
import pytest

from metatx.data.tables import read_splits
from metatx.reading.csv_tables import Reading
from tests.own_data.layouts import lines_told, put, written

told = pytest.fixture(lines_told)

SUFFIXES = (".png", ".jpg")
READING = Reading(files={"front": SUFFIXES, "back": SUFFIXES})
FRAME = pd.DataFrame(
    {
        "front": ["pictures/0.png", "pictures/1.png", "gone.png", "pictures/0"],
        "back": [None, "pictures/1.png", None, None],
        "said": ["0.png", "1.png", "see 1.png", "0.png"],  # words, whatever they end in
        "area": [1e5, 2e5, 3.5, 4.0],
    }
)


def _read(tmp_path, form):
    put(tmp_path, "pictures/0.png", "pictures/1.png")
    written(tmp_path / form, FRAME)
    source = tmp_path if form.startswith("metadata") else tmp_path / form
    return read_splits(source, SUFFIXES, reading=READING)["all"]


@pytest.mark.parametrize("form", ["t.csv", "t.jsonl", "t.parquet", "metadata.csv", "metadata.jsonl"])
def test_declared_columns_become_paths_and_others_stay_words(tmp_path, form, told):
    table = _read(tmp_path, form)
    zero, one = (str(tmp_path / f"pictures/{number}.png") for number in (0, 1))
    assert table["front"][:] == [zero, one, str(tmp_path / "gone.png"), zero]
    assert table["back"][:] == [None, one, None, None]  # a blank cell is no file that is missing
    assert table["said"][:] == list(FRAME.said) and table["area"][:] == list(FRAME.area)
    assert any("1 of 4 files that column front names are missing" in line and "row 3" in line for line in told)


def test_the_folder_of_the_table_comes_before_the_working_folder(tmp_path, monkeypatch):
    put(tmp_path, "here/0.png", "0.png", "1.png")
    written(tmp_path / "here/t.csv", pd.DataFrame({"front": ["0.png", "1.png"]}))
    monkeypatch.chdir(tmp_path)
    table = read_splits(tmp_path / "here/t.csv", SUFFIXES, reading=READING)["all"]
    assert table["front"][:] == [str(tmp_path / "here/0.png"), "1.png"]


def test_columns_of_a_metadata_file_may_end_in_file_name(tmp_path):
    put(tmp_path, "train/0.png", "test/1.png")
    names = {"front_file_name": ["train/0.png", "test/1.png"], "file_name": ["train/0.png", "test/1.png"]}
    written(tmp_path / "metadata.csv", pd.DataFrame(names))
    parts = read_splits(tmp_path, SUFFIXES, reading=Reading(files={"front": SUFFIXES, "file": SUFFIXES}))
    assert {split: part[0] for split, part in parts.items()} == {
        split: dict.fromkeys(["front", "file"], str(tmp_path / split / f"{number}.png"))
        for number, split in enumerate(["train", "test"])
    }


def test_the_only_table_of_a_folder_names_files_in_several_folders(tmp_path):
    put(tmp_path, "seen/0.png", "heat/0.jpg")
    written(tmp_path / "pairs.csv", pd.DataFrame({"front": ["seen/0.png"], "back": ["heat/0.jpg"]}))
    table = read_splits(tmp_path, SUFFIXES, reading=READING)["all"]
    assert table[0] == {"front": str(tmp_path / "seen/0.png"), "back": str(tmp_path / "heat/0.jpg")}


def test_a_mask_is_looked_up_where_its_column_is_the_target(tmp_path):
    put(tmp_path, "0.png", "0_mask.png")
    written(tmp_path / "t.csv", pd.DataFrame({"front": ["0.png"], "mask": ["0_mask.png"]}))
    reading = Reading(files={"front": SUFFIXES, "mask": ()})
    (row,) = read_splits(tmp_path / "t.csv", SUFFIXES, reading=reading)["all"]
    assert row["mask"] == str(tmp_path / "0_mask.png")
