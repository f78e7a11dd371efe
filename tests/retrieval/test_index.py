"""Index: what is found is what is nearest, whatever was added, deleted and filtered."""

import sys

import lancedb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metatx
from metatx.retrieval.exact import BLOCK
from metatx.retrieval.queries import Hit
from tests.retrieval.vectors import WIDTH, exact, ids, unit

VECTORS = unit(60)
COLOURS = ["red", "blue", "green"] * 20
ITEMS = {"colour": COLOURS, "price": [float(number) for number in range(60)], "name": [f"item {n}" for n in range(60)]}


@pytest.fixture
def index(tmp_path):
    return metatx.Index.build(tmp_path / "shop.index", None, {"image": VECTORS}, ITEMS)


def test_the_ten_nearest_are_those_of_an_exact_search_in_fp32(tmp_path):
    vectors = unit(2 * BLOCK + 77, width=64)
    queries = unit(50, seed=1, width=64)
    index = metatx.Index.build(tmp_path / "i", None, {"image": vectors})
    same = np.array(ids(index.search(queries))) == np.array(exact(vectors, queries, 10))
    assert same.mean() >= 0.99
    stored = index.vectors("image")[1]
    assert ids(index.search(queries)) == exact(stored, queries, 10), "of what is stored in fp16, all are exact"


def test_scores_are_cosines_best_first(index):
    [hits] = index.search(VECTORS[:1] * 3, k=60)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    expected = VECTORS[[hit.item for hit in hits]] @ VECTORS[0]
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=2e-3)


def test_k_beyond_the_items_gives_all(index):
    assert sorted(ids(index.search(VECTORS[:1], k=1000))[0]) == list(range(60))


def test_a_hit_is_a_query(index):
    [[first, second]] = index.search(VECTORS[5:6], k=2)
    assert first == Hit(5, "image", pytest.approx(1, abs=1e-3))
    assert ids(index.search([second], k=1)) == [[second.item]]


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ({"colour": "red"}, lambda row: row.colour == "red"),
        ({"colour": ["red", "green"]}, lambda row: row.colour != "blue"),
        ({"price": {"min": 10, "max": 12.5}}, lambda row: 10 <= row.price <= 12.5),
        ({"price": {"min": "50"}, "colour": "blue"}, lambda row: row.price >= 50 and row.colour == "blue"),
        ({"price": 7}, lambda row: row.price == 7),
        ({"colour": "violet"}, lambda row: False),
        ({"name": None}, lambda row: False),
    ],
)
def test_a_filter_gives_all_that_fit_and_no_other(index, where, fits):
    wanted = [number for number, row in enumerate(pd.DataFrame(ITEMS).itertuples()) if fits(row)]
    found = ids(index.search(VECTORS[:3], k=60, where=where))
    assert [sorted(of_query) for of_query in found] == [wanted] * 3
    near = exact(VECTORS, VECTORS[:1], 60)[0]
    assert ids(index.search(VECTORS[:1], k=4, where=where))[0] == [item for item in near if item in wanted][:4]


def test_empty_cells_are_found_by_none_alone(tmp_path):
    table = {"image": VECTORS[:4]}, {"season": ["Fall", None, "Fall", None]}
    index = metatx.Index.build(tmp_path / "i", None, *table)
    assert sorted(ids(index.search(VECTORS[:1], where={"season": None}))[0]) == [1, 3]
    assert sorted(ids(index.search(VECTORS[:1], where={"season": ["Fall", None]}))[0]) == [0, 1, 2, 3]
    assert sorted(ids(index.search(VECTORS[:1], where={"season": "Fall"}))[0]) == [0, 2]


def test_columns_widen_with_what_is_added(tmp_path):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:2]}, {"price": [1, 2], "note": [None, None]})
    index.add({"image": VECTORS[2:4]}, {"price": [2.5, 9.0], "note": ["a", None]})
    assert sorted(ids(index.search(VECTORS[:1], where={"price": {"min": 2, "max": 2.5}}))[0]) == [1, 2]
    assert sorted(ids(index.search(VECTORS[:1], where={"note": None}))[0]) == [0, 1, 3]
    assert pd.read_parquet(index.export(tmp_path / "x.parquet")).price.tolist() == [1, 2, 2.5, 9]


def test_an_item_comes_once_with_its_nearest_modality(tmp_path):
    words = unit(60, seed=3)
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS, "text": words}, ITEMS)
    [hits] = index.search(VECTORS[:1], k=60, centre=False)
    scores = np.stack([VECTORS @ VECTORS[0], words @ VECTORS[0]])
    assert sorted(hit.item for hit in hits) == list(range(60))
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores.max(0))[::-1], atol=2e-3)
    assert all(hit.modality == ("image", "text")[scores[:, hit.item].argmax()] for hit in hits)
    assert {hit.modality for hit in index.search(VECTORS[:1], among=["text"])[0]} == {"text"}


def test_centred_scores_are_cosines_of_what_is_left_of_the_means(tmp_path):
    shifted = VECTORS + np.eye(WIDTH, dtype=np.float32)[0]
    shifted /= np.linalg.norm(shifted, axis=1, keepdims=True)
    index = metatx.Index.build(tmp_path / "i", None, {"image": shifted})
    np.testing.assert_allclose(index.means["image"], shifted.mean(0), atol=1e-3)
    centred = shifted - shifted.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    [hits] = index.search(shifted[7:8], modality="image", k=60, centre=True)
    np.testing.assert_allclose([hit.score for hit in hits], centred[[hit.item for hit in hits]] @ centred[7], atol=5e-3)


def test_items_without_a_sample_have_no_vector_and_are_told(tmp_path, caplog):
    caplog.set_level("INFO", logger="metatx")
    alignment = metatx.Alignment.from_pretrained("nano")
    items = {"name": ["a red shoe", None, "a silver watch"], "note": ["one", "two", "three"]}
    index = metatx.Index.build(tmp_path / "i", alignment, {"text": "name"}, items)
    assert "1 of 3 items have no vector, such as that of row 2: they are kept in" in caplog.text
    assert index.vectors("text")[0].tolist() == [0, 2]
    assert ids(index.search(["a red shoe"], modality="text")) == [[0, 2]]
    assert index.rows([2, 1]) == [{"name": "a silver watch", "note": "three"}, {"name": None, "note": "two"}]
    assert index.sources == {"text": "name"}
    opened = metatx.Index.open(tmp_path / "i")
    np.testing.assert_allclose(opened.vectors("text")[1][0], alignment.embed("text", ["a red shoe"])[0], atol=1e-3)
    assert ids(opened.search(["a watch"], modality="text", k=1)) == [[2]], "the index names its alignment"


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_added_and_deleted_in_any_order_equals_built_of_what_remains(tmp_path_factory, data):
    """Also the means, the columns and the filters."""
    folder = tmp_path_factory.mktemp("indexes")
    index = metatx.Index.build(folder / "a", None, {"image": VECTORS[:9]}, {"price": ITEMS["price"][:9]})
    written = 9
    gone: set[int] = set()
    for step in data.draw(st.lists(st.sampled_from(["add", "delete"]), max_size=6)):
        if step == "add":
            more = slice(written, written + data.draw(st.integers(1, 8)))
            added = index.add({"image": VECTORS[more]}, {"price": ITEMS["price"][more]})
            assert added == range(more.start, more.stop)
            written = more.stop
        elif left := sorted(set(range(written)) - gone):
            taken = data.draw(st.lists(st.sampled_from(left), min_size=1, max_size=len(left) - 1 or 1, unique=True))
            gone |= set(taken) if len(gone) + len(taken) < written else set()
            if set(taken) <= gone:
                assert index.delete(taken) == len(taken)
    left = np.array(sorted(set(range(written)) - gone))
    rebuilt = metatx.Index.build(
        folder / "b", None, {"image": VECTORS[left]}, {"price": np.array(ITEMS["price"])[left]}
    )
    for each in (index, metatx.Index.open(folder / "a")):
        assert len(each) == len(rebuilt) == len(left)
        np.testing.assert_allclose(each.means["image"], rebuilt.means["image"], atol=1e-6)
        for asked in ({}, {"where": {"price": {"max": 12}}}, {"centre": True}):
            found = each.search(VECTORS[:2], k=40, **asked)
            again = rebuilt.search(VECTORS[:2], k=40, **asked)
            for ours, theirs in zip(found, again, strict=True):
                np.testing.assert_allclose([h.score for h in ours], [h.score for h in theirs], atol=1e-5)
                assert [h.item for h in ours] == [int(left[h.item]) for h in theirs]


def test_the_export_has_what_embedding_atlas_reads(index, tmp_path):
    index.delete([0])
    places = np.arange(118, dtype=np.float32).reshape(59, 2)
    file = index.export(tmp_path / "x.parquet", neighbours=3, places=places)
    frame = pd.read_parquet(file)
    assert list(frame.columns) == ["item", "modality", "colour", "price", "name", "vector", "neighbors", "x", "y"]
    assert frame.item.tolist() == list(range(1, 60))
    assert frame.x.tolist() == places[:, 0].tolist()
    np.testing.assert_allclose(np.stack(frame.vector), VECTORS[1:], atol=1e-3)
    near = exact(VECTORS[1:], VECTORS[1:], 3)
    assert [list(cell["ids"]) for cell in frame.neighbors] == near, "numbers of rows, not of items"
    assert np.stack([cell["distances"] for cell in frame.neighbors])[:, 0] == pytest.approx(0, abs=1e-3)


def test_a_table_of_lancedb_finds_what_the_index_finds(index, tmp_path):
    index.delete([0])
    file = index.export(tmp_path / "shop.lance", neighbours=2)
    table = lancedb.connect(tmp_path).open_table("shop")
    assert table.count_rows() == 59
    hits = table.search(VECTORS[7]).distance_type("cosine").where("price < 30").limit(4).to_list()
    [[*expected]] = ids(index.search(VECTORS[7:8], k=4, where={"price": {"max": 29}}))
    assert [row["item"] for row in hits] == expected
    assert hits[0]["name"] == "item 7"
    with pytest.raises(ValueError, match="shop.lance exists already"):
        index.export(file)


def test_a_table_of_lancedb_says_what_is_missing(index, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(ImportError, match=r"needs lancedb: pip install 'metatx.search.'"):
        index.export(tmp_path / "shop.lance")
    assert not list(tmp_path.glob("*.lance"))
