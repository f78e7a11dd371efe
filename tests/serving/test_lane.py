"""Worker threads alone: order, turns, what is dropped, what fails, the end."""

import threading
from concurrent.futures import CancelledError

import pytest

from metatx.serving.lane import Lane


@pytest.fixture
def held():
    """A lane of one thread that waits until its gate opens, and the gate."""
    gate = threading.Event()
    lane = Lane("test", 1, gate.wait)
    yield lane, gate
    gate.set()
    lane.close(10)


def test_tasks_take_turns_and_each_keeps_its_order(held):
    lane, gate = held
    done = []
    futures = [lane.submit("crowd", 100, lambda n=n: done.append(n)) for n in range(20)]
    futures.append(lane.submit("few", 100, lambda: done.append("few")))
    gate.set()
    for future in futures:
        future.result(10)
    assert done.index("few") < 4 and [one for one in done if one != "few"] == list(range(20))


def test_nothing_is_begun_before_the_model_wants_it_and_what_was_cancelled_never(held):
    lane, gate = held
    done = []
    one, two = (lane.submit("a", 1, lambda n=n: done.append(n) or n) for n in (1, 2))
    assert two.cancel() and lane.waiting == 2 and done == []
    gate.set()
    assert one.result(10) == 1 and lane.submit("a", 1, lambda: 3).result(10) == 3
    assert done == [1] and lane.waiting == 0
    with pytest.raises(CancelledError):
        two.result(0)


def test_a_failure_is_its_own_only_and_the_pace_is_known(held):
    lane, gate = held
    gate.set()
    with pytest.raises(ZeroDivisionError):
        lane.submit("a", 1, lambda: 1 / 0).result(10)
    assert lane.submit("a", 1, lambda: "fine").result(10) == "fine"
    assert lane.pace > 0 and lane.seconds == 0


def test_closing_drops_what_was_not_begun():
    gate = threading.Event()
    lane = Lane("test", 1, gate.wait)
    futures = [lane.submit("a", 1, lambda: 0) for _ in range(3)]
    closing = threading.Thread(target=lane.close, args=(10,))
    closing.start()
    gate.set()
    closing.join(10)
    assert not closing.is_alive() and all(future.done() for future in futures) and futures[-1].cancelled()
