"""Index: bad input is told in one clear line, and nothing is lost."""

import os
import re
import resource
import signal

import numpy as np
import pandas as pd
import pytest

import metatx
from tests.killing import run_apart
from tests.retrieval.vectors import WIDTH, ids, unit

VECTORS = unit(30)
ITEMS = {"colour": ["red", "blue", "green"] * 10}


@pytest.fixture
def index(tmp_path):
    return metatx.Index.build(tmp_path / "shop.index", None, {"image": VECTORS}, ITEMS)


@pytest.fixture(scope="module")
def alignment():
    return metatx.Alignment.from_pretrained("nano")


def bad(position, value):
    """Vectors of which one is not like the others."""
    vectors = VECTORS.copy()
    vectors[position] = value
    return {"image": vectors}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda i: i.search(unit(1, width=8)), "The vectors are 8 wide; those of the index are 16 wide."),
        (lambda i: i.search(np.full((1, WIDTH), np.nan)), r"Vector 0 \(counted from 0\) holds NaN or infinite numbers"),
        (
            lambda i: i.search(VECTORS[0], modality="image"),
            r"queries is an array of float32 \(16,\); expected vectors in",
        ),
        (lambda i: i.search([VECTORS[0]]), r"a list of 1, the first an array of float32 \(16,\); .* floats \(B, 16\)"),
        (lambda i: i.search(np.ones((1, WIDTH), int)), r"an array of int64 \(1, 16\); expected vectors in"),
        (lambda i: i.search(np.ones((0, 8))), "The vectors are 8 wide"),
        (lambda i: i.add({"image": VECTORS[0]}), r"Samples of image \(an array of float32 \(16,\)\) need"),
        (lambda i: i.add({"image": VECTORS}, ITEMS, vectors={"image": VECTORS[:2]}), r"an array of float32 \(2, 16\)"),
        (lambda i: i.search(VECTORS[:1], k=0), "k is 0; it must be at least 1."),
        (lambda i: i.search(VECTORS[:1], k=2.5), "k is 2.5; expected a whole number."),
        (lambda i: i.search(VECTORS[:1], k=True), "k is True; expected a whole number."),
        (lambda i: i.search(VECTORS[:1], where="a=b"), "where is 'a=b'; expected values by name, such as"),
        (lambda i: i.search(VECTORS[:1], where=["a"]), "where is .*; expected values by name, such as"),
        (lambda i: i.rows(3), r"items is 3; expected numbers of items in a list: \[3\]\."),
        (lambda i: i.rows([0], "colour"), r"columns is the text 'colour'; expected names in a list"),
        (lambda i: i.vectors("image", 3), r"items is 3; expected numbers of items in a list: \[3\]\."),
        (lambda i: i.delete(3), r"items is 3; expected numbers of items in a list: \[3\]\."),
        (lambda i: i.delete([1.5]), r"items is \[1.5\]; expected numbers of items in a list"),
        (lambda i: i.delete("12"), "items is '12'; expected numbers of items in a list"),
        (lambda i: i.delete(np.ones(30, bool)), "expected numbers of items in a list"),
        (lambda i: i.add([VECTORS], ITEMS), "samples is .*; expected values by name, such as"),
        (lambda i: i.export("x.parquet", neighbours=2.5), "neighbours is 2.5; expected a whole number."),
        (lambda i: i.export("x.parquet", places=[[1, 2]]), r"places is \(1, 2\); expected \(30, 2\)"),
        (lambda i: i.picture("x.html", sample=2.5), "sample is 2.5; expected a whole number."),
        (lambda i: i.search(VECTORS[:1], among=["text"]), "Unknown modality of the index 'text'.*Choices: image."),
        (lambda i: i.search(VECTORS[:1], among="image"), "among is the text 'image'; expected names in a list"),
        (
            lambda i: i.search(VECTORS[:1], where={"color": 1}),
            "column of the items 'color'. Did you mean 'colour'",
        ),
        (lambda i: i.search(VECTORS[:1], where={"colour": 3}), "colour holds string, but the condition is 3; expected"),
        (lambda i: i.search(VECTORS[:1], where={"colour": {"from": 3}}), "The condition on colour is .*; expected"),
        (lambda i: i.search(["a shoe"]), "Name the modality of the samples"),
        (lambda i: i.search("a shoe"), "queries is one str; put it into a list."),
        (lambda i: i.search(["a shoe"], modality="text"), "names no alignment: search it by vectors, or give one"),
        (lambda i: i.rows([30]), "There is no item 30; the items of .* are 0 to 29."),
        (lambda i: i.rows([0], ["price"]), "Unknown column of the items 'price'."),
        (lambda i: i.delete([30]), "There is no item 30"),
        (lambda i: i.delete([3, 3]), "An item is named twice; nothing was deleted."),
        (lambda i: i.delete(), "Give the numbers of the items to delete, or conditions"),
        (lambda i: i.delete(where={}), "Give the numbers of the items to delete, or conditions"),
        (lambda i: i.add({"image": unit(1, width=8)}, {"colour": ["red"]}), "are 8 wide; those of .* are 16 wide."),
        (lambda i: i.add(bad(7, np.nan), ITEMS), "Vector 7 .* holds NaN or infinite numbers"),
        (lambda i: i.add(bad(7, np.inf), ITEMS), "Vector 7 .* holds NaN or infinite numbers"),
        (lambda i: i.add(bad(7, 0), ITEMS), "Vector 7 .* is all zeros"),
        (lambda i: i.add({"image": VECTORS[:2]}, ITEMS), "Numbers of samples and items differ: 2 of image, 30 items"),
        (lambda i: i.add({"image": VECTORS}), "The items have the columns none; those of .* have colour."),
        (lambda i: i.add({"image": VECTORS[:1]}, {"colour": [1.5]}), "colour of .*_?string; .* holds double"),
        (lambda i: i.add({"image": VECTORS[:0]}, {"colour": []}), "There is nothing to index"),
        (lambda i: i.add({"image": "photo"}, ITEMS), "names no alignment|Unknown column of items for image: 'photo'"),
        (lambda i: i.export("x.csv"), "expected a name that ends in .parquet or .lance"),
        (lambda i: i.export("x.parquet", places=VECTORS), r"places is \(30, 16\); expected \(30, 2\)"),
    ],
)
def test_a_fault_is_told_in_a_line_and_changes_nothing(index, fault, message):
    before = sorted(os.listdir(index.folder))
    with pytest.raises((ValueError, TypeError), match=message) as told:
        fault(index)
    assert "\n" not in str(told.value)
    assert sorted(os.listdir(index.folder)) == before
    assert len(metatx.Index.open(index.folder)) == 30


def test_an_item_is_deleted_once(index):
    assert index.delete([4]) == 1
    with pytest.raises(ValueError, match=r"Item 4 is deleted already; nothing was deleted\."):
        index.delete([3, 4])
    assert len(index) == 29
    assert 4 not in ids(index.search(VECTORS[:1], k=30))[0]


def test_an_empty_index_says_so(index):
    index.delete(range(30))
    for asked in (lambda: index.search(VECTORS[:1]), lambda: index.export("x.parquet")):
        with pytest.raises(ValueError, match=r"is empty: all of its 30 items are deleted; add some\."):
            asked()
    index.add({"image": VECTORS[:1]}, {"colour": ["red"]})
    assert ids(index.search(VECTORS[:1])) == [[30]]


def test_another_alignment_is_refused(tmp_path, alignment):
    items = {"name": ["a shoe", "a hat"]}
    metatx.Index.build(tmp_path / "i", alignment, {"text": "name"}, items)
    other = metatx.Alignment.from_pretrained("nano")
    other.towers["text"].proj.weight.data[0, 0] += 0.1
    with pytest.raises(ValueError, match="was made with another alignment: the fingerprint of text is"):
        metatx.Index.open(tmp_path / "i", other)
    del other.towers["text"]
    with pytest.raises(ValueError, match="holds text, of which the alignment has none"):
        metatx.Index.open(tmp_path / "i", other)
    assert len(metatx.Index.open(tmp_path / "i", alignment)) == 2


def test_a_further_modality_leaves_the_fingerprints_of_the_others(alignment):
    before = {name: alignment.fingerprint(name) for name in ("image", "text")}
    wider = metatx.Alignment.from_pretrained("nano").add("tabular", [{"a": 1.0}, {"a": 2.0}])
    assert {name: wider.fingerprint(name) for name in before} == before


def test_a_modality_that_is_not_aligned_is_named(tmp_path, alignment):
    with pytest.raises(ValueError, match="Unknown aligned modality 'audio'"):
        metatx.Index.build(tmp_path / "i", alignment, {"audio": ["a.wav"]})
    index = metatx.Index.build(tmp_path / "i", alignment, {"text": ["a shoe"]})
    with pytest.raises(ValueError, match="aligned modality 'audio'"):
        index.search(["a.wav"], modality="audio")


def test_a_bad_sample_is_named_or_left_out(tmp_path, alignment):
    photos = [np.full((32, 32, 3), 9, np.uint8), "no.jpg", np.full((32, 32, 3), 99, np.uint8)]
    with pytest.raises(metatx.SampleError, match=r"^row 2, image: .*no\.jpg.*Bad samples are left out with skip_bad"):
        metatx.Index.build(tmp_path / "i", alignment, {"image": photos})
    index = metatx.Index.build(tmp_path / "i", alignment, {"image": photos}, skip_bad=True)
    assert index.vectors("image")[0].tolist() == [0, 2]
    assert len(index) == 3


def test_a_folder_with_an_index_is_not_overwritten(index):
    with pytest.raises(ValueError, match="is an index already; add to it, resume a stopped build, or choose another"):
        metatx.Index.build(index.folder, None, {"image": VECTORS}, ITEMS)
    with pytest.raises(ValueError, match="was begun with other items than these; build it anew"):
        metatx.Index.build(index.folder, None, {"image": VECTORS}, {"colour": ["red"] * 30}, resume=True)
    again = metatx.Index.build(index.folder, None, {"image": VECTORS}, ITEMS, resume=True)
    assert len(again) == 30


def test_what_is_no_index_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no index: it has no manifest"):
        metatx.Index.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder; expected an index"):
        metatx.Index.open(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="exists and is no index; choose another folder"):
        metatx.Index.build(tmp_path, None, {"image": VECTORS})


@pytest.mark.parametrize("kind", ["index", "vectors", "items", "deleted"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"\0" * 4000])
def test_a_damaged_file_is_named(index, kind, damage):
    index.delete([1])
    (*_, path) = sorted(index.folder.glob(f"{kind}-*"))
    path.write_bytes(damage)
    with pytest.raises((ValueError, OSError), match=re.escape(path.name)) as told:
        metatx.Index.open(index.folder).search(VECTORS[:1], where={"colour": "red"})
    assert "\n" not in str(told.value)


def test_a_manifest_names_no_file_outside_its_folder(index):
    (*_, path) = index.folder.glob("index-*.json")
    path.write_text(path.read_text().replace("vectors-00000.safetensors", "../vectors-00000.safetensors"))
    with pytest.raises(ValueError, match="is damaged: it names '../vectors-00000.safetensors'"):
        metatx.Index.open(index.folder)


WRITES = {
    "add": lambda index: index.add({"image": unit(20_000, seed=1)}, {"colour": ["red"] * 20_000}),
    "replace": lambda index: index.add({"image": unit(1)}, {"colour": ["red"]}, existing="replace", key="colour"),
    "delete": lambda index: index.delete(range(20)),
    "compact": lambda index: index.compact(keep_seconds=0),
}


def write_on_a_full_disk(folder, write, limit):
    """Write more than fits: a write beyond the limit fails, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    index = metatx.Index.open(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        WRITES[write](index)
    except OSError as error:
        os._exit(7 if "could not be written, the index is as it was" in str(error) and "\n" not in str(error) else 8)


@pytest.mark.parametrize(
    ("write", "limit"), [("add", 200_000), ("add", 300), ("replace", 300), ("delete", 300), ("compact", 300)]
)
def test_a_disk_that_fills_leaves_the_index_as_it_was(index, write, limit):
    index.delete([29])
    before = sorted(os.listdir(index.folder))
    assert run_apart(write_on_a_full_disk, index.folder, write, limit) == 7
    assert sorted(os.listdir(index.folder)) == before
    left = metatx.Index.open(index.folder)
    assert len(left) == 29
    assert ids(left.search(VECTORS[:29], k=1)) == [[number] for number in range(29)]


def test_no_queries_have_no_hits(tmp_path):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS, "text": VECTORS[::-1].copy()})
    assert index.search(np.ones((0, WIDTH)), modality="image") == []
    assert index.search([], modality="image") == []


@pytest.mark.parametrize(("scale", "kind"), [(1e-30, np.float32), (1e-310, np.float64), (1e200, np.float64)])
def test_vectors_may_have_any_length(index, tmp_path, scale, kind):
    scaled = VECTORS.astype(kind) * kind(scale)
    assert ids(index.search(scaled, k=3)) == ids(index.search(VECTORS, k=3))
    built = metatx.Index.build(tmp_path / "scaled", None, {"image": scaled})
    np.testing.assert_allclose(built.vectors("image")[1], index.vectors("image")[1], atol=1e-3)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    twice = pd.DataFrame([[1, 2]] * 30, columns=["a", "a"])
    with pytest.raises(ValueError, match="^Column a is there twice"):
        metatx.Index.build(tmp_path / "i", None, {"image": VECTORS}, twice)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"min": "abc", "max": 160}, "price holds double, but the condition is 'abc'; expected a number.$"),
        ({"min": 160, "max": 150}, "goes from 160 to 150, which no cell satisfies; give the smaller bound first"),
        ({"min": "9", "max": "10."}, None),
    ],
)
def test_bounds_of_a_condition_are_numbers_in_order(tmp_path, condition, message):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS}, {"price": np.arange(30.0)})
    if message is None:
        assert sorted(ids(index.search(VECTORS[:1], where={"price": condition}))[0]) == [9, 10]
    else:
        with pytest.raises(ValueError, match=message):
            index.search(VECTORS[:1], where={"price": condition})


def test_a_refused_build_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="Vector 3"):
        metatx.Index.build(tmp_path / "new", None, bad(3, np.nan))
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="Vector 3"):
        metatx.Index.build(tmp_path / "there", None, bad(3, np.nan))
    assert os.listdir(tmp_path) == ["there"]


def build_on_a_full_disk(folder):
    """Build where nothing can be written."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
    try:
        metatx.Index.build(folder, None, {"image": VECTORS})
    except OSError as error:
        os._exit(7 if "could not be written, it holds no index: " in str(error) else 8)


def test_a_build_on_a_full_disk_leaves_nothing(tmp_path):
    assert run_apart(build_on_a_full_disk, tmp_path / "new") == 7
    assert not os.listdir(tmp_path)
