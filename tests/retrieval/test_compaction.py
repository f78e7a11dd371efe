"""Compaction: small segments are merged, deleted items leave the disk, and nothing that is found changes."""

import json

import numpy as np
import pytest

import metatx
from metatx.retrieval.segments import GROUP
from tests.retrieval.vectors import ids, unit

VECTORS = unit(300)
SECRET = "the name of a person"


def names(start, stop):
    return {"name": [f"item {number}" for number in range(start, stop)]}


def contents(index):
    numbers = index.vectors("image")[0].tolist()
    found = ids(index.search(VECTORS[:3], k=400, where={"name": {"min": "item 1"}}))
    return numbers, index.rows(numbers), found, index.means["image"].tolist(), index.total


def test_many_small_additions_make_few_segments(tmp_path):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:1]}, names(0, 1))
    for number in range(1, 100):
        assert index.add({"image": VECTORS[number : number + 1]}, names(number, number + 1)) == range(
            number, number + 1
        )
        assert len(index.snapshot.segments) < 2 * 16
    assert len(index.snapshot.segments) <= 6 + 15
    assert ids(index.search(VECTORS[:100], k=1)) == [[number] for number in range(100)]
    assert [row["name"] for row in index.rows(range(100))] == names(0, 100)["name"]


def test_a_compaction_changes_nothing_that_is_seen(tmp_path):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:100]}, names(0, 100))
    index.add({"image": VECTORS[100:130], "text": VECTORS[:30]}, names(100, 130))
    index.add({"image": VECTORS[130:200]}, names(130, 200))
    index.delete([0, 5, 110, 199])
    before = contents(index)
    old = metatx.Index.open(index.folder)
    assert index.compact() == 2
    assert contents(index) == before
    assert contents(metatx.Index.open(index.folder)) == before
    assert contents(old) == before, "a reader that opened it before goes on"
    assert index.modalities == ("image", "text")
    assert index.compact() == 0
    with pytest.raises(ValueError, match="Item 5 is deleted already"):
        index.delete([5])
    assert index.add({"image": VECTORS[200:201]}, names(200, 201)) == range(200, 201)


def test_rows_are_found_where_segments_do_not_end_with_groups_of_rows(tmp_path):
    count = GROUP + 77
    vectors = unit(2 * count)
    index = metatx.Index.build(tmp_path / "i", None, {"image": vectors[:count]}, names(0, count))
    index.add({"image": vectors[count:]}, names(count, 2 * count))
    index.compact()
    asked = [0, GROUP - 1, GROUP, count - 1, count, 2 * GROUP, 2 * count - 1]
    assert [row["name"] for row in index.rows(asked)] == [f"item {number}" for number in asked]


def test_deleted_items_leave_the_disk(tmp_path):
    items = [{"name": name, "note": {"text": name}} for name in ("a", SECRET, "c")]
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:3]}, items)
    secret = VECTORS[1].astype(np.float16).tobytes()
    index.delete([0, 1])
    assert any(secret in file.read_bytes() for file in index.folder.iterdir())
    index.compact()
    index.compact(keep_seconds=0)
    files = [file.read_bytes() for file in index.folder.iterdir()]
    assert not any(secret in content or SECRET.encode() in content for content in files)
    assert index.rows([2]) == [{"name": "c", "note": {"text": "c"}}]
    assert ids(index.search(VECTORS[:1])) == [[2]]


def test_an_emptied_index_is_compacted_and_filled_again(tmp_path):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:3]}, names(0, 3))
    index.delete(range(3))
    index.compact(keep_seconds=0)
    with pytest.raises(ValueError, match="is empty: all of its 3 items are deleted"):
        index.search(VECTORS[:1])
    assert index.add({"image": VECTORS[:1]}, names(0, 1)) == range(3, 4)
    assert ids(index.search(VECTORS[:1])) == [[3]]


def test_names_of_files_do_not_come_again(tmp_path):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:3]}, names(0, 3))
    seen = set()
    for number in range(3, 9):
        index.add({"image": VECTORS[number : number + 1]}, names(number, number + 1))
        index.compact(keep_seconds=0)
        files = {segment.vectors for segment in index.snapshot.manifest.segments}
        assert not files & seen, "who still has an older manifest would read other vectors"
        seen |= files


def test_a_merge_that_fails_loses_nothing_of_what_was_added(tmp_path, monkeypatch, caplog):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:1]}, names(0, 1))

    def full(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("metatx.retrieval.index_writing.compacted", full)
    with caplog.at_level("INFO", logger="metatx"):
        for number in range(1, 18):
            index.add({"image": VECTORS[number : number + 1]}, names(number, number + 1))
    assert "All is added, but small segments are not merged: no space left" in caplog.text
    assert len(metatx.Index.open(index.folder)) == 18


def test_an_index_of_format_1_is_read_and_written_further(tmp_path):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:3]}, names(0, 3))
    [*_, path] = sorted(index.folder.glob("index-*"))
    content = json.loads(path.read_text())
    for entry, added in ((content, ("kinds", "home")), (content["segments"][0], ("home", "dropped"))):
        for name in added:
            del entry[name]
    path.write_text(json.dumps({**content, "format": 1}))
    index = metatx.Index.open(index.folder)
    assert ids(index.search(VECTORS[:3], k=1)) == [[0], [1], [2]]
    index.add({"image": VECTORS[3:4]}, names(3, 4))
    index.delete([0])
    index.compact()
    assert metatx.Index.open(index.folder).snapshot.manifest.format == 2
    assert ids(index.search(VECTORS[:4], k=1))[1:] == [[1], [2], [3]]
