"""Raw samples with their targets."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.examples import Examples, Rows, Subset, cells_of, column_names, selected


def test_numbers_must_agree_and_not_be_none():
    with pytest.raises(ValueError, match="train.csv has 2 inputs and 1 targets"):
        Examples([1, 2], [1], "train.csv")
    with pytest.raises(ValueError, match="the data holds no samples"):
        Examples([])
    assert len(Examples([1, 2])) == 2


def test_place_is_the_file_or_the_row(tmp_path):
    """A text is no place, be it empty, long, or like a file's name."""
    file = tmp_path / "a.png"
    file.touch()
    examples = Examples([str(file), {"x": 1}, "", "word " * 100_000, "gone.png", "a\0b"], source="train.csv")
    assert [examples.place(i) for i in range(6)] == [str(file), *(f"train.csv, row {row}" for row in range(2, 7))]


@pytest.mark.parametrize("indices", [[2, 0], np.array([2, 0]), range(2, -1, -2)])
def test_selection_keeps_order_pairs_and_source(indices):
    chosen = Examples(["a", "b", "c"], [1, 2, 3], "here").select(indices)
    assert list(chosen.inputs) == ["c", "a"]
    assert list(chosen.targets) == [3, 1]
    assert chosen.source == "here"
    assert chosen.select([1]).inputs[0] == "a"
    assert Examples(["a", "b", "c"]).select(indices).targets is None


def test_places_of_picked_rows_are_those_of_the_source():
    examples = Examples([10, 11, 12, 13], source="train.csv")
    assert examples.select([3, 1]).select([1]).place(0) == "train.csv, row 2"
    assert Examples([10, 11], source="train.csv", rows=[7, 5]).select([1]).place(0) == "train.csv, row 6"


def test_picked_items_are_read_when_asked_for():
    read = []

    class Items(list):
        def __getitem__(self, at):
            read.append(at)
            return super().__getitem__(at)

    picked = Subset(Items("abcd"), [3, 1, 0])
    assert read == []
    assert picked[1] == "b" and picked[-1] == "a"
    assert read == [1, 0]
    assert list(picked[1:]) == ["b", "a"]
    assert len(picked[:2]) == 2
    with pytest.raises(IndexError):
        picked[3]


CELLS = st.fixed_dictionaries(
    {
        "number": st.one_of(st.none(), st.floats(allow_nan=False)),
        "word": st.one_of(st.none(), st.text(max_size=3)),
        "list": st.lists(st.integers(-9, 9), max_size=2),
    }
)


@settings(deadline=None, max_examples=50)
@given(st.lists(CELLS, min_size=1, max_size=12), st.data(), st.integers(1, 4))
def test_rows_are_those_of_the_table_in_any_order_and_selection(dicts, data, block):
    """Also through an index of datasets, and in blocks of any size."""
    table = Dataset.from_list(dicts)
    numbers = st.lists(st.integers(0, len(dicts) - 1), min_size=1, max_size=15)
    picked = data.draw(numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metatx.examples.BLOCK", block)
        for source in (
            table.select(picked),
            selected(table, picked),
            selected(table.select(picked), range(len(picked))),
        ):
            rows = Rows(source, ["word", "number", "list"])
            expected = [{name: dicts[at][name] for name in ("word", "number", "list")} for at in picked]
            assert list(rows) == expected
            order = data.draw(st.lists(st.integers(-len(picked), len(picked) - 1)))
            assert [rows[at] for at in order] == [expected[at] for at in order]
            assert list(rows.select([at % len(picked) for at in order])) == [expected[at] for at in order]
            assert column_names(rows) == column_names(expected) == ["word", "number", "list"]
            for name in column_names(rows):
                assert [list(part) for part in cells_of(rows, name)] == [
                    list(part) for part in cells_of(expected, name)
                ]


def test_a_selection_keeps_types_and_what_is_known_of_the_table():
    images = Dataset.from_dict(
        {"y": [0, 1], "x": [[1], [2]]},
        features=Features({"y": ClassLabel(names=["a", "b"]), "x": Sequence(Value("uint8"))}),
    )
    images.info.description = "of files"
    chosen = selected(images, np.array([1]))
    assert chosen.features == images.features and chosen.info.description == "of files"
    assert chosen.to_dict() == {"y": [1], "x": [[2]]}
    assert len(selected(images, [])) == 0


def test_a_table_on_disk_is_not_copied(tmp_path):
    Dataset.from_dict({"x": [1, 2, 3]}).save_to_disk(tmp_path)
    table = load_from_disk(tmp_path)
    assert selected(table, [2, 0]).cache_files == table.cache_files
    assert selected(table, [2, 0])["x"][:] == [3, 1]
