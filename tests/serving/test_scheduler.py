"""The batch former alone, on a pool that only counts: batches, fairness, failures, the end."""

import threading
import time
from concurrent.futures import CancelledError, wait
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.serving.fair_queue import FairQueue
from metatx.serving.scheduler import ClosedError, DeadlineError, Scheduler


@dataclass(frozen=True)
class Fake:
    number: int
    tokens: int = 10


class Pool:
    """Answers each request with its number, in passes that wait until the gate opens."""

    def __init__(self, culprits=()):
        self.passes = []
        self.culprits = culprits
        self.gate = threading.Event()
        self.busy = threading.Event()
        self.after_pass = lambda: None

    def answer(self, requests):
        self.passes.append([request.number for request in requests])
        self.busy.set()
        assert self.gate.wait(10)
        if any(request.number in self.culprits for request in requests):
            raise RuntimeError("no such thing")
        self.after_pass()
        return [request.number for request in requests]


@pytest.fixture
def start():
    """A scheduler whose model thread is held by request 0, so that what follows waits together."""
    made = []

    def start(pool, **options):
        scheduler = Scheduler(pool.answer, batch_tokens=100, **options)
        first = scheduler.submit([("first", Fake(0))])
        assert pool.busy.wait(10)
        made.append((scheduler, pool))
        return scheduler, first

    yield start
    for scheduler, pool in made:
        pool.gate.set()
        scheduler.close()


def test_what_waits_goes_in_one_pass_of_all_tasks(start):
    pool = Pool()
    scheduler, first = start(pool)
    futures = [scheduler.submit([(task, Fake(i + 1))]) for i, task in enumerate("abab")]
    assert scheduler.waiting == (4, 40)
    pool.gate.set()
    assert [first.result(10), *(future.result(10) for future in futures)] == [[0], [1], [2], [3], [4]]
    assert [sorted(numbers) for numbers in pool.passes] == [[0], [1, 2, 3, 4]]
    assert scheduler.waiting == (0, 0) and scheduler.submit([]).result(0) == []


def test_a_pass_ends_at_its_tokens_and_a_longer_request_goes_alone(start):
    pool = Pool()
    scheduler, _ = start(pool)
    sizes = [60, 60, 500, 30, 30, 30]
    future = scheduler.submit([("a", Fake(i + 1, size)) for i, size in enumerate(sizes)])
    pool.gate.set()
    assert future.result(10) == [1, 2, 3, 4, 5, 6]
    assert pool.passes[1:] == [[1], [2], [3], [4, 5, 6]]


def test_a_task_with_many_requests_does_not_keep_another_waiting(start):
    pool = Pool()
    scheduler, _ = start(pool)
    crowd = scheduler.submit([("crowd", Fake(i, 10)) for i in range(1, 101)])
    few = scheduler.submit([("few", Fake(i, 10)) for i in range(1001, 1006)])
    pool.gate.set()
    assert len(crowd.result(10)) == 100 and len(few.result(10)) == 5
    assert sorted(n for n in pool.passes[1] if n > 1000) == [1001, 1002, 1003, 1004, 1005]


def test_there_is_room_while_less_waits_than_a_pass_holds(start):
    pool = Pool()
    scheduler, _ = start(pool)
    waiter = threading.Thread(target=scheduler.wait_for_room)
    scheduler.submit([("a", Fake(1, 90))])
    scheduler.wait_for_room()
    scheduler.submit([("a", Fake(2, 10))])
    waiter.start()
    waiter.join(0.1)
    assert waiter.is_alive()
    pool.gate.set()
    waiter.join(10)
    assert not waiter.is_alive()


def test_cancelled_requests_cost_nothing(start):
    pool = Pool()
    scheduler, _ = start(pool)
    one, two = scheduler.submit([("a", Fake(1))]), scheduler.submit([("a", Fake(2)), ("b", Fake(3))])
    assert two.cancel()
    pool.gate.set()
    assert one.result(10) == [1] and pool.passes[1:] == [[1]]
    with pytest.raises(CancelledError):
        two.result(0)


def test_what_is_cancelled_half_way_costs_no_more(start):
    pool = Pool()
    scheduler, _ = start(pool)
    long = scheduler.submit([("a", Fake(i, 100)) for i in range(1, 4)])
    pool.busy.clear()
    pool.after_pass = lambda: len(pool.passes) > 1 and long.cancel()  # as soon as the first of them is answered
    pool.gate.set()
    wait([long], 10)
    assert scheduler.submit([("a", Fake(9))]).result(10) == [9]
    assert pool.passes[1:] == [[1], [9]] and scheduler.alive


def test_late_requests_cost_nothing(start):
    pool = Pool()
    scheduler, _ = start(pool)
    late, early = scheduler.submit([("a", Fake(1))], seconds=0.0), scheduler.submit([("a", Fake(2))], seconds=60)
    time.sleep(0.01)
    pool.gate.set()
    assert early.result(10) == [2] and pool.passes[1:] == [[2]]
    with pytest.raises(DeadlineError):
        late.result(0)


def test_only_the_culprit_of_a_failed_pass_fails(start):
    pool = Pool(culprits=[3])
    seen, repeated = [], []
    scheduler, _ = start(
        pool,
        passed=lambda jobs, seconds: seen.append(len(jobs)),
        failed=lambda jobs, error: repeated.append((len(jobs), str(error))),
    )
    futures = [scheduler.submit([("a", Fake(i))]) for i in (1, 2)]
    bad = scheduler.submit([("a", Fake(3)), ("a", Fake(4))])
    futures.append(scheduler.submit([("a", Fake(5))]))
    pool.gate.set()
    assert [future.result(10) for future in futures] == [[1], [2], [5]]
    with pytest.raises(RuntimeError, match="no such thing"):
        bad.result(10)
    assert scheduler.submit([("a", Fake(9))]).result(10) == [9] and scheduler.alive
    assert pool.passes[1:] == [[1, 2, 3, 4, 5], [1], [2], [3], [5], [9]] and seen[:2] == [1, 5]
    assert repeated == [(5, "no such thing")]


def test_closing_answers_what_waits_and_refuses_what_comes(start):
    pool = Pool()
    scheduler, _ = start(pool)
    future = scheduler.submit([("a", Fake(i)) for i in range(1, 30)])
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    pool.gate.set()
    closing.join(10)
    assert future.result(0) == list(range(1, 30)) and not scheduler.alive
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


def test_the_clients_of_a_task_share_its_turns_by_tokens():
    queue = FairQueue(10)
    for number in range(100):
        queue.push("task", 50, ("crowd", number), "crowd")
    for number in range(20):
        queue.push("task", 5, ("few", number), "few")
    taken = [item for _ in range(2) for item in queue.take(100, lambda item: True)]
    assert [number for client, number in taken if client == "few"] == list(range(20))[: len(taken) - 2]
    assert sum(client == "crowd" for client, _ in taken) == 2
    queue.push("task", 5, ("late", 0), "late")
    assert ("late", 0) in queue.take(100, lambda item: True)  # not behind all that came before
