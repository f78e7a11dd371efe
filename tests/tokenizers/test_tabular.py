"""The tabular tokenizer: types, categories, dates, missing values, whole rows."""

import json
import math
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.encoding.collate import collate
from metatx.errors import SampleError
from metatx.registry import create
from metatx.tokenizers.tabular import TabularTokenizer
from tests.tokenizers.tabular_rows import DIM, column, fitted, rows, token, tokens, types

# Types


def test_types_are_inferred_and_tokens_ordered_by_them():
    tokenizer = fitted()
    assert types(tokenizer) == {
        "age": "numeric",
        "gain": "numeric",
        "member": "boolean",
        "since": "date",
        "city": "categorical",
        "shift": "categorical",
    }
    assert list(types(tokenizer)) == ["age", "gain", "member", "since", "city", "shift"]
    assert tokens(tokenizer, *rows(7)).shape == (7, 6, DIM)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 1], "numeric"),
        ([1.5, math.nan, None], "numeric"),
        ([np.int64(1), np.float32(2)], "numeric"),
        ([True, False, 2], "numeric"),
        (["1", "2.5", " 3 "], "numeric"),
        (["1", "2.5", "inf"], "categorical"),
        (["1", "2.5", "three"], "categorical"),
        (["a", 1, True], "categorical"),
        ([True, None], "boolean"),
        ([np.bool_(True), np.bool_(False)], "boolean"),
        ([date(2020, 1, 2), datetime(2021, 3, 4, 5)], "date"),
        ([np.datetime64("2020-01-01", "ns"), pd.NaT], "date"),
        (["2020-01-01", "2021-05-06 07:08", None], "date"),
        (["2020-01-01"] * 19 + ["unknown"], "date"),
        (["2020-01-01"] * 8 + ["unknown"] * 2, "categorical"),
    ],
)
def test_type_of_values(values, expected):
    assert types(column(values)) == {"x": expected}


def test_given_types_override():
    given_types = {"age": "categorical", "shift": "ignore", "since": "ignore"}
    tokenizer = fitted(columns=given_types)
    assert list(types(tokenizer)) == ["gain", "member", "city", "age"]
    assert types(tokenizer)["age"] == "categorical"
    assert tokenizer.options["columns"] == given_types


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"agee": "numeric"}}, "Unknown column 'agee'. Did you mean 'age'"),
        ({"columns": {"age": "number"}}, "Unknown type of column age 'number'"),
        ({"columns": dict.fromkeys(rows(1)[0], "ignore")}, "no input column"),
        ({"columns": {"city": "numeric"}}, "Column city is declared numeric"),
        ({"bins": 0}, "bins is 0"),
        ({"hide": 1.0}, "hide is 1.0"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        fitted(**options)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None, math.nan, None], "Column x has only missing values in the 3 training rows"),
        ([f"id{i}" for i in range(30)], "Column x has 30 different texts in 30 training rows, such as 'id0'"),
        ([f"id{i}" for i in range(29)] * 1 + ["id0"], "29 different texts"),
        ([[1, 2], [3]], "Column x holds a list"),
        ([date(2020, 1, 1), "soon"], "Column x holds a date"),
    ],
)
def test_columns_that_cannot_be_learned(values, message):
    with pytest.raises(ValueError, match=message) as error:
        column(values)
    assert "Leave it out of --inputs" in str(error.value) or "leave it out of --inputs" in str(error.value)


def test_texts_may_differ_in_few_rows_and_numbers_in_many():
    assert types(column(["a", "b", "c"])) == {"x": "categorical"}
    assert types(column(list(range(1000)))) == {"x": "numeric"}


# Categories, booleans, dates, missing values


def test_unknown_categories_share_a_token_of_their_column():
    tokenizer = fitted()
    known = rows(1, seed=3)[0] | {"city": "Oslo"}
    first, second, third = tokens(tokenizer, known, known | {"city": "Lima"}, known | {"city": "Cork"})
    city = list(types(tokenizer)).index("city")
    torch.testing.assert_close(second, third)
    assert not torch.equal(first[city], second[city])
    rest = [i for i in range(6) if i != city]
    torch.testing.assert_close(first[rest], second[rest])
    shift = tokens(tokenizer, known | {"shift": "?"})[0, -1]
    torch.testing.assert_close(shift, (tokenizer.categories[1 + 4] + tokenizer.column[-1]).detach())


def test_rare_categories_of_a_long_vocabulary_are_unknown(monkeypatch):
    monkeypatch.setattr("metatx.data.cell_types.MAX_CATEGORIES", 2)
    tokenizer = column(["a", "b", "c", "c", "a"] * 9)
    assert tokenizer.schema[0]["categories"] == ["a", "c"]
    assert torch.equal(token(tokenizer, "b"), token(tokenizer, "never seen"))


def test_missing_is_a_category_where_training_shows_it_and_unknown_elsewhere():
    tokenizer = fitted()
    row = rows(1)[0]
    for name, same in (("city", False), ("shift", True)):
        missing, other = tokens(tokenizer, row | {name: None}, row | {name: "never seen"})
        assert torch.equal(missing, other) is same


@pytest.mark.parametrize("name", ["age", "gain", "member", "since"])
def test_missing_is_a_learned_token_of_its_column(name):
    tokenizer = fitted()
    row = rows(1)[0]
    place = list(types(tokenizer)).index(name)
    expected = (tokenizer.missing[place] + tokenizer.column[place]).detach()
    for missing in (None, math.nan, pd.NaT, pd.NA, np.datetime64("NaT"), np.float32("nan")):
        torch.testing.assert_close(tokens(tokenizer, row | {name: missing})[0, place], expected)


def test_whole_numbers_that_became_floats_are_the_same_category():
    tokenizer = column([1, 2, 3] * 5, columns={"x": "categorical"})
    assert tokenizer.schema[0]["categories"] == ["1", "2", "3"]
    for same in (2, 2.0, "2", np.int64(2)):
        assert torch.equal(token(tokenizer, same), token(tokenizer, 2))
    assert not torch.equal(token(tokenizer, 2), token(tokenizer, 2.5))


def test_booleans():
    tokenizer = column([True, False, None])
    assert torch.equal(token(tokenizer, True), token(tokenizer, 1.0))
    assert len({tuple(token(tokenizer, value).tolist()) for value in (True, False, None)}) == 3


def test_dates_in_all_their_forms():
    tokenizer = column([datetime(2020, 1, 1), datetime(2021, 12, 31, 23)] * 5)
    moment = token(tokenizer, datetime(2020, 6, 7, 8, 30))
    for same in ("2020-06-07 08:30", "2020-06-07T08:30Z", np.datetime64("2020-06-07T08:30", "ns")):
        assert torch.equal(token(tokenizer, same), moment)
    assert torch.equal(token(tokenizer, date(2020, 6, 7)), token(tokenizer, "2020-06-07"))


def test_dates_as_points_on_circles():
    tokenizer = column(["2020-01-01", "2021-12-31"] * 5)
    cycles = tokenizer.encode({"x": "2021-01-04 06:00"})["cycles"][0]  # a Monday, a quarter into the day
    week, day = cycles[2:4], cycles[4:]
    angle = 2 * math.pi * 0.25 / 7
    torch.testing.assert_close(week, torch.tensor([math.sin(angle), math.cos(angle)]))
    torch.testing.assert_close(day, torch.tensor([1.0, 0.0]), atol=1e-6, rtol=0)
    # Beyond the training range only they can tell two dates apart.
    assert not torch.equal(token(tokenizer, "2024-03-01"), token(tokenizer, "2024-03-02"))
    new_year = [tokenizer.encode({"x": day})["cycles"][0, :2] for day in ("2020-12-31", "2021-01-01")]
    assert (new_year[0] - new_year[1]).norm() < 0.04  # a day is 2 pi / 366 of the circle


def test_training_hides_cells_and_evaluation_does_not():
    samples = rows(400)
    tokenizer = fitted(hide=0.5)
    seen = tokens(tokenizer, *samples)
    assert torch.equal(seen, tokens(tokenizer, *samples))
    hidden = tokens(tokenizer.train(), *samples)
    place = list(types(tokenizer)).index("age")
    missing = (tokenizer.missing[place] + tokenizer.column[place]).detach()
    unknown = (tokenizer.categories[tokenizer.unknown[1]] + tokenizer.column[-1]).detach()
    for at, instead in ((place, missing), (-1, unknown)):
        changed = (hidden[:, at] != seen[:, at]).any(1)
        assert 0.4 < changed.float().mean() < 0.6
        torch.testing.assert_close(hidden[changed, at], instead.expand(int(changed.sum()), -1))
    still = fitted(hide=0.0).train()
    torch.testing.assert_close(tokens(still, *samples), tokens(still.eval(), *samples))


# Rows


@pytest.mark.parametrize(
    "change",
    [{"age": 20}, {"gain": 1e9}, {"member": None}, {"since": "2016-02-03"}, {"city": None}, {"shift": "?"}],
)
def test_a_cell_changes_the_token_of_its_column_alone(change):
    tokenizer = fitted()
    row = {"city": "Rome", "age": 50, "gain": 0, "member": True, "since": "2015-01-05 03:04", "shift": "day"}
    before, after = tokens(tokenizer, row, row | change)
    changed = [name for name, same in zip(types(tokenizer), (before == after).all(1), strict=True) if not same]
    assert changed == list(change)


def test_the_order_of_columns_in_a_row_and_further_ones_do_not_matter():
    tokenizer = fitted()
    row = rows(1)[0]
    other = {"note": "x"} | dict(reversed(row.items()))
    assert torch.equal(tokens(tokenizer, row), tokens(tokenizer, other))


@given(order=st.permutations(range(8)), take=st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_a_row_does_not_depend_on_its_batch(order, take):
    tokenizer, samples = fitted(), rows(8, seed=5)
    whole = tokens(tokenizer, *samples)
    some = tokens(tokenizer, *[samples[i] for i in order[:take]])
    torch.testing.assert_close(some, whole[list(order[:take])], atol=1e-5, rtol=0)


@given(seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_what_is_learned_does_not_depend_on_the_order_of_rows(seed):
    samples = rows()
    shuffled = [samples[i] for i in np.random.default_rng(seed).permutation(len(samples))]
    first, second = fitted(samples), fitted(shuffled)
    assert types(first) == types(second)
    for name in ("left", "width"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name))
    known = [[set(e["categories"]) for e in t.schema if e["type"] == "categorical"] for t in (first, second)]
    assert known[0] == known[1]


@pytest.mark.parametrize("left_out", [[], ["since"], ["city", "shift"], ["age", "gain", "member", "since"]])
def test_round_trip_through_options_and_state(left_out):
    tokenizer = fitted(bins=5, columns=dict.fromkeys(left_out, "ignore"))
    fitted_facts = json.loads(json.dumps(dict(tokenizer.fitted), allow_nan=False))
    again = create("tokenizers", "tabular", DIM, **tokenizer.options).restore(fitted_facts)
    again.load_state_dict(tokenizer.state_dict())
    samples = [*rows(20, seed=9), rows(1)[0] | {"city": "Lima", "gain": None, "since": None}]
    assert torch.equal(tokens(again.eval(), *samples), tokens(tokenizer, *samples))
    assert again.options == tokenizer.options and again.fitted == tokenizer.fitted


def test_every_weight_takes_part():
    tokenizer = fitted().train()
    samples = [*rows(200), rows(1)[0] | dict.fromkeys(rows(1)[0])]
    tokenizer(collate([tokenizer.encode(sample) for sample in samples])).square().sum().backward()
    assert {name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()} == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": "old"}, "column age: found 'old', expected a number, or null"),
        ({"age": ""}, "column age: found '', expected a number"),
        ({"age": "nan"}, "column age: found 'nan', expected a number within 1e\\+150"),
        ({"age": math.inf}, "column age: found inf, expected a number within"),
        ({"age": 10**400}, "column age: found 1000"),
        ({"age": datetime(2020, 1, 1)}, "column age: found datetime"),
        ({"member": "yes"}, "column member: found 'yes', expected true or false"),
        ({"member": 2}, "column member: found 2"),
        ({"since": "yesterday"}, "column since: found 'yesterday', expected a date such as 2024-05-31"),
        ({"since": 20200101}, "column since: found 20200101"),
        ({"city": ["Bonn"]}, "column city: found \\['Bonn'\\], expected one text or number"),
    ],
)
def test_bad_cells(change, message):
    tokenizer = fitted()
    with pytest.raises(SampleError, match=message):
        tokenizer.encode(rows(1)[0] | change)
    with pytest.raises(SampleError, match=message):
        tokenizer.baseline_features(rows(1)[0] | change)


@pytest.mark.parametrize("name", ["age", "member", "since", "city"])
def test_absent_columns(name):
    row = rows(1)[0]
    del row[name]
    with pytest.raises(SampleError, match=f"column {name}: absent from a row of .*shift"):
        fitted().encode(row)


@pytest.mark.parametrize("sample", [None, 3, ["Bonn", 40], "age"])
def test_samples_that_are_no_rows(sample):
    with pytest.raises(SampleError, match="expected a row"):
        fitted().encode(sample)


def test_rows_before_fit():
    with pytest.raises(ValueError, match="call fit"):
        TabularTokenizer(DIM).encode({"x": 1})


def test_cells_that_training_cannot_read_are_left_to_encode():
    tokenizer = column([1, 2, 3, "four", None, math.inf], columns={"x": "numeric"})
    assert types(tokenizer) == {"x": "numeric"} and token(tokenizer, 2.0).isfinite().all()
    with pytest.raises(SampleError, match="found 'four'"):
        tokenizer.encode({"x": "four"})


def test_description_for_the_classical_baseline():
    row = {
        "city": None,
        "age": 40,
        "gain": None,
        "member": True,
        "since": datetime(2020, 5, 4, 18),
        "shift": "?",
    }
    found = fitted().baseline_features(row)
    assert math.isnan(found.pop("gain"))
    assert found == {
        "age": 40.0,
        "member": 1.0,
        "since": date(2020, 5, 4).toordinal() + 0.75,
        "since month": 5.0,
        "since weekday": 0.0,
        "since hour": 18.0,
        "city": None,
        "shift": "?",
    }
