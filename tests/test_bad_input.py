"""What users have on disk and should not: one line that names the place, exit code 2, nothing half-written."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from metatx.cli import main

RNG = np.random.default_rng(0)


def people(count=60):
    return pd.DataFrame({"age": RNG.normal(40, 9, count), "city": ["Bern", "Lima"] * (count // 2)}).assign(
        rich=lambda frame: np.where(frame.age > 40, "yes", "no")
    )


def load(count=300):
    hours = pd.date_range("2024-01-01", periods=count, freq="h")
    return pd.DataFrame({"time": hours, "watt": np.sin(np.arange(count) / 4) + 5})


def sounds(lengths, change=None):
    rows = [
        {"signal": (RNG.normal(size=(2, length)) * (1 + i % 2)).tolist(), "label": "ab"[i % 2]}
        for i, length in enumerate(lengths)
    ]
    if change is not None:
        rows[3]["signal"][1] = [change] * lengths[3]
    return pd.DataFrame(rows)


TABULAR = "train {data} --modality tabular --target rich"
SERIES = "train {data} --modality time_series --target label"
FORECAST = (
    "train {data} --modality time_series --head forecasting --head.horizon 12 --tokenizer.lookback 24 "
    "--tokenizer.patch_size 8"
)


@pytest.mark.parametrize(
    ("table", "line", "message"),
    [
        (None, TABULAR, "data.csv does not exist"),
        (people()[:0], TABULAR, "data.csv holds no samples"),
        (people()[:1], TABULAR, "data.csv has 1 sample, too few to hold some out; give more, or the test split"),
        (people()[:2], TABULAR, "data.csv has 2 samples, too few to hold some out; give more, or the validation split"),
        (pd.DataFrame(), TABULAR, "data.csv"),
        (people().drop(columns="rich"), TABULAR, "Unknown target column 'rich'"),
        (people().assign(rich="yes"), TABULAR, "the label 'yes'; a classifier needs two or more"),
        (people().assign(rich=[None, "no", "yes"] * 20), TABULAR, "row 4: has no label"),
        (people().assign(debt=None), TABULAR, "debt"),
        (people().assign(debt=np.nan), TABULAR, "debt"),
        (load(30), FORECAST, "30 rows"),
        (load().assign(watt=np.nan), FORECAST, "watt"),
        (load().assign(watt=[1.0, np.inf, 2.0] * 100), FORECAST, "watt"),
        (load().assign(watt="much"), FORECAST, "No column holds numbers to forecast"),
        (load().iloc[::-1], FORECAST, "time"),
        (load(), FORECAST + " --head.season 48", "A season of 48 steps does not fit a lookback of 24"),
    ],
)
def test_training_on_bad_tables(tmp_path, capsys, table, line, message):
    if table is not None:
        table.to_csv(tmp_path / "data.csv", index=False)
    refused(line.format(data=tmp_path / "data.csv") + f" --out {tmp_path}/out", message, capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (sounds([40] * 20, change=np.inf), "data.parquet, row 4: series is"),
        (sounds([40] * 3 + [0] + [40] * 16), "data.parquet, row 4: series is"),
        (sounds([40] * 20).assign(signal=[[["x"] * 40] * 2] * 20), "numbers, (channels x time)"),
    ],
)
def test_training_on_bad_series(tmp_path, capsys, table, message):
    table.to_parquet(tmp_path / "data.parquet")
    refused(f"{SERIES} --out {tmp_path}/out".format(data=tmp_path / "data.parquet"), message, capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "table",
    [
        sounds([40] * 20, change=np.nan),
        sounds([40] * 20, change=2.0),
        sounds([40, 3, 40, 2] * 5),
        sounds([1] * 20),
    ],
    ids=["a missing channel", "a constant channel", "some shorter than a patch", "all of one step"],
)
def test_series_that_look_odd_but_can_be_used(tmp_path, table):
    """And a series longer than any in training, and one that never changes, are answered."""
    table.to_parquet(tmp_path / "data.parquet")
    main(
        f"{SERIES} --out {tmp_path}/out --epochs 1 --no-baseline".format(data=tmp_path / "data.parquet").split(),
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert all(np.isfinite(value) for value in metrics["test"].values())
    sounds([400, 1]).to_parquet(tmp_path / "new.parquet")
    main(f"predict {tmp_path}/out/task {tmp_path}/new.parquet --out {tmp_path}/answers.csv".split())
    answers = pd.read_csv(tmp_path / "answers.csv")
    assert len(answers) == 2 and answers.filter(like="p(").notna().all(axis=None)


def test_a_constant_channel_is_forecast_to_go_on(tmp_path):
    load().assign(flat=7.0).to_csv(tmp_path / "data.csv", index=False)
    main(f"{FORECAST} --epochs 1 --out {tmp_path}/out".format(data=tmp_path / "data.csv").split())
    main(f"predict {tmp_path}/out/task {tmp_path}/data.csv --out {tmp_path}/answers.jsonl".split())
    answers = pd.read_json(tmp_path / "answers.jsonl", lines=True)
    np.testing.assert_allclose(answers["flat"].iloc[0], 7, atol=1e-3)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A trained task, its data beside it."""
    folder = tmp_path_factory.mktemp("task")
    people().to_csv(folder / "people.csv", index=False)
    main(f"{TABULAR} --epochs 1 --no-baseline --out {folder}/run".format(data=folder / "people.csv").split())
    return folder / "run" / "task"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (people().assign(age=["forty"] + [1.0] * 59), "new.csv, row 1: column age: found 'forty'"),
        (people().drop(columns="age"), "Unknown column 'age'"),
        (people()[:0], "holds no samples"),
    ],
)
def test_predicting_bad_tables(task, tmp_path, capsys, table, message):
    table.to_csv(tmp_path / "new.csv", index=False)
    refused(f"predict {task} {tmp_path}/new.csv --out {tmp_path}/answers.csv", message, capsys)
    assert not (tmp_path / "answers.csv").exists()


def test_where_all_samples_are_bad_none_can_be_left_out(task, tmp_path, capsys):
    people().assign(rich="perhaps").to_csv(tmp_path / "new.csv", index=False)
    refused(f"evaluate {task} {tmp_path}/new.csv --skip-bad-samples", "and 57 more. No other is left.", capsys)


def cut(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def foreign(folder):
    (folder / "config.json").write_text('{"model_type": "bert"}')


def emptied(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"), [(cut, "model.safetensors is damaged: "), (foreign, "config.json"), (emptied, "is no task")]
)
def test_damaged_and_foreign_tasks(task, tmp_path, capsys, damage, message):
    shutil.copytree(task, tmp_path / "task")
    damage(tmp_path / "task")
    for command in (f"predict {tmp_path}/task {task}/../../people.csv", f"evaluate {tmp_path}/task {task}/x.csv"):
        refused(command, message, capsys)


def test_a_task_on_another_backbone(task, tmp_path, capsys):
    """Whose fingerprint is not that of the weights it was trained on."""
    shutil.copytree(task, tmp_path / "task")
    config = json.loads((task / "config.json").read_text())
    config["backbone"]["fingerprint"] = "0" * 64
    (tmp_path / "task" / "config.json").write_text(json.dumps(config))
    refused(f"predict {tmp_path}/task {task}/../../people.csv", "was trained on backbone", capsys)


def test_a_disk_that_fills_while_a_run_is_saved(tmp_path, capsys, monkeypatch):
    people().to_csv(tmp_path / "people.csv", index=False)
    from safetensors import torch as safetensors

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors, "save_file", full)
    refused(f"{TABULAR} --epochs 1 --out {tmp_path}/out".format(data=tmp_path / "people.csv"), "No space left", capsys)
    assert not (tmp_path / "out" / "task").exists() and not (tmp_path / "out" / "metrics.json").exists()


def refused(line, message, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and not out
    assert err.startswith("metatx: ") and err.count("\n") == 1 and message in err, err
