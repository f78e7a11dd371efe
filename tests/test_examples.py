"""Raw samples with their targets."""

import numpy as np
import pytest

from metatx.examples import Examples, Subset


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
