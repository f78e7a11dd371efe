"""Tables of series as people have them: how times are written, gaps, many series, high levels, forecasts as files."""

import csv
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

import metatx
from metatx.answers import write_answers
from metatx.collate import collate
from metatx.infer import claimed
from metatx.parts.layouts import find_layout
from metatx.parts.series import SeriesTable, read_series
from metatx.registry import create, lookup

LOOKBACK, HORIZON = 24, 6
FORMATS = [
    *("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S"),
    *("%m/%d/%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d-%m-%Y %H:%M", "%d %b %Y %H:%M", "%Y%m%d %H:%M"),
]


@pytest.fixture(autouse=True)
def heard(caplog):
    """What is told goes to ``caplog``."""
    logging.getLogger("metatx").propagate = True
    caplog.set_level("INFO", logger="metatx")
    return caplog


def read(
    columns: dict[str, Any],
    time: Any = None,
    series: Any = None,
    fill: Any = "missing",
    inputs: tuple[str, ...] = ("v",),
) -> SeriesTable:
    frame = table(pd.DataFrame(columns)).to_pandas()
    return read_series(frame, find_layout(frame, inputs, time, series), list(inputs), fill, 1000)


def table(frame: pd.DataFrame) -> Dataset:
    return Dataset.from_pandas(frame, preserve_index=False)


def coming(found: SeriesTable, count: int = 2, number: int = 0) -> list[dict[str, Any]]:
    """The times behind a series, as cells."""
    series = found.series[number]
    times = found.step.beside(series.times[-1], np.arange(1, count + 1))
    return found.layout.clock.write(times - series.ahead if times.dtype.kind == "M" else times, series.last)


def noise(rows: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=rows)


# Which column is the time


@given(form=st.sampled_from(FORMATS), step=st.sampled_from([1, 7, 24, 168]), start=st.integers(0, 20000))
@settings(max_examples=30, deadline=None)
def test_times_are_read_and_go_on_as_they_are_written(form, step, start):
    times = pd.date_range("1990-01-01", periods=91, freq=f"{step}h") + pd.Timedelta(hours=start)
    texts = times.strftime(form)
    found = read({"v": noise(90), "when": texts[:90]})
    assert found.layout.columns == ["when"]
    np.testing.assert_array_equal(found.series[0].times, times[:90].to_numpy().astype("datetime64[us]"))
    assert coming(found, 1) == [{"when": texts[90]}]
    assert found.notes == []


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%b %Y", "%Y-%m"])
def test_months_are_regular_whichever_way_their_dates_are_written(form):
    """01/02/2020 of monthly data is February, or January 2: the reading without gaps is right."""
    texts = pd.date_range("2015-01-01", periods=61, freq="MS").strftime(form)
    found = read({"date": texts[:60], "v": noise(60)})
    assert (str(found.step), found.notes) == ("months", [])
    assert coming(found, 1) == [{"date": texts[60]}]


@pytest.mark.parametrize(
    ("freq", "name"),
    [
        ("ME", "months"),
        ("QS", "quarters"),
        ("YS", "years"),
        ("W-SUN", "weeks"),
        ("B", "business days"),
        ("15min", "steps of 15 minutes"),
    ],
)
def test_steps_of_the_calendar_are_regular(freq, name):
    times = pd.date_range("2000-01-01", periods=61, freq=freq)
    found = read({"date": times[:60], "v": noise(60)})
    assert (str(found.step), found.notes) == (name, [])
    assert pd.Timestamp(coming(found, 1)[0]["date"]) == times[60]


HOURS = pd.date_range("2024-01-30", periods=98, freq="h")
MONTHS = pd.date_range("2015-11-01", periods=62, freq="MS")


@pytest.mark.parametrize(
    ("columns", "time"),
    [
        ({"year": MONTHS.year, "month": MONTHS.month}, ["year", "month"]),
        ({"year": MONTHS.year, "month": MONTHS.strftime("%B")}, ["year", "month"]),
        (
            {"Yr": HOURS.year, "Mon": HOURS.month, "Day": HOURS.day, "Hr": HOURS.hour},
            ["Yr", "Mon", "Day", "Hr"],
        ),
        ({"date": HOURS.strftime("%Y-%m-%d"), "hour": HOURS.hour}, ["date", "hour"]),
        ({"Date": HOURS.strftime("%d/%m/%Y"), "Time": HOURS.strftime("%H.%M.%S")}, ["Date", "Time"]),
        ({"timestamp": (HOURS - pd.Timestamp(0)) // pd.Timedelta("1s")}, ["timestamp"]),
        ({"unix_ms": (HOURS - pd.Timestamp(0)) // pd.Timedelta("1ms")}, ["unix_ms"]),
        ({"date": HOURS.normalize().unique().strftime("%Y%m%d").astype(int)}, ["date"]),
        ({"Month": MONTHS.strftime("%Y%m").astype(int)}, ["Month"]),
        ({"quarter": pd.period_range("1999Q3", periods=40, freq="Q").astype(str)}, ["quarter"]),
        ({"t": HOURS.tz_localize("UTC").strftime("%Y-%m-%dT%H:%M:%SZ")}, ["t"]),
        ({"year": np.arange(1950, 2020)}, ["year"]),
    ],
)
def test_times_of_other_forms_are_read_and_go_on(columns, time):
    whole = pd.DataFrame({name: np.asarray(cells) for name, cells in columns.items()})
    known = whole.iloc[:-2] if len(whole) > 6 else whole
    found = read({**{name: known[name] for name in known}, "v": noise(len(known))})
    assert found.layout.columns == time
    assert found.notes == []
    if len(whole) > 6:
        assert coming(found) == whole.iloc[-2:].to_dict("records")


@pytest.mark.parametrize(
    "columns",
    [
        {"hour": np.arange(300) % 24},
        {"station": ["may"] * 300},
        {"birth": pd.date_range("1950-01-01", periods=300)[np.random.default_rng(1).permutation(300)].astype(str)},
        {"month": np.arange(300) % 12 + 1},
    ],
)
def test_without_a_time_rows_are_in_the_order_of_the_file(columns):
    found = read({"v": noise(300), **columns})
    assert found.layout.clock is None
    assert len(found.series[0].values) == 300


def test_a_word_beside_a_date_is_no_time():
    days = pd.date_range("2020-01-01", periods=300)
    assert read({"station": ["may"] * 300, "date": days, "v": noise(300)}).layout.columns == ["date"]


def test_the_user_names_the_time_or_says_that_there_is_none():
    days = pd.date_range("2020-01-01", periods=60)
    columns = {"made": days[::-1].astype(str), "date": days.astype(str), "v": noise(60)}
    assert read(columns).layout.columns == ["date"]
    assert read(columns, time="none").layout.clock is None
    with pytest.raises(ValueError, match="Column made, row 2: 2020-02-28 does not come after 2020-02-29"):
        read(columns, time="made")
    with pytest.raises(ValueError, match="Unknown time column 'dat'. Did you mean 'date'"):
        read(columns, time="dat")


def test_rows_out_of_order_are_refused_with_what_to_do():
    days = pd.date_range("2020-01-01", periods=60)[::-1]
    with pytest.raises(ValueError, match=r"row 2: .* does not come after .*; sort the rows by time.* --head.time none"):
        read({"date": days, "v": noise(60)})
    twice = np.sort(np.tile(days, 2))
    with pytest.raises(ValueError, match=r"row 2: .* many series, .*--head.series NAME"):
        read({"date": twice, "v": noise(120)})


def test_changes_of_clocks_are_told_not_refused():
    zoned = pd.date_range("2024-03-01", periods=24 * 300, freq="h", tz="Europe/Berlin")
    local = read({"date": zoned.tz_localize(None), "v": noise(len(zoned))})
    assert len(local.series[0].values) == len(zoned)
    assert local.notes == ["Column date: clocks were changed 2 times; rows are taken as even steps."]
    after = (zoned[-1] + pd.Timedelta(hours=1)).tz_localize(None)
    assert coming(local, 1) == [{"date": str(after)}]
    offsets = read({"date": [time.isoformat() for time in zoned], "v": noise(len(zoned))})
    assert (len(offsets.series[0].values), offsets.notes) == (len(zoned), [])
    assert coming(offsets, 1) == [{"date": (zoned[-1] + pd.Timedelta(hours=1)).isoformat()}]
    repeated = pd.DatetimeIndex([*HOURS[:50], HOURS[49], *HOURS[50:]])
    with pytest.raises(ValueError, match="row 51"):
        read({"date": repeated, "v": noise(len(repeated))})


# Gaps


def test_missing_steps_are_told_and_keep_their_time():
    hours = pd.date_range("2024-01-01", periods=900, freq="h")
    kept = np.ones(900, dtype=bool)
    kept[np.random.default_rng(0).choice(np.arange(1, 899), 60, replace=False)] = False
    found = read({"timestamp": hours[kept], "v": np.arange(900.0)[kept]})
    (note,) = found.notes
    assert note.startswith(f"60 of 900 hours are missing, the first after {hours[kept.argmin() - 1]}; ")
    values = found.series[0].values[:, 0]
    np.testing.assert_array_equal(values[kept], np.arange(900.0)[kept])
    assert np.isnan(values[~kept]).all()


def test_irregular_times_are_told():
    at = np.cumsum(np.random.default_rng(0).exponential(1, 100))
    found = read({"time": pd.Timestamp("2024-01-01") + pd.to_timedelta(at, unit="h"), "v": noise(100)})
    assert found.notes == ["Times in column time follow no step; each row is taken as one."]
    assert len(found.series[0].values) == 100


# Many series


@given(
    ids=st.sampled_from([["a", "b", "c"], [1, 2, 3], ["7", "07", "x"], [10**12, 5, -1]]),
    name=st.sampled_from(["item_id", "unique_id", "store", "Store ID", "series"]),
    order=st.sampled_from(["stacked", "interleaved"]),
    lengths=st.lists(st.integers(30, 60), min_size=3, max_size=3),
)
@settings(max_examples=20, deadline=None)
def test_series_of_a_table_are_kept_apart(ids, name, order, lengths):
    parts = [
        pd.DataFrame({name: key, "ds": pd.date_range("2024-01-01", periods=n), "v": 100.0 * i + np.arange(n)})
        for i, (key, n) in enumerate(zip(ids, lengths, strict=True))
    ]
    whole = pd.concat(parts, ignore_index=True)
    whole = whole if order == "stacked" else whole.sort_values("ds", kind="stable")
    found = read({column: whole[column].to_numpy() for column in whole})
    assert [series.id[name] for series in found.series] == ids
    for series, part in zip(found.series, parts, strict=True):
        np.testing.assert_array_equal(series.values[:, 0], part["v"])


def test_two_columns_may_tell_series_apart():
    days = pd.date_range("2024-01-01", periods=30)
    columns = {
        "date": np.tile(days, 4),
        "store": np.repeat([1, 1, 2, 2], 30),
        "item": np.tile(np.repeat([1, 2], 30), 2),
    }
    assert read({**columns, "v": noise(120)}).layout.ids == ("store", "item")
    assert len(read({**columns, "v": noise(120)}, series=["store", "item"]).series) == 4


def test_a_column_that_looks_like_an_id_is_asked_about():
    days = np.tile(pd.date_range("2024-01-01", periods=40), 3)
    columns = {"filiale": np.repeat(["x", "y", "z"], 40), "date": days, "v": noise(120)}
    with pytest.raises(ValueError, match="--head.series filiale"):
        read(columns)
    assert len(read(columns, series="filiale").series) == 3
    bare = {"store": np.repeat([1, 2, 3], 100), "v": noise(300)}
    with pytest.raises(
        ValueError, match="Column store is 1 for 100 rows, then 2.*--head.series store, or --head.series none"
    ):
        read(bare)
    assert len(read(bare, series="store").series) == 3
    assert len(read(bare, series="none").series) == 1


def head_and_tokenizer(**options: Any) -> tuple[Any, Any]:
    tokenizer = create("tokenizers", "time_series", 16, lookback=LOOKBACK, patch_size=8, stride=8)
    return create("heads", "forecasting", 16, horizon=HORIZON, **options), tokenizer


def long_table(lengths: tuple[int, ...] = (90, 70, 10)) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "item_id": i + 1,
                "timestamp": pd.date_range("2024-01-01", periods=n, freq="h"),
                "target": 1000.0 * i + np.arange(n),
            }
        )
        for i, n in enumerate(lengths)
    ]
    return pd.concat(parts).sort_values("timestamp", kind="stable").reset_index(drop=True)


def test_windows_and_held_rows_never_cross_series(heard):
    head, tokenizer = head_and_tokenizer()
    target, inputs = head.columns(table(long_table()), "target", None, tokenizer)
    assert (target, inputs) == (None, ["target"])
    assert "3 series by item_id, of 10 to 90 steps; 1 are too short for a window and left out." in heard.messages
    kept, held = head.split(table(long_table()), None, tokenizer, 0.2, seed=0)
    train, test = long_table().iloc[kept], long_table().iloc[held]
    assert [(train.item_id == i).sum() for i in (1, 2, 3)] == [72, 56, 10]
    assert [(test.item_id == i).sum() for i in (1, 2, 3)] == [18 + LOOKBACK, 14 + LOOKBACK, 0]
    found = head.examples(table(test.reset_index(drop=True)), inputs, None, tokenizer, "test")
    assert len(found) == 18 + 14 - 2 * (HORIZON - 1)
    for past, future in zip(found.inputs, found.targets, strict=True):
        both = np.concatenate([past, future], axis=1)[0]
        np.testing.assert_array_equal(np.diff(both), 1)
        assert future.min() % 1000 >= 56
    with pytest.raises(ValueError, match="2 series of up to 10 rows; a window takes 30"):
        head.examples(table(long_table((10, 8))), inputs, None, tokenizer, "the table")


def test_a_held_part_with_gaps_does_not_reach_into_training():
    head, tokenizer = head_and_tokenizer()
    data = long_table((120,)).drop([80, 82, 84, 86, 88]).reset_index(drop=True)
    _, inputs = head.columns(table(data), None, None, tokenizer)
    kept, held = head.split(table(data), None, tokenizer, 0.2, seed=0)
    found = head.examples(table(data.iloc[held].reset_index(drop=True)), inputs, None, tokenizer, "held")
    assert np.nanmin(np.stack(list(found.targets))) > data.target[kept].max()


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
    head.fit(found.targets)
    encoded = head.encode(found.targets[0])
    assert encoded.isfinite().all(1).tolist() == [True, True, False]
    (record,) = head.records(torch.zeros(1, 3, HORIZON))
    assert list(record) == ["load", "price"]
    again = create("heads", "forecasting", 16, **head.options)
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
    later = pd.date_range("2021-05-01", periods=LOOKBACK).strftime("%d/%m/%Y")
    short = pd.DataFrame({"d": [*later[:12], *later[12:]], "v": noise(LOOKBACK)})
    again = create("heads", "forecasting", 16, **head.options)
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
        tokenizer.fit(found.inputs), head.fit(found.targets)
        output = head(tokenizer(collate([tokenizer.encode(past) for past in found.inputs])))
        truth = torch.stack([head.encode(future) for future in found.targets])
        metrics = head.metrics()
        for metric in metrics.values():
            metric.update(*head.scored(output, truth))
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
    tokenizer.fit(found.inputs), head.fit(found.targets)
    output = head(tokenizer(collate([tokenizer.encode(past) for past in found.inputs])))
    truth = np.stack(list(found.targets))
    assert np.abs(head.decode(output) - truth).max() < 2
    metric = head.metrics()["mae_unscaled"]
    metric.update(*head.scored(output, torch.stack([head.encode(future) for future in found.targets])))
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
    create("tokenizers", "time_series", 16).fit(samples)
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
    monkeypatch.setattr("metatx.parts.forecast_picture.find_spec", lambda name: None)
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
