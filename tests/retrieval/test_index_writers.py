"""Index: several processes at once, and processes that are killed, also while segments are merged."""

import random
import shutil
import signal

import numpy as np

import metatx
from metatx.retrieval import index_writing, manifest, writing
from tests.killing import FORKS, Life, forked, run_apart
from tests.retrieval.vectors import ids, unit

VECTORS = unit(40)
KILLS = 20


def colours(count):
    return {"colour": ["red"] * count}


def add_five(folder, end=None, diary=None):
    """Add five items, and die at the call numbered ``end``."""
    index = metatx.Index.open(folder)
    life = Life(end, diary)
    index.add({"image": VECTORS[20:25]}, {"colour": [f"{index.total} {number}" for number in range(5)]})
    return life.calls


def compact(folder, end=None, diary=None):
    """Merge all segments, and die at the call numbered ``end``."""
    index = metatx.Index.open(folder)
    life = Life(end, diary)
    index.compact()
    return life.calls


def compact_until_killed(folder, diary):
    """Count the calls of a compaction, then compact the same index anew, each time killed at another of its calls."""
    index = metatx.Index.build(folder, None, {"image": VECTORS[:20]}, colours(20))
    for _ in range(3):
        add_five(folder)
    index.delete([3, 7])
    seen = contents(metatx.Index.open(folder))
    shutil.copytree(folder, folder.with_name("counted"))
    calls = compact(folder.with_name("counted"))
    for number, end in enumerate(sorted(random.Random(0).sample(range(2, calls), KILLS // 2))):
        copied = folder.with_name(f"copy {number}")
        shutil.copytree(folder, copied)
        assert forked(compact, copied, end, diary) == -signal.SIGKILL
        assert contents(metatx.Index.open(copied)) == seen, "whatever was done already"
        compact(copied)
        left = metatx.Index.open(copied)
        assert contents(left) == seen
        assert len(left.snapshot.segments) == 1


def contents(index):
    """All that an index shows: items, rows, neighbours and means."""
    numbers = index.vectors("image")[0].tolist()
    found = ids(index.search(VECTORS[:4], k=100))
    return len(index), numbers, index.rows(numbers), found, index.means["image"].round(6).tolist()


def test_killed_while_compacting_leaves_the_index_whole(tmp_path):
    diary = tmp_path / "diary"
    assert run_apart(compact_until_killed, tmp_path / "i", diary) == 0
    assert len(diary.read_text().splitlines()) == KILLS // 2


def add_until_killed(folder, diary):
    """Count the calls of an addition, then add anew, each time killed at another of its calls."""
    index = metatx.Index.build(folder, None, {"image": VECTORS[:20]}, colours(20))
    calls = add_five(folder)
    size = len(index) + 5
    for end in sorted(random.Random(0).sample(range(2, calls), KILLS)):
        assert forked(add_five, folder, end, diary) == -signal.SIGKILL
        left = metatx.Index.open(folder)
        assert len(left) in (size, size + 5), "the old index, or the new one: nothing between"
        found = left.search(VECTORS[:20], k=1)
        assert ids(found) == [[number] for number in range(20)]
        assert len(left.vectors("image")[0]) == len(left)
        add_five(folder)
        size = len(left) + 5
        assert len(metatx.Index.open(folder)) == size


def test_killed_while_adding_leaves_the_old_index_whole(tmp_path):
    diary = tmp_path / "diary"
    assert run_apart(add_until_killed, tmp_path / "i", diary) == 0
    assert len(diary.read_text().splitlines()) == KILLS


def build(folder, end=None, diary=None):
    """Build in pieces of eight items, and die at the call numbered ``end``; the number of calls."""
    writing.PIECE = 8
    life = Life(end, diary)
    metatx.Index.build(folder, None, {"image": VECTORS}, colours(40), batch_size=4, resume=True)
    return life.calls


def build_until_killed(folder, diary):
    """Build once to count the calls, then anew, killed later each time, until a build comes to its end."""
    build(folder.with_name("first"))
    calls = build(folder.with_name("second"))
    for end in range(calls // 6, 10 * calls, calls // 6):
        if forked(build, folder, end, diary) == 0:
            break
    assert len(diary.read_text().splitlines()) > 2
    index = metatx.Index.open(folder)
    assert len(index) == index.total == 40
    np.testing.assert_allclose(index.vectors("image")[1], VECTORS, atol=1e-3)


def test_a_build_goes_on_where_it_was_killed(tmp_path):
    assert run_apart(build_until_killed, tmp_path / "i", tmp_path / "diary") == 0


def write_and_delete(folder, number):
    index = metatx.Index.open(folder)
    for turn in range(10):
        items = index.add({"image": VECTORS[number : number + 2]}, {"colour": [f"{number} {turn}"] * 2})
        index.delete([items[0]])


def read(folder, stop):
    """Read until the writers are done; whatever is seen is whole."""
    last = 0
    while not stop.is_set():
        index = metatx.Index.open(folder)
        assert index.generation >= last
        last = index.generation
        [hits] = index.search(VECTORS[:1], k=1000, where={"colour": {"min": ""}})
        assert len(hits) == len(index)
        assert hits[0].item == 0


def test_two_readers_and_two_writers_at_once(tmp_path):
    metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:20]}, colours(20))
    stop = FORKS.Event()
    readers = [FORKS.Process(target=read, args=(tmp_path / "i", stop)) for _ in range(2)]
    writers = [FORKS.Process(target=write_and_delete, args=(tmp_path / "i", number)) for number in (20, 30)]
    for process in (*readers, *writers):
        process.start()
    for process in writers:
        process.join()
    stop.set()
    for process in readers:
        process.join()
    assert [process.exitcode for process in (*readers, *writers)] == [0] * 4
    index = metatx.Index.open(tmp_path / "i")
    assert len(index) == 20 + 2 * 10, "no writer has lost what the other wrote"
    kept = {row["colour"] for row in index.rows(index.vectors("image")[0].tolist())}
    assert kept == {"red"} | {f"{number} {turn}" for number in (20, 30) for turn in range(10)}


def test_the_later_writer_keeps_what_the_earlier_wrote_and_says_so(tmp_path, caplog):
    first = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:20]}, colours(20))
    second = metatx.Index.open(tmp_path / "i")
    assert first.add({"image": VECTORS[20:22]}, colours(2)) == range(20, 22)
    with caplog.at_level("INFO", logger="metatx"):
        assert second.add({"image": VECTORS[22:23]}, colours(1)) == range(22, 23)
    assert "was written by another process meanwhile; its changes are kept" in caplog.text
    assert len(second) == 23
    assert first.refresh()
    assert not first.refresh()
    assert ids(first.search(VECTORS[:23], k=1)) == [[number] for number in range(23)]


def compact_again_and_again(folder, stop):
    """Merge all segments until the others are done."""
    index = metatx.Index.open(folder)
    while not stop.is_set():
        index.compact()


def test_a_compaction_loses_nothing_of_what_others_write_meanwhile(tmp_path):
    metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:20]}, colours(20))
    stop = FORKS.Event()
    others = [
        FORKS.Process(target=compact_again_and_again, args=(tmp_path / "i", stop)),
        FORKS.Process(target=read, args=(tmp_path / "i", stop)),
    ]
    writer = FORKS.Process(target=write_and_delete, args=(tmp_path / "i", 30))
    for process in (*others, writer):
        process.start()
    writer.join()
    stop.set()
    for process in others:
        process.join()
    assert [process.exitcode for process in (*others, writer)] == [0] * 3
    index = metatx.Index.open(tmp_path / "i")
    index.compact()
    assert len(index) == 20 + 10
    assert len(index.vectors("image")[0]) == 30
    kept = {row["colour"] for row in index.rows(index.vectors("image")[0].tolist())}
    assert kept == {"red"} | {f"30 {turn}" for turn in range(10)}


def test_two_compactions_at_once_make_one(tmp_path, monkeypatch):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:20]}, colours(20))
    index.add({"image": VECTORS[20:30]}, colours(10))
    other = metatx.Index.open(tmp_path / "i")
    merged = index_writing.compacted

    def slower(*arguments):
        written = merged(*arguments)
        monkeypatch.setattr(index_writing, "compacted", merged)
        assert other.compact() == 1
        return written

    monkeypatch.setattr(index_writing, "compacted", slower)
    assert index.compact() == 1, "what the other has merged is seen"
    assert len(index) == 30
    assert len(list((tmp_path / "i").glob("vectors-*"))) == 3, "the two old ones, and one of the two merged"


def test_a_compaction_that_keeps_nothing_spares_what_another_writer_is_about_to_commit(tmp_path, monkeypatch):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:20]}, colours(20))
    other = metatx.Index.open(tmp_path / "i")
    written_first = index_writing.written

    def compacted_meanwhile(*arguments, **options):
        for pieces in written_first(*arguments, **options):
            other.delete([0])
            other.compact(keep_seconds=0)
            yield pieces

    monkeypatch.setattr(index_writing, "written", compacted_meanwhile)
    assert index.add({"image": VECTORS[20:25]}, colours(5), existing="add") == range(20, 25)
    assert len(metatx.Index.open(tmp_path / "i")) == 24
    assert not (tmp_path / "i" / "vectors-00000.safetensors").exists(), "what deleted items left is gone"


def test_a_slow_writer_does_not_remove_what_a_later_one_has_committed(tmp_path, monkeypatch):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:20]}, colours(20))
    other = metatx.Index.open(tmp_path / "i")
    clean = manifest._clean

    def late(*arguments):
        monkeypatch.setattr(manifest, "_clean", clean)
        other.add({"image": VECTORS[20:25]}, colours(5), existing="add")
        clean(*arguments)

    monkeypatch.setattr(manifest, "_clean", late)
    index.compact(keep_seconds=0)
    assert len(metatx.Index.open(tmp_path / "i")) == 25


def test_who_opened_the_index_before_a_compaction_that_keeps_nothing_adds_to_it(tmp_path):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:20]}, colours(20))
    other = metatx.Index.open(tmp_path / "i")
    index.delete([0])
    index.compact(keep_seconds=0)
    assert other.add({"image": VECTORS[20:25]}, {"colour": [f"blue {n}" for n in range(5)]}) == range(20, 25)


def test_a_compaction_whose_segments_another_has_merged_and_removed_goes_on(tmp_path, monkeypatch):
    index = metatx.Index.build(tmp_path / "i", None, {"image": VECTORS[:20]}, colours(20))
    index.delete([0])
    other = metatx.Index.open(tmp_path / "i")
    compacted = index_writing.compacted

    def late(*arguments):
        monkeypatch.setattr(index_writing, "compacted", compacted)
        other.compact(keep_seconds=0)
        return compacted(*arguments)

    monkeypatch.setattr(index_writing, "compacted", late)
    index.compact(keep_seconds=0)
    assert len(index.vectors("image")[0]) == 19
