"""The guess of the inputs of a table: by column, told as the line to write, or two readings and none taken."""

import shlex

import pytest

import metatx
from metatx.data.table_files import as_dataset
from metatx.inputs.guess import settled
from metatx.inputs.notation import AUTO, parsed
from metatx.spec import TaskSpec
from tests.own_data.layouts import lines_told

told = pytest.fixture(lines_told)

WORDS = ["a red house by the sea", "two rooms and a garden", "a dark flat near town", "small but very quiet"] * 3
COLUMNS = {
    "house": range(100, 112),
    "key": [f"h{row}" for row in range(12)],
    "front view": [f"{row}_a.jpg" for row in range(12)],
    "words": WORDS,
    "back": [None, *(f"{row}_b.PNG" for row in range(1, 12))],
    "pulse": [[0.5, 1.0, float(row)] for row in range(12)],
    "rooms": [3, 4] * 6,
    "area, m2": [1e5 + row for row in range(12)],
    "kind": ["flat", "house"] * 6,
    "built": [f"20{row + 10}-01-01" for row in range(12)],
    "label": [0, 1, 0, 0] * 3,
}


def _settled(columns, target="label", **choices):
    table = as_dataset({name: list(cells) for name, cells in columns.items()})
    return settled(TaskSpec(modality=AUTO, target=target, **choices), lambda kind: (table, target))


def test_each_column_is_read_by_the_first_that_fits(told):
    spec = _settled(COLUMNS)
    read = {each.name: (each.modality, each.columns, each.shares) for each in spec.several}
    assert read == {
        "front_view": ("image", ("front view",), None),
        "back": ("image", ("back",), "front_view"),
        "words": ("text", ("words",), None),
        "pulse": ("time_series", ("pulse",), None),
        "facts": ("tabular", ("rooms", "area, m2", "kind", "built"), None),
    }
    assert any("house, key" in line for line in told)


def test_the_line_that_is_told_gives_the_same_inputs(told):
    spec = _settled(COLUMNS)
    words = shlex.split(told[-1].partition(f"{AUTO}: ")[2])
    again = TaskSpec(modality=parsed(words[1::2]), target="label")
    named = [each.as_json() | {"columns": list(each.columns or (each.name,))} for each in again.several]
    assert named == [each.as_json() for each in spec.several] and set(words[::2]) == {"--input"}


def test_cells_of_one_row_are_the_plain_modality(told):
    spec = _settled({name: COLUMNS[name] for name in ("house", "rooms", "kind", "label")})
    assert (spec.modality, spec.inputs) == ("tabular", ["rooms", "kind"])
    assert told[-1].endswith(f"--modality {AUTO}: --modality tabular --inputs rooms,kind")


def test_a_column_of_pictures_alone_is_the_plain_modality():
    spec = _settled({name: COLUMNS[name] for name in ("back", "label")})
    assert (spec.modality, spec.inputs) == ("image", ["back"])


def test_named_columns_are_taken_even_if_they_number_the_rows():
    spec = _settled(COLUMNS, inputs="rooms,back")
    assert [each.columns for each in spec.several] == [("rooms",), ("back",)]


def test_an_input_is_never_called_as_a_column_of_another():
    columns = {"a b": COLUMNS["front view"], "a_b": WORDS, "facts": COLUMNS["back"], "r": [1, 2] * 6, "s": [1, 2] * 6}
    spec = _settled({**columns, "label": COLUMNS["label"]})
    read = {each.name: each.columns for each in spec.several}
    assert read == {"a_b_2": ("a b",), "a_b": ("a_b",), "facts": ("facts",), "facts_2": ("r", "s")}


def test_pictures_and_words_in_one_column_are_two_readings():
    mixed = ["a.jpg", "b.jpg", "a red house"] * 4
    with pytest.raises(ValueError, match="'a red house'; .*--input view=image or --input view=text"):
        _settled({"view": mixed, "rooms": COLUMNS["rooms"], "label": COLUMNS["label"]})


def test_files_of_two_modalities_are_two_readings():
    with pytest.raises(
        ValueError, match="Column file can be read in 2 ways.*: --input file=image or --input file=audio"
    ):
        _settled({"file": ["a.jpg", "b.wav"] * 6, "label": COLUMNS["label"]})


def test_two_tokenizers_that_fit_are_two_readings():
    @metatx.register_tokenizer("prose")
    class ProseTokenizer(metatx.Tokenizer):
        guessed_from = "words"

    with pytest.raises(ValueError, match="Column words can be read in 2 ways.*words=prose or --input words=text"):
        _settled({"words": WORDS, "rooms": COLUMNS["rooms"], "label": COLUMNS["label"]})


def test_a_column_that_repeats_the_target_is_refused():
    said = ["no", "yes", "no", "no"] * 3
    with pytest.raises(ValueError, match="Column said says the same as the target label.*--input back=image"):
        _settled({"said": said, **{name: COLUMNS[name] for name in ("back", "rooms", "label")}})


def test_a_fusion_of_one_input_is_refused():
    with pytest.raises(ValueError, match="--fusion: the task has one input"):
        _settled({name: COLUMNS[name] for name in ("rooms", "label")}, fusion="early")


def test_nothing_to_read_is_refused():
    with pytest.raises(ValueError, match="No column can be an input"):
        _settled({name: COLUMNS[name] for name in ("house", "label")})


def test_a_task_of_what_was_guessed(nano):
    table = {name: list(COLUMNS[name]) for name in ("words", "rooms", "label")}
    task = metatx.Task.from_data(nano, AUTO, table, target="label")
    assert task.inputs == ["words", "rooms"] and task.predict([{"words": "a flat"}]).shape == (1,)


def test_a_name_of_a_spec_other_than_auto_is_left_alone():
    spec = TaskSpec(modality="tabular")
    assert settled(spec, lambda kind: pytest.fail("was read")) is spec
