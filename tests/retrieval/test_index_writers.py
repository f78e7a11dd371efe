"""Index: several processes at once, and processes that are killed."""

import random
import signal

import numpy as np

import metatx
from metatx.retrieval import writing
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
    index.add({"image": VECTORS[20:25]}, colours(5))
    return life.calls


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
