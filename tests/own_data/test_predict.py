"""Answers of the command line: each with its place, bad samples in theirs, in every form, whatever the number."""

import csv
import io
import json
import os
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import metatx
from metatx.cli import main
from metatx.cli.entries import open_entries
from metatx.cli.predictions import write_answers, write_vectors
from metatx.data.table_files import read_table
from metatx.writing.rows import write_rows
from tests.mixed_tasks import small_backbone, unlike_any


@pytest.fixture(scope="module")
def backbone():
    return small_backbone()


def rows(count):
    return pd.DataFrame({"x": np.linspace(-1, 1, count), "id": [f"n/{i}" for i in range(count)]})


@pytest.fixture(scope="module")
def task(backbone):
    """Of one number and one word."""
    frame = rows(40).assign(word=["red", "blue"] * 20, y=["a", "b"] * 20)
    made = metatx.Task.from_data(backbone, "tabular", frame, target="y", inputs=["x", "word"])
    return unlike_any(made, 0).set_inference(batch_size=8)


@pytest.fixture(scope="module")
def light(backbone):
    """Of bright and dark pictures."""
    bright = [np.full((16, 16, 3), 200 * (i % 2), dtype=np.uint8) for i in range(4)]
    return unlike_any(metatx.Task.from_data(backbone, "image", (bright, ["dark", "bright"] * 2)), 0)


@pytest.fixture
def folder(tmp_path):
    """Pictures in two folders, one of them cut short."""
    for name in ("b/2.png", "a/10.png", "a/9.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def table(tmp_path):
    """A csv of 20 rows, good all of them."""
    path = tmp_path / "kinds.csv"
    rows(20).assign(word=["red", "blue"] * 10).to_csv(path, index=False)
    return path


def spoil(path, *lines):
    """Write words for numbers in rows counted from 1."""
    text = path.read_text().splitlines()
    for line in lines:
        text[line] = "many" + text[line][text[line].index(",") :]
    path.write_text("\n".join(text))
    return path


def written(task, sources, out, **options):
    """Rows that were written to a file."""
    write_answers(task, [str(source) for source in sources], str(out), None, **options)
    if out.suffix == ".csv":
        return list(csv.DictReader(out.open(newline="")))
    if out.suffix == ".parquet":
        return pq.read_table(out).to_pylist()
    return [json.loads(line) for line in out.read_text().splitlines()]


# Places


def test_answers_of_a_folder_name_their_files_in_sorted_order(light, folder, tmp_path):
    found = written(light, [folder], tmp_path / "o.jsonl")
    assert [row["file"] for row in found] == ["a/10.png", "a/9.png", "b/2.png"]
    assert list(found[0]) == ["file", "prediction", "p(bright)", "p(dark)"]
    alone = written(light, [folder / "b/2.png", folder / "a/9.png"], tmp_path / "o.jsonl")
    assert [row["file"] for row in alone] == [str(folder / "b/2.png"), str(folder / "a/9.png")]
    assert alone[0]["prediction"] == found[2]["prediction"]


def test_answers_of_tables_name_their_rows_and_of_several_the_file(task, table, tmp_path):
    found = written(task, [table], tmp_path / "o.jsonl")
    assert [row["row"] for row in found] == list(range(1, 21)) and "file" not in found[0]
    assert [row["prediction"] for row in found] == task.predict(pd.read_csv(table)).tolist()
    other = table.with_name("other.csv")
    pd.read_csv(table)[::-1].to_csv(other, index=False)
    both = written(task, [table, other], tmp_path / "o.jsonl")
    assert [(row["file"], row["row"]) for row in both[19:21]] == [(str(table), 20), (str(other), 1)]


def test_the_row_is_that_of_the_file_where_its_test_split_is_answered(task, table, tmp_path):
    frame = pd.read_csv(table).assign(split=["train", "test", "val", "test"] * 5)
    frame.to_csv(table, index=False)
    found = written(task, [table], tmp_path / "o.jsonl", keep=["id"])
    assert [row["row"] for row in found] == list(range(2, 21, 2))
    assert [row["id"] for row in found] == frame.id[1::2].tolist()


def test_kept_columns_stand_beside_the_answers_and_unknown_ones_are_named_before_any_work(task, table, tmp_path):
    found = written(task, [table], tmp_path / "o.csv", keep=["id", "x"])
    assert list(found[0]) == ["row", "id", "x", "prediction", "p(a)", "p(b)"]
    assert [row["id"] for row in found] == pd.read_csv(table).id.tolist()
    for keep, message in (
        (["Id"], r"column to keep 'Id'. Did you mean 'id'\?"),
        (["id", "none"], "Choices: x, id, word"),
    ):
        with pytest.raises(ValueError, match=message):
            open_entries(task, [str(table)], keep)


def test_columns_of_one_name_are_never_lost(task, table, tmp_path):
    pd.read_csv(table).assign(row=7, prediction="mine").to_csv(table, index=False)
    found = written(task, [table], tmp_path / "o.jsonl", keep=["row"])
    assert found[2]["_row"] == 3 and found[2]["row"] == 7
    with pytest.raises(ValueError, match="--keep prediction: the answers have a column of that name"):
        written(task, [table], tmp_path / "no.jsonl", keep=["prediction"])
    assert not (tmp_path / "no.jsonl").exists()


def test_a_forecast_reads_a_table_and_has_no_row(backbone, tmp_path):
    hours = pd.DataFrame({"time": pd.date_range("2024", periods=60, freq="h"), "load": np.arange(60.0)})
    hours.to_csv(tmp_path / "hours.csv", index=False)
    options = {"lookback": 30, "patch_size": 10, "stride": 10}
    task = metatx.Task.from_data(backbone, "time_series", hours, tokenizer_options=options, head_options={"horizon": 4})
    found = written(task, [tmp_path / "hours.csv"], tmp_path / "o.jsonl")
    assert found and "row" not in found[0] and "file" not in found[0] and "load" in found[0]


# Bad samples


@settings(max_examples=10, deadline=None)
@given(bad=st.sets(st.integers(1, 20), min_size=1, max_size=19), ending=st.sampled_from([".csv", ".jsonl", ".parquet"]))
def test_bad_rows_keep_their_places_and_say_why(task, tmp_path_factory, bad, ending):
    folder = tmp_path_factory.mktemp("bad")
    good = rows(20).assign(word=["red", "blue"] * 10)
    good.to_csv(folder / "good.csv", index=False)
    whole = written(task, [folder / "good.csv"], folder / f"whole{ending}")
    assert list(whole[0]) == ["row", "prediction", "p(a)", "p(b)"]  # no error where there is none
    path = spoil(folder / "good.csv", *bad)
    found = written(task, [path], folder / f"answers{ending}", skip_bad=True, keep=["id"])
    assert list(found[0]) == ["row", "id", "prediction", "p(a)", "p(b)", "error"]
    for number, (row, expected) in enumerate(zip(found, whole, strict=True), start=1):
        assert int(row["row"]) == number and row["id"] == f"n/{number - 1}"
        if number in bad:
            assert "column x: found 'many'" in row["error"] and row["prediction"] in ("", None)
        else:
            assert row["error"] in ("", None) and row["prediction"] == expected["prediction"]


def test_bad_samples_stop_it_early_and_nothing_is_written(task, table, tmp_path):
    out = tmp_path / "o.csv"
    out.write_text("old")
    spoil(table, 18, 19, 20)
    with pytest.raises(metatx.SampleError) as told:
        written(task, [table], out)
    assert f"{table}, row 18: column x: found 'many'" in str(told.value) and "row 20" in str(told.value)
    assert "17 samples before it were good" in str(told.value) and "--skip-bad-samples" in str(told.value)
    assert out.read_text() == "old" and sorted(path.name for path in tmp_path.iterdir()) == ["kinds.csv", "o.csv"]


def test_none_good_is_refused(task, table, tmp_path):
    spoil(table, *range(1, 21))
    with pytest.raises(metatx.SampleError, match="None of 20 samples can be used: .*row 1: column x"):
        written(task, [table], tmp_path / "o.csv", skip_bad=True)
    assert not (tmp_path / "o.csv").exists()


def test_a_damaged_picture_keeps_its_place(light, folder, tmp_path, caplog):
    cut = folder / "a/10.png"
    cut.write_bytes(cut.read_bytes()[:60])
    with pytest.raises(metatx.SampleError, match="a/10.png: "):
        written(light, [folder], tmp_path / "o.csv")
    found = written(light, [folder], tmp_path / "o.csv", skip_bad=True)
    assert [row["file"] for row in found] == ["a/10.png", "a/9.png", "b/2.png"]
    assert [bool(row["prediction"]) for row in found] == [False, True, True] and found[0]["error"]
    write_vectors(light, [str(folder)], str(tmp_path / "o.npy"), None, skip_bad=True)
    assert np.isnan(np.load(tmp_path / "o.npy")).all(1).tolist() == [True, False, False]


def test_python_keeps_places_too(task):
    frame = rows(3).assign(word="red").to_dict("records")
    frame[1]["x"] = "many"
    assert task.predict(frame, skip_bad_samples=True)[1] is None
    shares = task.predict_proba(frame, skip_bad_samples=True)
    assert np.isnan(shares[1]).all() and np.isfinite(shares[[0, 2]]).all()
    records = task.records(frame, skip_bad_samples=True)
    assert records[1] is None and records[2]["prediction"] == task.predict(frame[2:])[0]
    vectors = task.embed(frame, skip_bad_samples=True)
    assert vectors.shape == (3, 32) and np.isnan(vectors[1]).all()


# Forms


def test_all_forms_hold_the_same(task, table, tmp_path):
    as_csv, as_lines, as_parquet = (written(task, [table], tmp_path / f"o{e}") for e in (".csv", ".jsonl", ".parquet"))
    assert as_lines == as_parquet and as_csv == [{k: str(v) for k, v in row.items()} for row in as_lines]
    stream = io.StringIO()
    write_answers(task, [str(table)], None, stream)
    assert stream.getvalue() == (tmp_path / "o.csv").read_text()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "row": st.integers(1, 99),
                "labels": st.lists(st.text("aé\"'|,\n", max_size=3), max_size=2),
                "p": st.floats(0, 1),
            },
            optional={"error": st.just("why")},
        ),
        min_size=1,
    )
)
def test_rows_come_back_from_every_form(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("forms")
    for ending in (".csv", ".jsonl", ".parquet"):
        write_rows(iter(found), str(folder / f"o{ending}"), None, errors=True)
    whole = [{"error": None, **row} if any("error" in r for r in found) else row for row in found]
    assert [json.loads(line) for line in (folder / "o.jsonl").read_text().splitlines()] == whole
    table = pd.read_parquet(folder / "o.parquet")
    assert [list(labels) for labels in table.labels] == [row["labels"] for row in found]
    back = list(csv.DictReader((folder / "o.csv").open(newline="", encoding="utf-8")))
    assert [json.loads(row["labels"]) for row in back] == [row["labels"] for row in found]
    assert [float(row["p"]) for row in back] == [row["p"] for row in found]


def test_parquet_says_which_kinds_it_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match=r"values of one type .* write \.csv or \.jsonl"):
        write_rows([{"p": 1}, {"p": "a"}], str(tmp_path / "o.parquet"), None)
    assert not list(tmp_path.iterdir())


def test_metatx_reads_what_it_wrote(task, table, tmp_path):
    for ending in (".csv", ".jsonl", ".parquet"):
        found = written(task, [table], tmp_path / f"o{ending}", keep=["x", "word"])
        again = read_table(tmp_path / f"o{ending}")
        assert again["row"][:] == list(range(1, 21)) and again["prediction"][:] == [row["prediction"] for row in found]
        assert len(written(task, [tmp_path / f"o{ending}"], tmp_path / "p.jsonl")) == 20


def test_vectors_have_their_places(task, table, tmp_path):
    write_vectors(task, [str(table)], str(tmp_path / "o.parquet"), None, keep=["id"])
    found = pd.read_parquet(tmp_path / "o.parquet")
    assert list(found)[:3] == ["row", "id", "0"] and found.shape == (20, 34)
    assert np.allclose(found.iloc[:, 2:], task.embed(pd.read_csv(table)))


def test_a_file_can_be_read_by_those_whom_the_umask_lets(task, table, tmp_path):
    task.save_pretrained(tmp_path / "task")
    written(task, [table], tmp_path / "o.parquet")
    before = os.umask(0)
    os.umask(before)
    for path in (tmp_path / "task/model.safetensors", tmp_path / "task/config.json", tmp_path / "o.parquet"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~before


def test_a_folder_that_is_not_there_is_told_before_any_work(task, table, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none does not exist; make it first"):
        written(task, [table], tmp_path / "none" / "o.csv")


# Many rows


class Blocks:
    """A table, and the numbers of rows that were read from it at once."""

    def __init__(self, table):
        self.table, self.sizes = table, []

    def __len__(self):
        return len(self.table)

    def __getitem__(self, at):
        rows = self.table[at]
        self.sizes.append(len(rows))
        return rows


def test_memory_does_not_grow_with_the_rows(task, tmp_path, monkeypatch):
    """Rows of a table become Python's a block at a time, and answers are written as they come."""
    frame = rows(5000).assign(word="red")
    frame.to_parquet(tmp_path / "t.parquet")
    (entry,) = open_entries(task, [str(tmp_path / "t.parquet")])
    assert not isinstance(entry.queries, list)
    entry.queries.table = blocks = Blocks(entry.queries.table)
    samples = []
    encode = type(task.tokenizer).encode

    def counted(self, sample):
        samples.append(1)
        return encode(self, sample)

    monkeypatch.setattr(type(task.tokenizer), "encode", counted)
    monkeypatch.setattr("metatx.cli.predictions.open_entries", lambda *_: [entry])
    out = io.StringIO()
    lines = []
    out.write = lambda text: lines.append((len(samples), text))
    write_answers(task.set_inference(batch_size=100), ["t.parquet"], None, out)
    task.set_inference(batch_size=8)
    assert max(blocks.sizes) <= 1024 and sum(blocks.sizes) == 5000 and len(lines) == 5001
    assert lines[1][0] == 100 and lines[2500][0] <= 2600  # read when they are written, not before


def test_a_closed_pipe_ends_quietly(backbone, nano, tmp_path):
    frame = rows(400).assign(y=["a", "b"] * 200)
    frame.to_csv(tmp_path / "t.csv", index=False)
    metatx.Task.from_data(nano, "tabular", frame, target="y", inputs=["x"]).save_pretrained(tmp_path / "task")
    code = "import sys; from metatx.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "embed", str(tmp_path / "task"), str(tmp_path / "t.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("row,0,1,2")
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 141 and "Broken" not in told and "Error" not in told


def test_the_command_takes_it_all(task, table, nano, tmp_path, capsys):
    frame = rows(40).assign(y=["a", "b"] * 20)
    metatx.Task.from_data(nano, "tabular", frame, target="y", inputs=["x"]).save_pretrained(tmp_path / "task")
    spoil(table, 3)
    line = f"predict {tmp_path}/task {table} --keep id --batch-size 4 --skip-bad-samples --out {tmp_path}/o.parquet"
    main(line.split())
    found = pd.read_parquet(tmp_path / "o.parquet")
    assert list(found) == ["row", "id", "prediction", "p(a)", "p(b)", "error"] and found.error.notna().sum() == 1
    main(f"embed {tmp_path}/task {table} --skip-bad-samples".split())
    shown = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert shown[0][:2] == ["row", "0"] and shown[0][-1] == "error" and shown[3][1] == "" and len(shown) == 21
    with pytest.raises(SystemExit):
        main(f"predict {tmp_path}/task {table} --keep ID".split())
    assert "Did you mean 'id'?" in capsys.readouterr().err
