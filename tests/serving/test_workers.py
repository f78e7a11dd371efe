"""Worker threads alone: order, turns, what is dropped, what fails, the end."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from metatx.serving.scheduler import ClosedError
from metatx.serving.workers import Workers
from tests.serving.load import steps


@pytest.fixture
def held():
    """A lane of one thread that waits until its gate opens, and the gate."""
    gate = threading.Event()
    lane = Workers("test", 1, gate.wait)
    yield lane, gate
    gate.set()
    lane.close(10)


def test_tasks_take_turns_and_each_keeps_its_order(held):
    lane, gate = held
    done = []
    futures = [lane.submit("crowd", 100, steps(lambda n=n: done.append(n))) for n in range(20)]
    futures.append(lane.submit("few", 100, steps(lambda: done.append("few"))))
    gate.set()
    for future in futures:
        future.result(10)
    assert done.index("few") < 4 and [one for one in done if one != "few"] == list(range(20))


def test_nothing_is_begun_before_the_model_wants_it_and_what_was_cancelled_never(held):
    lane, gate = held
    done = []
    one, two = (lane.submit("a", 1, steps(lambda n=n: done.append(n) or n)) for n in (1, 2))
    assert two.cancel() and lane.waiting == 2 and done == []
    gate.set()
    assert one.result(10) == 1 and lane.submit("a", 1, steps(lambda: 3)).result(10) == 3
    assert done == [1] and lane.waiting == 0
    with pytest.raises(CancelledError):
        two.result(0)


def test_a_failure_is_its_own_only_and_the_pace_is_known(held):
    lane, gate = held
    gate.set()
    with pytest.raises(ZeroDivisionError):
        lane.submit("a", 1, steps(lambda: 1 / 0)).result(10)
    assert lane.submit("a", 1, steps(lambda: "fine")).result(10) == "fine"
    assert lane.pace > 0 and lane.seconds == 0


def test_closing_drops_what_was_not_begun():
    gate = threading.Event()
    lane = Workers("test", 1, gate.wait)
    futures = [lane.submit("a", 1, steps(lambda: 0)) for _ in range(3)]
    closing = threading.Thread(target=lane.close, args=(10,))
    closing.start()
    gate.set()
    closing.join(10)
    assert not closing.is_alive() and all(future.done() for future in futures) and futures[-1].cancelled()


def test_a_long_request_gives_way_between_its_inputs(held):
    lane, gate = held
    gate.set()
    seen = []

    def inputs():
        for number in range(10):
            time.sleep(0.03)
            seen.append(number)
            yield
        return len(seen)

    long = lane.submit("a", 10, inputs())
    while not seen:
        time.sleep(0.001)
    assert lane.submit("b", 1, steps(lambda: len(seen))).result(10) < 10
    assert long.result(10) == 10


def test_one_thread_is_left_for_other_clients(held):
    lane, gate = held
    gate.set()
    ends = threading.Event()
    slow = [lane.submit("a", 1, steps(lambda: ends.wait(10)), "crowd") for _ in range(3)]
    assert lane.submit("a", 1, steps(lambda: "here"), "newcomer").result(10) == "here"
    assert not any(future.done() for future in slow) and lane.waiting == 2
    ends.set()
    assert all(future.result(10) for future in slow)
    assert lane.submit("a", 1, steps(lambda: "again"), "crowd").result(10) == "again"


def test_what_is_half_done_at_the_end_is_told_so():
    lane = Workers("test", 1, lambda: None)
    begun = threading.Event()

    def endless():
        while True:
            begun.set()
            time.sleep(0.001)
            yield

    future = lane.submit("a", 1, endless())
    begun.wait(10)
    lane.close(10)
    with pytest.raises(ClosedError):
        future.result(0)
