"""What is let in: as much as is answered in time, at the rate that passes show, from each client and task its share."""

import time

import pytest

from metatx.serving.admission import Admission, Asked, FullError


def asked(size=1000, client="c", task="a", form=False):
    return Asked(client=client, task=task, form=form, size=size)


def test_an_idle_server_takes_anything_a_busy_one_what_it_can_answer_in_time():
    admission = Admission(100, 20.0, largest=10_000)  # 2000
    admission.learn(asked(), 150)
    with admission.waiting(asked(8000)) as ticket:
        assert ticket.cost == admission.cost == 250  # a guess counts for an eighth at most
        ticket.settle({"a": 1900})
        for room in (admission.check, lambda one: admission.waiting(one).__enter__()):
            with pytest.raises(FullError) as caught:
                room(asked(2000))
            assert caught.value.seconds == 9  # (1900 + 250 - 2 x (100 - 250)) / 3, at 100 a second
    assert admission.cost == admission.tasks.total == 0


def test_one_client_does_not_shut_out_another_nor_one_task_another():
    admission = Admission(100, 10.0, largest=10_000)
    admission.learn(asked(), 100)
    tickets = [admission.waiting(asked(client="crowd")) for _ in range(6)]
    for ticket in tickets:
        ticket.__enter__()
    with pytest.raises(FullError):
        admission.check(asked(client="crowd"))
    for task in "ab":  # its task is the one that is full; it is new
        with admission.waiting(asked(client="new", task=task)):
            admission.check(asked(1, client="new", task=task))
    others = [admission.waiting(asked(client=f"c{number}", size=700)) for number in range(4)]
    for ticket in others:
        ticket.__enter__()
    admission.check(asked(client="c0", task="b", size=300))  # of the task that has little there is more
    with pytest.raises(FullError):
        admission.check(asked(client="c0", size=300))


def test_a_wrong_guess_lasts_until_the_request_is_prepared():
    admission = Admission(100, 100.0, largest=500)
    with admission.waiting(asked(10**9)) as ticket:
        assert ticket.cost == 1250
        ticket.settle({"a": 60, "b": 40})
        assert admission.cost == 100 and admission.tasks.holds("b") == 40
    ticket.settle({"a": 7})  # too late: nobody waits
    assert admission.cost == 0


def test_many_requests_that_were_taken_for_less_than_they_are_do_not_pile_up():
    admission = Admission(1, 100.0, largest=500)
    with admission.waiting(asked(1)) as one, admission.waiting(asked(1)) as two, admission.waiting(asked(1)) as three:
        one.settle({"a": 100})
        two.settle({"a": 99})
        with pytest.raises(FullError):
            three.settle({"a": 100})


def test_files_are_guessed_by_their_number_not_by_their_size():
    admission = Admission(1e6, 10.0, largest=64)
    admission.learn(asked(1, form=True), 64)
    assert admission.guess(asked(1, form=True)) == 64 and admission.guess(asked(3, form=True)) == 192
    admission.learn(asked(1, form=True), 6400)
    assert admission.guess(asked(2, form=True)) == 128  # at most the largest that is taken
    assert admission.guess(asked(5000)) == 5  # JSON of the same task has a measure of its own


def test_cost_of_a_request_follows_from_those_before():
    admission = Admission(100, 10.0, largest=10_000)
    assert admission.guess(asked(3000)) == 3 and admission.guess(asked(None)) == 1
    admission.learn(asked(1000), 10)
    assert admission.guess(asked(3000)) == 30 and admission.guess(asked(None)) == 10
    for _ in range(50):
        admission.learn(asked(1000), 40)
    assert admission.guess(asked(1000)) == 40 and admission.guess(asked(32, task=None)) == 1


def test_only_a_pass_with_more_behind_it_tells_the_rate():
    admission = Admission(1000, 1.0, 10_000)
    admission.passed(1, more=False)
    admission.passed(1, more=True)
    assert admission.rate == 1000
    for _ in range(40):
        time.sleep(0.002)
        admission.passed(10, more=True)
    assert admission.rate < 10 / 0.002
    rate = admission.rate
    admission.passed(1, more=False)
    time.sleep(0.05)
    admission.passed(1, more=False)
    assert admission.rate != rate  # by the first of the two, behind which nothing waited
    after = admission.rate
    admission.passed(1, more=True)
    assert admission.rate == after
