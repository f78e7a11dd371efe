"""What is let in: as much as is answered in time, at the rate that passes show."""

import time

import pytest

from metatx.serving.admission import Admission, FullError


def test_an_idle_server_takes_anything_a_busy_one_what_it_can_answer_in_time():
    admission = Admission(100, 2.0, 10_000)
    admission.learn("a", 1000, 150)
    with admission.waiting("a", 5000) as tokens:
        assert tokens == admission.tokens == 750
        for room in (admission.waiting, admission.reading):
            with pytest.raises(FullError) as caught, room("a", 1):
                pass
            assert caught.value.seconds == 6
    assert admission.tokens == admission.bytes == 0
    with admission.waiting("a", 1000), pytest.raises(FullError) as caught, admission.reading("a", 400):
        pass
    assert caught.value.seconds == 1 and admission.tokens == 0
    with admission.waiting("a", 1000), admission.waiting("a", 300):
        assert admission.tokens == 195


def test_a_body_that_is_announced_and_never_comes_holds_up_no_other():
    admission = Admission(100, 2.0, 10_000)
    admission.learn("a", 1000, 150)
    with admission.reading("a", 9000), admission.reading("a", 1000), admission.waiting("a", 1000):
        assert (admission.bytes, admission.tokens) == (10_000, 150)


def test_bodies_are_bounded_too():
    admission = Admission(1e6, 10.0, 1000)
    with admission.reading("a", 600), pytest.raises(FullError), admission.reading("b", 600):
        pass
    assert admission.bytes == 0


def test_tokens_of_a_request_follow_from_those_before():
    admission = Admission(100, 1.0, 10_000)
    assert admission.estimate("a", 3000) == 3 and admission.estimate("a", None) == 1
    admission.learn("a", 1000, 10)
    assert admission.estimate("a", 3000) == 30 and admission.estimate("a", None) == 10
    for _ in range(50):
        admission.learn("a", 1000, 40)
    assert admission.estimate("a", 1000) == 40 and admission.estimate(None, 32) == 1


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
