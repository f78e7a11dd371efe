"""Forecasts as people have them: what is forecast, high levels, files and pictures of what comes next."""

import csv
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import metatx
from metatx.cli.predictions import write_answers
from metatx.encoding.collate import collate
from metatx.encoding.head_choice import claimed
from metatx.registry import create, lookup
from tests.own_data.series import HORIZON, HOURS, LOOKBACK, coming, head_and_tokenizer, long_table, noise, table


@pytest.fixture(autouse=True)
def heard(caplog):
    """What is told goes to ``caplog``."""
    logging.getLogger("metatx").propagate = True
    caplog.set_level("INFO", logger="metatx")
    return caplog


# What is forecast


@pytest.mark.parametrize(
    ("columns", "target", "forecasts"),
    [
        ({"ds": HOURS, "y": 1.0}, None, True),
        ({"unique_id": "a", "ds": HOURS, "y": 1.0}, None, True),
        ({"date": HOURS, "value": 1.0}, None, True),
        ({"date": HOURS, "load": 1.0, "price": 2.0}, "load,price", True),
        ({"date": HOURS, "load": 1.0, "kind": "a"}, "kind", False),
        ({"series": [[1.0, 2.0]] * len(HOURS), "y": 1.0}, None, False),
        ({"a": noise(len(HOURS)), "b": noise(len(HOURS)), "y": 1.0}, None, False),
    ],
)
def test_a_table_of_single_numbers_in_time_is_forecast(columns, target, forecasts):
    kind = lookup("tokenizers", "time_series")
    assert claimed(kind, table(pd.DataFrame(columns)), target) is forecasts


def test_target_names_what_is_forecast_among_what_is_read(heard):
    data = pd.DataFrame({"date": HOURS, "load": noise(98), "price": noise(98), "temp": noise(98), "holiday": True})
    head, tokenizer = head_and_tokenizer()
    target, inputs = head.columns(table(data), "load,price", None, tokenizer)
    assert (target, inputs) == (None, ["load", "price", "temp"])
    assert {"Not read: holiday (no numbers).", "Forecasts load, price; reads also temp."} <= set(heard.messages)
    found = head.examples(table(data), inputs, None, tokenizer, "the table")
    head.learn(found.targets)
    encoded = head.encode(found.targets[0])
    assert encoded.isfinite().all(1).tolist() == [True, True, False]
    (record,) = head.records(torch.zeros(1, 3, HORIZON))
    assert list(record) == ["load", "price"]
    again = create("heads", "forecasting", 16, **head.options).restore(head.fitted)
    assert list(again.records(torch.zeros(1, 3, HORIZON))[0]) == ["load", "price"]
    with pytest.raises(ValueError, match="holiday cannot be forecast; columns of numbers: load, price, temp"):
        head.columns(table(data), "holiday", None, tokenizer)


def test_counters_and_constant_ids_are_no_channels():
    data = pd.DataFrame({"id": range(60), "store": 4, "v": noise(60)})
    head, tokenizer = head_and_tokenizer()
    assert head.columns(table(data), None, None, tokenizer)[1] == ["v"]


def test_what_training_knew_of_dates_holds_for_later_tables():
    days = pd.date_range("2020-01-01", periods=90).strftime("%d/%m/%Y")
    head, tokenizer = head_and_tokenizer()
    _, inputs = head.columns(table(pd.DataFrame({"d": days, "v": noise(90)})), None, None, tokenizer)
    head.learn(head.examples(table(pd.DataFrame({"d": days, "v": noise(90)})), inputs, None, tokenizer, "").targets)
    later = pd.date_range("2021-05-01", periods=LOOKBACK).strftime("%d/%m/%Y")
    short = pd.DataFrame({"d": [*later[:12], *later[12:]], "v": noise(LOOKBACK)})
    again = create("heads", "forecasting", 16, **head.options).restore(head.fitted)
    (past,) = again.queries(table(short), inputs, tokenizer)
    assert past.next[0] == {"d": "25/05/2021"}


def test_lookback_and_horizon_are_inferred_and_told(heard):
    tokenizer = create("tokenizers", "time_series", 16)
    for rows, wanted in ((1000, (96, 24)), (60, (16, 4))):
        tokenizer, head = create("tokenizers", "time_series", 16), create("heads", "forecasting", 16)
        head.columns(table(pd.DataFrame({"v": noise(rows)})), None, None, tokenizer)
        assert (tokenizer.lookback, head.horizon) == wanted
        assert f"Reads {wanted[0]} steps to forecast {wanted[1]}" in heard.text
    with pytest.raises(ValueError, match="--tokenizer.lookback 96"):
        head.examples(table(pd.DataFrame({"v": noise(99)})), ["v"], None, create("tokenizers", "time_series", 16), "t")


# Levels


@given(level=st.sampled_from([0.0, 1e3, 1e8, 1e9, 1e12, -1e10]), spread=st.sampled_from([1.0, 5.0, 300.0]))
@settings(max_examples=8, deadline=None)
def test_forecasts_and_measures_do_not_depend_on_the_level(level, spread):
    def forecast(values: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        torch.manual_seed(0)
        head, tokenizer = head_and_tokenizer()
        data = table(pd.DataFrame({"v": values}))
        found = head.examples(data, ["v"], None, tokenizer, "t")
        tokenizer.learn(found.inputs), head.learn(found.targets)
        output = head(tokenizer(collate([tokenizer.encode(past) for past in found.inputs])))
        truth = torch.stack([head.encode(future) for future in found.targets])
        metrics = head.metrics()
        for metric in metrics.values():
            metric.update(*head.metric_inputs(output, truth))
        return head.decode(output), {name: metric.compute().item() for name, metric in metrics.items()}

    values = np.round(spread * (np.sin(np.arange(80) / 3) + 0.1 * noise(80)), 3)
    (low, expected), (high, measured) = forecast(values), forecast(values + level)
    rounding = 1e-5 * spread + 1e-14 * abs(level)
    np.testing.assert_allclose(high - level, low, rtol=0, atol=10 * rounding)
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, rel=1e-3, abs=rounding)
    assert measured["mae_unscaled"] > 0


def test_series_at_far_levels_are_each_right_in_their_own_unit():
    head, tokenizer = head_and_tokenizer()
    wave = np.sin(np.arange(80) / 3)
    data = pd.DataFrame({"item_id": np.repeat([1, 2], 80), "v": np.concatenate([1e12 + wave, wave])})
    head.series = "item_id"
    found = head.examples(table(data), ["v"], None, tokenizer, "t")
    tokenizer.learn(found.inputs), head.learn(found.targets)
    output = head(tokenizer(collate([tokenizer.encode(past) for past in found.inputs])))
    truth = np.stack(list(found.targets))
    assert np.abs(head.decode(output) - truth).max() < 2
    metric = head.metrics()["mae_unscaled"]
    metric.update(*head.metric_inputs(output, torch.stack([head.encode(future) for future in found.targets])))
    assert metric.compute().item() == pytest.approx(np.abs(head.decode(output) - truth).mean(), abs=1e-3)


@pytest.mark.parametrize("kind", [np.float64, np.int64, Decimal])
def test_a_small_swing_at_a_high_level_reaches_the_tokens(kind):
    values = [[kind(int(1e9) + round(3 * np.sin(i))) for i in range(40)]]
    tokenizer = create("tokenizers", "time_series", 16, patch_size=8, stride=8)
    encoded = tokenizer.encode(values)
    assert encoded["loc"].dtype == torch.float64
    expected = np.array([round(3 * np.sin(i)) for i in range(40)])
    np.testing.assert_allclose(encoded["series"][0], (expected - expected.mean()) / expected.std(), atol=1e-6)


def test_arrays_with_time_first_are_told(heard):
    samples = list(np.random.default_rng(0).normal(size=(5, 60, 3)))
    create("tokenizers", "time_series", 16).learn(samples)
    assert "60 channels and at most 3 steps. If time comes first in them, set time_axis" in heard.text


# Forecasts as files


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[Any, Path]:
    """A task on three series, and the table it was trained on."""
    path = tmp_path_factory.mktemp("many") / "long.csv"
    long_table((90, 80, 60)).to_csv(path, index=False)
    backbone = metatx.load_backbone("nano", pretrained=False)
    task = metatx.Task.from_data(
        backbone,
        "time_series",
        str(path),
        head_options={"horizon": HORIZON, "quantiles": [0.1, 0.5, 0.9]},
        tokenizer_options={"lookback": LOOKBACK, "patch_size": 8, "stride": 8},
    )
    return task, path


def test_a_forecast_is_a_row_a_step_with_its_time(many, tmp_path):
    task, path = many
    out = tmp_path / "f.csv"
    write_answers(task, [str(path)], str(out), None)
    rows = list(csv.DictReader(out.open()))
    assert list(rows[0]) == ["item_id", "timestamp", "target-q-0.1", "target", "target-q-0.9"]
    assert len(rows) == 3 * HORIZON
    assert [row["item_id"] for row in rows[::HORIZON]] == ["1", "2", "3"]
    assert [row["timestamp"] for row in rows[:2]] == ["2024-01-04 18:00:00", "2024-01-04 19:00:00"]
    answers = task.predict(str(path))
    assert float(rows[7]["target-q-0.9"]) == answers[1, 0, 1, 2]
    assert len(task.records(str(path))[0]["target"]) == HORIZON


def test_a_forecast_of_bare_arrays_counts_steps(many):
    task, _ = many
    samples = [np.arange(30.0)[None], np.arange(40.0)[None]]
    rows = task.head.rows(task.records(samples), samples)
    assert [(row["sample"], row["step"]) for row in rows[5:7]] == [(1, 6), (2, 1)]


def test_a_task_of_series_is_saved_whole(many, tmp_path):
    task, path = many
    again = metatx.Task.from_pretrained(task.save_pretrained(tmp_path / "task"), backbone=task.backbone)
    np.testing.assert_array_equal(again.predict(str(path)), task.predict(str(path)))
    assert again.head.layout == task.head.layout


def test_history_and_forecast_are_drawn(many, tmp_path, monkeypatch):
    task, path = many
    out = tmp_path / "f.png"
    write_answers(task, [str(path)], str(out), None)
    assert out.read_bytes()[:4] == b"\x89PNG"
    monkeypatch.setattr("metatx.writing.forecast_picture.find_spec", lambda name: None)
    monkeypatch.setattr(task, "predict", lambda *_: pytest.fail("worked before it looked for matplotlib"))
    with pytest.raises(ImportError, match=r"metatx\[viz\]"):
        write_answers(task, [str(path)], str(out), None)


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%d/%m/%Y", "%Y-%m-%d", "%m/%d/%Y"])
def test_a_later_table_may_write_its_dates_otherwise(form):
    days = pd.Series(pd.date_range("2020-01-01", periods=60))
    frame = pd.DataFrame({"date": days.dt.strftime("%d %b %Y"), "v": np.arange(60.0)})
    head = create("heads", "forecasting", 8, horizon=4)
    tokenizer = create("tokenizers", "time_series", 8, lookback=16)
    _, inputs = head.columns(table(frame), None, None, tokenizer)
    found = head._read(table(frame.assign(date=days.dt.strftime(form))), inputs, 16)
    assert coming(found) == [{"date": day.strftime(form)} for day in pd.date_range("2020-03-01", periods=2)]


def test_several_columns_are_named_as_what_is_forecast():
    frame = pd.DataFrame({"ds": pd.date_range("2020-01-01", periods=80), "load": np.arange(80.0), "price": 1.5})
    frame["price"] += np.arange(80.0) ** 0.5
    for head in (None, "forecasting"):
        task = metatx.Task.from_data(
            metatx.load_backbone("nano"),
            *("time_series", frame.assign(other=1.0 / frame.load.add(1))),
            target="load,price",
            head=head,
            tokenizer_options={"lookback": 16},
            head_options={"horizon": 4},
        )
        assert task.head.layout["targets"] == ["load", "price"] and "other" in task.inputs
    with pytest.raises(ValueError, match="several targets are columns of 0 and 1"):
        metatx.Task.from_data(metatx.load_backbone("nano"), "tabular", frame.drop(columns="ds"), target="load,price")
