"""What a cell says: the same thing in every file, at every door, however it was typed on its way here."""

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import metatx
from metatx.cli.predictions import write_rows
from metatx.data.table_files import as_dataset, read_table
from metatx.data.tables import candidates, read_splits
from metatx.encoding.head_choice import build_head
from metatx.errors import SampleError
from metatx.reading.csv_tables import Reading
from metatx.registry import create, lookup
from metatx.writing.rows import FORMULA
from tests.tokenizers.tabular_rows import column, token, types

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"x": RNG.normal(size=40), "z": RNG.normal(size=40), "y": ["a", "b"] * 20})


@pytest.fixture(scope="module")
def backbone():
    return metatx.load_backbone("nano")


def head_of(targets, **options):
    return build_head(None, lookup("tokenizers", "tabular"), targets, 8, options)


# Categories


SPELLINGS = [lambda n: n, float, str, lambda n: f"{n}.0", lambda n: f"{n:.2e}", np.int16, np.float32, Decimal]


@given(known=st.lists(st.integers(-99, 99), min_size=2, max_size=5, unique=True), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_category_is_found_by_the_number_that_it_spells(known, data):
    written = [data.draw(st.sampled_from(SPELLINGS[2:4]))(number) for number in known]
    tokenizer = column([*written, "n/k"] * 2)
    for number, category in zip(known, written, strict=True):
        spelled = data.draw(st.sampled_from(SPELLINGS))(number)
        assert torch.equal(token(tokenizer, spelled), token(tokenizer, category))
        assert tokenizer.baseline_features({"x": spelled}) == {"x": category}


@pytest.mark.parametrize(
    ("known", "said", "same"),
    [
        (["0.5", "1.0", "n/k"], 0.5, "0.5"),
        (["0.5", "1.0", "n/k"], 1, "1.0"),
        (["0.50", "n/k"], np.float32(0.5), "0.50"),
        (["0.1", "n/k"], float(np.float32(0.1)), "0.1"),
        (["1", "1.0", "n/k"], "1.0", "1.0"),
        (["1", "1.0", "n/k"], "1", "1"),
        (["true", "false", "n/k"], True, "true"),
        (["True", "False", "n/k"], "TRUE", "True"),
        (["True", "False", "n/k"], 0, "False"),
        (["007", "n/k"], 7, "007"),
    ],
)
def test_exact_spelling_first(known, said, same):
    tokenizer = column(known * 2)
    assert torch.equal(token(tokenizer, said), token(tokenizer, same))


@pytest.mark.parametrize("said", ["1.00", 1e0 + 1, 9007199254740993, "eins", float("inf")])
def test_what_no_category_spells_alone_is_unknown(said):
    tokenizer = column(["1", "1.0", "9007199254740992", "n/k"] * 2)
    assert torch.equal(token(tokenizer, said), token(tokenizer, "never seen"))


def test_truths_that_came_as_texts():
    tokenizer = column([True, False, None])
    assert types(tokenizer) == {"x": "boolean"}
    for said in ("True", "true", "TRUE", 1, Decimal(1), np.bool_(True)):
        assert torch.equal(token(tokenizer, said), token(tokenizer, True))


def test_what_training_knew_as_words_is_read_so_from_every_later_file(backbone, tmp_path):
    frame = pd.DataFrame({"code": ["0.5", "1.0", "1.5", "n/k"] * 10, "n": 1.0, "label": ["0", "1", "x", "x"] * 10})
    task = metatx.Task.from_data(backbone, "tabular", frame)
    later = frame[frame.label != "x"]
    later.to_csv(tmp_path / "later.csv", index=False)
    file, typed = tmp_path / "later.csv", later.astype({"code": float, "label": int})
    assert task.examples(str(file), "test").targets == later.label.tolist()
    queries = [task.queries(source) for source in (str(file), later, typed, typed.to_dict("records"))]
    codes = [[task.tokenizer.encode(query)["codes"].item() for query in each] for each in queries]
    assert codes[0] == codes[1] == codes[2] == codes[3] and set(codes[0]) == {1, 2}
    encoded = [task.encode(source, "test").examples.targets for source in (later, typed)]
    assert [[task.head.encode(label).item() for label in each] for each in encoded] == [[0, 1] * 10] * 2


def test_what_is_text_in_one_split_is_so_in_the_others(tmp_path):
    pd.DataFrame({"x": ["1", "n/k"], "label": ["01", "2"]}).to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame({"x": ["1.0", "2"], "label": ["NA", "3"]}).to_csv(tmp_path / "test.csv", index=False)
    assert read_splits(tmp_path, ())["test"].to_dict() == {"x": ["1.0", "2"], "label": ["NA", "3"]}


@pytest.mark.parametrize("said", ["123", 123, 123.0, np.int64(123), Decimal(123)])
def test_digits_are_words_to_who_reads_words(said):
    tokenizer = create("tokenizers", "text", 8)
    assert torch.equal(tokenizer.encode(said)["tokens"], tokenizer.encode("123")["tokens"])
    assert tokenizer.text_columns(["q", "a"]) == ["q", "a"]


# Labels


@pytest.mark.parametrize(
    "dtype", [float, np.float32, int, np.int8, "Int64", "UInt8", "Float64", "category", object, str, bool]
)
@pytest.mark.parametrize("gap", [False, True])
def test_whole_numbers_are_classes_however_they_are_typed(dtype, gap):
    whole = pd.Series([1, 2, 3] * 40).astype(dtype) if dtype is not bool else pd.Series([True, False] * 60)
    labels = whole.where(whole.index > 0) if gap and dtype in (float, "Int64", "Float64", object) else whole
    table = as_dataset(pd.DataFrame({"x": 1.0, "label": labels}))
    head = head_of(table["label"][:])
    assert head.name == "classification"
    head.learn([label for label in table["label"] if label is not None])
    expected = [False, True] if dtype is bool else ["1", "2", "3"] if dtype is str else [1, 2, 3]
    assert head.classes == expected and [type(c) for c in head.classes] == [type(c) for c in expected]
    assert head.decode(torch.eye(len(expected))).tolist() == expected


def test_decimals_are_classes_where_they_are_whole():
    head = head_of([Decimal(1), Decimal("2.0"), Decimal(3)] * 10).learn([Decimal(1), Decimal("2.0")])
    assert head.classes == [1, 2] and type(head.classes[0]) is int
    assert head_of([Decimal("0.5"), Decimal(1)] * 10).name == "regression"


@pytest.mark.parametrize("labels", [[0.5, 1.0, 1.5] * 40, np.arange(1000.0), [1.0, 2.0, float("nan"), 2.5] * 9])
def test_steps_of_a_half_and_many_numbers_stay_a_regression(labels):
    assert head_of(list(labels)).name == "regression"


@given(
    known=st.lists(st.integers(0, 30), min_size=2, max_size=5, unique=True),
    trained=st.sampled_from([int, str, float]),
    later=st.sampled_from(SPELLINGS),
)
@settings(max_examples=60, deadline=None)
def test_labels_are_found_by_what_they_spell(known, trained, later):
    head = create("heads", "classification", 8).learn([trained(number) for number in known])
    for number in known:
        assert head.encode(later(number)).item() == head.encode(trained(number)).item()


def test_labels_that_none_or_several_spell_are_refused():
    head = create("heads", "classification", 8).learn(["1", "1.0", "a"])
    assert [head.encode(label).item() for label in ("1", "1.0")] == [0, 1]
    for label in ("1.00", "b", None, [1], 2):
        with pytest.raises(SampleError, match="was not among"):
            head.encode(label)


# Lists of labels


LISTS = [["red", "big"], ["big"], [], ["a'b", 'c"d', "e,f"], ["|"]]


@pytest.mark.parametrize(
    "write", [json.dumps, repr, str, lambda labels: str(tuple(labels)), lambda x: str(np.array(x))]
)
def test_lists_of_labels_in_a_text(write):
    written = [write(labels) for labels in LISTS]
    head = head_of(written)
    assert head.name == "multilabel"
    assert head.learn(written).classes == sorted({label for labels in LISTS for label in labels})
    for labels, text in zip(LISTS, written, strict=True):
        assert torch.equal(head.encode(text), head.encode(labels)), text


@pytest.mark.parametrize("targets", [["[a", "b]"], ["a", "['b']"], ["dog|cat", "dog"]])
def test_words_are_no_lists(targets):
    assert head_of(targets * 9).name == "classification"


WORD = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6).filter(str.strip)


@given(rows=st.lists(st.tuples(WORD, st.lists(WORD, max_size=3), st.floats(allow_nan=False)), min_size=1, max_size=5))
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
@settings(max_examples=40, deadline=None)
def test_what_metatx_writes_it_reads_back(tmp_path_factory, name, rows):
    assume(name != "t.csv" or not any(word.startswith(FORMULA) for word, _, _ in rows))  # which get a mark in front
    path = tmp_path_factory.getbasetemp() / name
    write_rows([{"label": word, "labels": labels, "p": p} for word, labels, p in rows], str(path), None)
    table = read_table(path, Reading(texts=["label", "labels"])).to_dict()
    assert table["label"] == [word for word, _, _ in rows]
    head = create("heads", "multilabel", 8, classes=sorted({"0", "1", *(x for _, labels, _ in rows for x in labels)}))
    for found, (_, labels, _) in zip(table["labels"], rows, strict=True):
        assert torch.equal(head.encode(found), head.encode(labels))
    np.testing.assert_allclose(np.array(table["p"], dtype=float), [p for _, _, p in rows], rtol=1e-14)


def test_columns_of_zeros_and_ones_are_a_target_of_several_labels(backbone):
    frame = FRAME.assign(alpha=[0, 1] * 20, beta=[True, True, False, False] * 10).drop(columns="y")
    task = metatx.Task.from_data(backbone, "tabular", frame, target="alpha,beta")
    assert (task.head.name, task.head.classes, task.inputs) == ("multilabel", ["alpha", "beta"], ["x", "z"])
    assert list(task.examples(frame[:4], "test").targets) == [["beta"], ["alpha", "beta"], [], ["alpha"]]
    with pytest.raises(ValueError, match=r"Column alpha, row 2: 7; several targets are columns of 0 and 1"):
        metatx.Task.from_data(backbone, "tabular", frame.assign(alpha=[0, 7] * 20), target="alpha,beta")


# Columns that cannot be


def test_all_bad_columns_are_named_at_once(backbone):
    frame = FRAME.assign(
        id=[f"i{i}" for i in range(40)],
        empty=None,
        amount=[f"{i}.5" for i in range(3)] + [f"{i},234.56" for i in range(37)],
    )
    with pytest.raises(ValueError, match="different texts") as caught:
        metatx.Task.from_data(backbone, "tabular", frame, target="y")
    message = str(caught.value)
    for part in ("Column id has 40", "Column empty has only missing", "amount looks like numbers", "--inputs x,z;"):
        assert part in message
    assert "row 4 says '0,234.56'" in message
    assert '--tokenizer.columns \'{"id": "ignore", "empty": "ignore", "amount": "ignore"}\'' in message


@pytest.mark.parametrize("form", ["{},5", "{}.5 %", "$ {}.25", "{}.5 kg", "{} €"])
def test_a_number_that_is_not_read_as_one_is_named(form):
    cells = [str(i) for i in range(30)]
    cells[3] = form.format(3)
    with pytest.raises(ValueError, match="Column x looks like numbers, but training row 4 says '.*3") as caught:
        column(cells)
    assert form.format(3) in str(caught.value)


def test_an_empty_cell_does_not_hide_a_column_of_texts():
    table = as_dataset({"text": [None, "a b", None], "n": [1, 2, 3], "label": ["x", "y", "x"]})
    accepts = lookup("tokenizers", "text").accepts
    assert candidates(table, accepts, {"label"}) == ["text"]


def test_pictures_in_rows_are_pictures():
    from PIL import Image

    from metatx.reading.image import read_picture

    pictures = [Image.fromarray(np.full((4, 6, 3), value, np.uint8)) for value in (10, 200)]
    table = as_dataset([{"photo": picture, "label": "a"} for picture in pictures])
    for row, picture in zip(table, pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(read_picture(row["photo"])), np.asarray(picture))


@pytest.mark.parametrize("sign", [", ", ",", ";", "; ", "/"])
def test_lists_with_another_sign_between_are_not_one_label_each(sign):
    targets = ["alpha", f"alpha{sign}beta", "beta", f"beta{sign}gamma"]
    with pytest.raises(ValueError, match=r"several labels, as 'alpha' is one .* 'alpha\|beta', or as a list"):
        create("heads", "multilabel", 8).learn(targets)


@pytest.mark.parametrize("targets", [["a, b", "c", "d"], ["a, b|d", "b", "a"], ['["a, b"]', "a", "b"]])
def test_a_comma_may_be_part_of_a_label(targets):
    assert "a, b" in create("heads", "multilabel", 8).learn(targets).classes


def test_codes_with_zeros_in_front_are_categories_where_they_come_again():
    codes = ["01234", "04567", "10115"] * 10
    assert types(column(codes)) == {"x": "categorical"}
    assert types(column([f"{number:05}" for number in range(30)])) == {"x": "numeric"}, "each its own: no category"
    assert types(column(["0", "0.5", "10"] * 10)) == {"x": "numeric"}
