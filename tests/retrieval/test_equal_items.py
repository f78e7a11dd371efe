"""Index: items that are there already are left out, replaced or added, as is said; nothing else is taken for them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metatx
from metatx.retrieval.segments import OpenSegment
from tests.retrieval.vectors import ids, unit

VECTORS = unit(30)
ITEMS = {"id": [f"n{number}" for number in range(30)], "price": [float(number) for number in range(30)]}


def part(start, stop, **changes):
    items = {name: cells[start:stop] for name, cells in ITEMS.items()}
    return {"image": VECTORS[start:stop]}, {**items, **changes}


@pytest.fixture
def index(tmp_path):
    return metatx.Index.build(tmp_path / "i", None, *part(0, 20))


@pytest.fixture(scope="module")
def alignment():
    return metatx.Alignment.from_pretrained("nano")


def test_the_same_table_again_adds_nothing_and_says_so(index, caplog):
    with caplog.at_level("INFO", logger="metatx"):
        assert index.add(*part(0, 20)) == range(0)
    assert "20 of 20 items are in" in caplog.text and "such as row 1, item 0 there; they are left out" in caplog.text
    assert len(metatx.Index.open(index.folder)) == 20


def test_what_is_new_beside_what_is_there_is_added(index):
    assert index.add(*part(15, 30)) == range(20, 30)
    assert [row["id"] for row in index.rows(range(15, 30))] == ITEMS["id"][15:]
    assert ids(index.search(VECTORS, k=1)) == [[number] for number in range(30)]


@pytest.mark.parametrize("change", [{"price": [77.0]}, {"price": [None]}, {"id": ["other"]}])
def test_an_item_of_which_a_cell_differs_is_another(index, change):
    assert index.add(*part(3, 4, **change)) == range(20, 21)


def test_an_item_with_another_vector_is_another(index):
    assert index.add({"image": VECTORS[25:26]}, part(3, 4)[1]) == range(20, 21)


def test_a_deleted_item_is_not_there(index):
    index.delete([3])
    assert index.add(*part(3, 5)) == range(20, 21)


def test_items_are_replaced_by_a_key_in_one_step(index, caplog):
    generation = index.generation
    with caplog.at_level("INFO", logger="metatx"):
        added = index.add(*part(18, 22, price=[500.0] * 4), existing="replace", key="id")
    assert added == range(20, 24)
    assert (
        "2 of 4 items are in" in caplog.text and "already by id" in caplog.text and "they are replaced" in caplog.text
    )
    assert index.generation == generation + 1
    assert len(index) == 22
    assert sorted(ids(index.search(VECTORS[:1], k=30, where={"price": 500}))[0]) == [20, 21, 22, 23]
    assert not ids(index.search(VECTORS[:1], where={"price": [18, 19]}))[0]
    np.testing.assert_allclose(index.means["image"], index.vectors("image")[1].mean(0), atol=1e-6)


def test_a_second_copy_is_added_where_that_is_said(index):
    assert index.add(*part(0, 5), existing="add") == range(20, 25)


def test_missing_cells_are_equal_and_zeros_are(tmp_path):
    items = {"price": [float("nan"), 0.0, 2.0] * 9, "kind": ["shoe", "hat"] * 13 + ["shoe"]}
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:27]}, items)
    again = {"price": [None, -0.0, 2.5], "kind": ["shoe", "hat", "hat"]}
    assert index.add({"image": VECTORS[27:]}, again, key=["price", "kind"]) == range(27, 28)


def test_one_item_among_many_of_its_kind_reads_no_other_rows(tmp_path, monkeypatch):
    """Columns of few different cells come first in the table, and say little of one item."""
    count = 5000
    items = {"kind": ["shoe"] * count, "price": [float(at % 9) for at in range(count)], "id": list(range(count))}
    index = metatx.Index.build(tmp_path / "i", None, {"image": unit(count, width=4)}, items)
    read = []
    rows = OpenSegment.rows

    def noted(self, offsets, columns):
        read.extend(offsets)
        return rows(self, offsets, columns)

    monkeypatch.setattr(OpenSegment, "rows", noted)
    row = {name: cells[1234:1235] for name, cells in items.items()}
    assert index.add({"image": unit(1, width=4)}, row, key=list(row)) == range(0)
    assert read == [1234]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"existing": "error"}, "5 of 5 items are in .* already, such as row 1, item 0 there; nothing was added"),
        ({"existing": "overwrite"}, "existing is 'overwrite'; choose one of skip, replace, add, error."),
        ({"key": "name"}, "Unknown column of the items 'name'"),
        ({"key": []}, r"key is \[\]; expected the columns by which items are known again"),
    ],
)
def test_what_cannot_be_done_changes_nothing(index, options, message):
    with pytest.raises(ValueError, match=message):
        index.add(*part(0, 5), **options)
    assert len(metatx.Index.open(index.folder)) == 20


def test_vectors_without_columns_are_known_again(tmp_path):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:20]})
    assert index.add({"image": VECTORS[10:25] * 3}) == range(20, 25), "their length does not count"


def test_samples_of_columns_are_not_embedded_to_know_them_again(tmp_path, alignment, monkeypatch):
    items = {"name": ["a red shoe", None, "a hat"]}
    index = metatx.Index.build(tmp_path / "i", alignment, {"text": "name"}, items)
    embedded = []
    embed = metatx.Alignment.embed

    def noted(self, modality, samples):
        embedded.extend(samples)
        return embed(self, modality, samples)

    monkeypatch.setattr(metatx.Alignment, "embed", noted)
    assert index.add({"text": "name"}, {"name": ["a hat", "a blue shirt", None]}) == range(3, 4)
    assert embedded == ["a blue shirt"]


def test_samples_of_no_column_are_known_by_their_vectors(tmp_path, alignment):
    index = metatx.Index.build(tmp_path / "i", alignment, {"text": ["a red shoe", "a hat", None]})
    assert index.add({"text": ["a hat", "a watch", "a hat", "a red shoe"]}) == range(3, 4)
    assert ids(index.search(["a watch"], modality="text", k=1)) == [[3]]


def test_a_bad_sample_among_known_ones_has_its_own_row(tmp_path, alignment):
    texts = ["a hat", "a shoe"]
    index = metatx.Index.build(tmp_path / "i", alignment, {"text": "name"}, {"name": texts})
    with pytest.raises(metatx.SampleError, match=r"^row 3, text: .* tokens"):
        index.add({"text": "name"}, {"name": [*texts, "word " * 9000]})
    assert len(index) == 2


@settings(max_examples=20, deadline=None)
@given(first=st.lists(st.integers(0, 9), max_size=12), second=st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_what_is_added_is_what_is_not_there(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("equal") / "i"
    index = metatx.Index.build(folder, None, {"image": VECTORS[[*first, 20]]}, {"n": [*first, 20]})
    added = index.add({"image": VECTORS[second]}, {"n": second})
    assert [row["n"] for row in index.rows(added)] == [number for number in second if number not in first]
