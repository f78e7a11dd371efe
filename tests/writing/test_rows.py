"""Rows as csv: what a spreadsheet would run as a formula is marked, nothing else is changed."""

import csv
import io
import json
import logging

import pytest

from metatx.writing.rows import write_rows

FORMULAS = ["=1+1", "+x", "-x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=cmd|'/c calc'!A0", "＝1+1", "-1+2", "+1 2", "--1"]
PLAIN = ["a\r=1", "a\n=1", "a\r\n=1", "-1", "+4.5e-3", "-.5", "-1.", "x=1", "'=1", " =1", "", "é", "a,b", 'say "=1"']


@pytest.mark.parametrize("out", [True, False])
def test_formulas_are_marked_and_told_once(tmp_path, caplog, out):
    rows = [{"=name": text, "score": -1.5, "n": -1, "many": ["=1"]} for text in FORMULAS + PLAIN]
    path, stream = tmp_path / "x.csv", io.StringIO()
    with caplog.at_level(logging.INFO, "metatx"):
        write_rows(rows, str(path) if out else None, stream)
    text = path.read_bytes().decode() if out else stream.getvalue()
    header, *read = csv.reader(io.StringIO(text, newline=""))
    assert header == ["'=name", "score", "n", "many"]
    assert [row[0] for row in read] == [f"'{text}" for text in FORMULAS] + PLAIN
    assert {tuple(row[1:]) for row in read} == {("-1.5", "-1", '["=1"]')}
    assert caplog.text.count("begin like a formula") == 1


def test_other_forms_keep_texts_and_plain_ones_are_not_told(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "metatx"):
        write_rows([{"a": text} for text in FORMULAS], str(tmp_path / "x.jsonl"), None)
        write_rows([{"a": text, "b": None, "c": True} for text in PLAIN], str(tmp_path / "x.csv"), None)
    assert [json.loads(line)["a"] for line in (tmp_path / "x.jsonl").read_text().splitlines()] == FORMULAS
    assert not caplog.text


def test_a_column_that_was_not_announced_is_an_error():
    with pytest.raises(ValueError, match="not in fieldnames"):
        write_rows([{"a": 1}, {"b": 1}], None, io.StringIO())
