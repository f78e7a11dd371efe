"""``metatx index`` and ``metatx search``: from a table to hits, and one line for what is wrong."""

import csv
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import metatx
from metatx.cli import main

NAMES = ["a red shoe", "a blue shirt", "a silver watch", "a green dress"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Folder with a table that names photos beside it, and the index of both."""
    folder = tmp_path_factory.mktemp("shop")
    for number in range(4):
        Image.fromarray(np.full((32, 32, 3), 60 * number, np.uint8)).save(folder / f"{number}.png")
    table = pd.DataFrame({"name": NAMES, "file": [f"{n}.png" for n in range(4)], "price": [1, 2, 3, 40]})
    table.to_csv(folder / "shop.csv", index=False)
    run(
        f"index {folder}/shop.csv --alignment nano --input photo=image:file --input name=text --out {folder}/shop.index"
    )
    return folder


def run(line, *more):
    main([*line.split(), *more])


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def fails(capsys, line, *more):
    with pytest.raises(SystemExit) as caught:
        run(line, *more)
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert not out
    assert err.startswith("metatx: ")
    assert err.count("\n") == 1
    return err


def test_a_text_a_file_and_an_item_are_queries(shop, capsys):
    run(f"search {shop}/shop.index -k 2 --among text", "a red shoe")
    found = rows(capsys.readouterr().out)
    assert [row["name"] for row in found][0] == "a red shoe"
    assert len(found) == 2
    assert set(found[0]) == {"item", "modality", "score", "name", "file", "price"}
    run(f"search {shop}/shop.index {shop}/2.png -k 1 --among image")
    assert rows(capsys.readouterr().out)[0]["file"] == str(shop / "2.png"), "its files are found from anywhere"
    run(f"search {shop}/shop.index 3 --item --modality text --k 9 --among text")
    assert sorted(row["name"] for row in rows(capsys.readouterr().out)) == sorted(NAMES[:3]), "not the item itself"


def test_words_that_name_a_file_are_searched_where_the_modality_says_so(shop, capsys, monkeypatch):
    monkeypatch.chdir(shop)
    run("search shop.index shop.csv --modality text --among text -k 1")
    assert len(rows(capsys.readouterr().out)) == 1


def test_conditions_hold_together(shop, capsys):
    run(f"search {shop}/shop.index shoe --where price=2..40 --among text", "--where=name=a silver watch")
    assert [row["item"] for row in rows(capsys.readouterr().out)] == ["2"]
    run(f"search {shop}/shop.index shoe --where price=1 --where price=40 --among text")
    assert sorted(row["item"] for row in rows(capsys.readouterr().out)) == ["0", "3"]


def test_a_search_that_finds_nothing_says_so_and_words_of_any_script_are_conditions(shop, caplog):
    run(f"search {shop}/shop.index shoe --among text --where=name=🐟")
    assert "Nothing is found" in caplog.text


def test_hits_are_written_to_files(shop, capsys, tmp_path):
    run(f"search {shop}/shop.index shoe -k 3 --out {tmp_path}/hits.jsonl")
    assert capsys.readouterr().out == f"{tmp_path}/hits.jsonl: 3 hits\n"
    lines = [json.loads(line) for line in (tmp_path / "hits.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert lines[0]["price"] in (1, 2, 3, 40)
    run(f"search {shop}/shop.index shoe -k 3 --out {tmp_path}/hits.parquet")
    assert pd.read_parquet(tmp_path / "hits.parquet").item.tolist() == [line["item"] for line in lines]
    for query, name in (("shirt", "a blue shirt"), ("1 --item", "a green dress")):
        run(f"search {shop}/shop.index {query} -k 3 --among text --out {tmp_path}/hits.html")
        assert name in (tmp_path / "hits.html").read_text()


def test_splits_are_all_indexed_and_further_items_added(shop, capsys, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "test"):
        pd.DataFrame({"name": [f"{split} {name}" for name in NAMES]}).to_csv(data / f"{split}.csv", index=False)
    run(f"index {data} --alignment nano --input name=text --out {tmp_path}/i")
    assert capsys.readouterr().out == f"{tmp_path}/i: 8 items; vectors: 8 of text\n"
    index = metatx.Index.open(tmp_path / "i")
    assert {row["split"] for row in index.rows(range(8))} == {"train", "test"}
    again = f"index {data} --alignment nano --input name=text --out {tmp_path}/i --add"
    for options, count in (("", 8), ("--existing add", 16), ("--existing replace --key name", 16), ("--key split", 16)):
        run(f"{again} {options}")
        assert capsys.readouterr().out.startswith(f"{tmp_path}/i: {count} items")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("search {shop}/shop.index shoe --item", "shoe is no number of an item, as --item says"),
        ("search {shop}/shop.index shoe --among audio", "Unknown modality of the index 'audio'"),
        ("search {shop}/shop.index shoe --among text,", "--among is 'text,', of which a name is empty"),
        ("picture {shop}/shop.index --among text,text --out {shop}/m.html", "--among names text twice"),
        ("index {shop}/shop.csv --alignment nano --input name=text --out {shop}/i --key name", "give them with --add"),
        (
            "index {shop}/shop.csv --alignment nano --input name=text --input photo=image:file --out {shop}/shop.index "
            "--add --existing error",
            "4 of 4 items are in",
        ),
        ("search {shop}/shop.index shoe --where colour=1", "Unknown column of the items 'colour'"),
        ("search {shop}/shop.index shoe --where price=cheap", "price holds int64, but the condition is 'cheap'"),
        ("search {shop}/shop.index shoe --where price=a..9", "the condition is 'a'; expected a whole number."),
        ("search {shop}/shop.index shoe --where price=..", "'price=..', without a bound; expected COLUMN=LOW..HIGH"),
        ("search {shop}/shop.index {shop}/shop.csv", "shop.csv is a file that no modality reads; expected one of"),
        ("search {shop}/shop.index shoe --where price", "expected COLUMN=VALUE or COLUMN=LOW..HIGH"),
        ("search {shop}/shop.index shoe -k 0", "k is 0; it must be at least 1."),
        ("search {shop}/shop.index shoe --out {shop}/x.txt", "expected a name with .csv, .jsonl, .parquet or .html"),
        ("search {shop}/shop.index 9 --item", "There is no item 9"),
        ("search {shop}/shop.index {shop}/7.png", "7.png is no file here; to search the words themselves, name"),
        ("search {shop} shoe", "is no index"),
        ("index {shop}/shop.csv --alignment nano --input name=text --out {shop}/shop.index", "is an index already"),
        ("index {shop}/shop.csv --alignment nano --input title=text --out {shop}/i", "has no column title"),
        (
            "index {shop}/shop.csv --alignment nano --input name=audio --out {shop}/i",
            "Unknown aligned modality 'audio'",
        ),
        ("index {shop}/shop.csv --alignment nano --input a,b=text:name,file --out {shop}/i", "Two inputs are of text"),
        ("index {shop}/shop.csv --alignment {shop} --input name=text --out {shop}/i", "holds no aligned modalities"),
        ("index {shop}/none.csv --alignment nano --input name=text --out {shop}/i", "does not exist"),
    ],
)
def test_a_fault_is_told_in_a_line(shop, capsys, line, message):
    assert message in fails(capsys, line.format(shop=shop))


def test_an_index_is_compacted_and_answers_as_before(shop, tmp_path, capsys):
    shutil.copytree(shop / "shop.index", tmp_path / "i")
    index = metatx.Index.open(tmp_path / "i")
    index.delete([1])
    run(f"search {tmp_path}/i --item 0 --k 3")
    before = capsys.readouterr().out
    files = {file.name for file in (tmp_path / "i").rglob("*")}
    run(f"compact {tmp_path}/i --keep-seconds 0")
    assert "3 items" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "i").rglob("*")} != files
    run(f"search {tmp_path}/i --item 0 --k 3")
    assert capsys.readouterr().out == before
    assert "nowhere" in fails(capsys, "compact nowhere")
