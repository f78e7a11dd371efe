"""Cells of csv and json: words, numbers, dialects, encodings."""

import csv
import gzip
import io
import json
import logging

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.data.table_files import as_dataset, read_table
from metatx.data.tables import read_splits
from metatx.reading.csv_tables import Reading

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"x": RNG.normal(size=40), "z": RNG.normal(size=40), "y": ["a", "b"] * 20})


@pytest.fixture
def told(monkeypatch):
    """Lines that were told to the user."""
    lines = []
    monkeypatch.setattr(logging.getLogger("metatx"), "info", lines.append)
    return lines


@pytest.fixture
def read(tmp_path):
    """Columns of a table of this content."""

    def columns(content, name="t.csv", written="utf-8", **known):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(written))
        return read_table(path, Reading(**known)).to_dict()

    return columns


# csv: an empty cell is missing, a word is a word


@pytest.mark.parametrize("words", [("NA", "EU"), ("None", "Mild"), ("null", "x"), ("nan", "naan"), ("N/A", "n/a")])
def test_a_word_in_a_column_of_words_is_that_word(read, told, words):
    first, second = words
    assert read(f"x,label\n1,{first}\n2,{second}\n3,\n")["label"] == [first, second, None]
    assert told == []


@pytest.mark.parametrize("word", ["NA", "None", "null", "NaN", "n/a", "#N/A", "<NA>", "NULL", "-nan"])
@pytest.mark.parametrize("others", [("1", "2.5"), ("TRUE", "false"), ("2020-01-01", "2021-02-03 10:00")])
def test_such_a_word_among_numbers_truths_or_dates_is_missing_and_told(read, told, word, others):
    first, second = others
    found = read(f"x,y\n{first},a\n{word},b\n{second},c\n{word},d\n")["x"]
    assert found[1] is None and found[3] is None and None not in (found[0], found[2])
    assert len(told) == 1 and told[0].startswith(f"Column x: {word!r} was read as missing in 2 rows of ")


@pytest.mark.parametrize("codes", [["01", "10"], ["007", "", "12"], ["001.0", "250.1"], ["-05", "1"], ["1", "00"]])
def test_codes_keep_their_zeros(read, codes):
    assert read("code,y\n" + "".join(f"{code},a\n" for code in codes))["code"] == [code or None for code in codes]
    assert read('code\ty\n"' + '"\ta\n"'.join(codes) + '"\ta\n', "t.tsv")["code"] == [code or None for code in codes]


def test_zeros_before_a_point_are_no_codes(read):
    assert read("x,t\n0.5,05:00\n0,10:30\n-0.25,23:59\n") == {"x": [0.5, 0.0, -0.25], "t": ["05:00", "10:30", "23:59"]}


def test_a_code_across_the_pieces_in_which_a_file_is_searched(read, monkeypatch):
    for size in range(1, 9):
        monkeypatch.setattr("metatx.reading.csv_tables.CHUNK", size)
        assert read("x,y\n10,1\n07,2\n")["x"] == ["10", "07"]


def test_truths_are_booleans_with_gaps_too(read):
    assert read("x,y\nTrue,TRUE\nFalse,\ntrue,false\n") == {"x": [True, False, True], "y": [True, None, False]}


def test_cells_of_spaces_are_missing(read):
    assert read("x,y\n1,a\n  ,  \n3,c\n") == {"x": [1, None, 3], "y": ["a", None, "c"]}


def test_a_column_that_is_known_as_words_stays_text(read):
    found = read(" x ,y\n1.0,NA\n2,\n", texts=["x", "y"])
    assert found == {"x": ["1.0", "2"], "y": ["NA", None]}


def test_plain_numbers_are_those_of_pandas(tmp_path):
    """Also where a second look at the texts is needed, for a code in another column."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "normal": rng.normal(size=300),
            "long": rng.normal(size=300) * 10.0 ** rng.integers(-300, 300, 300),
            "whole": rng.integers(-(2**62), 2**62, 300),
            "gap": np.where(rng.random(300) < 0.2, np.nan, rng.integers(0, 99, 300)),
            "large": np.uint64(2**63) + rng.integers(0, 99, 300).astype(np.uint64),
            "infinite": np.where(rng.random(300) < 0.2, np.inf, 1.5),
            "word": rng.choice(["a", "b c"], 300),
        }
    )
    text = frame.to_csv(index=False)
    with_code = "code," + text.replace("\n", "\n01,").removesuffix("01,")
    expected = Dataset.from_pandas(pd.read_csv(io.StringIO(text)))
    for content in (text, with_code, text.replace(",", ";")):
        (tmp_path / "t.csv").write_text(content)
        found = read_table(tmp_path / "t.csv")
        for name in frame:
            assert found[name][:] == expected[name][:], name
            assert found.features[name] == expected.features[name], name


CELL = st.one_of(
    st.integers(-(10**25), 10**25).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(["", "NA", "1.5 ", " 2", "+3", "1e5", ".5", "5.", "word", "1_000", "0x10", "True", "2020-01-01"]),
)


def test_integers_of_more_than_64_bits_stay_as_they_are_written(read):
    assert read("x,y\n-9223372036854775809,a\n+3,a\n") == {"x": ["-9223372036854775809", "+3"], "y": ["a", "a"]}


OLD = ("True", "2020-01-01")  # with a word for missing, these are read otherwise than by pandas


@given(cells=st.lists(CELL, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_column_is_numbers_where_pandas_reads_numbers_else_its_own_words(tmp_path_factory, cells):
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["x", "y"], *[[cell, "a"] for cell in cells]])
    found = read_table(path)["x"][:]
    old = pd.read_csv(path)["x"]
    if old.dtype.kind in "iuf":
        assert found == [None if value != value else value for value in old.tolist()]
    elif not set(OLD) & set(cells) and set(cells) - {"", "NA"}:
        assert found == [cell.strip() or None for cell in cells]


# Dialects


@pytest.mark.parametrize("sep", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1"])
def test_dialects_are_detected_and_told(read, told, sep, encoding):
    rows = [["Größe", " Ziel Klasse ", "n"], ["1,5", "süß", "1"], ["-2,25", "fad", "20"], ["", "fad", "3"]]
    found = read("".join(sep.join(row) + "\n" for row in rows), written=encoding)
    assert found == {"Größe": [1.5, -2.25, None], "Ziel Klasse": ["süß", "fad", "fad"], "n": [1, 20, 3]}
    assert any(f"{sep!r} between" in line for line in told)


@pytest.mark.parametrize(
    "name", ["T.CSV", "t.Tsv", "t.csv.gz", "T.TSV.GZ", "t.jsonl.gz", "t.JSON", "t.JSONL", "t.Parquet"]
)
def test_suffixes_in_any_case_and_gzip(tmp_path, name):
    frame, path, kind = pd.DataFrame({"x": [1, 2], "label": ["a", "b"]}), tmp_path / name, name.lower()
    if "json" in kind:
        content = frame.to_json(orient="records", lines="jsonl" in kind).encode()
    elif "parquet" in kind:
        content = frame.to_parquet()
    else:
        content = frame.to_csv(index=False, sep="\t" if "tsv" in kind else ",").encode()
    path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    assert read_splits(path, ())["all"].to_dict() == frame.to_dict("list")
    path.rename(tmp_path / f"train{name[1:]}")
    assert list(read_splits(tmp_path, ())) == ["train"]


def test_feather(tmp_path):
    FRAME.to_feather(tmp_path / "t.feather")
    assert read_splits(tmp_path / "t.feather", ())["all"].to_dict() == FRAME.to_dict("list")


@pytest.mark.parametrize(
    "content",
    [
        'text\n"a; b"\nc; d\n',
        "text,label\na; b,x\nc; d; e,y\n",
        "a,b\n1,x;y\n2,z|w\n",
        "a;b,c\n1,2\n3,4\n",
        "a,b\n",
        "a|b c\nword\nother\nthird\n",
    ],
)
def test_plain_commas_and_one_column_of_texts_read_as_ever(read, content):
    old = pd.read_csv(io.StringIO(content))
    assert read(content) == Dataset.from_pandas(old).to_dict()


def test_thousands_are_no_decimals(read):
    """1,234 is a thousand where other columns have points before their decimals, and 1.234 elsewhere."""
    assert read("a\tb\n1,234\t1.5\n12,345\t2.5\n", "t.tsv")["a"] == ["1,234", "12,345"]
    assert read("a;b\n1,234;x\n12,345;y\n")["a"] == [1.234, 12.345]
    assert read("a;b\n1.234,5;x\n7;y\n")["a"] == [1234.5, 7.0]


def test_dialects_can_be_said(read):
    assert read('a,b\n"1,5",x\n"2,5",y\n', decimal=",")["a"] == [1.5, 2.5]
    assert read("a;b\n1,5;x\n2,5;y\n", decimal=".")["a"] == ["1,5", "2,5"]
    assert read("a b\n1 2\n", sep=" ") == {"a": [1], "b": [2]}
    assert read("a,b\n1,Ж\n", written="cp1251", encoding="cp1251")["b"] == ["Ж"]


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"sep": ";;"}, "sep is ';;'"),
        ({"decimal": "'"}, "decimal is"),
        ({"encoding": "klingon"}, "encoding is 'klingon'"),
    ],
)
def test_dialects_that_are_none(known, message):
    with pytest.raises(ValueError, match=message):
        Reading(**known)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n1,2,3\n", "line 3"),
        (b"a, a\n1,2\n", "several columns are called a"),
        (b"a,b,a\n1,2,3\n", "several columns are called a"),
        (b"a,b\n1,\x81\n", "cannot be read as csv"),
    ],
)
def test_what_cannot_be_read_is_refused(read, content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


@pytest.mark.parametrize("first", ["", "Unnamed: 0", '""'])
@pytest.mark.parametrize("numbers", [[0, 1, 2], [1, 2, 3], [17, 3, 8]])
def test_the_unnamed_column_of_row_numbers_is_no_input(read, told, first, numbers):
    found = read(f"{first},x,y\n" + "".join(f"{number},5,a\n" for number in numbers))
    assert list(found) == ["x", "y"] and len(told) == 1
    assert as_dataset(pd.DataFrame({"Unnamed: 0": numbers, "x": 5})).column_names == ["x"]


@pytest.mark.parametrize("header", ["index,x\n0,5\n1,6\n", ",x\n3,5\n3,6\n", ",x\na,5\nb,6\n"])
def test_other_first_columns_stay(read, header):
    assert len(read(header)) == 2


# json


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_says_what_is_a_text(read, name, encoding):
    rows = [
        {"x": 1.5, "label": "01", "text": "123", "timestamp": 3, "date": "2020-01-01", "b": True, "l": ["1"]},
        {"x": None, "label": "02", "text": "ß 4", "timestamp": 4, "date": "NA", "b": None, "l": []},
    ]
    content = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows)
    found = read(content, name, encoding)
    assert found == {key: [row[key] for row in rows] for key in rows[0]}


def test_json_by_columns(read):
    assert read('{"x": [1, 2], "2020": ["01", "02"]}', "t.json") == {"x": [1, 2], "2020": ["01", "02"]}


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ('{"x": 1}\n{"x": \n', "t.jsonl", "cannot be read as jsonl: line 2"),
        ("[1, 2]", "t.json", "expected rows, objects"),
        ('{"x": 1}', "t.json", "expected rows, objects"),
    ],
)
def test_json_that_is_no_table(read, content, name, message):
    with pytest.raises(ValueError, match=message):
        read(content, name)


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("x,y\n1,2.5,a\n2,3.5,b\n", {"x": [2.5, 3.5], "y": ["a", "b"]}),
        ("x,y\nMazda,2.5,a\nHonda,3.5,b\n", {"x": [2.5, 3.5], "y": ["a", "b"]}),
        ("x,y\n007,2.5,a\n008,3.5,b\n", {"x": [2.5, 3.5], "y": ["a", "b"]}),
    ],
)
def test_names_of_rows_as_r_writes_them_are_no_input(read, told, content, columns):
    assert read(content) == columns
    assert "a cell more than the header" in told[0]


@pytest.mark.parametrize("content", ["x,y\n.5,2.5,a\n.7,3.5,b\n", "x,y\na,2.5,a\na,3.5,b\n", "x\n1,2,3\n2,2,3\n"])
def test_a_header_that_lacks_a_name_moves_no_column(read, content):
    with pytest.raises(ValueError, match="the header names . columns?, and row 1 has 3 cells"):
        read(content)


@pytest.mark.parametrize("header", ["x,y", "x,y,"])
def test_a_separator_at_the_end_of_each_row_is_no_cell(read, header):
    assert read(f"{header}\n.5,a,\n.7,b,\n") == {"x": [0.5, 0.7], "y": ["a", "b"]}
    assert read(f"{header}\n0,a,\n1,b,\n") == {"x": [0, 1], "y": ["a", "b"]}


@given(before=st.sampled_from(["", " ", "\t", "  "]), after=st.sampled_from(["", " ", "\t "]))
@settings(max_examples=12, deadline=None)
def test_spaces_around_a_word_are_the_writers(tmp_path_factory, before, after):
    path = tmp_path_factory.mktemp("spaces") / "t.csv"
    path.write_text(f"x,y\n1,yes\n2,{before}yes{after}\n3,no\n")
    assert read_table(path)["y"][:] == ["yes", "yes", "no"]


def test_the_line_by_which_excel_is_told_the_separator_is_no_header(read, told):
    assert read("sep=;\nx;y\n1;a\n2;b\n") == {"x": [1, 2], "y": ["a", "b"]}


def test_rows_of_json_a_line_are_read_whatever_the_file_is_called(read):
    assert read('{"x": 1, "y": "01"}\n{"x": 2, "y": "02"}\n', "t.json") == {"x": [1, 2], "y": ["01", "02"]}
