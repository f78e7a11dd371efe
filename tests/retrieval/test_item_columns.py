"""Columns of items as words or numbers, and the one that colours."""

import datetime

import numpy as np
import pandas as pd
import pytest

from metatx.retrieval import item_columns
from metatx.retrieval.item_columns import cell_text, chosen_column, shown_columns


def shown(**columns):
    found, left = shown_columns(columns)
    return {column.name: column for column in found}, left


def test_words_come_by_number_and_numbers_as_they_are():
    columns, left = shown(
        kind=["b", "a", " ", "a"],
        price=[1.5, None, float("nan"), float("inf")],
        stars=[3, 4, 3, None],
        sold=[True, False, None, True],
        day=[datetime.date(2024, 1, 2), pd.NaT, None, pd.Timestamp("2024-01-03")],
    )
    assert not left
    assert columns["kind"].values == ("a", "b") and columns["kind"].codes.tolist() == [1, 0, -1, 0]
    assert columns["price"].values is None
    np.testing.assert_array_equal(columns["price"].codes, [1.5, np.nan, np.nan, np.nan])
    assert columns["stars"].values == ("3", "4") and columns["stars"].codes.tolist() == [0, 1, 0, -1]
    assert columns["sold"].values == ("True", "False")
    assert columns["day"].values == ("2024-01-02", "2024-01-03 00:00:00")


def test_many_whole_numbers_are_amounts():
    columns, _ = shown(year=list(range(1990, 2020)))
    assert columns["year"].values is None


def test_bytes_lists_and_too_much_text_are_left_out(monkeypatch):
    monkeypatch.setattr(item_columns, "MOST_TEXT", 20)
    columns, left = shown(a=["x" * 15], photo=[{"bytes": b""}], b=["y" * 15], c=["z"], many=[[1, 2]], empty=[None])
    assert list(columns) == ["a", "c"] and left == ["photo", "b", "many", "empty"]


def test_a_text_is_one_line_of_bounded_length():
    assert cell_text("  a\n\t b ") == "a b" and len(cell_text("x" * 9999)) == item_columns.LONGEST
    assert cell_text(0.1 + 0.2) == "0.3" and cell_text(None) is None and cell_text([1]) is None
    assert cell_text(np.float32("nan")) is None and cell_text(0) == "0"


def test_the_first_column_of_few_words_colours():
    columns, _ = shown_columns({"name": [str(n) for n in range(50)], "one": ["x"] * 50, "kind": ["a", "b"] * 25})
    assert chosen_column(columns, None).name == "kind" and chosen_column(columns, "name").name == "name"
    assert chosen_column(columns[:2], None) is None
    with pytest.raises(ValueError, match="column to colour by.*'knd'.*kind"):
        chosen_column(columns, "knd")
