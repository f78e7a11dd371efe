"""The batch former alone, on a pool that only counts: batches, fairness, bounds, failures, the end."""

import threading
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.serving.fair import FairQueue
from metatx.serving.scheduler import ClosedError, DeadlineError, FullError, Scheduler


@dataclass(frozen=True)
class Fake:
    number: int
    tokens: int = 10


class Pool:
    """Answers each request with its number, in passes that wait until the gate opens."""

    def __init__(self, culprits=()):
        self.passes, self.culprits, self.gate, self.busy = [], culprits, threading.Event(), threading.Event()

    def answer(self, requests):
        self.passes.append([request.number for request in requests])
        self.busy.set()
        assert self.gate.wait(10)
        if any(request.number in self.culprits for request in requests):
            raise RuntimeError("no such thing")
        return [request.number for request in requests]


@pytest.fixture
def start():
    """A scheduler whose model thread is held by request 0, so that what follows waits together."""
    made = []

    def start(pool, **options):
        scheduler = Scheduler(pool.answer, **{"batch_tokens": 100, "queue_tokens": 1000, **options})
        first = scheduler.submit([("first", Fake(0))])
        assert pool.busy.wait(10)
        made.append((scheduler, pool))
        return scheduler, first[0]

    yield start
    for scheduler, pool in made:
        pool.gate.set()
        scheduler.close()


def test_what_waits_goes_in_one_pass_of_all_tasks(start):
    pool = Pool()
    scheduler, first = start(pool)
    futures = [scheduler.submit([(task, Fake(i + 1))])[0] for i, task in enumerate("abab")]
    assert scheduler.waiting == (4, 40)
    pool.gate.set()
    assert [first.result(10), *(future.result(10) for future in futures)] == [0, 1, 2, 3, 4]
    assert [sorted(numbers) for numbers in pool.passes] == [[0], [1, 2, 3, 4]]
    assert scheduler.waiting == (0, 0)


def test_a_pass_ends_at_its_tokens_and_a_longer_request_goes_alone(start):
    pool = Pool()
    scheduler, _ = start(pool)
    sizes = [60, 60, 500, 30, 30, 30]
    futures = scheduler.submit([("a", Fake(i + 1, size)) for i, size in enumerate(sizes)])
    pool.gate.set()
    assert [future.result(10) for future in futures] == [1, 2, 3, 4, 5, 6]
    assert pool.passes[1:] == [[1], [2], [3], [4, 5, 6]]


def test_a_task_with_many_requests_does_not_keep_another_waiting(start):
    pool = Pool()
    scheduler, _ = start(pool, queue_tokens=10_000)
    crowd = scheduler.submit([("crowd", Fake(i, 10)) for i in range(1, 101)])
    few = scheduler.submit([("few", Fake(i, 10)) for i in range(1001, 1006)])
    pool.gate.set()
    for future in [*crowd, *few]:
        future.result(10)
    assert sorted(n for n in pool.passes[1] if n > 1000) == [1001, 1002, 1003, 1004, 1005]


def test_the_queue_is_bounded_by_tokens_all_or_nothing(start):
    pool = Pool()
    scheduler, _ = start(pool, queue_tokens=100, rate=50)
    futures = scheduler.submit([("a", Fake(1, 40)), ("b", Fake(2, 40))])
    with pytest.raises(FullError) as caught:
        scheduler.submit([("a", Fake(3, 10)), ("a", Fake(4, 80))])
    assert caught.value.seconds == 2 and scheduler.waiting == (2, 80)
    with pytest.raises(ValueError, match="has 101 tokens; expected at most 100"):
        scheduler.submit([("a", Fake(5, 101))])
    futures[0].cancel()
    scheduler.submit([("a", Fake(6, 60))])  # the cancelled one's place is free
    assert scheduler.waiting == (2, 100)


def test_cancelled_requests_cost_nothing(start):
    pool = Pool()
    scheduler, _ = start(pool)
    one, two, three = scheduler.submit([("a", Fake(1)), ("a", Fake(2)), ("b", Fake(3))])
    assert two.cancel()
    pool.gate.set()
    assert one.result(10) == 1 and three.result(10) == 3
    assert sorted(pool.passes[1]) == [1, 3]
    with pytest.raises(CancelledError):
        two.result(0)


def test_late_requests_cost_nothing(start):
    pool = Pool()
    scheduler, _ = start(pool)
    (late,), (early,) = scheduler.submit([("a", Fake(1))], seconds=0.0), scheduler.submit([("a", Fake(2))], seconds=60)
    time.sleep(0.01)
    pool.gate.set()
    assert early.result(10) == 2 and pool.passes[1:] == [[2]]
    with pytest.raises(DeadlineError):
        late.result(0)


def test_only_the_culprit_of_a_failed_pass_fails(start):
    pool = Pool(culprits=[3])
    seen = []
    scheduler, _ = start(pool, passed=lambda jobs, seconds: seen.append(len(jobs)))
    futures = scheduler.submit([("a", Fake(i)) for i in range(1, 6)])
    pool.gate.set()
    assert [futures[i].result(10) for i in (0, 1, 3, 4)] == [1, 2, 4, 5]
    with pytest.raises(RuntimeError, match="no such thing"):
        futures[2].result(10)
    assert scheduler.submit([("a", Fake(9))])[0].result(10) == 9 and scheduler.alive
    assert pool.passes[1] == [1, 2, 3, 4, 5] and seen[:2] == [1, 5]


def test_closing_answers_what_waits_and_refuses_what_comes(start):
    pool = Pool()
    scheduler, _ = start(pool)
    futures = scheduler.submit([("a", Fake(i)) for i in range(1, 30)])
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    pool.gate.set()
    closing.join(10)
    assert [future.result(0) for future in futures] == list(range(1, 30)) and not scheduler.alive
    with pytest.raises(ClosedError):
        scheduler.submit([("a", Fake(99))])


ENTRIES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 300), st.booleans()), max_size=60)


@settings(deadline=None)
@given(ENTRIES, st.integers(1, 64))
def test_everything_wanted_leaves_once_in_order_and_within_the_budget(entries, quantum):
    queue = FairQueue(quantum)
    for number, (task, tokens, wanted) in enumerate(entries):
        queue.push(task, tokens, (number, task, tokens, wanted))
    assert queue.tokens == sum(tokens for _, tokens, _ in entries)
    left = []
    while len(queue):
        taken = queue.take(100, lambda item: item[3])
        assert len(taken) < 2 or sum(item[2] for item in taken) <= 100
        left += taken
    assert queue.tokens == 0
    assert sorted(item[0] for item in left) == [i for i, entry in enumerate(entries) if entry[2]]
    for task in "abc":
        numbers = [item[0] for item in left if item[1] == task]
        assert numbers == sorted(numbers)


def test_tasks_share_by_tokens_not_by_requests():
    queue = FairQueue(10)
    for _ in range(200):
        queue.push("long", 50, "long")
        queue.push("short", 5, "short")
    taken = [item for _ in range(10) for item in queue.take(100, lambda item: True)]
    long, short = 50 * taken.count("long"), 5 * taken.count("short")
    assert abs(long - short) <= 60
