"""Tables of series as people have them: how times are written, gaps, many series, high levels, forecasts as files."""

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.own_data.series import HORIZON, HOURS, LOOKBACK, coming, head_and_tokenizer, long_table, noise, read, table

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
