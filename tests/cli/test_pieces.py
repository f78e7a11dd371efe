"""Tables that are answered in pieces: the same answers as at once, a run that goes on, and nothing mixed."""

import numpy as np
import pandas as pd
import pytest

import metatx
from metatx.cli import main
from metatx.data.table_pieces import table_pieces
from metatx.reading.csv_tables import Reading


@pytest.fixture(scope="module")
def folder(tmp_path_factory, nano):
    """A task, and a table of 50 rows as csv, jsonl and parquet."""
    folder = tmp_path_factory.mktemp("pieces")
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"a": rng.normal(size=50), "b": rng.choice(["red", "blue"], 50), "id": range(100, 150)})
    rows["kind"] = np.where(rows.a > 0, "large", "small")
    task = metatx.Task.from_data(nano, "tabular", rows, target="kind", inputs="a,b").fit(rows, epochs=1)
    task.save_pretrained(folder / "task")
    rows.to_csv(folder / "rows.csv", index=False)
    rows.to_parquet(folder / "rows.parquet")
    rows.to_json(folder / "rows.jsonl", orient="records", lines=True)
    return folder


@pytest.mark.parametrize("command", ["predict", "embed"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_answers_in_pieces_are_those_at_once(folder, command, suffix):
    words = [command, str(folder / "task"), str(folder / f"rows.{suffix}"), "--keep", "id", "--out"]
    main([*words, str(folder / "whole.parquet")])
    main([*words, str(folder / "pieces.parquet"), "--piece-rows", "16"])
    whole = pd.read_parquet(folder / "whole.parquet")
    pieces = pd.read_parquet(folder / "pieces.parquet")
    assert list(pieces.row) == list(range(1, 51))
    pd.testing.assert_frame_equal(pieces, whole, rtol=1e-4, atol=1e-5)
    assert not list(folder.glob(".*.parts"))


def test_a_run_that_was_stopped_goes_on_and_answers_no_piece_twice(folder, monkeypatch, capsys):
    words = ["predict", str(folder / "task"), str(folder / "rows.csv"), "--out", str(folder / "r.parquet")]
    main([*words, "--piece-rows", "20"])
    whole = pd.read_parquet(folder / "r.parquet")
    decode = metatx.create("heads", "classification", 192).__class__.records
    answered = []

    def stopped(self, output, *rest):
        answered.append(len(output))
        if len(answered) == 2:
            raise KeyboardInterrupt
        return decode(self, output, *rest)

    monkeypatch.setattr("metatx.heads.classification.ClassificationHead.records", stopped)
    (folder / "r.parquet").unlink()
    with pytest.raises(SystemExit):
        main([*words, "--piece-rows", "20"])
    assert not (folder / "r.parquet").exists()
    with pytest.raises(SystemExit):
        main([*words, "--piece-rows", "20"])
    assert "go on with --resume" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--piece-rows", "30", "--resume"])
    assert "piece rows 20 -> 30" in capsys.readouterr().err
    main([*words, "--piece-rows", "20", "--resume"])
    assert answered == [20, 20, 20, 10]
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "r.parquet"), whole)


def test_a_bad_row_is_named_by_its_row_in_the_file(folder, tmp_path, capsys):
    rows = pd.read_csv(folder / "rows.csv").astype({"a": object})
    rows.loc[33, "a"] = "much"
    rows.to_csv(tmp_path / "bad.csv", index=False)
    words = ["predict", str(folder / "task"), str(tmp_path / "bad.csv"), "--out", str(tmp_path / "o.parquet")]
    with pytest.raises(SystemExit):
        main([*words, "--piece-rows", "16"])
    assert "bad.csv, row 34: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words[:-1], str(tmp_path / "o.csv"), "--piece-rows", "16"])
    assert "are written to a .parquet" in capsys.readouterr().err


def test_a_cell_with_line_ends_stays_in_its_piece(tmp_path):
    texts = ['first\n"quoted", line', "second", "third\n\nend", "=4", "007"]
    rows = pd.DataFrame({"text": texts, "number": [1.5, 2.5, 3.5, 4.5, 5.5]})
    rows.to_csv(tmp_path / "t.csv", sep=";", index=False)
    pieces = list(table_pieces(tmp_path / "t.csv", 2, (), Reading(texts=["text"])))
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    assert [text for piece in pieces for text in piece["text"]] == texts
    assert [number for piece in pieces for number in piece["number"]] == list(rows.number)
    with pytest.raises(ValueError, match="cannot be read in pieces"):
        next(table_pieces(tmp_path / "t.xlsx", 2, (), Reading()))
